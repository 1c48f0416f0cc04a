"""What two brands agree on, and the one text of it that both sign."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from core.canonical import content_hash
from core.ids import AgreementId, BrandId, MalformedId, ProductId
from core.money import MAX_MINOR, PPM, Money
from marketplace.promotion.agreements.clauses import DisputeTerms, SourceTerms, checked_clauses
from marketplace.promotion.agreements.limits import CapTerm, TierTerms, checked_limits, limits_json
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.commission.rules import FIXED_CAP_PPM
from marketplace.promotion.errors import BadTerms
from marketplace.promotion.facts import (
    AgreementTerms,
    AttributionModel,
    OfferRule,
    ScopeKind,
)

PLATFORM_FEE_PPM = 50_000
"""The platform's part of every commission; brands may agree on more, never on less."""

HOUR_S, DAY_S = 3600, 86_400
DEFAULT_WINDOW_S = 15 * DAY_S
LONGEST_WINDOW_S = 90 * DAY_S
RETURN_WINDOWS_DAYS = (0, 7, 15, 30, 45, 60, 90)
HIGHEST_RATE_PPM = 900_000
SHORTEST_NOTICE_DAYS, LONGEST_NOTICE_DAYS = 7, 90
MOST_RULES = 500
_HIGHEST_PRIORITY = 1000
_ANY_SOURCE, _USUAL_DISPUTES = SourceTerms(), DisputeTerms()
_CATEGORY = re.compile(r"[a-z0-9][a-z0-9_\-/]{0,119}")
_LONGEST_SKU = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """A rate and where it holds. ``scope_id`` is a SKU, a product id, a category path, or empty for all.

    ``fixed`` per unit takes the place of the rates in orders of its currency; others earn the rates.
    """

    rate_ppm: int
    scope: ScopeKind = ScopeKind.CAMPAIGN
    scope_id: str = ""
    rate_new_ppm: int | None = None
    priority: int = 0
    fixed: Money | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Rule:
        fixed = stored.get("fixed")
        kinds = {"scope": ScopeKind(stored["scope"]), "fixed": Money(**fixed) if fixed else None}
        return cls(**{**stored, **kinds})


