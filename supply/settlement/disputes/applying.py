"""What the provider says of a dispute is applied: every step between our stage and its, each once.

A webhook only says that something may be new: the object is fetched, outside any transaction, and applied under
the lock of the dispute's row. Old news changes nothing. A dispute on a charge that is not in the books yet (its
capture is still on the way) is kept and looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.errors import LianyuError
from core.ids import OrderId
from core.money import Money
from infra import outbox
from infra.db.base import table_of
from infra.db.rows import insert_rows
from infra.db.session import Database
from infra.payments.errors import ProviderUnavailable
from infra.payments.gateway import Dispute as ProviderDispute
from infra.payments.gateway import PaymentGateway
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit, merged, mirrored
from supply.settlement import late_payments
from supply.settlement.at_source import owed_again
from supply.settlement.at_source.owed_again import Payer
from supply.settlement.currency_positions import Conversion, record_conversion
from supply.settlement.disputes import absorbing, freezing, posting
from supply.settlement.disputes.events import DisputeLost, DisputeOpened, DisputeWon
from supply.settlement.disputes.models import DisputeOrder
from supply.settlement.disputes.posting import Fee, Part
from supply.settlement.disputes.stages import Course, Stage, Step, course
from supply.settlement.disputes.thawing import thawed
from supply.settlement.kinds import Kind
from supply.settlement.order_book import OrderBook, load_many
from supply.settlement.parties import platform_account

LOOK_AGAIN_AFTER = timedelta(minutes=10)
"""A dispute that is not decided is asked about this often, whether or not a notice came."""
FORGOTTEN_FOR = timedelta(days=4)
"""Notices are repeated for three days; disputes of this long are listed in case none ever came."""
_AT_ONCE = 50
log = structlog.get_logger("disputes")

_ORDERS_TABLE = table_of(DisputeOrder)
_INSERT = text(
    "INSERT INTO disputes (id, provider, charge_id, stage, provider_status, reason, currency, amount_minor,"
    " platform_minor, settled_currency, settled_minor, fee_minor, evidence_due_at, evidence_submissions, opened_at,"
    " looked_at, next_look_at) VALUES (:id, :provider, :charge_id, 'noticed', :provider_status, :reason, :currency,"
    " :amount_minor, 0, :currency, 0, 0, :evidence_due_at, :evidence_submissions, :opened_at, :now, :now)"
    " ON CONFLICT (id) DO NOTHING"
)
_LOCK = text("SELECT * FROM disputes WHERE id = :id FOR NO KEY UPDATE")
_UPDATE = text(
    "UPDATE disputes SET stage = :stage, provider_status = :provider_status, reason = :reason,"
    " evidence_due_at = :evidence_due_at, evidence_submissions = :evidence_submissions, looked_at = :now,"
    " next_look_at = :next_look_at, ended_at = :ended_at WHERE id = :id"
)
_WITHDRAWN = text(
    "UPDATE disputes SET amount_minor = :amount_minor, platform_minor = :platform_minor,"
    " settled_currency = :settled_currency, settled_minor = :settled_minor, fee_minor = :fee_minor WHERE id = :id"
)
_OWED = text("UPDATE disputes SET owed_minor = :owed_minor WHERE id = :id")
_FEE = text("UPDATE disputes SET fee_minor = :fee_minor WHERE id = :id")
_OF_CHARGE = text("SELECT order_id FROM split_orders WHERE charge_id = :charge_id ORDER BY order_id")
_KNOWN_CHARGE = text("SELECT provider FROM provider_charges WHERE charge_id = :charge_id")
_FORGET_PARTS = text("DELETE FROM dispute_orders WHERE dispute_id = :id")
_ELSEWHERE = text(
    "SELECT o.order_id, sum(o.amount_minor) AS amount_minor FROM dispute_orders o JOIN disputes d"
    " ON d.id = o.dispute_id AND d.stage = 'open' WHERE o.order_id = ANY(:orders) AND d.id <> :id GROUP BY 1"
)
_DUE = text(
    "SELECT id FROM disputes WHERE stage IN ('noticed', 'inquiry', 'open') AND next_look_at <= :now"
    " ORDER BY next_look_at, id LIMIT :limit"
)
_POSTPONE = text("UPDATE disputes SET next_look_at = :at WHERE id = :id")
_KNOWN = text("SELECT id FROM disputes WHERE id = ANY(:ids)")


async def refresh(db: Database, dispute_id: str, *, payments: PaymentGateway, clock: Clock) -> Stage:
    """Fetch a dispute and apply what it says now. Raises what the gateway raises."""
    found = await payments.retrieve_dispute(dispute_id)
    async with db.unit_of_work(SYSTEM) as session:
        return await apply_dispute(session, found, provider=payments.capabilities().name, now=clock.now())


async def sweep_disputes(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Look at undecided disputes whose webhook may never have come. Returns how many moved to another stage."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        due = list((await session.execute(_DUE, {"now": now, "limit": _AT_ONCE})).scalars())
        for dispute_id in due:  # a provider that does not answer must not be asked in a circle
            await session.execute(_POSTPONE, {"id": dispute_id, "at": now + LOOK_AGAIN_AFTER})
    moved = 0
    for dispute_id in due:
        async with db.reading(SYSTEM) as session:
            before = (await session.execute(_LOCK, {"id": dispute_id})).one().stage
        try:
            moved += await refresh(db, dispute_id, payments=payments, clock=clock) != before
        except ProviderUnavailable:
            continue
        except LianyuError as error:  # one that cannot be applied keeps none of the others
            log.error("dispute not applied", dispute=dispute_id, code=error.code, why=error.message)
    return moved


async def find_missed_disputes(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: the provider's recent disputes that no webhook told us of. Returns how many there were."""
    since = clock.now() - FORGOTTEN_FOR
    listed = [each async for each in payments.disputes(created_from=since)]
    async with db.reading(SYSTEM) as session:
        known = set((await session.execute(_KNOWN, {"ids": [each.id for each in listed]})).scalars())
    missed = [each for each in listed if each.id not in known]
    for each in missed:
        async with db.unit_of_work(SYSTEM) as session:
            await apply_dispute(session, each, provider=payments.capabilities().name, now=clock.now())
    return len(missed)


