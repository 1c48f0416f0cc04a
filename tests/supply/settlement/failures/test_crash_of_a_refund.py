"""money.md §6: crash after the provider's call, before the commit (kill -9 of the worker), for refunds."""

from __future__ import annotations

from core.ids import RefundId
from marketplace.orders.models import RefundStatus
from tests.conftest import TestDatabase
from tests.fixtures.buying import bought
from tests.fixtures.unanswered import killed_in_the_call, unanswered
from tests.paysim.conftest import SECRET_KEY, WEBHOOK_SECRET
from tests.services.api.conftest import Paying

# What a worker does with the message, in a process of its own that can be killed.
_WORKER = """
import asyncio, sys
from core.clock import SharedClock
from core.ids import OrderId, RefundId
from infra.db.session import Database, make_engine
from infra.payments.stripe_gateway import StripeGateway
from marketplace.orders.events import RefundRequested
from marketplace.orders.refund_sending import on_refund_requested
from pathlib import Path
url, api, clock_file, refund, order, key, secret = sys.argv[1:]
async def main():
    clock = SharedClock(Path(clock_file))
    payments = StripeGateway(secret_key=key, webhook_secret=secret, api_base=api)
    event = RefundRequested(RefundId.parse(refund), OrderId.parse(order), clock.now())
    await on_refund_requested(Database(make_engine(url)), event, payments=payments, clock=clock)
asyncio.run(main())
"""


async def test_crash_after_provider_call_before_commit_of_a_refund(
    paying_shopper: Paying, postgres: TestDatabase
) -> None:
    order = await bought(paying_shopper)
    refund_id: RefundId = await order.refund(everything=True)
    provider = paying_shopper.provider

    # The provider has executed, nothing of it is written down.
    async with unanswered(provider.url, "POST /v1/refunds") as line:
        await killed_in_the_call(
            line, _WORKER, postgres.url(), line.url, str(provider.data_dir / "clock"), str(refund_id),
            str(order.order_id), SECRET_KEY, WEBHOOK_SECRET,
        )  # fmt: skip

    assert order.at_provider() == [(10_500, "succeeded")]
    assert [r.status for r in await order.refunds()] == [RefundStatus.PENDING]
    assert await paying_shopper.one("SELECT count(*) FROM outbox WHERE published_at IS NULL") > 0
    await order.work()  # the message is still there: the same key goes out again

    assert order.at_provider() == [(10_500, "succeeded")]
    assert [r.status for r in await order.refunds()] == [RefundStatus.SUCCEEDED]
    settled = "SELECT count(*) FROM ledger_journals WHERE kind = 'refund_settled'"
    assert await paying_shopper.one(settled) == 1
    await order.hold()
