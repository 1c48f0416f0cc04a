"""What waits is worked off in the order it came, however the database finds it: a queue is fair, a seed one story."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listens_for

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database, make_engine
from infra.payments.errors import ProviderRefused
from infra.payments.gateway import Event
from marketplace.orders import notices

NOTICES = 40
PLANS = [
    {},
    {"enable_nestloop": "off", "enable_mergejoin": "off"},
    {"enable_nestloop": "off", "enable_hashjoin": "off"},
    {"enable_indexscan": "off", "enable_bitmapscan": "off"},
]


class NobodyHome:
    """Notes what it is asked for and knows nothing of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def retrieve_intent(self, intent_id: str) -> Any:
        self.asked.append(intent_id)
        raise ProviderRefused("no such intent", provider_code="resource_missing")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: " ".join(plan) or "as it likes")
async def test_parked_notices_are_tried_in_the_order_they_came(
    db: Database, clock: FixedClock, plan: dict[str, str]
) -> None:
    # Ids of the provider say nothing of order: here they go round seven times.
    came = [f"pi_{number * 7 % NOTICES:02d}" for number in range(NOTICES)]
    async with db.unit_of_work(SYSTEM) as session:
        for intent in came:
            now = clock.advance(timedelta(seconds=1))
            event = Event(
                f"evt_{intent}", "payment_intent.succeeded", now, "payment_intent", intent, None, {}
            )
            await notices.receive(session, event, now=now)
        await session.execute(text("UPDATE provider_events SET next_try_at = :now"), {"now": clock.now()})
    provider: Any = NobodyHome()
    planned = Database(make_engine(db.engine.url.render_as_string(hide_password=False), pool_size=1))

    @listens_for(planned.engine.sync_engine, "connect")
    def plan_so(connection: Any, _: Any) -> None:
        for setting, value in plan.items():
            connection.run_async(lambda driver, s=setting, v=value: driver.execute(f"SET {s} = {v}"))

    assert await notices.sweep_notices(planned, payments=provider, clock=clock) == NOTICES
    await planned.close()

    assert provider.asked == came
