"""A stranger in a filled market: what the market has, what must not be told of it, what must not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from core import ids
from marketplace.insights.ids import SimulationId
from marketplace.matching.ids import HoldoutId
from marketplace.orders.return_models import ReturnId
from marketplace.promotion.coupons.models import CouponId
from marketplace.promotion.disputes.models import CommissionDisputeId
from marketplace.promotion.fraud.ids import HoldId, SignalId
from marketplace.promotion.ids import CampaignId, CampaignOfferId, QrAssetId, QrBatchId
from supply.settlement.ids import ContestId, PlatformPayoutId, ReconciliationRunId, WriteOffId
from supply.settlement.rails.ids import RailRequestId
from tests.conftest import TestDatabase
from tests.factories.filled_market import BUYER, FilledMarket
from tests.factories.open_cases import DISPUTE
from tests.fixtures.http import Served
from tests.graph.isolation.open_tables import PUBLIC

Rows = dict[str, Counter[str]]
OWN = "own"

_PRIVATE_WORDS = (
    BUYER,
    "Private Promoter",
    "a private",
    "PRIVATE",
    "acct_private",
    "member0",
    "lianyu-private",
    DISPUTE,
)

_KINDS = {
    "returns": ReturnId, "reconciliation_runs": ReconciliationRunId, "write_offs": WriteOffId,
    "signing_secrets": ids.SigningSecretId,
    "statement_contests": ContestId, "rail_requests": RailRequestId, "platform_payouts": PlatformPayoutId,
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
    "fraud_signals": SignalId, "commission_holds": HoldId, "commission_disputes": CommissionDisputeId,
    "campaigns": CampaignId, "offers": CampaignOfferId, "offer_simulations": SimulationId,
    "holdouts": HoldoutId,
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


async def walk_through(served: Served, market: FilledMarket, postgres: TestDatabase) -> Walk:
    """The walk through a market that is filled: nothing may be missing of what it is asked about."""
    known = await _ids_of(postgres)
    empty = [table for table, ids in known.items() if not ids]
    assert not empty, f"the market has nothing in {empty}"
    shop = market.shop
    named = {
        "MERCHANT": str(shop.promotion.merchant.brand_id), "PROMOTER": str(shop.promotion.promoter.brand_id),
        "SUPPLIER": str(shop.source.supplier_id), "SKU": shop.product.skus[0], "CONTENT_HASH": "0" * 64,
        "RETURN": known["returns"][0], "RUN": known["reconciliation_runs"][0],
        "WRITE_OFF": known["write_offs"][0], "CONTEST": known["statement_contests"][0],
        "ENTRY": await _entry_of(postgres, shop.promotion.merchant.brand_id),
    }  # fmt: skip
    return Walk(served, market, known, named, await rows_of(postgres), {}, postgres)
