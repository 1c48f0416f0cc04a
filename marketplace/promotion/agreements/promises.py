"""What an agreement pays for a product before anybody bought it: the rule that holds there, at a price. Pure.

Caps and budgets are left out: what is left of them is known when an order is paid.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.ids import ProductId
from core.money import PPM
from marketplace.promotion.agreements.terms import Rule, Terms, category_path
from marketplace.promotion.facts import ScopeKind

_WIDTH = {ScopeKind.SKU: 0, ScopeKind.PRODUCT: 1, ScopeKind.CATEGORY: 2, ScopeKind.CAMPAIGN: 3}


@dataclass(frozen=True, slots=True)
class Promise:
    """``fixed_minor`` a piece, at most ``ceiling_ppm`` of the basis; a rate where there is none."""

    rate_ppm: int
    fixed_minor: int | None
    ceiling_ppm: int
    fee_ppm: int
    individual_ppm: int

    def part_of_price(self, price_minor: int) -> int:
        """What one piece at this price earns, in ppm of the price, rounded down."""
        if self.fixed_minor is None:
            return self.rate_ppm
        return min(self.fixed_minor * PPM // price_minor, self.ceiling_ppm) if price_minor > 0 else 0

    def sure_for_brand(self, basis_minor: int, quantity: int) -> int:
        """Minor units of a line that the promoter brand keeps after the platform and an individual, when it alone is
        credited.

        Rounded down at each step: whatever the rest of the order rounds to, R2 and R3 give no less.
        """
        exact = basis_minor * self.rate_ppm
        if self.fixed_minor is not None:
            exact = min(self.fixed_minor * quantity * PPM, basis_minor * self.ceiling_ppm)
        return exact // PPM * (PPM - self.fee_ppm) * (PPM - self.individual_ppm) // (PPM * PPM)


def promise(
    terms: Terms, product_id: ProductId, category: str, sku: str, *, currency: str | None = None
) -> Promise | None:
    """For a returning customer's order of this SKU in ``currency``; ``None`` where the terms do not cover it.

    Of tiers the lowest rate, which holds wherever the counter stands. Without a currency every amount is another
    currency's: what is said is the rate.
    """
    rule = rule_that_holds(terms, product_id, category, sku)
    if rule is None:
        return None
    rate_ppm = rule.rate_ppm
    if terms.tiers is not None and terms.tiers.currency == currency:
        rate_ppm = min(tier.rate_ppm for tier in terms.tiers.tiers)
    fixed = rule.fixed.amount_minor if rule.fixed is not None and rule.fixed.currency == currency else None
    return Promise(rate_ppm, fixed, terms.fixed_cap_ppm, terms.fee_ppm, terms.individual_ppm)


def rule_that_holds(terms: Terms, product_id: ProductId, category: str, sku: str) -> Rule | None:
    """SKU > product > deepest category > everything; then the higher priority, then the earlier (cps.md §3.8)."""
    names = {
        ScopeKind.SKU: {sku}, ScopeKind.PRODUCT: {str(product_id)},
        ScopeKind.CATEGORY: set(category_path(category)), ScopeKind.CAMPAIGN: {""},
    }  # fmt: skip
    return min(
        (rule for rule in terms.rules if rule.scope_id in names[rule.scope]),
        key=lambda rule: (_WIDTH[rule.scope], -len(rule.scope_id), -rule.priority),
        default=None,
    )
