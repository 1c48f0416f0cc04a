"""Every field and endpoint asked by whoever must not: nothing of a filled market is read or changed.

The walk goes along the schema and the OpenAPI document, so a field or endpoint without an entry here fails it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from core import ids
from core.actor import Actor
from core.clock import FixedClock
from graph import brand, storefront
from infra.db.session import Database
from marketplace.orders.return_models import ReturnId
from marketplace.promotion.coupons.models import CouponId
from marketplace.promotion.ids import QrAssetId, QrBatchId
from supply.settlement.ids import ContestId, ReconciliationRunId, WriteOffId
from tests.conftest import TestDatabase
from tests.factories.brands import committed_brand, committed_storefront, committed_supplier
from tests.factories.filled_market import BUYER, FilledMarket, filled_market
from tests.fixtures.documents import document, root_fields
from tests.fixtures.http import Served, codes_of, serving

Rows = dict[str, Counter[str]]

PUBLIC = {
    "products", "variants", "prices", "search_documents", "suppliers", "locations", "zone_rates", "brand_profiles",
    "search_generations", "tax_rates", "ledger_chart", "alembic_version", "outbox", "handled_messages",
    "failed_messages",
}  # fmt: skip
"""Tables whose ids anybody may meet: published goods, what brands are told of suppliers, machinery."""

OPEN_TO_THE_ROLE = {
    "alembic_version": "the name of the schema's version",
    "outbox": "ids of what happened; no surface reads it",
    "handled_messages": "names of handlers; no surface reads it",
    "failed_messages": "names of handlers and kinds of errors; no surface reads it",
    "idempotency_keys": "read by owner and key together, in one function; the owner is the authenticated caller",
}
"""Tables without row-level security, and why."""

READABLE = {
    "brand": {"suppliers", "locations", "zone_rates", "partner_profiles"},
    "every": {
        "products", "variants", "prices", "search_documents", "search_generations", "tax_rates", "tenants",
        "brand_profiles", "partner_listings", *OPEN_TO_THE_ROLE,
    },
}  # fmt: skip
"""What another tenant may read in the database: goods on sale, tax, brands that want to be found; brands also
where suppliers send from and for how much freight, and what listed brands said of themselves before."""

_PRIVATE_WORDS = (
    BUYER,
    "Private Promoter",
    "a private",
    "PRIVATE",
    "acct_private",
    "member0",
    "lianyu-private",
)
_TERMS = {"rules": [{"ratePpm": 1000}]}

# What each field is asked with: a name in capitals is filled in from the market, None asks without arguments.
QUERIES: dict[str, dict[str, Any] | None] = {
    "me": None, "apiTokens": None, "storefronts": None, "members": None, "booksCheck": None,
    "brand": {"id": "MERCHANT"}, "brands": {"first": 100}, "products": {"filter": {"brandId": "MERCHANT"}},
    "product": {"id": "products"}, "catalogImport": {"id": "imports"}, "community": {"id": "communities"},
    "communities": {"first": 100}, "invitation": {"id": "invitations"}, "invitations": {"first": 100},
    "agreement": {"id": "agreements"}, "agreements": {"first": 100}, "link": {"id": "tracked_links"},
    "links": {"first": 100}, "promoters": {"first": 100}, "explainAttribution": {"orderId": "orders"},
    "deepLink": {"storefrontId": "storefronts"}, "qrBatch": {"id": "qr_batches"}, "qrBatches": {"first": 100},
    "partners": {"filter": {"text": "PRIVATE"}}, "partner": {"id": "PROMOTER"}, "ownPartnerProfile": None,
    "proposal": {"id": "proposals"}, "order": {"id": "orders"}, "orders": {"first": 100},
    "explainOrder": {"id": "orders"}, "fulfillmentOrder": {"id": "fulfillment_orders"},
    "fulfillmentOrders": {"first": 100}, "fulfillmentOfOrder": {"orderId": "orders"},
    "supplierOffers": {"variantIds": ["variants"]}, "supplier": {"id": "SUPPLIER"},
    "coupons": {"first": 100}, "balances": {"payeeId": "MERCHANT"}, "ledgerEntries": {"payeeId": "MERCHANT"},
    "payouts": {"payeeId": "MERCHANT"}, "statements": {"payeeId": "MERCHANT"},
    "statementDocument": {"id": "statements"}, "payees": {"payeeId": "MERCHANT"},
    "ledgerAccounts": {"payeeId": "MERCHANT"}, "explainAmount": {"id": "ENTRY"},
    "statementContests": {"first": 100}, "disputes": {"first": 100}, "dispute": {"id": "du_market"},
    "receivables": {"payeeId": "MERCHANT"},
    "writeOffs": {"payeeId": "MERCHANT"}, "settlementTerms": {"payeeId": "MERCHANT", "currencyCode": "CNY"},
    "returns": {"orderId": "orders"}, "platformFunds": {"currencyCode": "CNY"}, "reconciliationHealth": None,
    "reconciliationRuns": {"first": 100}, "reconciliationReport": {"id": "RUN"}, "unmatchedRows": {"first": 100},
}  # fmt: skip

# The same for mutations. OWN: it makes or changes rows of the caller alone, whatever is asked.
OWN = "own"
MUTATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "signUp": (
        {"kind": "BRAND", "name": "Third", "email": "t@example.com", "country": "CN", "currency": "CNY"}, OWN,
    ),
    "brandProfileUpdate": ({"description": "mine"}, OWN),
    "apiTokenCreate": ({"name": "x", "scopes": ["supply:read"]}, OWN),
    "apiTokenRotate": ({"id": "api_tokens"}, ""),
    "apiTokenRevoke": ({"id": "api_tokens"}, ""),
    "storefrontCreate": ({"name": "s", "channel": "WEB", "currency": "CNY", "country": "CN"}, OWN),
    "storefrontUpdate": ({"id": "storefronts", "newKey": True}, ""),
    "productCreate": ({"titleEn": "mine", "category": "a/b"}, OWN),
    "productUpdate": ({"id": "products", "titleEn": "stolen"}, ""),
    "productPublish": ({"id": "products"}, ""),
    "productWithdraw": ({"id": "products"}, ""),
    "productArchive": ({"id": "products"}, ""),
    "variantsAdd": ({"productId": "products", "variants": [{"sku": "stolen"}]}, ""),
    "pricesSet": (
        {"prices": [{"variantId": "variants", "price": {"amount": {"amount": "1.00", "currencyCode": "CNY"}}}]}, "",
    ),
    "productsImport": ({"content": "sku,title_en\nwalk,mine\n"}, OWN),
    "communityCreate": ({"name": "c", "channel": "LIVE_ROOM"}, OWN),
    "communityMembersAdd": (
        {"communityId": "communities", "members": [{"identifiers": [{"kind": "EMAIL", "value": BUYER}]}]}, "",
    ),
    "contactsTag": ({"contactIds": ["contacts"], "tags": ["stolen"]}, ""),
    "placementCreate": ({"communityId": "communities", "kind": "POST", "name": "p"}, ""),
    "invitationSend": ({"advertiserId": "MERCHANT", "promoterBrandId": "PROMOTER", "terms": _TERMS}, ""),
    "invitationCounter": ({"id": "invitations", "terms": _TERMS}, ""),
    "invitationDecline": ({"id": "invitations"}, ""),
    "invitationWithdraw": ({"id": "invitations"}, ""),
    "invitationAccept": ({"id": "invitations"}, ""),
    "agreementSign": ({"id": "agreements", "contentHash": "CONTENT_HASH"}, ""),
    "agreementProposeVersion": ({"id": "agreements", "terms": _TERMS}, ""),
    "agreementPause": ({"id": "agreements"}, ""),
    "agreementResume": ({"id": "agreements"}, ""),
    "agreementEnd": ({"id": "agreements"}, ""),
    "agreementTerminate": ({"id": "agreements", "reason": "malice"}, ""),
    "promoterCreate": ({"name": "p", "kind": "KOC"}, OWN),
    "linkBatchCreate": (
        {
            "idempotencyKey": "w",
            "links": [{"agreementId": "agreements", "placementId": "placements", "destination": "https://x.example.com"}],
        }, OWN,
    ),
    "deepLinkSet": (
        {"storefrontId": "storefronts", "appId": "wx0123456789abcdef", "path": "p", "query": "t={touch}"}, "",
    ),
    "deepLinkRemove": ({"storefrontId": "storefronts"}, ""),
    "qrBatchCreate": (
        {
            "name": "b", "kind": "POSTER", "arms": [{"quantity": 1}],
            "link": {"agreementId": "agreements", "placementId": "placements", "destination": "https://x.example.com"},
        }, "",
    ),
    # Row by row: the row is refused.
    "touchesRecord": (
        {"touches": [{"eventId": "w", "kind": "CLICK", "at": "2026-03-03T02:05:00Z", "linkId": "tracked_links"}]}, "",
    ),
    "partnerProfileUpsert": ({"headline": "mine", "roles": ["ADVERTISER"], "categories": ["beauty"]}, OWN),
    "partnerProfileWithdraw": ({}, OWN),
    "linkCreate": (
        {"agreementId": "agreements", "placementId": "placements", "destination": "https://x.example.com"}, "",
    ),
    "linkDisable": ({"id": "tracked_links"}, ""),
    "couponCreate": (
        {
            "idempotencyKey": "w", "code": "walk", "currencyCode": "CNY",
            "amount": {"amount": "1.00", "currencyCode": "CNY"},
        }, OWN,
    ),
    "couponStop": ({"id": "coupons"}, ""),
    "productsPropose": ({"communityId": "communities"}, ""),
    "communitiesPropose": ({"productId": "products"}, ""),
    "linkCreateFromProposal": (
        {"proposalId": "proposals", "placementId": "placements", "destination": "https://x.example.com"}, "",
    ),
    "refundCreate": ({"orderId": "orders", "idempotencyKey": "w", "everything": True}, ""),
    "refundRetry": ({"refundId": "refunds", "idempotencyKey": "w"}, ""),
    "returnAnnounce": (
        {"orderId": "orders", "idempotencyKey": "w", "lines": [{"orderLineId": "order_lines", "quantity": 1}]}, "",
    ),
    "returnWithdraw": ({"id": "RETURN", "idempotencyKey": "w"}, ""),
    "disputeEvidenceGive": (
        {"disputeId": "du_market", "idempotencyKey": "w", "fields": [{"name": "customer_name", "value": "x"}]}, "",
    ),
    "disputeConcede": ({"disputeId": "du_market", "idempotencyKey": "w"}, ""),
    "disputeAbsorb": ({"disputeId": "du_market", "orderId": "orders", "idempotencyKey": "w", "reason": "x"}, ""),
    "writeOffAsk": (
        {
            "payeeId": "MERCHANT", "idempotencyKey": "w", "reason": "x",
            "amount": {"amount": "1.00", "currencyCode": "CNY"},
        }, "",
    ),
    "writeOffDecide": ({"id": "WRITE_OFF", "idempotencyKey": "w", "approve": True}, ""),
    "statementContestOpen": (
        {
            "statementId": "statements", "entry": "ENTRY", "idempotencyKey": "w", "reason": "x",
            "claimed": {"amount": "1.00", "currencyCode": "CNY"},
        }, "",
    ),
    "statementContestAnswer": ({"id": "CONTEST", "idempotencyKey": "w", "accept": True, "reply": "x"}, ""),
    "statementContestEscalate": ({"id": "CONTEST", "idempotencyKey": "w", "escalation": "x"}, ""),
    "statementContestRule": (
        {
            "id": "CONTEST", "idempotencyKey": "w", "ruling": "x",
            "granted": {"amount": "1.00", "currencyCode": "CNY"},
        }, "",
    ),
    "settlementPolicySet": ({"idempotencyKey": "w", "absorption": {"upToMinor": 1}}, ""),
    "platformPayoutRequest": (
        {"idempotencyKey": "w", "reference": "w", "amount": {"amount": "1.00", "currencyCode": "CNY"}}, "",
    ),
    "feeBearerSet": ({"merchantId": "MERCHANT", "idempotencyKey": "w", "bearer": "MERCHANT", "reason": "x"}, ""),
    "settlementTermsSet": (
        {"payeeId": "MERCHANT", "idempotencyKey": "w", "currencyCode": "CNY", "legalName": "stolen"}, "",
    ),
    "supplierRuleSet": ({"supplierId": "SUPPLIER", "relation": "FORBIDDEN"}, OWN),
    "payoutAccountCreate": ({"idempotencyKey": "w", "currencyCode": "CNY", "promoterId": "promoters"}, ""),
    "payoutRun": ({"idempotencyKey": "w", "cycle": "walk"}, ""),
    "statementClose": (
        {
            "idempotencyKey": "w", "payeeId": "MERCHANT", "currencyCode": "CNY",
            "periodFrom": "2026-01-01T00:00:00Z", "periodTo": "2026-02-01T00:00:00Z",
        }, "",
    ),
}  # fmt: skip

SHOP_QUERIES: dict[str, dict[str, Any] | None] = {
    "products": {"first": 100}, "product": {"id": "products"}, "suggest": {"prefix": "保"},
    "cart": {"id": "carts"}, "checkout": {"id": "checkouts"},
}  # fmt: skip
_ADDRESS = {"name": "x", "line1": "x", "city": "x", "country": "CN"}
SHOP_MUTATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "cartCreate": ({"lines": [{"variantId": "variants", "quantity": 1}]}, ""),
    "cartSetLines": ({"cartId": "carts", "lines": []}, ""),
    "cartCouponApply": ({"cartId": "carts", "code": "PRIVATE-CODE"}, ""),
    "cartCouponRemove": ({"cartId": "carts"}, ""),
    "checkoutStart": ({"cartId": "carts", "email": "x@example.com", "address": _ADDRESS}, ""),
    "checkoutPlace": ({"checkoutId": "checkouts", "idempotencyKey": "w"}, ""),
    "checkoutPay": ({"checkoutId": "checkouts"}, ""),
}

_CNY = {"currency": "CNY", "amount": "1.00"}
ENDPOINTS: dict[tuple[str, str], tuple[Any, str]] = {
    ("GET", "/fulfillment-orders"): (None, ""),
    ("GET", "/fulfillment-orders/{order_id}"): (None, ""),
    ("POST", "/fulfillment-orders/{order_id}/accept"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/accept-partial"): (
        {"lines": [{"line_id": "fulfillment_lines", "quantity": 1}]}, "",
    ),
    ("POST", "/fulfillment-orders/{order_id}/reject"): ({"reason": "CAPACITY"}, ""),
    ("POST", "/fulfillment-orders/{order_id}/cannot-complete"): ({"reason": "CAPACITY"}, ""),
    ("POST", "/fulfillment-orders/{order_id}/ship"): ({"carrier": "zto", "tracking_no": "W1"}, ""),
    ("POST", "/fulfillment-orders/{order_id}/deliver"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/lost"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/accept-cancel"): ({}, ""),
    ("POST", "/fulfillment-orders/{order_id}/reject-cancel"): ({}, ""),
    ("POST", "/shipments/{shipment_id}/tracking-events"): (
        {"events": [{"event_id": "w", "status": "DELIVERED", "at": "2026-03-03T00:00:00Z"}]}, "",
    ),
    # The batch itself is answered and remembered; what became of each order is inside.
    ("POST", "/fulfillment-orders/batch-ack"): ({"items": [{"fulfillment_order_id": "fulfillment_orders"}]}, OWN),
    ("GET", "/profile"): (None, OWN),
    ("PATCH", "/profile"): ({"ship_sla_hours": 48}, OWN),
    ("GET", "/locations"): (None, ""),
    ("POST", "/locations"): ({"code": "w", "name": "w", "country": "CN", "handling": _CNY}, OWN),
    ("PATCH", "/locations/{location_id}"): ({"status": "paused"}, ""),
    ("PUT", "/locations/{location_id}/zone-rates"): ({"rates": []}, ""),
    ("GET", "/locations/{location_id}/zone-rates"): (None, ""),
    ("GET", "/offers"): (None, ""),
    ("PUT", "/offers"): ({"offers": [{"sku": "SKU", "location_id": "locations", "unit_cost": _CNY}]}, ""),
    ("PUT", "/offers/{sku}"): ({"location_id": "locations", "unit_cost": _CNY}, ""),
    ("PATCH", "/prices"): ({"prices": [{"sku": "SKU", "location_id": "locations", "unit_cost": _CNY}]}, ""),
    ("GET", "/stock"): (None, ""),
    # Row by row: the batch is remembered, the row refused.
    ("PATCH", "/stock"): ({"rows": [{"location_id": "locations", "sku": "SKU", "on_hand": 0}]}, OWN),
    ("GET", "/balances"): (None, ""),
    ("GET", "/payouts"): (None, ""),
    ("GET", "/settlements"): (None, ""),
    ("GET", "/settlements/{statement_id}"): (None, ""),
    ("GET", "/settlements/{statement_id}/lines.csv"): (None, ""),
    ("GET", "/settlements/{statement_id}/statement.pdf"): (None, ""),
    ("GET", "/returns"): (None, ""),
    ("POST", "/returns/{return_id}/receive"): ({"lines": [{"order_line_id": "order_lines", "quantity": 1}]}, ""),
    ("POST", "/returns/{return_id}/inspect"): ({"accepted": []}, ""),
    ("GET", "/webhook-endpoints"): (None, ""),
    ("POST", "/webhook-endpoints"): ({"url": "http://127.0.0.1:9/mine"}, OWN),
    ("PATCH", "/webhook-endpoints/{endpoint_id}"): ({"active": False}, ""),
    ("DELETE", "/webhook-endpoints/{endpoint_id}"): (None, ""),
    ("POST", "/webhook-endpoints/{endpoint_id}/rotate-secret"): (None, ""),
    ("GET", "/webhook-deliveries"): (None, ""),
    ("POST", "/webhook-deliveries/{delivery_id}/replay"): (None, ""),
}  # fmt: skip
_IN_PATH = {
    "order_id": "fulfillment_orders", "shipment_id": "shipments", "location_id": "locations", "sku": "SKU",
    "return_id": "RETURN", "statement_id": "statements", "endpoint_id": "webhook_endpoints",
    "delivery_id": "webhook_deliveries",
}  # fmt: skip
_KINDS = {
    "products": ids.ProductId, "variants": ids.VariantId, "imports": ids.ImportId, "communities": ids.CommunityId,
    "invitations": ids.InvitationId, "agreements": ids.AgreementId, "tracked_links": ids.LinkId,
    "promoters": ids.PromoterId, "orders": ids.OrderId, "proposals": ids.ProposalId, "carts": ids.CartId,
    "fulfillment_orders": ids.FulfillmentOrderId, "fulfillment_lines": ids.FulfillmentLineId,
    "statements": ids.StatementId, "api_tokens": ids.TokenId, "storefronts": ids.StorefrontId,
    "contacts": ids.ContactId, "placements": ids.PlacementId, "checkouts": ids.CheckoutId,
    "shipments": ids.ShipmentId, "locations": ids.LocationId, "webhook_endpoints": ids.WebhookEndpointId,
    "webhook_deliveries": ids.DeliveryId, "refunds": ids.RefundId, "order_lines": ids.OrderLineId,
    "touches": ids.TouchId, "payments": ids.PaymentId, "supplier_offers": ids.OfferId,
    "reservations": ids.ReservationId, "users": ids.UserId, "attribution_decisions": ids.DecisionId,
    "qr_batches": QrBatchId, "qr_assets": QrAssetId, "commission_lines": ids.CommissionLineId, "coupons": CouponId,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Walk:
    """The market, its ids by table, and what nobody else may ever read."""

    served: Served
    market: FilledMarket
    known: Mapping[str, list[str]]
    named: Mapping[str, str]
    market_rows: Rows
    before: Rows
    postgres: TestDatabase

    def filled(self, value: Any) -> Any:
        """``value`` with the names of tables replaced by an id of the market."""
        if isinstance(value, dict):
            return {k: self.filled(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        if not isinstance(value, str):
            return value
        return self.named.get(value) or (self.known[value][0] if value in self.known else value)

    def leaks(self, answer: str, asked: Any) -> list[str]:
        """Private ids and words of the market in an answer, without those the question itself named."""
        private = [id for table, ids in self.known.items() if table not in PUBLIC for id in ids]
        told = str(asked)
        return [word for word in [*private, *_PRIVATE_WORDS] if word in answer and word not in told]

    async def changes(self, *, own: bool) -> dict[str, int]:
        """By table, how many rows are not as they were. A call that is about the caller's ``own`` rows may change
        those; every row of the market must still be there, unaltered."""
        after = await rows_of(self.postgres)
        found = {}
        for table in after.keys() | self.before.keys():
            now = after.get(table, Counter())
            if own:
                lost = self.market_rows.get(table, Counter()) - now
            else:
                was = self.before.get(table, Counter())
                lost = (was - now) + (now - was)
            if lost:
                found[table] = lost.total()
        self.before.clear()
        self.before.update(after)
        return found


async def rows_of(postgres: TestDatabase) -> Rows:
    """A hash of every row of every table, by table. The use of a token is noted, which changes nothing."""
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        each = " UNION ALL ".join(
            f"SELECT '{table}' AS t, md5(({_row(table)})::text) AS h FROM {table} r"
            for table in await tables(connection)
        )
        rows: Rows = {}
        for row in await connection.fetch(each):
            rows.setdefault(row["t"], Counter())[row["h"]] += 1
        return rows
    finally:
        await connection.close()


def _row(table: str) -> str:
    return "to_jsonb(r) - 'last_used_at'" if table == "api_tokens" else "r"


async def tables(connection: asyncpg.Connection[Any]) -> list[str]:
    found = await connection.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'"
        " AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
    )
    return [row["relname"] for row in found]


async def _ids_of(postgres: TestDatabase) -> dict[str, list[str]]:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        # The newest first: of several orders, the one that still waits for its supplier.
        return {
            table: [
                str(kind.of(r["id"]))
                for r in await connection.fetch(f"SELECT id FROM {table} ORDER BY id DESC")
            ]
            for table, kind in _KINDS.items()
        }
    finally:
        await connection.close()


async def _entry_of(postgres: TestDatabase, brand_id: ids.BrandId) -> str:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        found = await connection.fetchrow(
            "SELECT e.journal_id, e.leg FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id"
            " WHERE a.owner = $1 LIMIT 1",
            f"party:{brand_id}",
        )
        assert found is not None
        return f"{ids.JournalId.of(found['journal_id'])}/{found['leg']}"
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def db(_shared_db: Database, postgres: TestDatabase) -> AsyncIterator[Database]:
    """One market for all of the walk: no step of it may change a row."""
    yield _shared_db
    await postgres.empty()


@pytest.fixture(scope="module")
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 2, 2, 0, tzinfo=UTC))


@pytest.fixture(scope="module")
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


@pytest.fixture(scope="module")
async def filled(served: Served, db: Database, clock: FixedClock, postgres: TestDatabase) -> Walk:
    market = await filled_market(db, clock, served)
    known = await _ids_of(postgres)
    empty = [table for table, ids in known.items() if not ids]
    assert not empty, f"the market has nothing in {empty}"
    shop = market.shop
    named = {
        "MERCHANT": str(shop.promotion.merchant.brand_id), "PROMOTER": str(shop.promotion.promoter.brand_id),
        "SUPPLIER": str(shop.source.supplier_id), "SKU": shop.product.skus[0], "CONTENT_HASH": "0" * 64,
        "RETURN": str(ReturnId.new()), "RUN": str(ReconciliationRunId.new()), "WRITE_OFF": str(WriteOffId.new()),
        "CONTEST": str(ContestId.new()),
        "ENTRY": await _entry_of(postgres, shop.promotion.merchant.brand_id),
    }  # fmt: skip
    return Walk(served, market, known, named, await rows_of(postgres), {}, postgres)


@pytest.fixture
async def stranger(filled: Walk, db: Database, clock: FixedClock) -> tuple[Actor, str]:
    return await committed_brand(db, clock, name="Stranger")


@pytest.fixture
async def other(filled: Walk, db: Database, clock: FixedClock) -> str:
    return (await committed_supplier(db, clock, name="Other Works"))[1]


@pytest.fixture
async def walk(filled: Walk, stranger: tuple[Actor, str], other: str) -> Walk:
    """The rows as they are now are those that must stay."""
    return replace(filled, before=await rows_of(filled.postgres))


async def _walk_brand_api(
    walk: Walk, token: str | None, *, closely: bool = False, shut: bool = False
) -> None:
    """``closely``: look at every row after each mutation, not only at the end. ``shut``: every field but sign-up
    refuses this caller by itself."""
    failures = []
    for word, name, field in root_fields(brand.schema):
        own = False
        if word == "query":
            values = walk.filled(QUERIES[name] or {})
        else:
            given, kind = MUTATIONS[name]
            values, own = {"input": walk.filled(given)}, kind == OWN
        answer = await walk.served.brand(document(word, name, field, values), values, token=token)
        leaks = walk.leaks(str(answer), values)
        changes = await walk.changes(own=own) if closely and word == "mutation" else {}
        open_ = shut and name != "signUp" and not codes_of(answer)
        if leaks or changes or open_ or "INTERNAL" in codes_of(answer):
            failures.append((name, leaks, changes, codes_of(answer), open_))
    assert not failures, "\n".join(map(str, failures))
    assert (await walk.changes(own=True)) == {}


def test_every_field_and_endpoint_has_its_entry_in_the_walk() -> None:
    for schema, queries, mutations in (
        (brand.schema, QUERIES, MUTATIONS), (storefront.schema, SHOP_QUERIES, SHOP_MUTATIONS),
    ):  # fmt: skip
        fields = list(root_fields(schema))
        assert {name for word, name, _ in fields if word == "query"} == queries.keys()
        assert {name for word, name, _ in fields if word == "mutation"} == mutations.keys()


async def test_another_brand_reads_and_changes_nothing(walk: Walk, stranger: tuple[Actor, str]) -> None:
    await _walk_brand_api(walk, stranger[1], closely=True)


async def test_a_supplier_reads_and_changes_nothing_on_the_brand_api(walk: Walk, other: str) -> None:
    await _walk_brand_api(walk, other)


async def test_without_a_token_and_with_a_storefronts_key_the_brand_api_is_shut(
    walk: Walk, db: Database, clock: FixedClock
) -> None:
    await _walk_brand_api(walk, None, shut=True)
    key = walk.market.shop.storefront.key
    # Used on its own surface a moment before, so that the process remembers it.
    assert "errors" not in await walk.served.storefront("{ __typename }", key=key)
    answer = await walk.served.brand("{ apiTokens { id } orders { nodes { id } } }", token=key)
    assert codes_of(answer) == ["INVALID_TOKEN"]


async def test_another_storefront_sees_neither_carts_nor_checkouts(
    walk: Walk, stranger: tuple[Actor, str], db: Database, clock: FixedClock
) -> None:
    key = (await committed_storefront(db, clock, stranger[0])).key
    failures = []
    for word, name, field in root_fields(storefront.schema):
        if word == "query":
            values = walk.filled(SHOP_QUERIES[name] or {})
        elif name == "checkoutPay":
            values = walk.filled(SHOP_MUTATIONS[name][0])
        else:
            values = {"input": walk.filled(SHOP_MUTATIONS[name][0])}
        for given in (key, None, walk.market.merchant_token):
            answer = await walk.served.storefront(document(word, name, field, values), values, key=given)
            leaks = walk.leaks(str(answer), values)
            refused = bool(codes_of(answer)) or name in ("products", "suggest")
            if (
                leaks
                or not refused
                or (given != key and not codes_of(answer))
                or "INTERNAL" in codes_of(answer)
            ):
                failures.append((name, given == key, leaks, codes_of(answer)))
    assert not failures, "\n".join(map(str, failures))
    assert (await walk.changes(own=True)) == {}


async def test_every_endpoint_of_the_fulfilment_api_refuses_other_tenants(walk: Walk, other: str) -> None:
    callers = {
        "other supplier": other,
        "brand": walk.market.merchant_token,
        "nobody": "",
        "storefront": "pk_x",
    }
    described = (await walk.served.suppliers.get("/fulfillment/v1/openapi.json")).json()
    endpoints = {
        (verb.upper(), path.removeprefix("/fulfillment/v1"))
        for path, verbs in described["paths"].items()
        for verb in verbs
    }
    assert endpoints == ENDPOINTS.keys()
    failures = []
    for (verb, path), (body, kind) in ENDPOINTS.items():
        for name, token in callers.items():
            where = path.format(**{part: walk.filled(table) for part, table in _IN_PATH.items()})
            sent = walk.filled(body)
            answer = await walk.served.supplier(verb, where, sent, token=token)
            leaks = walk.leaks(answer.text, [where, sent])
            writes = verb != "GET" or kind == OWN
            changes = await walk.changes(own=kind == OWN) if writes and name == "other supplier" else {}
            told = answer.status_code
            wrong = (
                told >= 500
                or (name != "other supplier" and told not in (401, 403))
                or ("{" in path and name == "other supplier" and told not in (404, 409))
            )
            if leaks or changes or wrong:
                failures.append((verb, path, name, told, leaks, changes, answer.text[:120]))
    assert not failures, "\n".join(map(str, failures))
    assert (await walk.changes(own=True)) == {}


async def test_every_table_of_a_tenant_is_under_row_level_security(postgres: TestDatabase) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition AND NOT relrowsecurity"
        )
        assert {row["relname"] for row in rows} == OPEN_TO_THE_ROLE.keys()
        role = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'lianyu_app'"
        )
        assert role is not None
        assert not any(role.values())
        owned = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relowner = 'lianyu_app'::regrole"
        )
        assert owned == 0
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", ["brand", "supplier", "storefront", ""])
async def test_the_database_itself_shows_another_tenant_no_row(walk: Walk, kind: str) -> None:
    tenant = "" if not kind else ids.TenantId.new().hex
    connection = await asyncpg.connect(walk.postgres.url())
    seen = {}
    try:
        for table in await tables(connection):
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('lianyu.kind', $1, true), set_config('lianyu.tenant', $2, true)",
                    kind,
                    tenant,
                )
                count = await connection.fetchval(f"SELECT count(*) FROM {table}")
                changed = await _touched(connection, table)
            if count or changed:
                seen[table] = (count, changed)
    finally:
        await connection.close()
    allowed = READABLE["every"] | (READABLE["brand"] if kind == "brand" else set())
    assert not seen.keys() - allowed, seen
    assert not {table for table, (_, changed) in seen.items() if changed} - OPEN_TO_THE_ROLE.keys()


async def _touched(connection: asyncpg.Connection[Any], table: str) -> bool:
    """Whether a DELETE would reach a row (rolled back); a role without the right to it reaches none."""
    try:
        async with connection.transaction():
            done = await connection.execute(f"DELETE FROM {table}")
            raise _Undo(done != "DELETE 0")
    except _Undo as undone:
        return bool(undone.args[0])
    except asyncpg.PostgresError:
        return False


class _Undo(Exception):
    pass
