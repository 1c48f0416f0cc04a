"""What two brands agree on, as given and as agreed."""

from __future__ import annotations

import strawberry

from graph.promotion.limits import (
    CommissionCap,
    CommissionCapInput,
    CommissionTiers,
    CommissionTiersInput,
)
from graph.scalars import Money, MoneyInput, Ppm
from marketplace.promotion.agreements import clauses
from marketplace.promotion.agreements import terms as agreed
from marketplace.promotion.agreements.clauses import SourceBreach
from marketplace.promotion.agreements.terms import DEFAULT_WINDOW_S, PLATFORM_FEE_PPM, SHORTEST_NOTICE_DAYS
from marketplace.promotion.commission.rules import FIXED_CAP_PPM
from marketplace.promotion.facts import AttributionModel, ScopeKind

strawberry.enum(AttributionModel, name="AttributionModel")
strawberry.enum(ScopeKind, name="RateScope")
strawberry.enum(
    SourceBreach,
    name="SourceBreach",
    description="What becomes of a sale whose click came from where it must not.",
)


@strawberry.input(description="A rate and where it holds.")
class RateRuleInput:
    rate_ppm: Ppm
    scope: ScopeKind = ScopeKind.CAMPAIGN
    scope_id: str = strawberry.field(
        default="", description="A SKU, a product id or a category path; empty for the whole catalogue."
    )
    rate_new_ppm: Ppm | None = None
    priority: int = 0
    fixed: MoneyInput | None = strawberry.field(
        default=None,
        description="So much a piece, in orders of this currency; others earn the rates.",
    )

    def parsed(self) -> agreed.Rule:
        fixed = self.fixed.parsed() if self.fixed else None
        return agreed.Rule(self.rate_ppm, self.scope, self.scope_id, self.rate_new_ppm, self.priority, fixed)


@strawberry.input(description="Where clicks may come from.")
class SourceTermsInput:
    paid_allowed: bool = strawberry.field(default=True, description="Whether a click may be bought.")
    banned_hosts: list[str] = strawberry.field(
        default_factory=list, description="Referrers, each with its sub-domains: ads.example.com."
    )
    on_breach: SourceBreach = SourceBreach.HOLD

    def parsed(self) -> clauses.SourceTerms:
        hosts = tuple(sorted({host.strip().lower() for host in self.banned_hosts}))
        return clauses.SourceTerms(self.paid_allowed, hosts, self.on_breach)


@strawberry.input(description="More time than the platform's rules give; never less.")
class DisputeTermsInput:
    open_days: int = strawberry.field(
        default=clauses.SHORTEST_DISPUTE_DAYS, description="After the statement was closed."
    )
    answer_days: int = strawberry.field(
        default=clauses.SHORTEST_ANSWER_DAYS, description="Working days for every step."
    )

    def parsed(self) -> clauses.DisputeTerms:
        return clauses.DisputeTerms(self.open_days, self.answer_days)


@strawberry.input(description="What is offered. Of two rules that fit a line, the narrower holds.")
class TermsInput:
    rules: list[RateRuleInput]
    individual_ppm: Ppm = Ppm(0)
    window_s: int = DEFAULT_WINDOW_S
    return_window_days: int = 15
    model: AttributionModel = strawberry.field(
        default=AttributionModel.LAST_TOUCH, description="In a campaign, the campaign's."
    )
    allow_self_purchase: bool = False
    checkout_touch_earns: bool = strawberry.field(
        default=False,
        description="A touch at checkout earns where there is no earlier one; it never displaces one.",
    )
    lead_binding_days: int = 0
    fee_ppm: Ppm = strawberry.field(
        default=Ppm(PLATFORM_FEE_PPM), description="The platform's part; never below its own fee."
    )
    caps: list[CommissionCapInput] = strawberry.field(default_factory=list)
    tiers: CommissionTiersInput | None = None
    fixed_cap_ppm: Ppm = strawberry.field(
        default=Ppm(FIXED_CAP_PPM), description="The most that a fixed commission is of a line's basis."
    )
    notice_days: int = strawberry.field(
        default=SHORTEST_NOTICE_DAYS,
        description="Before other terms take effect, and before the agreement ends; 7 to 90.",
    )
    sources: SourceTermsInput = strawberry.field(default_factory=SourceTermsInput)
    disputes: DisputeTermsInput = strawberry.field(default_factory=DisputeTermsInput)

    def parsed(self) -> agreed.Terms:
        return agreed.Terms(
            tuple(rule.parsed() for rule in self.rules),
            fee_ppm=self.fee_ppm,
            individual_ppm=self.individual_ppm,
            window_s=self.window_s,
            return_window_days=self.return_window_days,
            model=self.model,
            allow_self_purchase=self.allow_self_purchase,
            checkout_touch_earns=self.checkout_touch_earns,
            lead_binding_days=self.lead_binding_days,
            caps=tuple(cap.parsed() for cap in self.caps),
            tiers=self.tiers.parsed() if self.tiers else None,
            fixed_cap_ppm=self.fixed_cap_ppm,
            notice_days=self.notice_days,
            sources=self.sources.parsed(),
            disputes=self.disputes.parsed(),
        )


