"""R9 on order O1 of money.md §2, to the cent, and what becomes of disputes beside other movements."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, RefundId
from infra.db.session import Database
from infra.payments.gateway import Dispute
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import policies, queries, service
from supply.settlement.capture import CapturedOrder
from supply.settlement.disputes.absorbing import absorb_loss
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.disputes.stages import Stage
from supply.settlement.errors import OrderDisputed
from supply.settlement.refunds import LineRefund, RefundPlan
from tests.factories.settled import paid_out_o1, shares
from tests.factories.settlement import (
    PAID_AT,
    Parties,
    captured_o1,
    dispute_of,
    legs,
    line_of_o1,
    order_of,
)

P = Code
NOW = PAID_AT + timedelta(days=1)


@pytest.fixture
def parties() -> Parties:
    return Parties()


async def told(session: AsyncSession, *facts: Dispute) -> list[Stage]:
    return [await apply_dispute(session, each, provider="stripe", now=NOW) for each in facts]


async def of_order(session: AsyncSession, step: str, order_id: OrderId) -> set[tuple[Code, str, int]]:
    return await legs(session, f"dispute:du_1:{step}:{order_id}")


async def balances(session: AsyncSession, parties: Parties) -> dict[str, tuple[int, int, int, int]]:
    """Pending, available, reserved, owed by party."""
    ids = [parties.merchant, parties.supplier, parties.promoter_brand, parties.individual]
    found = await queries.party_balances(session, [str(each) for each in ids])
    return {
        b.payee_id: (b.pending_minor, b.available_minor, b.reserved_minor, b.receivable_minor) for b in found
    }


async def books_hold(session: AsyncSession) -> bool:
    trial = await ledger.trial_balance(session)
    return not await queries.broken_identities(session) and sum(line.debit_minor for line in trial) == 0


async def test_r9a_r9b_money_is_withdrawn_and_the_shares_still_here_are_frozen(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)

    assert await told(session, dispute_of("ch_1")) == [Stage.OPEN]

    assert await of_order(session, "withdrawn", order.order_id) == {
        (P.DISPUTE_RECEIVABLE, "dispute:du_1", 10_388),
        (P.DISPUTE_FEE, "platform", 1_500),
        (P.PROVIDER_AVAILABLE, "psp:stripe", -11_888),
    }
    assert await of_order(session, "freeze", order.order_id) == {
        *shares(parties, P.PENDING, 3_200, 4_800, 900, 450),
        *shares(parties, P.RESERVED, -3_200, -4_800, -900, -450),
    }
    assert await books_hold(session)


async def test_r9b_freezes_what_was_released_as_well(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        order = order_of(parties, [line_of_o1(parties, settlement_days=3)])
        await service.open_split(session, order, clock=clock)
        units = [(order.lines[0].order_line_id, 2)]
        await service.record_delivery(session, order.order_id, parties.supplier, units, at=NOW)
    clock.at = NOW + timedelta(days=3)
    await service.release_due(db, clock=clock)  # the supplier's part only
    async with db.unit_of_work(SYSTEM) as session:
        await told(session, dispute_of("ch_1"))

    async with db.reading(SYSTEM) as session:
        assert await of_order(session, "freeze", order.order_id) == {
            *shares(parties, P.PENDING, 3_200, 0, 900, 450),
            *shares(parties, P.AVAILABLE, 0, 4_800, 0, 0),
            *shares(parties, P.RESERVED, -3_200, -4_800, -900, -450),
        }
    clock.at = NOW + timedelta(days=60)
    assert await service.release_due(db, clock=clock) == 1  # the platform's fee; nothing that is frozen
    async with db.reading(SYSTEM) as session:
        assert (await balances(session, parties))[str(parties.merchant)] == (0, 0, 3_200, 0)


async def test_r9c_lost_before_anything_was_paid_out(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)

    assert await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="lost")) == [
        Stage.OPEN, Stage.LOST,
    ]  # fmt: skip

    assert await of_order(session, "lost", order.order_id) == {
        *shares(parties, P.RESERVED, 3_200, 4_800, 900, 450),
        (P.FEE_DEFERRED, "platform", 450),
        (P.TAX, "tax:CN", 588),
        (P.DISPUTE_RECEIVABLE, "dispute:du_1", -10_388),
    }
    identity = await queries.order_identity(session, order.order_id)
    assert identity.holds
    assert identity.refunded_minor == 10_388
    assert set((await balances(session, parties)).values()) == {(0, 0, 0, 0)}


async def test_r9c_lost_after_full_payout_is_owed(db: Database, clock: FixedClock, parties: Parties) -> None:
    order = await paid_out_o1(db, clock, parties)
    async with db.unit_of_work(SYSTEM) as session:
        await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="lost"))

    async with db.reading(SYSTEM) as session:
        assert await of_order(session, "freeze", order.order_id) == set()
        assert await of_order(session, "lost", order.order_id) == {
            *shares(parties, P.RECEIVABLE, 3_200, 4_800, 900, 450),
            (P.FEE_REVENUE, "platform", 450),
            (P.TAX, "tax:CN", 588),
            (P.DISPUTE_RECEIVABLE, "dispute:du_1", -10_388),
        }
        assert await books_hold(session)


async def test_r9d_won_lays_every_share_back_where_it_was(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    before = await queries.parts_of_order(session, order.order_id), await balances(session, parties)

    await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="won"))

    assert await of_order(session, "won", order.order_id) == {
        (P.PROVIDER_AVAILABLE, "psp:stripe", 10_388), (P.DISPUTE_RECEIVABLE, "dispute:du_1", -10_388),
    }  # fmt: skip
    assert await of_order(session, "unfreeze", order.order_id) == {
        *shares(parties, P.RESERVED, 3_200, 4_800, 900, 450),
        *shares(parties, P.PENDING, -3_200, -4_800, -900, -450),
    }
    after = await queries.parts_of_order(session, order.order_id), await balances(session, parties)
    assert after == before
    assert await books_hold(session)


async def test_r9e_the_platform_absorbs_by_its_policy(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    order = await paid_out_o1(db, clock, parties)
    async with db.unit_of_work(SYSTEM) as session:
        await policies.set_policy(session, SYSTEM, policies.Absorption(up_to_minor=9_350), clock=clock)
        await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="lost"))

    async with db.reading(SYSTEM) as session:
        assert await of_order(session, "absorbed1", order.order_id) == {
            (P.CHARGEBACK_LOSS, "platform", 9_350),
            *shares(parties, P.RECEIVABLE, -3_200, -4_800, -900, -450),
        }
        assert await books_hold(session)
    async with db.unit_of_work(SYSTEM) as session:  # and it is the platform's again when the dispute is won
        await told(session, dispute_of("ch_1", status="won"))
        assert set((await balances(session, parties)).values()) == {(0, 0, 0, 0)}
        loss = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
        assert loss.get(Code.CHARGEBACK_LOSS, 0) == 0
        assert await books_hold(session)


async def test_r9e_beyond_the_policy_nothing_is_absorbed_until_an_operator_decides(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    order = await paid_out_o1(db, clock, parties)
    async with db.unit_of_work(SYSTEM) as session:
        await policies.set_policy(session, SYSTEM, policies.Absorption(up_to_minor=9_349), clock=clock)
        await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="lost"))
        assert (await balances(session, parties))[str(parties.individual)] == (0, 0, 0, 450)

        taken = await absorb_loss(
            session, SYSTEM, "du_1", order.order_id, payee_id=str(parties.individual), reason="hardship",
            clock=clock,
        )  # fmt: skip

        assert taken == 450
        assert (await balances(session, parties))[str(parties.individual)] == (0, 0, 0, 0)
        assert (await balances(session, parties))[str(parties.merchant)] == (0, 0, 0, 3_200)
        assert await books_hold(session)


async def test_dispute_after_full_payout_won_after_the_lost_share_was_netted(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    await paid_out_o1(db, clock, parties)
    async with db.unit_of_work(SYSTEM) as session:
        await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="lost"))
        other = order_of(parties, [line_of_o1(parties)], charge_id="ch_2")
        await service.open_split(session, other, clock=clock)
    clock.advance(timedelta(days=1))  # paid long ago: due at once
    await service.release_due(db, clock=clock)
    await service.make_batch(db, cycle="c2", clock=clock)  # nets the debts off, pays nothing
    async with db.reading(SYSTEM) as session:
        assert set((await balances(session, parties)).values()) == {(0, 0, 0, 0)}

    async with db.unit_of_work(SYSTEM) as session:
        assert await told(session, dispute_of("ch_1", status="won")) == [Stage.WON]

    async with db.reading(SYSTEM) as session:
        assert await balances(session, parties) == {
            str(parties.merchant): (0, 3_200, 0, 0), str(parties.supplier): (0, 4_800, 0, 0),
            str(parties.promoter_brand): (0, 900, 0, 0), str(parties.individual): (0, 450, 0, 0),
        }  # fmt: skip
        assert await books_hold(session)


async def test_dispute_closed_before_created(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)

    assert await told(session, dispute_of("ch_1", status="lost"), dispute_of("ch_1")) == [Stage.LOST] * 2

    assert len(await of_order(session, "withdrawn", order.order_id)) == 3
    assert (await queries.order_identity(session, order.order_id)).refunded_minor == 10_388
    assert await books_hold(session)


async def test_an_inquiry_moves_nothing_and_may_become_a_dispute(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    before = await ledger.trial_balance(session)
    inquiry = dispute_of("ch_1", status="warning_needs_response", withdrawn=False)

    assert await told(session, inquiry) == [Stage.INQUIRY]
    assert await ledger.trial_balance(session) == before
    refund = RefundPlan(RefundId.new(), order.order_id, amount_minor=388)
    await service.reserve_refund(session, refund, now=NOW)  # the way to end an inquiry
    assert await told(session, dispute_of("ch_1", amount_minor=10_000)) == [Stage.OPEN]
    assert (await balances(session, parties))[str(parties.merchant)][0] == 0
    assert await books_hold(session)


async def test_a_refund_during_a_dispute_is_refused(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    await told(session, dispute_of("ch_1", amount_minor=5_000))

    with pytest.raises(OrderDisputed) as refused:
        await service.reserve_refund(
            session, RefundPlan(RefundId.new(), order.order_id, amount_minor=1), now=NOW
        )

    assert refused.value.dispute_id == "du_1"
    await told(session, dispute_of("ch_1", amount_minor=5_000, status="won"))
    await service.reserve_refund(
        session, RefundPlan(RefundId.new(), order.order_id, everything=True), now=NOW
    )
    assert await books_hold(session)


async def test_a_partial_dispute_takes_what_a_refund_by_amount_would(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)

    await told(
        session, dispute_of("ch_1", amount_minor=4_770), dispute_of("ch_1", amount_minor=4_770, status="lost")
    )

    assert await of_order(session, "lost", order.order_id) == {  # the figures of R6b
        *shares(parties, P.RESERVED, 1_469, 2_204, 413, 207),
        (P.FEE_DEFERRED, "platform", 207),
        (P.TAX, "tax:CN", 270),
        (P.DISPUTE_RECEIVABLE, "dispute:du_1", -4_770),
    }
    line = LineRefund(order.lines[0].order_line_id, 1)
    rest = await service.reserve_refund(
        session, RefundPlan(RefundId.new(), order.order_id, lines=[line], everything=False), now=NOW
    )
    assert rest.amount_minor <= 10_388 - 4_770
    last = await service.reserve_refund(
        session, RefundPlan(RefundId.new(), order.order_id, everything=True), now=NOW
    )
    assert rest.amount_minor + last.amount_minor == 10_388 - 4_770
    assert await books_hold(session)


async def test_two_disputes_on_one_charge_with_two_orders(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    # 10,388 each: 15,000 is shared by halves, the second one takes from what the first left of each.
    first, second = await two_orders(session, clock, parties)

    await told(
        session, dispute_of("ch_1", amount_minor=15_000),
        dispute_of("ch_1", dispute_id="du_2", amount_minor=5_776, fee_minor=0),
    )  # fmt: skip

    for order in (first, second):
        assert (P.DISPUTE_RECEIVABLE, "dispute:du_1", 7_500) in await of_order(
            session, "withdrawn", order.order_id
        )
        assert (P.DISPUTE_RECEIVABLE, "dispute:du_2", 2_888) in await legs(
            session, f"dispute:du_2:withdrawn:{order.order_id}"
        )
    assert {b[0] for b in (await balances(session, parties)).values()} == {0}
    await told(
        session, dispute_of("ch_1", amount_minor=15_000, status="won"),
        dispute_of("ch_1", dispute_id="du_2", amount_minor=5_776, fee_minor=0, status="lost"),
    )  # fmt: skip
    for order in (first, second):
        assert (await queries.order_identity(session, order.order_id)).refunded_minor == 2_888
    assert {b[2] for b in (await balances(session, parties)).values()} == {0}
    assert await books_hold(session)


async def two_orders(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> tuple[CapturedOrder, CapturedOrder]:
    orders = [order_of(parties, [line_of_o1(parties)]) for _ in range(2)]
    await service.open_splits(session, orders, clock=clock)
    one, two = sorted(orders, key=lambda order: order.order_id)
    return one, two


async def test_a_dispute_on_a_charge_that_is_not_booked_yet_waits(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    assert await told(session, dispute_of("ch_1")) == [Stage.NOTICED]
    order = await captured_o1(session, clock, parties)
    assert await told(session, dispute_of("ch_1")) == [Stage.OPEN]
    assert len(await of_order(session, "freeze", order.order_id)) == 8


async def test_money_that_was_refunded_beside_a_dispute_is_the_platforms_loss(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    # The provider had paid the refund when the bank withdrew the whole: the customer has 388 too much.
    order = await captured_o1(session, clock, parties)
    refund = RefundId.new()
    await service.reserve_refund(session, RefundPlan(refund, order.order_id, amount_minor=388), now=NOW)
    await service.settle_refund(session, refund, now=NOW)

    await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="lost"))

    trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
    assert trial[Code.CHARGEBACK_LOSS] == 388
    assert trial.get(Code.DISPUTE_RECEIVABLE, 0) == 0
    assert (await queries.order_identity(session, order.order_id)).refunded_minor == 10_388
    assert await books_hold(session)


async def test_a_fee_the_provider_gives_back_is_booked(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    await captured_o1(session, clock, parties)
    await told(session, dispute_of("ch_1"), dispute_of("ch_1", status="won"))
    back = dispute_of("ch_1", status="won")
    given = Dispute(**{name: getattr(back, name) for name in Dispute.__slots__} | {"fee_minor": 0})

    await told(session, given, given)

    trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
    assert trial.get(Code.DISPUTE_FEE, 0) == 0
    assert await books_hold(session)


async def test_a_dispute_of_a_charge_that_paid_no_order_is_the_platforms(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    await service.register_charge(session, "ch_9", provider="stripe", currency="CNY", captured_at=PAID_AT)

    assert await told(session, dispute_of("ch_9", amount_minor=700)) == [Stage.OPEN]
    trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
    assert (trial[Code.DISPUTE_RECEIVABLE], trial[Code.PROVIDER_AVAILABLE]) == (700, -2_200)

    for status, loss in (("lost", 700), ("won", 0)):
        await told(session, dispute_of("ch_9", status=status, amount_minor=700))
        trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
        assert trial.get(Code.CHARGEBACK_LOSS, 0) == loss
        assert trial.get(Code.DISPUTE_RECEIVABLE, 0) == 0
    assert trial[Code.PROVIDER_AVAILABLE] == -1_500


async def test_a_dispute_the_provider_settles_in_another_currency(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    # EUR 90.00 taken as USD 97.20 with a fee of USD 15.00, given back as USD 96.30: R10 both ways.
    line = line_of_o1(parties, goods_minor=8_000, tax_minor=952, shipping_minor=0, shipping_tax_minor=48)
    await service.open_split(session, order_of(parties, [line], currency="EUR"), clock=clock)
    facts = {"amount_minor": 9_000, "currency": "EUR"}

    def settled(status: str, amounts: list[int]) -> Dispute:
        told = dispute_of("ch_1", status=status, **facts)  # type: ignore[arg-type]
        rows = tuple(
            replace(
                row, currency="USD", amount_minor=amount, fee_minor=1_500 if amount < 0 else 0,
                exchange_rate="1.08",
            )
            for row, amount in zip(told.transactions, amounts, strict=True)
        )  # fmt: skip
        return replace(told, transactions=rows)

    await told(session, settled("needs_response", [-9_720]), settled("won", [-9_720, 9_630]))

    trial = {(line.code, line.currency): line.debit_minor for line in await ledger.trial_balance(session)}
    assert trial.get((Code.DISPUTE_RECEIVABLE, "EUR"), 0) == 0
    assert trial[Code.DISPUTE_FEE, "USD"] == 1_500
    assert trial[Code.PROVIDER_AVAILABLE, "USD"] == -9_720 - 1_500 + 9_630
    assert trial.get((Code.PROVIDER_AVAILABLE, "EUR"), 0) == 0
    assert trial[Code.CURRENCY_DIFFERENCE, "USD"] == 90  # the position is empty again
    assert not await queries.broken_identities(session)
