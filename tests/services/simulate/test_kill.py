"""What a kill leaves behind is what a killed worker leaves behind."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import text
from starlette.responses import JSONResponse, Response

from core.actor import SYSTEM
from infra.db.session import Database, make_engine
from services.simulate.kill import (
    CallInsideTransaction,
    KillableDatabase,
    Killed,
    KillSwitch,
    killable_gateway,
)
from services.simulate.transport import InProcess

_WRITE = text("INSERT INTO handled_messages (message_id, handler, handled_at) VALUES (uuidv7(), 'h', now())")
_LOCK, _FREE = text("SELECT pg_advisory_lock(4711)"), text("SELECT pg_try_advisory_lock(4711)")
_COUNT = text("SELECT count(*) FROM handled_messages")


class Provider:
    """Counts what reached it."""

    def __init__(self) -> None:
        self.calls = 0

    async def refund(self) -> str:
        self.calls += 1
        return "re_1"


@pytest.mark.parametrize(("points", "written"), [(1, 0), (2, 1)])
async def test_a_kill_undoes_the_transaction_before_its_commit_and_not_after(
    db: Database, points: int, written: int
) -> None:
    switch = KillSwitch()
    killable = KillableDatabase(
        make_engine(db.engine.url.render_as_string(hide_password=False), pool_size=1), switch
    )
    switch.set(points)
    with pytest.raises(Killed):
        async with killable.unit_of_work(SYSTEM) as session:
            await session.execute(_WRITE)
    switch.set(0)

    async with db.reading(SYSTEM) as session:
        assert (await session.execute(_COUNT)).scalar_one() == written
    async with killable.unit_of_work(SYSTEM) as session:
        await session.execute(_COUNT)  # the next worker has a connection
    await killable.close()


async def test_a_killed_worker_has_let_go_of_its_locks_when_the_next_one_begins(db: Database) -> None:
    switch = KillSwitch()
    url = db.engine.url.render_as_string(hide_password=False)
    killable = KillableDatabase(make_engine(url, pool_size=1), switch)
    for _ in range(10):
        switch.set(1)
        with pytest.raises(Killed):
            async with killable.unit_of_work(SYSTEM) as session:
                await session.execute(_LOCK)  # the connection's, not the transaction's

        async with killable.engine.connect() as next_worker:
            assert (await next_worker.execute(_FREE)).scalar_one()
            await next_worker.invalidate()
    await killable.close()


@pytest.mark.parametrize(("points", "calls"), [(1, 0), (2, 1)])
async def test_a_kill_before_a_call_keeps_it_from_the_provider_and_after_it_does_not(
    points: int, calls: int
) -> None:
    switch, real = KillSwitch(), Provider()
    gateway: Any = killable_gateway(real, switch)  # type: ignore[arg-type]
    switch.set(points)
    with pytest.raises(Killed):
        await gateway.refund()
    assert real.calls == calls


async def test_a_call_inside_a_transaction_is_a_finding() -> None:
    switch = KillSwitch()
    gateway: Any = killable_gateway(Provider(), switch)  # type: ignore[arg-type]
    switch.now.open_transactions = 1
    with pytest.raises(CallInsideTransaction):
        await gateway.refund()


async def test_an_answer_that_is_cut_off_is_a_broken_connection() -> None:
    class Cut(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = Cut() if scope["path"] == "/cut" else JSONResponse({"path": scope["path"]})
        await answer(scope, receive, send)

    async with httpx.AsyncClient(transport=InProcess(app), base_url="http://here") as client:
        assert (await client.get("/whole")).json() == {"path": "/whole"}
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/cut")