async def apply_dispute(
    session: AsyncSession, facts: ProviderDispute, *, provider: str, now: datetime
) -> Stage:
    """Take the steps that are due; the stage afterwards. ``session`` acts as SYSTEM."""
    await session.execute(_INSERT, {**_facts(facts), "provider": provider, "now": now})
    row = (await session.execute(_LOCK, {"id": facts.id})).one()
    books = {book.order_id: book for book in await _books(session, facts.charge_id)}
    if not books and (await session.execute(_KNOWN_CHARGE, {"charge_id": facts.charge_id})).first() is None:
        await _remember(session, row, facts, Stage.NOTICED, now)
        return Stage.NOTICED
    payer = await owed_again.payer_of(
        session, facts.charge_id, key=f"dispute:{facts.id}", reference=facts.id, provider=provider
    )
    way = course(Stage(row.stage), facts.status, withdrawn=_taken(facts) > 0)
    if Step.WITHDRAW in way.steps or row.stage == Stage.NOTICED:
        row = await _allot(session, row, facts, list(books.values()), payer)
    parts = await posting.parts_of(session, facts.id)
    if way.steps:
        beside = [
            each for book in books.values() for each in await posting.open_parts(session, book.order_id)
        ]
        await posting.hold(session, [*parts, *beside], books)
    for step in way.steps:
        if payer is not None:
            await _payers_part(session, step, row, payer, now)
        else:
            await _take(session, step, row, parts, books, now)
        parts = await posting.parts_of(session, facts.id)
    await _convert(session, row, facts, now)
    await _book_fee(session, row, facts, payer, now)
    await _remember(session, row, facts, way.stage, now)
    await _tell(session, way, row, parts, now)
    return way.stage


def _taken(facts: ProviderDispute) -> int:
    """What the provider withdrew at some time, in the currency it settles in; given back or not."""
    return -sum(each.amount_minor for each in facts.transactions if each.amount_minor < 0)


async def _books(session: AsyncSession, charge_id: str) -> list[OrderBook]:
    ids = [
        OrderId.of(each) for each in (await session.execute(_OF_CHARGE, {"charge_id": charge_id})).scalars()
    ]
    return await load_many(session, ids)


