"""Caps and tiers of an agreement's commission, as given and as agreed."""

from __future__ import annotations

import strawberry

from graph.scalars import Money, MoneyInput, Ppm
from marketplace.promotion.agreements.limits import CapScope, CapTerm, Period, TierTerms
from marketplace.promotion.commission.rules import CapMode, Tier, TierMode
from marketplace.promotion.errors import BadTerms

strawberry.enum(CapMode, name="CommissionCapMode")
strawberry.enum(CapScope, name="CommissionCapScope")
strawberry.enum(TierMode, name="CommissionTierMode")
strawberry.enum(Period, name="CommissionPeriod")


@strawberry.input(description="The most that is paid: for an order, a promoter in a period, or all of it.")
class CommissionCapInput:
    scope: CapScope
    amount: MoneyInput
    mode: CapMode = CapMode.TRUNCATE
    fallback_rate_ppm: Ppm = strawberry.field(default=Ppm(0), description="Of FALLBACK_RATE.")
    period: Period = strawberry.field(default=Period.MONTH, description="Of a promoter's cap.")

    def parsed(self) -> CapTerm:
        money = self.amount.parsed()
        return CapTerm(
            self.scope, money.amount_minor, money.currency, self.mode, self.fallback_rate_ppm, self.period
        )


@strawberry.input
class CommissionTierInput:
    from_basis: MoneyInput = strawberry.field(
        description="Of the promoter brand's sales in the period; the first is 0."
    )
    rate_ppm: Ppm


@strawberry.input(description="With tiers every line earns their rate instead of its rule's.")
class CommissionTiersInput:
    tiers: list[CommissionTierInput]
    mode: TierMode = TierMode.MARGINAL
    period: Period = Period.MONTH

    def parsed(self) -> TierTerms:
        starts = [each.from_basis.parsed() for each in self.tiers]
        currencies = {start.currency for start in starts}
        if len(currencies) != 1:
            raise BadTerms("tiers: one currency", field="tiers")
        tiers = [
            Tier(start.amount_minor, each.rate_ppm) for start, each in zip(starts, self.tiers, strict=True)
        ]
        return TierTerms(tuple(tiers), currencies.pop(), self.mode, self.period)


@strawberry.type
class CommissionCap:
    scope: CapScope
    amount: Money
    mode: CapMode
    fallback_rate_ppm: Ppm
    period: Period

    @classmethod
    def of(cls, cap: CapTerm) -> CommissionCap:
        return cls(
            scope=cap.scope,
            amount=Money.minor(cap.limit_minor, cap.currency),
            mode=cap.mode,
            fallback_rate_ppm=Ppm(cap.fallback_rate_ppm),
            period=cap.period,
        )


@strawberry.type
class CommissionTier:
    from_basis: Money
    rate_ppm: Ppm


@strawberry.type
class CommissionTiers:
    tiers: list[CommissionTier]
    mode: TierMode
    period: Period

    @classmethod
    def of(cls, terms: TierTerms) -> CommissionTiers:
        return cls(
            tiers=[
                CommissionTier(
                    from_basis=Money.minor(tier.from_basis_minor, terms.currency), rate_ppm=Ppm(tier.rate_ppm)
                )
                for tier in terms.tiers
            ],
            mode=terms.mode,
            period=terms.period,
        )
