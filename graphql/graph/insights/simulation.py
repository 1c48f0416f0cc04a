"""Past orders under other terms: who gains, who loses, what it costs."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.ids import AgreementId
from core.money import PPM
from core.pagination import PageRequest
from graph.brands.types import TenantName
from graph.context import Info
from graph.errors import UserError, expected
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.promotion.terms import Terms, TermsInput
from graph.promotion.types import tenant_name
from graph.scalars import Money, Ppm
from marketplace.insights import simulation
from marketplace.insights.ids import SimulationId
from marketplace.insights.models import SimulationStatus
from marketplace.insights.simulation import MOST_ORDERS, PayeeRow, PayeeSort, Request, SimulationRow
from marketplace.promotion.ids import CampaignOfferId
from marketplace.promotion.models import ShareRole

strawberry.enum(SimulationStatus, name="SimulationStatus")
strawberry.enum(PayeeSort, name="SimulationPayeeSort", description="Who gains most first, or who loses most.")


_REVERSED = "Of it, gone back with refunds."
_CHANGE = "What would be left after refunds, less what is."


@strawberry.type(description="All commissions of one currency as earned, the platform's part included.")
class SimulationCost:
    before: Money
    before_reversed: Money = strawberry.field(description=_REVERSED)
    after: Money
    after_reversed: Money = strawberry.field(description=_REVERSED)
    change: Money = strawberry.field(description=_CHANGE)


@strawberry.type(description="What one payee earned through one promoter brand, and would have earned.")
class SimulationPayee:
    role: ShareRole
    payee: str
    before: Money
    before_reversed: Money = strawberry.field(description=_REVERSED)
    after: Money
    after_reversed: Money = strawberry.field(description=_REVERSED)
    change: Money = strawberry.field(description=_CHANGE)
    orders_before: int
    orders_after: int
    row: strawberry.Private[PayeeRow]

    @classmethod
    def of(cls, row: PayeeRow) -> SimulationPayee:
        return cls(
            role=row.role,
            payee=row.payee,
            before=Money.of(row.before),
            before_reversed=Money.of(row.before_reversed),
            after=Money.of(row.after),
            after_reversed=Money.of(row.after_reversed),
            change=Money.of(row.change),
            orders_before=row.orders_before,
            orders_after=row.orders_after,
            row=row,
        )

    @strawberry.field
    async def promoter_brand(self, info: Info) -> TenantName | None:
        return await tenant_name(info, self.row.promoter_brand_id)


@strawberry.type(
    description="Orders decided again from their stored inputs, under new terms for those agreements. Caps and"
    " tiers count from zero at the first order, budgets from where they stood; refunds happen as they did."
)
class OfferSimulation:
    id: strawberry.ID
    status: SimulationStatus
    progress_ppm: Ppm
    terms: Terms
    offer_id: strawberry.ID | None
    offer_version: int | None
    agreement_ids: list[strawberry.ID] | None = strawberry.field(
        description="Null for all of the advertiser's."
    )
    since: datetime
    until: datetime
    orders_total: int = strawberry.field(description="Those that any touch was known of.")
    orders_done: int
    orders_changed: int = strawberry.field(description="Of which another touch wins a line.")
    orders_won: int = strawberry.field(description="That nobody had sold.")
    orders_lost: int = strawberry.field(description="That nobody would have sold.")
    orders_unreadable: int = strawberry.field(description="Decided by rules too old to be decided again.")
    costs: list[SimulationCost] = strawberry.field(description="Once it is done.")
    requested_at: datetime
    finished_at: datetime | None
    row: strawberry.Private[SimulationRow]

    @classmethod
    def of(cls, row: SimulationRow) -> OfferSimulation:
        done = row.status is SimulationStatus.DONE
        return cls(
            id=strawberry.ID(str(row.id)),
            status=row.status,
            progress_ppm=Ppm(PPM if done else row.orders_done * PPM // max(row.orders_total, 1)),
            terms=Terms.of(row.terms),
            offer_id=None if row.offer_id is None else strawberry.ID(str(row.offer_id)),
            offer_version=row.offer_version,
            agreement_ids=None
            if row.agreement_ids is None
            else [strawberry.ID(str(each)) for each in row.agreement_ids],
            since=row.since,
            until=row.until,
            orders_total=row.orders_total,
            orders_done=row.orders_done,
            orders_changed=row.orders_changed,
            orders_won=row.orders_won,
            orders_lost=row.orders_lost,
            orders_unreadable=row.orders_unreadable,
            costs=[
                SimulationCost(
                    before=Money.of(cost.before),
                    before_reversed=Money.of(cost.before_reversed),
                    after=Money.of(cost.after),
                    after_reversed=Money.of(cost.after_reversed),
                    change=Money.of(cost.change),
                )
                for cost in row.costs
            ],
            requested_at=row.requested_at,
            finished_at=row.finished_at,
            row=row,
        )

    @strawberry.field
    async def payees(
        self, info: Info, first: First = 20, after: After = None, sort: PayeeSort = PayeeSort.GAIN
    ) -> Connection[SimulationPayee]:
        async with info.context.reading() as session:
            page = await simulation.payees_page(session, self.row.id, PageRequest(first, after), sort=sort)
        return connection(page, SimulationPayee.of)


@strawberry.input(
    description="New terms, or a published offer's, for orders credited from `from` until `to`."
)
class OfferSimulateInput:
    from_: datetime = strawberry.field(name="from")
    to: datetime
    terms: TermsInput | None = None
    offer_id: strawberry.ID | None = None
    offer_version: int | None = strawberry.field(default=None, description="By default the current one.")
    agreement_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Whose terms would be others; by default all of the own ones as advertiser."
    )


@strawberry.type
class OfferSimulationPayload:
    simulation: OfferSimulation | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class SimulationQueries:
    @strawberry.field(permission_classes=[scope("promotion:read")], description="One of the own.")
    async def offer_simulation(self, info: Info, id: strawberry.ID) -> OfferSimulation:
        context = info.context
        async with context.reading() as session:
            row = await simulation.simulation(session, context.actor, SimulationId.parse(id))
        return OfferSimulation.of(row)

    @strawberry.field(permission_classes=[scope("promotion:read")], description="The own ones, newest first.")
    async def offer_simulations(
        self, info: Info, first: First = 20, after: After = None
    ) -> Connection[OfferSimulation]:
        context = info.context
        async with context.reading() as session:
            page = await simulation.simulations_page(session, context.actor, PageRequest(first, after))
        return connection(page, OfferSimulation.of)


@strawberry.type
class SimulationMutations:
    @strawberry.mutation(
        description=f"Replay the own past orders under other terms, at most {MOST_ORDERS}. A job: ask for its progress."
    )
    @expected(OfferSimulationPayload)
    async def offer_simulate(self, info: Info, input: OfferSimulateInput) -> OfferSimulationPayload:
        context, actor = info.context, info.context.actor
        only = input.agreement_ids
        wanted = Request(
            input.from_,
            input.to,
            input.terms.parsed() if input.terms else None,
            CampaignOfferId.parse(input.offer_id) if input.offer_id else None,
            input.offer_version,
            None if only is None else [AgreementId.parse(each) for each in only],
        )
        async with context.db.unit_of_work(actor) as session:
            id = await simulation.request_simulation(session, actor, wanted, clock=context.clock)
            row = await simulation.simulation(session, actor, id)
        return OfferSimulationPayload(simulation=OfferSimulation.of(row))
