from __future__ import annotations

from dataclasses import dataclass

from core.actor import SYSTEM
from core.clock import FixedClock
from core.events import Event, event
from infra import outbox
from infra.db.session import Database
from services.api.app import LARGEST_BODY
from tests.fixtures.http import serving


@event("test.waited")
@dataclass(frozen=True, slots=True)
class Waited(Event):
    number: int


async def test_a_body_too_large_is_refused_before_it_is_read(db: Database, clock: FixedClock) -> None:
    async with serving(db, clock) as served:
        answer = await served.api.post("/graphql", content=b" " * (LARGEST_BODY + 1))

    assert answer.status_code == 413
    assert answer.json()["errors"][0]["extensions"]["code"] == "BODY_TOO_LARGE"


async def test_metrics_tell_how_long_the_oldest_message_waits(db: Database, clock: FixedClock) -> None:
    async with serving(db, clock) as served:
        before = await served.api.get("/metrics")
        async with db.unit_of_work(SYSTEM) as session:
            await outbox.record(session, Waited(number=1))
        after = await served.api.get("/metrics")

    assert "lianyu_outbox_oldest_seconds 0.0" in before.text
    (line,) = [x for x in after.text.splitlines() if x.startswith("lianyu_outbox_oldest_seconds ")]
    assert 0 < float(line.split()[1]) < 60
