"""The job that replays an advertiser's past orders under other terms, with its progress and its outcome.

The outcome belongs to the advertiser that asked. An attempt that is taken over (its worker was killed, the message came
again) writes nothing any more, and starting over changes nothing: the orders are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import AgreementId, BrandId, MalformedId
from core.money import Money
from core.pagination import BadPage, Page, PageRequest, page_of
from infra import outbox
from infra.db.base import table_of
from infra.db.rows import insert_rows
from infra.db.session import Database
from marketplace.insights.errors import BadPeriod, BadSimulation, SimulationNotFound, TooManyOrders
from marketplace.insights.events import SimulationRequested
from marketplace.insights.ids import SimulationId
from marketplace.insights.models import OfferSimulation, OfferSimulationPayee, SimulationStatus
from marketplace.insights.past_refunds import past_refunds
from marketplace.insights.replayed_limits import running
from marketplace.insights.replaying import Change, Payee, Replay
from marketplace.promotion import queries as promotion
from marketplace.promotion.agreements.terms import Terms, checked
from marketplace.promotion.ids import CampaignOfferId
from marketplace.promotion.models import ShareRole
from marketplace.promotion.offers import queries as offers

MOST_ORDERS = 250_000
LONGEST = timedelta(days=366)
AT_ONCE = 1_000
"""Orders between two notes of progress; their texts are all that is held of them."""
_MOST_AGREEMENTS = 1_000

_NEW = insert(table_of(OfferSimulation))
# An order that no touch was known of earns under no terms.
_ORDERS = (
    "FROM attribution_decisions WHERE advertiser_id = :advertiser AND decided_at >= :since AND decided_at < :until"
    " AND promoter_brand_ids <> '{}'"
)
_COUNT = text(f"SELECT count(*) {_ORDERS}")
_SEQUENCE = text(f"SELECT order_id {_ORDERS} ORDER BY decided_at, order_id LIMIT :most")
_TEXTS = text(
    "SELECT order_id, decided_at, input, amounts, result FROM attribution_decisions WHERE order_id = ANY(:orders)"
    " ORDER BY decided_at, order_id"
)
_START = text(
    "UPDATE offer_simulations SET status = 'RUNNING', attempt = attempt + 1, orders_done = 0"
    " WHERE id = :id AND status <> 'DONE'"
    " RETURNING advertiser_id, terms, agreement_ids, since, until, attempt"
)
_PROGRESS = text(
    "UPDATE offer_simulations SET orders_done = :done WHERE id = :id AND attempt = :attempt RETURNING 1"
)
_FINISH = text(
    "UPDATE offer_simulations SET status = 'DONE', orders_total = :done, orders_done = :done, finished_at = :now,"
    " orders_changed = :changed, orders_won = :won, orders_lost = :lost, orders_unreadable = :unreadable"
    " WHERE id = :id AND attempt = :attempt AND status = 'RUNNING' RETURNING 1"
)
_SELECT = (
    "SELECT s.*, coalesce((SELECT jsonb_agg(jsonb_build_array(t.currency, t.before_minor, t.after_minor,"
    "  t.before_reversed, t.after_reversed) ORDER BY t.currency) FROM (SELECT currency,"
    "  sum(before_minor)::bigint AS before_minor, sum(after_minor)::bigint AS after_minor,"
    "  sum(before_reversed_minor)::bigint AS before_reversed, sum(after_reversed_minor)::bigint AS after_reversed"
    "  FROM offer_simulation_payees p WHERE p.simulation_id = s.id GROUP BY currency) t), '[]') AS costs"
    " FROM offer_simulations s"
)
_MINE = "(CAST(:me AS uuid) IS NULL OR s.advertiser_id = CAST(:me AS uuid))"
_ONE = text(f"{_SELECT} WHERE s.id = :id AND {_MINE}")
_PAGE = text(
    f"{_SELECT} WHERE {_MINE} AND (CAST(:after AS uuid) IS NULL OR s.id < :after) ORDER BY s.id DESC LIMIT :limit"
)
_CHANGE = "after_minor - after_reversed_minor - before_minor + before_reversed_minor"
_KEY = f"{_CHANGE}, currency, role, payee, promoter_brand_id"
_AFTER = (
    "CAST(:change AS bigint), CAST(:currency AS bpchar), CAST(:role AS text), CAST(:payee AS text),"
    " CAST(:brand AS uuid)"
)


def _payees(direction: str, beyond: str) -> TextClause:
    order = ", ".join(f"{part} {direction}" for part in _KEY.split(", "))
    return text(
        f"SELECT * FROM offer_simulation_payees WHERE simulation_id = :id AND (CAST(:change AS bigint) IS NULL"
        f" OR ({_KEY}) {beyond} ({_AFTER})) ORDER BY {order} LIMIT :limit"
    )


class PayeeSort(StrEnum):
    GAIN = "GAIN"
    LOSS = "LOSS"


_PAYEES = {PayeeSort.GAIN: _payees("DESC", "<"), PayeeSort.LOSS: _payees("ASC", ">")}


@dataclass(frozen=True, slots=True)
class Cost:
    """What all commissions of one currency came to, the platform's part included."""

    before: Money
    after: Money
    before_reversed: Money
    """Of it, gone back with refunds."""
    after_reversed: Money

    @property
    def change(self) -> Money:
        """What it would have cost more, refunds off."""
        return (self.after - self.after_reversed) - (self.before - self.before_reversed)