@dataclass(frozen=True, slots=True)
class Terms:
    """``fee_ppm`` of each commission goes to the platform, ``individual_ppm`` of the rest to the person."""

    rules: tuple[Rule, ...]
    fee_ppm: int = PLATFORM_FEE_PPM
    individual_ppm: int = 0
    window_s: int = DEFAULT_WINDOW_S
    return_window_days: int = 15
    model: AttributionModel = AttributionModel.LAST_TOUCH
    allow_self_purchase: bool = False
    checkout_touch_earns: bool = False
    """A touch at checkout with no earlier one earns; it never displaces an earlier one (cps.md §3.5)."""
    lead_binding_days: int = 0
    caps: tuple[CapTerm, ...] = ()
    tiers: TierTerms | None = None
    """With tiers, every line earns their rate instead of its rule's."""
    fixed_cap_ppm: int = FIXED_CAP_PPM
    """The most that a fixed commission is of a line's basis."""
    notice_days: int = SHORTEST_NOTICE_DAYS
    """Between saying that terms change, or that the agreement ends, and the day they do."""
    sources: SourceTerms = _ANY_SOURCE
    disputes: DisputeTerms = _USUAL_DISPUTES

    @classmethod
    def flat(
        cls, rate_ppm: int, *, products: Iterable[ProductId] = (), categories: Iterable[str] = (), **more: Any
    ) -> Terms:
        """One rate for everything, or for the products and categories named."""
        rules = [Rule(rate_ppm, ScopeKind.PRODUCT, str(product)) for product in products]
        rules += [Rule(rate_ppm, ScopeKind.CATEGORY, category) for category in categories]
        return cls(tuple(rules) or (Rule(rate_ppm),), **more)

    def to_json(self) -> dict[str, Any]:
        """What both sign. A term that came later is left out while it is not used: terms keep their text, and hash."""
        plain = asdict(self)
        del plain["caps"], plain["tiers"]
        if not self.checkout_touch_earns:
            del plain["checkout_touch_earns"]
        return {**plain, **limits_json(self.caps, self.tiers)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Terms:
        kinds: dict[str, Any] = {
            "rules": tuple(Rule.from_json(rule) for rule in stored["rules"]),
            "model": AttributionModel(stored["model"]),
            "caps": tuple(CapTerm.from_json(cap) for cap in stored.get("caps", ())),
            "tiers": TierTerms.from_json(stored["tiers"]) if stored.get("tiers") else None,
        }
        if "sources" in stored:
            kinds["sources"] = SourceTerms.from_json(stored["sources"])
        if "disputes" in stored:
            kinds["disputes"] = DisputeTerms(**stored["disputes"])
        return cls(**{**stored, **kinds})

    @property
    def scope(self) -> Scope:
        named: dict[ScopeKind, set[str]] = {kind: set() for kind in ScopeKind}
        for rule in self.rules:
            named[rule.scope].add(rule.scope_id)
        return Scope(
            everything=bool(named[ScopeKind.CAMPAIGN]),
            products=frozenset(ProductId.parse(text) for text in named[ScopeKind.PRODUCT]),
            categories=frozenset(named[ScopeKind.CATEGORY]),
            skus=frozenset(named[ScopeKind.SKU]),
        )

    @property
    def notice(self) -> timedelta:
        return timedelta(days=self.notice_days)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a promoter brand may sell under an agreement."""

    everything: bool = False
    products: frozenset[ProductId] = frozenset()
    categories: frozenset[str] = frozenset()
    skus: frozenset[str] = frozenset()

    def covers(self, product_id: ProductId, category: str, skus: Iterable[str] = ()) -> bool:
        return (
            self.everything
            or product_id in self.products
            or not self.categories.isdisjoint(category_path(category))
            or not self.skus.isdisjoint(skus)
        )


def category_path(category: str) -> tuple[str, ...]:
    """``beauty/skin/cream`` → (``beauty``, ``beauty/skin``, ``beauty/skin/cream``)."""
    parts = category.split("/") if category else []
    return tuple("/".join(parts[: depth + 1]) for depth in range(len(parts)))


def checked(terms: Terms, *, lowest_fee_ppm: int = PLATFORM_FEE_PPM) -> Terms:
    """Raises ``BadTerms`` naming the field that is out of bounds."""
    _require(1 <= len(terms.rules) <= MOST_RULES, "rules", f"1 to {MOST_RULES} rules")
    seen = set()
    for rule in terms.rules:
        _check_rule(rule)
        key = (rule.scope, rule.scope_id, rule.priority)
        _require(key not in seen, "rules", f"two rules for {rule.scope} {rule.scope_id!r}")
        seen.add(key)
    _require(lowest_fee_ppm <= terms.fee_ppm <= PPM // 2, "feePpm", f"{lowest_fee_ppm} to {PPM // 2}")
    _require(0 <= terms.individual_ppm <= PPM, "individualPpm", f"0 to {PPM}")
    _require(HOUR_S <= terms.window_s <= LONGEST_WINDOW_S, "windowS", "1 hour to 90 days")
    _require(
        terms.return_window_days in RETURN_WINDOWS_DAYS,
        "returnWindowDays",
        f"one of {', '.join(map(str, RETURN_WINDOWS_DAYS))}",
    )
    _require(0 <= terms.lead_binding_days <= 90, "leadBindingDays", "0 to 90")
    _require(
        SHORTEST_NOTICE_DAYS <= terms.notice_days <= LONGEST_NOTICE_DAYS,
        "noticeDays",
        f"{SHORTEST_NOTICE_DAYS} to {LONGEST_NOTICE_DAYS}",
    )
    _require(0 < terms.fixed_cap_ppm <= HIGHEST_RATE_PPM, "fixedCapPpm", f"1 to {HIGHEST_RATE_PPM}")
    fixed = any(rule.fixed is not None for rule in terms.rules)
    _require(not (fixed and terms.tiers), "tiers", "tiers replace every rate; a fixed amount has none")
    checked_limits(terms.caps, terms.tiers, highest_rate_ppm=HIGHEST_RATE_PPM)
    checked_clauses(terms.sources, terms.disputes)
    return terms


def _check_rule(rule: Rule) -> None:
    for rate in (rule.rate_ppm, rule.rate_ppm if rule.rate_new_ppm is None else rule.rate_new_ppm):
        _require(0 <= rate <= HIGHEST_RATE_PPM, "ratePpm", f"0 to {HIGHEST_RATE_PPM}")
    if rule.fixed is not None:
        _require(0 < rule.fixed.amount_minor <= MAX_MINOR, "fixed", f"1 to {MAX_MINOR} minor units a piece")
    _require(abs(rule.priority) <= _HIGHEST_PRIORITY, "priority", f"within ±{_HIGHEST_PRIORITY}")
    if rule.scope is ScopeKind.CAMPAIGN:
        _require(rule.scope_id == "", "scopeId", "empty for the whole catalogue")
    elif rule.scope is ScopeKind.PRODUCT:
        try:
            ProductId.parse(rule.scope_id)
        except MalformedId as error:
            raise BadTerms(error.message, field="scopeId") from error
    elif rule.scope is ScopeKind.CATEGORY:
        _require(bool(_CATEGORY.fullmatch(rule.scope_id)), "scopeId", "a category path such as beauty/skin")
    else:
        _require(
            0 < len(rule.scope_id) <= _LONGEST_SKU, "scopeId", f"a SKU of 1 to {_LONGEST_SKU} characters"
        )


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadTerms(f"{field}: {allowed}", field=field)


def version_hash(
    agreement_id: AgreementId,
    version: int,
    *,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    effective_at: datetime,
    terms: Terms,
    origin: Origin,
) -> str:
    """SHA-256 of the canonical JSON of one version: what a signature is a signature of."""
    return content_hash(
        {
            "agreement": agreement_id, "version": version, "advertiser": advertiser_id,
            "promoter_brand": promoter_brand_id, "effective_at": effective_at, "terms": terms.to_json(),
            "campaign": origin.campaign_id, "offer": origin.offer_id, "offer_version": origin.offer_version,
        }
    )  # fmt: skip


def terms_in_force(
    agreement_id: AgreementId,
    version: int,
    *,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    in_force_from: datetime,
    terms: Terms,
    currency: str,
) -> AgreementTerms:
    """One version as the engine reads it for an order of ``currency``; rules keep the sequence both signed."""
    return AgreementTerms(
        agreement_id=str(agreement_id),
        version=version,
        advertiser_id=str(advertiser_id),
        promoter_brand_id=str(promoter_brand_id),
        window_s=terms.window_s,
        rules=_offer_rules(terms.rules, in_force_from, currency),
        model=terms.model,
        lead_binding_days=terms.lead_binding_days,
        allow_self_purchase=terms.allow_self_purchase,
        checkout_touch_earns=terms.checkout_touch_earns,
    )


def _offer_rules(rules: Sequence[Rule], in_force_from: datetime, currency: str) -> tuple[OfferRule, ...]:
    return tuple(
        OfferRule(
            id=f"r{index:03d}",
            scope=rule.scope,
            scope_id=rule.scope_id,
            effective_at=in_force_from,
            rate_ppm=rule.rate_ppm,
            rate_new_ppm=rule.rate_new_ppm,
            priority=rule.priority,
            fixed_minor=rule.fixed.amount_minor if rule.fixed and rule.fixed.currency == currency else None,
        )
        for index, rule in enumerate(rules)
    )
