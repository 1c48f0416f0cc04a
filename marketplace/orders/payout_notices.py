"""The provider's notices about money that leaves: transfers to parties, payouts to the platform's bank and theirs."""

from __future__ import annotations

from core.clock import Clock
from infra.db.session import Database
from infra.payments.gateway import PaymentGateway
from marketplace.orders.events import ProviderNotified
from supply.settlement.bank_payouts import refresh_bank_payout
from supply.settlement.payout_sending import take_transfer
from supply.settlement.platform_payouts import refresh_platform_payout
from supply.settlement.reconciliation.provider_rows import GatewayRows
from supply.settlement.reconciliation.service import reconcile
from supply.settlement.reversing import take_reversals

RECONCILED = "payout.reconciliation_completed"


async def on_payout_notified(
    db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    """A payout of a connected account is that party's own affair: we only keep how it stands."""
    if notice.account is not None:
        await refresh_bank_payout(
            db, notice.object_id, account_id=notice.account, payments=payments, clock=clock
        )
    elif notice.type == RECONCILED:
        await reconcile(db, GatewayRows(payments), clock=clock, cause="payout")
    elif notice.type.startswith("payout."):
        await refresh_platform_payout(db, notice.object_id, payments=payments, clock=clock)


async def on_transfer(
    db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    """A transfer exists: its payout is settled, if the answer to our call never came; so is what was reversed of it."""
    payout_id = await take_transfer(db, notice.object_id, payments=payments, clock=clock)
    if payout_id is not None:
        await take_reversals(db, payout_id, payments=payments, clock=clock)