@strawberry.type(description="A rate and where it holds; `scopeId` is empty for the whole catalogue.")
class RateRule:
    scope: ScopeKind
    scope_id: str
    rate_ppm: Ppm
    rate_new_ppm: Ppm | None = strawberry.field(description="For new customers, where it differs.")
    priority: int
    fixed: Money | None = strawberry.field(
        description="A piece, instead of the rates, in orders of this currency."
    )

    @classmethod
    def of(cls, rule: agreed.Rule) -> RateRule:
        return cls(
            scope=rule.scope,
            scope_id=rule.scope_id,
            rate_ppm=Ppm(rule.rate_ppm),
            rate_new_ppm=None if rule.rate_new_ppm is None else Ppm(rule.rate_new_ppm),
            priority=rule.priority,
            fixed=None if rule.fixed is None else Money.of(rule.fixed),
        )


@strawberry.type
class SourceTerms:
    paid_allowed: bool
    banned_hosts: list[str]
    on_breach: SourceBreach


@strawberry.type
class DisputeTerms:
    open_days: int
    answer_days: int


@strawberry.type(description="What two brands agree on.")
class Terms:
    rules: list[RateRule]
    fee_ppm: Ppm = strawberry.field(description="The platform's part of every commission.")
    individual_ppm: Ppm = strawberry.field(description="The person's part of what is left.")
    window_s: int
    return_window_days: int
    model: AttributionModel
    allow_self_purchase: bool
    checkout_touch_earns: bool = strawberry.field(
        description="Whether a touch at checkout earns where there is no earlier one."
    )
    lead_binding_days: int
    caps: list[CommissionCap]
    tiers: CommissionTiers | None
    fixed_cap_ppm: Ppm = strawberry.field(
        description="The most that a fixed commission is of a line's basis."
    )
    notice_days: int = strawberry.field(description="Before other terms take effect, and before it ends.")
    sources: SourceTerms
    disputes: DisputeTerms

    @classmethod
    def of(cls, terms: agreed.Terms) -> Terms:
        return cls(
            rules=[RateRule.of(rule) for rule in terms.rules],
            fee_ppm=Ppm(terms.fee_ppm),
            individual_ppm=Ppm(terms.individual_ppm),
            window_s=terms.window_s,
            return_window_days=terms.return_window_days,
            model=terms.model,
            allow_self_purchase=terms.allow_self_purchase,
            checkout_touch_earns=terms.checkout_touch_earns,
            lead_binding_days=terms.lead_binding_days,
            caps=[CommissionCap.of(cap) for cap in terms.caps],
            tiers=CommissionTiers.of(terms.tiers) if terms.tiers else None,
            fixed_cap_ppm=Ppm(terms.fixed_cap_ppm),
            notice_days=terms.notice_days,
            sources=SourceTerms(
                paid_allowed=terms.sources.paid_allowed,
                banned_hosts=list(terms.sources.banned_hosts),
                on_breach=terms.sources.on_breach,
            ),
            disputes=DisputeTerms(open_days=terms.disputes.open_days, answer_days=terms.disputes.answer_days),
        )
