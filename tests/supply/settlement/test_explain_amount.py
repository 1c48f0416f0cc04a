"""An entry told in the figures of order O1 of the specification (money.md §2)."""

from __future__ import annotations

from collections import Counter

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, MalformedId, RefundId
from infra.db.session import Database
from supply.ledger.entries import EntryLine, entries_of_journal
from supply.settlement import service
from supply.settlement.capture import CapturedOrder
from supply.settlement.explain_amount import AmountExplained, EntryNotFound, entry_name, explain_amount
from supply.settlement.refunds import LineRefund, RefundPlan
from tests.factories.brands import brand_actor
from tests.factories.settlement import Parties, captured_o1


@pytest.fixture
def parties() -> Parties:
    return Parties()


async def captured(db: Database, clock: FixedClock, parties: Parties) -> CapturedOrder:
    async with db.unit_of_work(SYSTEM) as session:
        return await captured_o1(session, clock, parties)


async def entry_of(db: Database, key: str, owner: str) -> EntryLine:
    """``owner``: an account's, or how it begins."""
    async with db.reading(SYSTEM) as session:
        return next(e for e in await entries_of_journal(session, key) if e.owner.startswith(owner))


def by_section(explained: AmountExplained) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for section, line in explained.lines:
        sums[section] += line["amount_minor"]
    return dict(sums)


async def test_what_a_merchant_kept_of_a_sale(db: Database, clock: FixedClock, parties: Parties) -> None:
    order = await captured(db, clock, parties)
    entry = await entry_of(db, f"capture:ch_1:{order.order_id}", f"party:{parties.merchant}")

    explained = await explain_amount(db, SYSTEM, entry_name(entry))

    assert explained.entry == entry
    assert (explained.recipe.code, len(explained.journal)) == ("R1", 7)
    # Goods 9,000 and shipping 800, less cost and freight, commission, fee: 3,200.
    assert by_section(explained) == {
        "sales": 9_800, "supplier_cost": -4_800, "commission_paid": -1_350, "platform_fee": -450,
    }  # fmt: skip
    assert sum(by_section(explained).values()) == -entry.amount_minor == 3_200


async def test_what_a_promoter_and_a_supplier_earned(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    order = await captured(db, clock, parties)
    key = f"capture:ch_1:{order.order_id}"

    brand = await explain_amount(
        db, SYSTEM, entry_name(await entry_of(db, key, f"party:{parties.promoter_brand}"))
    )
    supplier = await explain_amount(
        db, SYSTEM, entry_name(await entry_of(db, key, f"party:{parties.supplier}"))
    )

    assert by_section(brand) == {"commission_earned": 900}
    assert by_section(supplier) == {"supplied": 4_800}
    assert {line["order_line"] for _, line in brand.lines} == {str(order.lines[0].order_line_id)}


async def test_what_a_refund_took(db: Database, clock: FixedClock, parties: Parties) -> None:
    order = await captured(db, clock, parties)
    refund_id = RefundId.new()
    plan = RefundPlan(refund_id, order.order_id, lines=[LineRefund(order.lines[0].order_line_id, 1)])
    async with db.unit_of_work(SYSTEM) as session:
        await service.reserve_refund(session, plan, now=clock.now())

    entry = await entry_of(db, f"refund:{refund_id}:reserve", f"party:{parties.merchant}")
    explained = await explain_amount(db, SYSTEM, entry_name(entry))

    assert explained.recipe.code == "R5a"
    assert by_section(explained) == {"refunds": -1_600}


async def test_an_account_of_the_platform_has_its_journal_and_no_lines(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    order = await captured(db, clock, parties)
    tax = await entry_of(db, f"capture:ch_1:{order.order_id}", "tax:")

    explained = await explain_amount(db, SYSTEM, entry_name(tax))

    assert (explained.entry.amount_minor, len(explained.journal), explained.lines) == (-588, 7, [])


async def test_a_party_sees_its_own_leg_and_nobody_elses(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    order = await captured(db, clock, parties)
    earned = await entry_of(db, f"capture:ch_1:{order.order_id}", f"party:{parties.promoter_brand}")

    explained = await explain_amount(db, brand_actor(parties.promoter_brand), entry_name(earned))

    # Its own, and that of the person who sells for it.
    assert {line.owner for line in explained.journal} == {
        f"party:{parties.promoter_brand}", f"party:{parties.individual}",
    }  # fmt: skip
    assert by_section(explained) == {"commission_earned": 900}
    with pytest.raises(EntryNotFound):
        await explain_amount(db, brand_actor(BrandId.new()), entry_name(earned))


@pytest.mark.parametrize("name", ["", "jrn_1/1", "jrn_01h0000000000000000000000/x", "brd_1"])
async def test_what_names_no_entry_is_refused(db: Database, name: str) -> None:
    with pytest.raises(MalformedId):
        await explain_amount(db, SYSTEM, name)