@dataclass(frozen=True, slots=True)
class SimulationRow:
    id: SimulationId
    status: SimulationStatus
    terms: Terms
    offer_id: CampaignOfferId | None
    offer_version: int | None
    agreement_ids: tuple[AgreementId, ...] | None
    since: datetime
    until: datetime
    orders_total: int
    orders_done: int
    orders_changed: int
    orders_won: int
    orders_lost: int
    orders_unreadable: int
    requested_at: datetime
    finished_at: datetime | None
    costs: tuple[Cost, ...]


@dataclass(frozen=True, slots=True)
class PayeeRow:
    role: ShareRole
    payee: str
    promoter_brand_id: BrandId
    before: Money
    after: Money
    before_reversed: Money
    after_reversed: Money
    orders_before: int
    orders_after: int

    @property
    def change(self) -> Money:
        """What it would have more, refunds off."""
        return (self.after - self.after_reversed) - (self.before - self.before_reversed)


@dataclass(frozen=True, slots=True)
class Request:
    """New ``terms``, or those of a published offer; the current version by default."""

    since: datetime
    until: datetime
    terms: Terms | None = None
    offer_id: CampaignOfferId | None = None
    offer_version: int | None = None
    agreement_ids: Sequence[AgreementId] | None = None


async def request_simulation(
    session: AsyncSession, actor: Actor, wanted: Request, *, clock: Clock
) -> SimulationId:
    """Queue it. Raises ``BadPeriod``, ``BadSimulation``, ``BadTerms``, ``OfferNotFound``, ``TooManyOrders``."""
    actor.require("promotion:write")
    if not timedelta(0) < wanted.until - wanted.since <= LONGEST:
        raise BadPeriod(f"at most {LONGEST.days} days, and the end after the beginning", field="from")
    if wanted.agreement_ids is not None:
        await _own_agreements(session, actor, wanted.agreement_ids)
    terms, version = await _terms(session, actor, wanted)
    period = {"advertiser": actor.brand_id, "since": wanted.since, "until": wanted.until}
    total = (await session.execute(_COUNT, period)).scalar_one()
    if total > MOST_ORDERS:
        raise TooManyOrders(MOST_ORDERS, total)
    id = SimulationId.new()
    row = {
        "id": id, "advertiser_id": actor.brand_id, "requested_by": str(actor), "status": SimulationStatus.QUEUED,
        "terms": terms.to_json(), "offer_id": wanted.offer_id, "offer_version": version,
        "agreement_ids": None if wanted.agreement_ids is None else list(wanted.agreement_ids),
        "since": wanted.since, "until": wanted.until, "orders_total": total, "orders_done": 0, "attempt": 0,
        "orders_changed": 0, "orders_won": 0, "orders_lost": 0, "orders_unreadable": 0,
        "requested_at": clock.now(),
    }  # fmt: skip
    await session.execute(_NEW, row)
    await outbox.record(session, SimulationRequested(id))
    return id


