"""Every strange thing real orders do, in small recordings: kept, flagged, and right to the cent."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from core.actor import SYSTEM
from core.ids import OrderId
from infra.db.session import Database
from marketplace.orders import queries as orders
from marketplace.orders.external import known_orders
from marketplace.orders.models import FulfillmentStatus, PaymentStatus
from marketplace.orders.queries import OrderRow
from services.replay.files import ReplayInputMalformed, ReplayInputMissing, read_source
from services.replay.progress import OtherReplayHere
from services.replay.report import Report, report_of
from services.replay.run import Replay
from supply.fulfillment import queries as fulfillments
from supply.fulfillment.machine import Status
from supply.fulfillment.queries import FulfillmentOrderView
from supply.inventory import service as inventory
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from tests.services.replay.recorded import COMPARED, Recording, expected

SECRET = "a secret of at least thirty-two letters"


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


async def replayed(db: Database, directory: Path, limit: int | None = None) -> Report:
    source = read_source(directory, limit=limit)
    await Replay(db, source, secret=SECRET, tell=lambda *_: None, began=time.monotonic()).run()
    async with db.reading(SYSTEM) as session:
        return await report_of(session)


def agrees(report: Report, directory: Path, limit: int | None = None) -> bool:
    wanted = expected(directory, limit)
    assert {name: report.body[name] for name in COMPARED} == {name: wanted[name] for name in COMPARED}
    stated = {(row["seller"], row["month"]): row for row in report.settlement}
    assert {
        key: {name: row[name] for name in ("price_minor", "freight_minor", "commission_minor", "net_minor")}
        for key, row in stated.items()
    } == wanted["settlement"]
    assert report.body["ledger"]["sum_minor"] == 0
    assert report.body["ledger"]["unbalanced"] == 0
    return True


async def the_order(db: Database, name: str) -> tuple[OrderRow, list[FulfillmentOrderView]]:
    async with db.reading(SYSTEM) as session:
        order_id: OrderId = (await known_orders(session, "olist", [name]))[name]
        order = await orders.order(session, SYSTEM, order_id)
        return order, (await fulfillments.of_orders(session, SYSTEM, [order_id]))[order_id]


async def balances(db: Database) -> dict[Code, int]:
    """Debit balances by code; codes at zero are left out."""
    async with db.reading(SYSTEM) as session:
        trial = await ledger.trial_balance(session)
    return {line.code: line.debit_minor for line in trial if line.debit_minor}


def usual(recording: Recording, name: str, month: str = "2017-03", **special: Any) -> str:
    """Bought on the 1st, approved on the 2nd, shipped on the 5th, there on the 10th."""
    dates = {
        "bought": f"{month}-01 10:00:00", "approved": f"{month}-02 10:00:00",
        "carrier": f"{month}-05 10:00:00", "delivered": f"{month}-10 10:00:00",
        "promised": f"{month}-15 00:00:00", "limit": f"{month}-06 10:00:00",
    }  # fmt: skip
    return recording.order(name, **{**dates, **special})


async def test_an_ordinary_order_is_delivered_and_settled_in_its_month(
    db: Database, recording: Recording
) -> None:
    usual(recording, "plain")

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert report.body["settled"] == {
        "price_minor": 1_000, "freight_minor": 200, "commission_minor": 100, "net_minor": 1_100,
        "seller_months": 1,
    }  # fmt: skip
    order, parts = await the_order(db, "plain")
    assert (order.payment_status, order.fulfillment_status) == (
        PaymentStatus.PAID,
        FulfillmentStatus.DELIVERED,
    )
    assert [str(at)[:10] for at in (parts[0].accepted_at, parts[0].shipped_at, parts[0].delivered_at)] == [
        "2017-03-02", "2017-03-05", "2017-03-10",
    ]  # fmt: skip
    # The customer's 12.00 are at the storefront: 11.00 of them the seller's, 1.00 the marketplace's revenue.
    assert await balances(db) == {
        Code.PROVIDER_PENDING: 1_200, Code.AVAILABLE: -1_100, Code.FEE_REVENUE: -100,
    }  # fmt: skip


async def test_commission_is_rounded_once_per_order_and_seller(db: Database, recording: Recording) -> None:
    usual(
        recording, "thirds",
        items=[("kettle", "ana", "1.05", "0.00")] * 3 + [("poster", "bob", "1.05", "0.40")],
    )  # fmt: skip

    report = await replayed(db, recording.write())

    # 10 % of 3.15 is 0.315 → 0.32, not three times 0.11; of 1.05 it is 0.105 → 0.11.
    assert agrees(report, recording.directory)
    assert {row["seller"]: row["commission_minor"] for row in report.settlement} == {"ana": 32, "bob": 11}


async def test_a_parcel_handed_over_before_approval_keeps_its_date_and_a_flag(
    db: Database, recording: Recording
) -> None:
    usual(recording, "early", carrier="2017-03-01 20:00:00")

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert report.body["quirks"] == {"handed_to_carrier_before_approval": 1}
    _, parts = await the_order(db, "early")
    assert str(parts[0].shipped_at)[:19] == "2017-03-01 20:00:00"
    assert parts[0].quirks == ("HANDED_OVER_BEFORE_SUBMITTED",)


async def test_a_delivery_before_the_hand_over_keeps_both_dates_and_a_flag(
    db: Database, recording: Recording
) -> None:
    usual(recording, "backwards", carrier="2017-04-02 09:00:00", delivered="2017-03-30 09:00:00")

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)  # settled in March
    assert report.body["quirks"] == {"delivered_before_carrier": 1}
    _, parts = await the_order(db, "backwards")
    assert [str(at)[:10] for at in (parts[0].shipped_at, parts[0].delivered_at)] == [
        "2017-04-02",
        "2017-03-30",
    ]
    assert parts[0].quirks == ("DELIVERED_BEFORE_HANDED_OVER",)


async def test_dates_that_are_missing_are_flagged_and_settled_in_the_month_of_the_purchase(
    db: Database, recording: Recording
) -> None:
    usual(recording, "undated", delivered="", promised="2017-04-20 00:00:00")
    usual(recording, "untraced", carrier="", delivered="", promised="2017-04-20 00:00:00")
    usual(recording, "unapproved", approved="")

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert {row["month"] for row in report.settlement} == {"2017-03"}
    assert report.body["quirks"] == {
        "delivered_without_carrier_date": 1, "delivered_without_date": 2, "shipped_without_approval": 1,
    }  # fmt: skip
    for name in ("undated", "untraced", "unapproved"):
        order, _ = await the_order(db, name)
        assert order.fulfillment_status is FulfillmentStatus.DELIVERED


async def test_a_canceled_order_gives_everything_back(db: Database, recording: Recording) -> None:
    usual(recording, "early-on", status="canceled", carrier="", delivered="")
    usual(recording, "on-its-way", status="canceled", delivered="")
    usual(recording, "there-already", status="canceled")
    usual(recording, "never-paid", status="canceled", approved="", carrier="", delivered="", items=())

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert report.body["settled"]["price_minor"] == 0
    assert report.body["quirks"] == {
        "canceled_after_delivery": 1, "canceled_after_shipping": 2, "nothing_paid": 1,
        "order_without_items": 1, "zero_payment_row": 1,
    }  # fmt: skip
    for name, payment, fulfilled in [
        ("early-on", PaymentStatus.REFUNDED, FulfillmentStatus.CANCELLED),
        ("on-its-way", PaymentStatus.REFUNDED, FulfillmentStatus.SHIPPED),
        ("there-already", PaymentStatus.REFUNDED, FulfillmentStatus.DELIVERED),
        ("never-paid", PaymentStatus.VOIDED, FulfillmentStatus.CANCELLED),
    ]:
        order, _ = await the_order(db, name)
        assert (order.payment_status, order.fulfillment_status) == (payment, fulfilled), name
    # What came in went out, whatever account of the provider it passed.
    left = await balances(db)
    assert left.pop(Code.PROVIDER_PENDING) + left.pop(Code.PROVIDER_AVAILABLE) == 0
    assert left == {}


async def test_an_unavailable_order_finds_no_source_and_is_paid_back_while_others_are_served(
    db: Database, recording: Recording
) -> None:
    usual(recording, "before", carrier="2017-03-20 10:00:00", delivered="2017-03-25 10:00:00")
    usual(recording, "nothing-left", status="unavailable", carrier="", delivered="")
    usual(recording, "nothing-named", status="unavailable", carrier="", delivered="", items=(), paid=["7.00"])
    usual(recording, "after", "2017-05")

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    _, parts = await the_order(db, "nothing-left")
    async with db.reading(SYSTEM) as session:
        trail = [step["event"] for step in await fulfillments.trail(session, parts[0].id)]
        assert await inventory.drifts(session) == []
    assert "cannot_complete" in trail
    assert "unsourced" in trail
    assert parts[0].status is Status.CANCELLED
    for name in ("nothing-left", "nothing-named"):
        order, _ = await the_order(db, name)
        assert order.payment_status is PaymentStatus.REFUNDED
    # Two orders of 12.00 stay; nothing lies in suspense.
    left = await balances(db)
    assert left.get(Code.SUSPENSE, 0) == 0
    assert left[Code.PROVIDER_PENDING] + left[Code.PROVIDER_AVAILABLE] == 2_400


async def test_what_is_stuck_is_never_paid_out_however_long_it_takes(
    db: Database, recording: Recording
) -> None:
    usual(recording, "shipped", status="shipped", delivered="")
    for status in ("processing", "invoiced", "approved"):
        usual(recording, status, status=status, carrier="", delivered="")
    usual(recording, "created", status="created", approved="", carrier="", delivered="", items=())
    usual(recording, "a-year-later", "2018-03")

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert report.body["settled"]["seller_months"] == 1
    assert (await balances(db))[Code.PENDING] == -4 * 1_100


async def test_a_delivery_after_settlements_patience_is_settled_when_it_comes(
    db: Database, recording: Recording
) -> None:
    usual(recording, "slow", delivered="2017-06-20 10:00:00")
    usual(recording, "another", "2017-05")

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert {row["month"] for row in report.settlement} == {"2017-05", "2017-06"}
    assert report.body["late_by_calendar_date"] == 1
    assert Code.PENDING not in await balances(db)


async def test_payments_that_are_not_the_sum_of_the_items_leave_the_difference_in_suspense(
    db: Database, recording: Recording
) -> None:
    usual(recording, "interest", paid=["12.00", "0.35", "0.00"])
    usual(recording, "voucher", paid=["11.90"])
    usual(
        recording,
        "invoiced-for-nothing",
        status="invoiced",
        items=(),
        paid=["5.00"],
        carrier="",
        delivered="",
    )

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert report.body["payments_differ"] == 2
    assert (await balances(db))[Code.SUSPENSE] == -(35 - 10 + 500)


async def test_twenty_one_items_of_several_kinds_are_one_order_of_two_sellers(
    db: Database, recording: Recording
) -> None:
    usual(
        recording, "many",
        items=[("console", "ana", "0.99", "0.10")] * 20 + [("riddle", "bob", "5.55", "1.00")],
    )  # fmt: skip

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    assert report.body["multi_seller_orders"] == 1
    assert report.body["quirks"] == {
        "category_without_translation": 1, "more_items_than_routed_exactly": 1, "product_without_category": 1,
    }  # fmt: skip
    async with db.reading(SYSTEM) as session:
        order, _ = await the_order(db, "many")
        assert len((await orders.lines_of(session, [order.id]))[order.id]) == 21


async def test_an_order_goes_to_the_seller_it_was_bought_from_even_if_another_is_cheaper(
    db: Database, recording: Recording
) -> None:
    usual(recording, "cheap", items=[("kettle", "ana", "5.00", "1.00")])
    usual(recording, "dear", items=[("kettle", "bob", "9.00", "1.00")])
    usual(recording, "dearer", "2017-04", items=[("kettle", "bob", "11.00", "1.00")])

    report = await replayed(db, recording.write())

    assert agrees(report, recording.directory)
    costs = {}
    for name in ("cheap", "dear", "dearer"):
        _, parts = await the_order(db, name)
        costs[name] = parts[0].lines[0].unit_cost.amount_minor
    # The offer's cost is the last recorded price less 10 %.
    assert costs == {"cheap": 450, "dear": 810, "dearer": 990}


async def test_replaying_again_changes_nothing_and_other_files_are_refused(
    db: Database, recording: Recording
) -> None:
    usual(recording, "once")
    first = await replayed(db, recording.write())
    second = await replayed(db, recording.directory)
    assert second.body == first.body

    usual(recording, "more")
    with pytest.raises(OtherReplayHere):
        await replayed(db, recording.write())


async def test_of_two_at_once_one_goes_on_and_every_order_is_there_once(
    db: Database, recording: Recording
) -> None:
    usual(recording, "once")
    directory = recording.write()
    told = await asyncio.gather(*(replayed(db, directory) for _ in range(3)), return_exceptions=True)
    refused = [each for each in told if isinstance(each, OtherReplayHere)]
    finished = [each for each in told if isinstance(each, Report)]
    assert len(refused) + len(finished) == 3
    assert finished
    assert agrees(finished[0], directory)


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("olist_order_items_dataset.csv", '"10.00"', '"10.001"', "10.001"),
        ("olist_order_items_dataset.csv", '"10.00"', '"-10.00"', "below zero"),
        ("olist_order_items_dataset.csv", '"freight_value"', '"freight"', "no column freight_value"),
        ("olist_order_items_dataset.csv", ',"2.00"', "", "wrong number of cells"),
        ("olist_orders_dataset.csv", "2017-03-02 10:00:00", "the second of March", "no date and time"),
        ("olist_orders_dataset.csv", '"customer-of-bad"', '"nobody"', "no customer"),
        ("olist_order_payments_dataset.csv", '"12.00"', '"1e3"', "1e3"),
    ],
)
async def test_a_malformed_file_is_named_with_its_row(
    recording: Recording, file: str, old: str, new: str, problem: str
) -> None:
    usual(recording, "bad")
    path = recording.write() / "verified_subset" / file
    path.write_text(path.read_text(encoding="utf-8-sig").replace(old, new), encoding="utf-8")

    with pytest.raises(ReplayInputMalformed, match=f"{file}, row [12]: .*{problem}"):
        read_source(recording.directory)


async def test_a_file_that_is_not_there_is_named(recording: Recording) -> None:
    usual(recording, "any")
    (recording.write() / "olist_sellers_dataset.csv").unlink()

    with pytest.raises(ReplayInputMissing, match="olist_sellers_dataset"):
        read_source(recording.directory)


@pytest.mark.shared
async def test_real_orders_come_out_to_the_cent(db: Database, shared_data: Path) -> None:
    directory = shared_data / "datasets" / "olist"

    report = await replayed(db, directory, limit=400)

    assert agrees(report, directory, limit=400)
    async with db.reading(SYSTEM) as session:
        assert await inventory.drifts(session) == []
        assert await ledger.mismatched_balances(session) == 0
