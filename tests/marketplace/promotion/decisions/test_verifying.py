"""A stored decision is decided again: whatever was changed of it afterwards is found, and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import BrandId, OrderId, OrderLineId, ProductId
from marketplace.promotion import service
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.decisions.verifying import StoredDecision, stored_decisions, verify
from marketplace.promotion.facts import AttributionModel, ScopeKind
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from tests.factories import audiences as people
from tests.factories import promotion as make
from tests.factories.brands import brand_actor

MERCHANT, PROMOTER, SECOND = (brand_actor(BrandId.new()) for _ in range(3))
DAY = timedelta(days=1)
SHARED = Terms(
    (Rule(100_000, ScopeKind.CATEGORY, "beauty"),), individual_ppm=400_000, model=AttributionModel.LINEAR
)
TEA = Terms.flat(80_000, categories=["tea"])


def _order(clock: FixedClock, tokens: Sequence[str], categories: Sequence[str]) -> OrderForAttribution:
    lines = [
        LineForAttribution(OrderLineId.new(), ProductId.new(), f"sku-{n}", category, 2, 9_999 + n, tax_ppm=130_000)
        for n, category in enumerate(categories)
    ]  # fmt: skip
    return OrderForAttribution(
        OrderId.new(), MERCHANT.brand_id, "CNY", clock.now(), lines, touch_tokens=tokens, paid_at=clock.now()
    )


@pytest.fixture
async def stored(session: AsyncSession, clock: FixedClock) -> list[StoredDecision]:
    """Three orders: of two agreements, one of them shared by two placements; of one; and one that nobody sold."""
    first = await make.market(session, MERCHANT, PROMOTER, clock, SHARED)
    other = await make.market(session, MERCHANT, SECOND, clock, TEA)
    person = await service.create_promoter(
        session, PROMOTER, name="Mei", kind="koc", vault=people.VAULT, clock=clock
    )
    slot = await people.placement(session, PROMOTER, clock, first.community_id)
    links = [
        await make.link(session, first, clock, promoter_id=person),
        await make.link(session, replace(first, placement_id=slot), clock),
        await make.link(session, other, clock),
    ]
    tokens = [await make.click(session, link, clock.now()) for link in links]
    clock.advance(DAY)
    for named, categories in [
        (tokens, ("beauty/skin", "tea", "toys")),
        (tokens[2:], ("tea",)),
        ([], ("tea",)),
    ]:
        await service.attribute(session, _order(clock, named, categories), signer=make.SIGNER, clock=clock)
        clock.advance(DAY)
    return await stored_decisions(session)


async def test_what_was_decided_is_decided_again(
    session: AsyncSession, clock: FixedClock, stored: list[StoredDecision]
) -> None:
    assert [verify(each).differences for each in stored] == [(), (), ()]
    assert [len(each.lines) for each in stored] == [2, 1, 0]
    for each in stored:
        found = verify(each)
        assert (found.input_hash, found.amounts_hash, found.result_hash) == (
            each.input_hash,
            each.amounts_hash,
            each.result_hash,
        )


async def test_decisions_are_read_page_by_page_from_a_day_on_or_one_by_one(
    session: AsyncSession, clock: FixedClock, stored: list[StoredDecision]
) -> None:
    ids = [each.order_id for each in stored]
    page = await stored_decisions(session, limit=2)
    assert [each.order_id for each in page] == ids[:2]
    since = await stored_decisions(session, since=clock.now() - 2 * DAY)
    assert [each.order_id for each in since] == ids[1:]
    (one,) = await stored_decisions(session, order_id=OrderId.parse(ids[0]))
    assert one == stored[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE commission_lines SET commission_minor = commission_minor + 1", "commission_minor"),
        ("UPDATE commission_lines SET basis_minor = basis_minor + 1", "basis_minor"),
        ("UPDATE commission_lines SET rate_ppm = 1", "rate_ppm"),
        ("UPDATE commission_lines SET rule_id = 'r9'", "rule_id"),
        ("UPDATE commission_lines SET agreement_version = 2", "agreement_version"),
        ("UPDATE commission_lines SET return_window_days = 0", "return_window_days"),
        ("UPDATE commission_lines SET touch_id = id", "touch_id"),
        ("UPDATE commission_lines SET promoter_brand_id = advertiser_id", "promoter_brand_id"),
        ("UPDATE commission_shares SET earned_minor = earned_minor + 1", "shares"),
        ("UPDATE commission_shares SET payee = 'platform'", "shares"),
        ("UPDATE commission_shares SET role = 'platform'", "shares"),
        ("UPDATE commission_shares SET touch_id = commission_line_id", "touches_of_shares"),
        ("DELETE FROM commission_shares WHERE position = 0", "shares"),
        ("DELETE FROM commission_shares; DELETE FROM commission_lines", "commission"),
    ],
)
async def test_whatever_is_changed_of_a_commission_is_found(
    session: AsyncSession, stored: list[StoredDecision], change: str, told: str
) -> None:
    for statement in change.split("; "):
        await session.execute(text(statement))
    differences = [
        difference for each in await stored_decisions(session) for difference in verify(each).differences
    ]
    line = next(iter(stored[1].lines))
    assert f"{line}: {told}" in {each.what for each in differences}
    assert {each.order_id for each in differences} == {stored[0].order_id, stored[1].order_id}


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("input_hash", {"input hash"}),
        ("amounts_hash", {"amounts hash"}),
        ("result_hash", {"result hash"}),
        ("hash_of_result", {"result"}),
        ("order_id", {"order"}),
    ],
)
async def test_a_hash_that_is_not_of_its_text_is_found(
    stored: list[StoredDecision], field: str, told: set[str]
) -> None:
    spoiled = replace(stored[0], **{field: "0" * 64})
    assert {each.what for each in verify(spoiled).differences} == told


async def test_another_text_gives_another_hash_and_another_commission(stored: list[StoredDecision]) -> None:
    order = stored[1]
    raised = replace(order, amounts=order.amounts.replace("9999", "19999"))
    line = next(iter(order.lines))
    assert {each.what for each in verify(raised).differences} == {
        "amounts hash", "result hash", "result", f"{line}: basis_minor", f"{line}: commission_minor",
        f"{line}: shares",
    }  # fmt: skip
    older = replace(order, input=order.input.replace("attribution-1", "attribution-0"))
    assert [each.what for each in verify(older).differences] == ["input"]
    assert [each.what for each in verify(replace(order, input="")).differences] == ["input"]