async def _own_agreements(session: AsyncSession, actor: Actor, ids: Sequence[AgreementId]) -> None:
    if not 1 <= len(ids) <= _MOST_AGREEMENTS:
        raise BadSimulation(
            f"1 to {_MOST_AGREEMENTS} agreements, or none named for all", field="agreementIds"
        )
    found = await promotion.agreements_of(session, actor, ids)
    for id in ids:
        if id not in found or found[id].advertiser_id != actor.brand_id:
            raise BadSimulation(f"{id} is no agreement of yours as advertiser", field="agreementIds")


async def _terms(session: AsyncSession, actor: Actor, wanted: Request) -> tuple[Terms, int | None]:
    if (wanted.terms is None) == (wanted.offer_id is None):
        raise BadSimulation("terms or an offer", field="terms")
    if wanted.terms is not None:
        return checked(wanted.terms), None
    assert wanted.offer_id is not None
    offer = await offers.offer(session, actor, wanted.offer_id)
    if offer.advertiser_id != actor.brand_id:
        raise BadSimulation("an offer of your own", field="offerId")
    version = await offers.offer_version(session, actor, wanted.offer_id, wanted.offer_version)
    return version.content.terms, version.version


async def on_simulation_requested(db: Database, event: SimulationRequested, *, clock: Clock) -> None:
    """Replay, chunk by chunk; no transaction is open while orders are decided."""
    async with db.unit_of_work(SYSTEM) as session:
        job = (await session.execute(_START, {"id": event.simulation_id})).first()
    if job is None:
        return
    only = None if job.agreement_ids is None else [AgreementId.of(each) for each in job.agreement_ids]
    advertiser_id = BrandId.of(job.advertiser_id)
    period = {"advertiser": advertiser_id, "since": job.since, "until": job.until, "most": MOST_ORDERS}
    async with db.reading(SYSTEM) as session:
        orders: Sequence[UUID] = (await session.execute(_SEQUENCE, period)).scalars().all()
        refunds = await past_refunds(session, advertiser_id, job.since, job.until)
        runs = await running(session, advertiser_id, job.since, job.until)
    replay = Replay(
        Terms.from_json(job.terms),
        advertiser_id=advertiser_id,
        agreement_ids=only,
        runs=runs,
        refunds=refunds,
    )
    waiting = deque(refunds)
    done = 0
    for chunk in _chunks(orders):
        async with db.reading(SYSTEM) as session:
            rows = (await session.execute(_TEXTS, {"orders": chunk})).all()
        for row in rows:
            while waiting and waiting[0].at < row.decided_at:
                replay.refund(waiting.popleft())
            replay.add(row.input, row.amounts, row.result)
        done += len(rows)
        async with db.unit_of_work(SYSTEM) as session:
            noted = {"id": event.simulation_id, "attempt": job.attempt, "done": done}
            if (await session.execute(_PROGRESS, noted)).first() is None:
                return
    for back in waiting:
        replay.refund(back)
    async with db.unit_of_work(SYSTEM) as session:
        await _finish(session, event.simulation_id, job.attempt, replay, done, clock.now())


def _chunks(orders: Sequence[UUID]) -> Iterator[list[UUID]]:
    for start in range(0, len(orders), AT_ONCE):
        yield list(orders[start : start + AT_ONCE])


