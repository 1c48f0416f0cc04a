"""What an order would earn, and when what was earned is paid, through the brand API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import CommissionLineId
from core.money import Money
from graph.brand import schema as SCHEMA
from infra.db.session import Database
from marketplace.insights import handlers
from marketplace.promotion.agreements.limits import CapScope, CapTerm, TierTerms
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.commission.rules import Tier
from marketplace.promotion.events import OrderCredited
from marketplace.promotion.facts import ScopeKind
from marketplace.promotion.fraud import holds
from marketplace.promotion.fraud.events import CommissionHeld
from tests.factories import orders
from tests.factories import promotion as make
from tests.factories.brands import committed_brand
from tests.fixtures.asking import ask
from tests.fixtures.statements import statements_of

_M = "{ amount }"
PREVIEW = f"""query ($input: PreviewCommissionInput!) {{ previewCommission(input: $input) {{ source version
  lines {{ sku quantity gross {_M} discount {_M} basis {_M} ratePpm byRule {_M} commission {_M}
    rules {{ id fate rule {{ scope scopeId ratePpm }} }} shares {{ role amount {_M} }} }}
  byRule {_M} commission {_M} adjustment {_M} shares {{ role amount {_M} }}
  caps {{ scope limit {_M} left {_M} mode }} tiers {{ mode priorBasis {_M} }} }} }}"""
COMMISSIONS = """query ($status: CommissionStatus) { commissions(first: 10, status: $status) { nodes { id status
  orderId ratePpm fixedAmount { amount } commission { amount } expectedPayAt openHolds paidAt advertiser { name }
  promoterBrand { name } shares { role earned { amount } left { amount } } } } }"""


async def _preview(db: Database, clock: FixedClock, actor: Actor, **input: Any) -> dict[str, Any]:
    answer = await ask(SCHEMA, db, clock, actor, PREVIEW, {"input": input})
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]["previewCommission"]
    return found


async def _refusal(db: Database, clock: FixedClock, actor: Actor, **input: Any) -> str:
    answer = await ask(SCHEMA, db, clock, actor, PREVIEW, {"input": input})
    code: str = answer["errors"][0]["code"]
    return code


async def test_a_basket_earns_by_the_narrowest_rule_split_and_capped(db: Database, clock: FixedClock) -> None:
    """Two creams of ¥100.00 with 13 % inside, ¥10.00 off: basis 190.00 - half_up(190 · 13/113) = 190.00 - 21.86.

    At 12 % of 168.14 that is 20.1768, so 20.18, of which a cap of ¥15.00 an order leaves 15.00. With a person: the
    platform 5 % = 0.75; of the rest 30 % = 4.275 and 70 % = 9.975, the odd cent to the first of equals.
    """
    rules = (Rule(100_000), Rule(120_000, ScopeKind.CATEGORY, "beauty"), Rule(90_000, priority=3))
    cap = CapTerm(CapScope.ORDER, 1_500, "CNY")
    shop = await orders.open_shop(db, clock, terms=Terms(rules, individual_ppm=300_000, caps=(cap,)))
    asked = {
        "agreementId": str(shop.promotion.agreement_id), "withPromoter": True,
        "lines": [{
            "variantId": str(shop.variant), "quantity": 2,
            "discount": {"amount": "10.00", "currencyCode": "CNY"},
        }],
    }  # fmt: skip
    for actor in (shop.promotion.merchant, shop.promotion.promoter):
        with statements_of(db) as statements:
            found = await _preview(db, clock, actor, **asked)
        assert len(statements) <= 8
        [line] = found["lines"]
        assert line["basis"]["amount"] == "168.14"
        assert line["ratePpm"] == 120_000
        assert [(rule["id"], rule["fate"]) for rule in line["rules"]] == [
            ("r001", "CHOSEN"), ("r002", "WIDER_SCOPE"), ("r000", "WIDER_SCOPE"),
        ]  # fmt: skip
        assert (line["byRule"]["amount"], line["commission"]["amount"]) == ("20.18", "15.00")
        assert {share["role"]: share["amount"]["amount"] for share in found["shares"]} == {
            "INDIVIDUAL": "4.28", "PROMOTER_BRAND": "9.97", "PLATFORM": "0.75",
        }  # fmt: skip
        assert found["caps"] == [
            {"scope": "ORDER", "limit": {"amount": "15.00"}, "left": {"amount": "15.00"}, "mode": "TRUNCATE"}
        ]


async def test_the_preview_of_an_order_is_what_it_then_earns(db: Database, clock: FixedClock) -> None:
    tiers = TierTerms((Tier(0, 100_000), Tier(10_000, 200_000)), "CNY")
    shop = await orders.open_shop(db, clock, terms=Terms.flat(100_000, tiers=tiers))
    async with db.unit_of_work(SYSTEM) as session:
        link = await make.link(session, shop.promotion, clock)
        token = await make.click(session, link, clock.now())
    clock.advance(timedelta(minutes=5))
    first = await orders.paid_order(db, shop, clock, tokens=[token])
    before = await _preview(
        db, clock, shop.promotion.promoter, agreementId=str(shop.promotion.agreement_id), orderId=str(first)
    )
    assert before["tiers"] == {"mode": "MARGINAL", "priorBasis": {"amount": "88.50"}}
    second = await orders.paid_order(db, shop, clock, tokens=[token], email="ben@example.com")
    earned = await _commissions(db, clock, shop.promotion.promoter)
    # 88.50 a cream without its tax: 11.50 of the second at 10 %, 77.00 at 20 %.
    assert before["commission"]["amount"] == "16.55"
    assert [(each["orderId"], each["commission"]["amount"]) for each in earned] == [
        (str(second), "16.55"), (str(first), "8.85"),
    ]  # fmt: skip


EXPLAIN = "query ($id: ID!) { explainAttribution(orderId: $id) { lines { ratePpm fixedAmount { amount } } } }"


async def test_an_amount_a_piece_is_said_beside_the_rate_it_replaces(db: Database, clock: FixedClock) -> None:
    """¥6.00 a piece, while in other currencies 7 % would be earned."""
    terms = Terms((Rule(70_000, fixed=Money(600, "CNY")),))
    shop = await orders.open_shop(db, clock, terms=terms)
    async with db.unit_of_work(SYSTEM) as session:
        link = await make.link(session, shop.promotion, clock)
        token = await make.click(session, link, clock.now())
    clock.advance(timedelta(minutes=5))
    order_id = await orders.paid_order(db, shop, clock, tokens=[token])
    for actor in (shop.promotion.merchant, shop.promotion.promoter):
        [line] = await _commissions(db, clock, actor)
        assert (line["ratePpm"], line["fixedAmount"], line["commission"]) == (
            70_000, {"amount": "6.00"}, {"amount": "6.00"},
        )  # fmt: skip
        answer = await ask(SCHEMA, db, clock, actor, EXPLAIN, {"id": str(order_id)})
        [told] = answer["data"]["explainAttribution"]["lines"]
        assert told == {"ratePpm": 70_000, "fixedAmount": {"amount": "6.00"}}


async def test_strangers_and_half_questions_are_refused(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    stranger, _ = await committed_brand(db, clock, name="Stranger")
    lines = [{"variantId": str(shop.variant)}]
    agreement = str(shop.promotion.agreement_id)
    assert await _refusal(db, clock, stranger, agreementId=agreement, lines=lines) == "AGREEMENT_NOT_FOUND"
    assert await _refusal(db, clock, shop.promotion.promoter, agreementId=agreement) == "BAD_PREVIEW"
    assert await _refusal(db, clock, shop.promotion.promoter, lines=lines) == "BAD_PREVIEW"
    own = {"variantId": str(shop.variant), "unitPrice": {"amount": "1.00", "currencyCode": "USD"}}
    assert (
        await _refusal(db, clock, shop.promotion.promoter, agreementId=agreement, lines=[own])
        == "BAD_PREVIEW"
    )


async def _commissions(
    db: Database, clock: FixedClock, actor: Actor, **variables: Any
) -> list[dict[str, Any]]:
    with statements_of(db) as statements:
        answer = await ask(SCHEMA, db, clock, actor, COMMISSIONS, variables)
    assert "errors" not in answer, answer
    assert len(statements) <= 3  # who asks, the page, the brands' names
    found: list[dict[str, Any]] = answer["data"]["commissions"]["nodes"]
    return found


async def test_both_sides_know_the_day_of_payment_before_delivery_and_of_a_held_line(
    db: Database, clock: FixedClock
) -> None:
    """Paid on 2 March: undelivered it is due after 45 days, on 16 April, so in April's statement, five minutes after
    the month. Held on 10 April for 30 days, at most until 10 May: in May's."""
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        link = await make.link(session, shop.promotion, clock)
        token = await make.click(session, link, clock.now())
    clock.advance(timedelta(minutes=5))
    order_id = await orders.paid_order(db, shop, clock, tokens=[token])
    async with db.unit_of_work(SYSTEM) as session:
        decision = await session.scalar(text("SELECT id FROM attribution_decisions"))
        await handlers.on_order_credited(session, OrderCredited(order_id, decision), clock=clock)
    for actor in (shop.promotion.merchant, shop.promotion.promoter):
        [line] = await _commissions(db, clock, actor, status="PENDING")
        assert (line["expectedPayAt"], line["openHolds"]) == ("2026-05-01T00:05:00.000000Z", 0)
        assert (line["advertiser"]["name"], line["promoterBrand"]["name"]) == ("Cream 霜", "Club 会")
    assert await _commissions(db, clock, shop.promotion.promoter, status="PAID") == []

    clock.at = clock.now().replace(month=4, day=10)
    line_id = CommissionLineId.parse(line["id"])
    async with db.unit_of_work(SYSTEM) as session:
        await holds.hold_line(session, line_id, opened_by="test", reason="a look", clock=clock)
        told = CommissionHeld(
            (line_id,), shop.promotion.merchant.brand_id, shop.promotion.promoter.brand_id, "a look",
            clock.now() + timedelta(days=30), clock.now(),
        )  # fmt: skip
        await handlers.on_commission_held(session, told, clock=clock)
    for actor in (shop.promotion.merchant, shop.promotion.promoter):
        [line] = await _commissions(db, clock, actor)
        assert (line["expectedPayAt"], line["openHolds"]) == ("2026-06-01T00:05:00.000000Z", 1)