async def _allot(
    session: AsyncSession,
    row: Any,
    facts: ProviderDispute,
    books: Sequence[OrderBook],
    payer: Payer | None,
) -> Any:
    """Divide the dispute over the charge's orders by what the customer keeps of each beside other disputes. What
    none of them explains is the platform's, unless the charge paid somebody's debt.

    An inquiry is divided to tell its merchants; once the money moves it is divided anew.
    """
    orders = [book.order_id for book in books]
    rows = await session.execute(_ELSEWHERE, {"orders": orders, "id": facts.id})
    elsewhere = {OrderId.of(each.order_id): int(each.amount_minor) for each in rows}
    settled = _taken(facts)
    currency = facts.transactions[0].currency if settled else facts.currency
    amount = settled if settled and currency == facts.currency else facts.amount_minor
    kept = [book.customer_keeps_minor - elsewhere.get(book.order_id, 0) for book in books]
    shares, platform = freezing.over_orders(amount, kept)
    drawn: list[dict[str, Any]] = [
        {
            "dispute_id": facts.id, "order_id": book.order_id, "merchant_id": book.merchant_id,
            "currency": book.currency, "amount_minor": share, "freezes": 0, "absorbed": [], "lost": None,
        }
        for book, share in zip(books, shares, strict=True)
        if share
    ]  # fmt: skip
    await session.execute(_FORGET_PARTS, {"id": facts.id})
    await insert_rows(session, _ORDERS_TABLE, drawn)
    values = {
        "id": facts.id, "amount_minor": amount, "settled_currency": currency,
        "platform_minor": platform if payer is None else 0,
        "settled_minor": settled, "fee_minor": _fee_of_withdrawal(facts),
    }  # fmt: skip
    await session.execute(_WITHDRAWN, values)
    return (await session.execute(_LOCK, {"id": row.id})).one()


def _fee_of_withdrawal(facts: ProviderDispute) -> int:
    return sum(each.fee_minor for each in facts.transactions if each.amount_minor < 0)


async def _take(
    session: AsyncSession,
    step: Step,
    row: Any,
    parts: Sequence[Part],
    books: dict[OrderId, OrderBook],
    now: datetime,
) -> None:
    fee: Fee | None = Fee(row.settled_currency, row.fee_minor)
    for part in parts:
        book = books[part.order_id]
        async with thawed(session, book, now=now, but=part.dispute_id) as open_parts:
            match step:
                case Step.WITHDRAW:
                    await posting.withdraw(session, part, row.provider, fee, now=now)
                    open_parts.append(part)
                    fee = None
                case Step.LOSE:
                    owed = await posting.lose(session, part, book, now=now)
                    await absorbing.absorb_by_policy(session, part, book, owed, now=now)
                case Step.WIN:
                    await posting.win(session, part, book, now=now)
                case Step.WIN_BACK:
                    await absorbing.take_back(session, part, now=now)
                    await posting.win_back(session, part, book, now=now)
    if row.platform_minor:
        await _platforms_part(session, step, row, fee if step is Step.WITHDRAW else None, now)


async def _payers_part(session: AsyncSession, step: Step, row: Any, payer: Payer, now: datetime) -> None:
    """R15e, R15f: all of it is the party's whose debt the charge paid; lost, it owes that already."""
    amount = Money(row.amount_minor, row.currency)
    match step:
        case Step.WITHDRAW:
            fee = Money(row.fee_minor, row.settled_currency)
            await owed_again.owe_again(session, payer, "withdrawn", amount, fee, now=now)
        case Step.WIN | Step.WIN_BACK:
            await owed_again.stand(session, payer, "won", amount, now=now)


