"""The provider's notices about payouts: of the platform's own money, and that one was reconciled."""

from __future__ import annotations

from core.clock import Clock
from infra.db.session import Database
from infra.payments.gateway import PaymentGateway
from marketplace.orders.events import ProviderNotified
from supply.settlement.platform_payouts import refresh_platform_payout
from supply.settlement.reconciliation.provider_rows import GatewayRows
from supply.settlement.reconciliation.service import reconcile

RECONCILED = "payout.reconciliation_completed"


async def on_payout_notified(
    db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    """A payout of a connected account is that party's own affair."""
    if notice.type == RECONCILED:
        await reconcile(db, GatewayRows(payments), clock=clock, cause="payout")
    elif notice.type.startswith("payout."):
        await refresh_platform_payout(db, notice.object_id, payments=payments, clock=clock)