async def _finish(
    session: AsyncSession, id: SimulationId, attempt: int, replay: Replay, done: int, now: datetime
) -> None:
    totals = replay.totals
    values = {
        "id": id, "attempt": attempt, "done": done, "now": now, "changed": totals.changed, "won": totals.won,
        "lost": totals.lost, "unreadable": totals.unreadable,
    }  # fmt: skip
    if (await session.execute(_FINISH, values)).first() is not None:
        rows = [_row(id, payee, change) for payee, change in replay.changes.items()]
        await insert_rows(session, table_of(OfferSimulationPayee), rows)


def _row(id: SimulationId, payee: Payee, change: Change) -> Mapping[str, Any]:
    return {
        "simulation_id": id, "currency": payee.currency, "role": payee.role.value, "payee": payee.payee,
        "promoter_brand_id": BrandId.parse(payee.promoter_brand_id), "before_minor": change.before_minor,
        "after_minor": change.after_minor, "before_reversed_minor": change.before_reversed_minor,
        "after_reversed_minor": change.after_reversed_minor, "orders_before": change.orders_before,
        "orders_after": change.orders_after,
    }  # fmt: skip


async def simulation(session: AsyncSession, actor: Actor, id: SimulationId) -> SimulationRow:
    """One of the actor's own. Raises ``SimulationNotFound``."""
    row = (await session.execute(_ONE, {"id": id, "me": _me(actor)})).first()
    if row is None:
        raise SimulationNotFound("no such simulation", field="id")
    return _simulation(row)


async def simulations_page(session: AsyncSession, actor: Actor, request: PageRequest) -> Page[SimulationRow]:
    """The actor's own, newest first."""
    after = SimulationId.parse(request.key[0]) if request.key else None
    values = {"me": _me(actor), "after": after, "limit": request.first + 1}
    rows = [_simulation(row) for row in await session.execute(_PAGE, values)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def payees_page(
    session: AsyncSession, id: SimulationId, request: PageRequest, *, sort: PayeeSort = PayeeSort.GAIN
) -> Page[PayeeRow]:
    """Of a simulation the actor was allowed: who gains most, or loses most, first. Raises ``BadPage``."""
    values = {**_position(request), "id": id, "limit": request.first + 1}
    rows = [_payee(row) for row in await session.execute(_PAYEES[sort], values)]
    return page_of(
        rows,
        request,
        lambda p: (str(p.change.amount_minor), p.before.currency, p.role, p.payee, str(p.promoter_brand_id)),
    )


def _position(request: PageRequest) -> dict[str, Any]:
    if not request.key:
        return dict.fromkeys(("change", "currency", "role", "payee", "brand"))
    try:
        change, currency, role, payee, brand = request.key
        known = {"change": int(change), "brand": BrandId.parse(brand)}
    except (ValueError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="after") from error
    return {**known, "currency": currency, "role": role, "payee": payee}


def _me(actor: Actor) -> BrandId | None:
    actor.require("promotion:read")
    return None if actor.sees_everything else actor.brand_id


def _simulation(row: Row[Any]) -> SimulationRow:
    only = row.agreement_ids
    return SimulationRow(
        SimulationId.of(row.id), SimulationStatus(row.status), Terms.from_json(row.terms),
        CampaignOfferId.of(row.offer_id) if row.offer_id else None, row.offer_version,
        None if only is None else tuple(AgreementId.of(each) for each in only), row.since, row.until,
        row.orders_total, row.orders_done, row.orders_changed, row.orders_won, row.orders_lost,
        row.orders_unreadable, row.requested_at, row.finished_at,
        tuple(Cost(*[Money(minor, currency) for minor in sums]) for currency, *sums in row.costs),
    )  # fmt: skip


def _payee(row: Row[Any]) -> PayeeRow:
    return PayeeRow(
        ShareRole(row.role), row.payee, BrandId.of(row.promoter_brand_id), Money(row.before_minor, row.currency),
        Money(row.after_minor, row.currency), Money(row.before_reversed_minor, row.currency),
        Money(row.after_reversed_minor, row.currency), row.orders_before, row.orders_after,
    )  # fmt: skip
