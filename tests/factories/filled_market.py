"""A market with something in every drawer, and who owns it: for walks that look for an open one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import CheckoutId, ContactId, FulfillmentOrderId, OrderId
from core.money import Money
from infra.db.session import Database
from marketplace.audiences.models import IdentifierKind
from marketplace.brands import service as brands
from marketplace.insights import counting, measuring, simulation
from marketplace.insights.events import SimulationRequested
from marketplace.insights.ids import SimulationId
from marketplace.orders import refunding
from marketplace.orders.own_checkout.told import BuyerTold
from marketplace.orders.refunding import RefundCommand
from marketplace.promotion import service as promotion
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons import entries
from marketplace.promotion.coupons.codes import CouponTerms
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.directory import publishing as directory
from marketplace.promotion.disputes.lifecycle import dispute_hold
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.fraud.holds import open_holds_of
from marketplace.promotion.fraud.ids import HoldId
from marketplace.promotion.fraud.recording import Found, Parties, record
from marketplace.promotion.fraud.signals import Rule as FraudRule
from marketplace.promotion.fraud.signals import Signal
from marketplace.promotion.links import deep_links, qr_batches
from marketplace.promotion.links.deep_links import Templates
from marketplace.promotion.links.qr_batches import NewArm, NewBatch
from marketplace.promotion.models import PromoterKind
from marketplace.promotion.offers import offering, publishing
from marketplace.promotion.offers.content import OfferContent
from marketplace.promotion.reach_models import QrBatchKind
from marketplace.promotion.service import NewLink, ToldTouch
from supply.fulfillment import service as fulfillment
from supply.settlement import service as settlement
from supply.settlement.processing_fees import set_fee_bearer
from supply.settlement.reconciliation.models import Bearer
from tests.factories import audiences, orders
from tests.factories.audiences import VAULT, person
from tests.factories.brands import committed_storefront
from tests.factories.directory import profile
from tests.factories.ledger import horizon_passed
from tests.factories.orders import Shop
from tests.factories.own_checkout import (
    OwnShop,
    paid,
    secret_of,
    told_and_done,
    with_events,
    worked,
)
from tests.factories.promotion import POLICY, SIGNER, TEN_PERCENT, campaign, click, link, offer
from tests.fixtures.http import Served

_TENANT = text(
    "INSERT INTO tenants (id, kind, name, slug, status, country, currency, created_at) VALUES"
    " (:id, 'supplier', 'Hangzhou Works', 'hangzhou-works', 'active', 'CN', 'CNY', :now)"
)
_LEAD_MATCH = text("INSERT INTO lead_matches (order_id, contact_id) VALUES (:order, :contact)")
_TOLD_BUYER = text(
    "INSERT INTO told_buyers (order_id, brand_id, place, advertiser_id, subject_key)"
    " VALUES (:order, :promoter, 0, :advertiser, sha256('private'))"
)
_DEBT_PAYMENT = text(
    "INSERT INTO debt_payments (id, payee_id, tenant_id, currency, amount_minor, status, created_at)"
    " VALUES (gen_random_uuid(), :payee, :tenant, 'CNY', 100, 'cancelled', :now)"
)
BUYER = "anna.private@example.com"


@dataclass(frozen=True, slots=True)
class FilledMarket:
    shop: Shop
    orders: list[OrderId]
    merchant_token: str
    promoter_token: str
    supplier_token: str


async def token_of(db: Database, clock: FixedClock, actor: Actor) -> str:
    async with db.unit_of_work(actor) as session:
        issued = await brands.issue_token(
            session, actor, name="walk", scopes=sorted(actor.scopes), expires_at=None, clock=clock
        )
    return issued.token


async def filled_market(db: Database, clock: FixedClock, served: Served) -> FilledMarket:
    """Two brands and a supplier: agreement, clicks, three orders (delivered, shipped, waiting), a refund on its
    way, members, a promoter, proposals, an import, an open invitation, a payee, a statement, webhooks."""
    shop = await orders.open_shop(db, clock, budget_minor=1_000_000)
    merchant, promoter = shop.promotion.merchant, shop.promotion.promoter
    source = Actor(shop.source.actor.kind, shop.source.supplier_id, scopes=_SUPPLIER)
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_TENANT, {"id": source.supplier_id, "now": clock.now()})
    tokens = [await token_of(db, clock, actor) for actor in (merchant, promoter, source)]
    market = FilledMarket(shop, [], *tokens)
    endpoint = {"url": "http://127.0.0.1:9/lianyu-private", "events": []}
    made = await served.supplier("POST", "/webhook-endpoints", endpoint, token=market.supplier_token)
    assert made.status_code == 201, made.text
    await _audience(db, clock, market)
    await _reach(db, clock, market)
    await _offers(db, clock, market)
    await _own_checkout(db, clock, market)
    await _sales(db, clock, served, market)
    await _doubts(db, clock, market)
    await _money(db, clock, market)
    await _by_the_api(served, market)
    return market


async def _audience(db: Database, clock: FixedClock, market: FilledMarket) -> None:
    promoter = market.shop.promotion.promoter
    async with db.unit_of_work(promoter) as session:
        people = [person("dry skin", email=f"member{n}.private@example.com") for n in range(3)]
        await audiences.members(session, promoter, clock, market.shop.promotion.community_id, people)
        await promotion.create_promoter(
            session, promoter, name="Private Promoter", kind=PromoterKind.KOC,
            identifiers=[(IdentifierKind.EMAIL, "koc.private@example.com")], payout_account=None, vault=VAULT,
            clock=clock,
        )  # fmt: skip


async def _reach(db: Database, clock: FixedClock, market: FilledMarket) -> None:
    """The promoter in the directory, its mini-program, a print batch, and a click its server told of."""
    shop = market.shop
    promoter, slot = shop.promotion.promoter, shop.promotion.placement_id
    async with db.unit_of_work(promoter) as session:
        await directory.publish(session, promoter, profile(), clock=clock)
        templates = Templates("wx0123456789abcdef", "pages/private", "lyt={touch}")
        await deep_links.set_deep_link(
            session, promoter, shop.storefront.id, templates, policy=POLICY, clock=clock
        )
        cards = NewBatch("a private batch", QrBatchKind.POSTER, [NewArm("A", 10)])
        wanted = NewLink(slot, "https://shop.example.com/private", agreement_id=shop.promotion.agreement_id)
        await qr_batches.create_batch(session, promoter, cards, wanted, policy=POLICY, clock=clock)
        made = await link(session, shop.promotion, clock)
        told = ToldTouch("PRIVATE-EVENT", TouchKind.CLICK, clock.now(), made.code)
        await promotion.record_touches(session, promoter, [told], signer=SIGNER, clock=clock)
    merchant = shop.promotion.merchant
    async with db.unit_of_work(SYSTEM) as session:
        terms = CouponTerms("PRIVATE-MEI", "CNY", clock.now(), amount=Money(100, "CNY"), link_id=made.id)
        await coupons.create_coupon(session, merchant, terms, funder=Funder.ADVERTISER, now=clock.now())
        await entries.enter(
            session, CheckoutId.new(), ["PRIVATE-MEI"], advertiser_id=merchant.brand_id, at=clock.now()
        )


async def _own_checkout(db: Database, clock: FixedClock, market: FilledMarket) -> None:
    """The merchant's own checkout has told of an order that a contact of the promoter's made, and owes for it."""
    shop = market.shop
    storefront = await committed_storefront(db, clock, shop.promotion.merchant)
    own = OwnShop(shop.promotion, storefront, shop.product)
    await secret_of(db, clock, own)
    async with db.unit_of_work(SYSTEM) as session:
        token = await click(session, await link(session, shop.promotion, clock), clock.now())
    told = worked(own, clock, token, reference="PRIVATE-ORDER", buyer=BuyerTold(email=BUYER))
    order_id = await told_and_done(db, clock, own, with_events(told, paid(clock)))
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_LEAD_MATCH, {"order": order_id, "contact": ContactId.new()})
        known = {"promoter": own.market.promoter.brand_id, "advertiser": own.merchant.brand_id}
        await session.execute(_TOLD_BUYER, {"order": order_id, **known})
        payment = {"payee": str(own.merchant.brand_id), "tenant": own.merchant.brand_id, "now": clock.now()}
        await session.execute(_DEBT_PAYMENT, payment)


async def _offers(db: Database, clock: FixedClock, market: FilledMarket) -> None:
    """An offer by invitation, its next draft, an invitation with it and one that is not sent."""
    merchant, promoter = market.shop.promotion.merchant, market.shop.promotion.promoter
    async with db.unit_of_work(merchant) as session:
        campaign_id = await campaign(session, merchant, clock, budget_minor=500_000)
        offer_id = await offer(session, merchant, clock, campaign_id, summary="PRIVATE")
        await publishing.revise(
            session, merchant, offer_id, OfferContent("a private draft", "", TEN_PERCENT), clock=clock
        )
        for as_draft in (False, True):
            await offering.invite(
                session, merchant, offer_id, promoter_brand_id=promoter.brand_id, message="a private offer",
                as_draft=as_draft, clock=clock,
            )  # fmt: skip


async def _sales(db: Database, clock: FixedClock, served: Served, market: FilledMarket) -> None:
    shop = market.shop
    async with db.unit_of_work(SYSTEM) as session:
        made = await link(session, shop.promotion, clock)
        token = await click(session, made, clock.now())
    clock.advance(timedelta(minutes=5))
    for _ in range(3):
        market.orders.append(
            await orders.paid_order(db, shop, clock, quantity=2, tokens=[token], email=BUYER)
        )
    await served.work()
    for n, order_id in enumerate(market.orders[:2]):
        async with db.unit_of_work(SYSTEM) as session:
            found = await session.execute(
                text("SELECT id FROM fulfillment_orders WHERE order_id = :order"), {"order": order_id}
            )
            fo = FulfillmentOrderId.of(found.scalar_one())
            await fulfillment.accept(session, shop.source.actor, fo, clock=clock)
            await fulfillment.ship(
                session, shop.source.actor, fo, carrier="sf-express", tracking_no=f"PRIVATE{n}", lines=None,
                handed_over_at=clock.now(), clock=clock,
            )  # fmt: skip
            if n == 0:
                await fulfillment.deliver(
                    session, shop.source.actor, fo, delivered_at=clock.now(), proof=None, clock=clock
                )
    await served.work()


async def _doubts(db: Database, clock: FixedClock, market: FilledMarket) -> None:
    """A signal holds what the third order earns, and its promoter disputes that."""
    promotes, order = market.shop.promotion, market.orders[2]
    merchant, promoter = promotes.merchant, promotes.promoter
    parties = Parties(merchant.brand_id, promoter.brand_id, promotes.agreement_id, promoter.brand_id)
    signal = Signal(FraudRule.VELOCITY, {"orders": 1}, {"orders": 0}, (), (str(order),))
    async with db.unit_of_work(SYSTEM) as session:
        (signal_id,) = await record(session, [Found(signal, parties, ("walk",))], clock=clock)
        (hold,) = await open_holds_of(session, signal_id)
        await dispute_hold(session, promoter, HoldId.of(hold.id), reason="a private matter", clock=clock)


async def _money(db: Database, clock: FixedClock, market: FilledMarket) -> None:
    merchant = market.shop.promotion.merchant
    async with db.unit_of_work(SYSTEM) as session:
        command = RefundCommand(market.orders[1], everything=True, reason="a private reason")
        await refunding.request(session, merchant, command, clock=clock)
        terms = CouponTerms("PRIVATE-CODE", "CNY", clock.now(), amount=Money(100, "CNY"))
        await coupons.create_coupon(session, merchant, terms, funder=Funder.ADVERTISER, now=clock.now())
        await set_fee_bearer(
            session, merchant.brand_id, Bearer.MERCHANT, reason="PRIVATE", decided_by="test", now=clock.now()
        )
        for party in (merchant.brand_id, market.shop.source.supplier_id):
            await settlement.register_payee(
                session, str(party), currency="CNY", account_id=f"acct_private_{party.hex}", now=clock.now(),
                tenant_id=party,
            )  # fmt: skip
    start = clock.now() - timedelta(days=1)
    clock.advance(timedelta(days=1))
    await horizon_passed(db)  # what is contested later must be in it
    async with db.unit_of_work(SYSTEM) as session:
        for party in (merchant.brand_id, market.shop.source.supplier_id):
            await settlement.close_statement(
                session, str(party), currency="CNY", period_from=start, period_to=clock.now(), now=clock.now()
            )


_IMPORT = """mutation ($c: String!) { productsImport(input: {content: $c, policy: REJECT_FAILED_ROWS}) {
  userErrors { code } } }"""
_PROPOSE = "mutation ($c: ID!) { productsPropose(input: {communityId: $c}) { proposals { id } userErrors { code } } }"
_SIMULATE = """mutation ($f: DateTime!, $t: DateTime!) { offerSimulate(input: {from: $f, to: $t,
  terms: {rules: [{ratePpm: 90000}]}}) { userErrors { code message } } }"""
_HOLD_OUT = """mutation ($c: ID!, $a: ID!) { holdoutStart(input: {communityId: $c, agreementId: $a,
  sharePpm: 500000}) { userErrors { code message } } }"""
_INVITE = """mutation ($a: ID!, $p: ID!) { invitationSend(input: {advertiserId: $a, promoterBrandId: $p,
  message: "a private message", terms: {rules: [{ratePpm: 90000}]}}) { userErrors { code message } } }"""


async def _by_the_api(served: Served, market: FilledMarket) -> None:
    shop = market.shop
    bad_file = "handle,sku,title_zh\nPRIVATE HANDLE,,x\n"
    asked: list[tuple[str, dict[str, Any], str]] = [
        (_IMPORT, {"c": bad_file}, market.merchant_token),
        (_PROPOSE, {"c": str(shop.promotion.community_id)}, market.promoter_token),
        (
            _HOLD_OUT,
            {"c": str(shop.promotion.community_id), "a": str(shop.promotion.agreement_id)},
            market.promoter_token,
        ),
        (_SIMULATE, {"f": "2026-03-01T00:00:00Z", "t": "2026-04-01T00:00:00Z"}, market.merchant_token),
        (
            _INVITE,
            {"a": str(shop.promotion.promoter.brand_id), "p": str(shop.promotion.merchant.brand_id)},
            market.promoter_token,
        ),
    ]
    for document, variables, token in asked:
        answer = await served.brand(document, variables, token=token)
        assert "errors" not in answer, answer
        assert not next(iter(answer["data"].values()))["userErrors"], answer
    db, clock = served.gateways.db, served.gateways.clock
    async with db.reading(SYSTEM) as session:
        asked_for = SimulationId.of(
            (await session.execute(text("SELECT id FROM offer_simulations"))).scalar_one()
        )
    await simulation.on_simulation_requested(db, SimulationRequested(asked_for), clock=clock)
    await counting.keep_performance(db, clock=clock)
    await measuring.measure_due(db, clock=clock, settings=served.gateways.settings)


_SUPPLIER = frozenset(
    {
        "supply:read",
        "supply:write",
        "fulfillment:read",
        "fulfillment:write",
        "settlement:read",
        "tokens:write",
    }
)

__all__ = ["BUYER", "FilledMarket", "filled_market", "token_of"]