async def _platforms_part(
    session: AsyncSession, step: Step, row: Any, fee: Fee | None, now: datetime
) -> None:
    """What belongs to no order is nobody's but the platform's: withdrawn, lost (5020), won. A payment that came late
    is owed to the customer (2100): lost, it has that."""
    amount, receivable = row.platform_minor, posting.owed_by_bank(row.id, row.currency)
    customers = late_payments.owed_account(row.charge_id, row.currency)
    had = row.owed_minor
    if step is Step.LOSE:
        had = min(amount, (await ledger.hold(session, [customers, receivable]))[customers])
        await session.execute(_OWED, {"id": row.id, "owed_minor": had})
    lost = [debit(customers, had), debit(platform_account(Code.CHARGEBACK_LOSS, row.currency), amount - had)]
    went = posting.provider_legs(row.provider, row.currency, -amount)
    came = posting.provider_legs(row.provider, row.currency, amount)
    name, kind, legs = {
        Step.WITHDRAW: ("withdrawn", Kind.DISPUTE_WITHDRAWN, [debit(receivable, amount), *went]),
        Step.LOSE: ("lost", Kind.DISPUTE_LOST, [*lost, credit(receivable, amount)]),
        Step.WIN: ("won", Kind.DISPUTE_WON, [*came, credit(receivable, amount)]),
        Step.WIN_BACK: ("won", Kind.DISPUTE_WON, [*came, *mirrored(lost)]),
    }[step]
    if fee:
        legs = [*legs, *posting.fee_legs(row.provider, fee)]
    journal = Journal(f"dispute:{row.id}:{name}", kind, merged(legs), now, None, row.id)
    await ledger.post(session, journal, now=now)


async def _convert(session: AsyncSession, row: Any, facts: ProviderDispute, now: datetime) -> None:
    """R10 for what the provider moved in another currency than the customer's."""
    for each in facts.transactions:
        if each.currency != row.currency and row.settled_minor:
            presented = row.amount_minor if each.amount_minor > 0 else -row.amount_minor
            conversion = Conversion(
                each.id, row.provider, Money(presented, row.currency), Money(each.amount_minor, each.currency),
                Code.PROVIDER_AVAILABLE, each.created_at, each.exchange_rate,
            )  # fmt: skip
            await record_conversion(session, conversion, now=now)


async def _book_fee(
    session: AsyncSession, row: Any, facts: ProviderDispute, payer: Payer | None, now: datetime
) -> None:
    """A fee that came, or went back, after the withdrawal."""
    more = facts.fee_minor - row.fee_minor
    if not row.settled_minor or not more:
        return
    step = f"fee:{facts.fee_minor}"
    if payer is not None:
        await owed_again.book_fee(session, payer, step, Money(more, row.settled_currency), now=now)
    else:
        legs = merged(posting.fee_legs(row.provider, Fee(row.settled_currency, more)))
        key = f"dispute:{row.id}:{step}"
        await ledger.post(session, Journal(key, Kind.DISPUTE_FEE, legs, now, None, row.id), now=now)
    await session.execute(_FEE, {"id": row.id, "fee_minor": facts.fee_minor})


async def _remember(
    session: AsyncSession, row: Any, facts: ProviderDispute, stage: Stage, now: datetime
) -> None:
    ended = stage in (Stage.WON, Stage.LOST, Stage.CLOSED)
    values = {
        **_facts(facts), "stage": stage.value, "now": now, "next_look_at": now + LOOK_AGAIN_AFTER,
        "ended_at": (row.ended_at if stage == row.stage else None) or now if ended else None,
    }  # fmt: skip
    await session.execute(_UPDATE, values)


def _facts(facts: ProviderDispute) -> dict[str, Any]:
    return {
        "id": facts.id, "charge_id": facts.charge_id, "provider_status": facts.status,
        "reason": facts.reason, "currency": facts.currency, "amount_minor": facts.amount_minor,
        "evidence_due_at": facts.evidence_due_at, "evidence_submissions": facts.evidence_submissions,
        "opened_at": facts.created_at,
    }  # fmt: skip


async def _tell(session: AsyncSession, way: Course, row: Any, parts: Sequence[Part], now: datetime) -> None:
    orders = tuple(part.order_id for part in parts)
    facts = row.id, orders, row.amount_minor, row.currency, now
    for step in way.steps:
        match step:
            case Step.WITHDRAW:
                await outbox.record(session, DisputeOpened(*facts))
            case Step.LOSE:
                await outbox.record(session, DisputeLost(*facts))
            case Step.WIN | Step.WIN_BACK:
                await outbox.record(session, DisputeWon(*facts, charge_id=row.charge_id))
