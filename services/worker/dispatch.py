"""Calls handlers and sweeps: their first parameter asks for a transaction or the database, names for the rest."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import text

from core.actor import SYSTEM
from core.errors import LianyuError
from core.events import from_body
from core.ids import MessageId
from infra import outbox
from infra.gateways import Gateways
from infra.observability.context import bind_request_id
from infra.observability.metrics import MESSAGES, SWEPT
from services.worker.schedule import SWEEPS
from services.worker.subscriptions import SUBSCRIPTIONS

Handler = Callable[..., Awaitable[Any]]
ATTEMPTS = 8
UNREADABLE = "services.worker.dispatch.handle"
"""Under this name ``failed_messages`` keeps a message that no handler could be given."""
_FIRST_PAUSE_S = 0.05
log = structlog.get_logger("worker")

_HANDLED = text("SELECT 1 FROM handled_messages WHERE message_id = :id AND handler = :handler")
_FAILED = text(
    "INSERT INTO failed_messages (message_id, handler, error, failed_at, attempts)"
    " VALUES (:id, :handler, :error, now(), :attempts) ON CONFLICT (message_id, handler)"
    " DO UPDATE SET error = excluded.error, failed_at = excluded.failed_at,"
    " attempts = failed_messages.attempts + excluded.attempts"
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One outbox message as the broker carries it."""

    message_id: MessageId
    name: str
    body: dict[str, Any]
    request_id: str = ""

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Delivery:
        return cls(MessageId.parse(raw["id"]), raw["name"], raw["body"], raw.get("request_id", ""))


def handler_name(handler: Handler) -> str:
    return f"{handler.__module__}.{getattr(handler, '__qualname__', handler)}"


@functools.cache
def _wishes(handler: Handler) -> tuple[bool, tuple[str, ...]]:
    """Whether the handler wants a transaction, and the gateways it names."""
    parameters = list(inspect.signature(handler).parameters.values())
    named = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
    return parameters[0].name == "session", named


def _injected(gateways: Gateways, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(gateways, name) for name in names}


async def handle(gateways: Gateways, delivery: Delivery) -> None:
    """Give one message to every handler that has not had it. One handler's failure never stops another.

    Logs and further events carry the request id of the call that caused it. A message this release cannot
    read (a newer one wrote it) is parked: raising would only make the broker drop it, with its neighbours.
    """
    bind_request_id(delivery.request_id)
    try:
        event = from_body(delivery.name, delivery.body)
    except (KeyError, TypeError, ValueError, LianyuError) as error:
        await _give_up(gateways, delivery, UNREADABLE, error, attempts=1)
        return
    for handler in SUBSCRIPTIONS.get(type(event), ()):
        await _handle_once(gateways, handler, delivery, event)


async def _handle_once(gateways: Gateways, handler: Handler, delivery: Delivery, event: Any) -> None:
    name = handler_name(handler)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if not await try_once(gateways, handler, delivery, event):
                return
        except Exception as error:
            if attempt == ATTEMPTS:
                await _give_up(gateways, delivery, name, error, attempts=ATTEMPTS)
                return
            MESSAGES.labels(name, "retried").inc()
            await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)
        else:
            MESSAGES.labels(name, "handled").inc()
            return


async def try_once(gateways: Gateways, handler: Handler, delivery: Delivery, event: Any) -> bool:
    """One attempt of one handler, whose failure is the caller's. False: it had this message before."""
    name, (transactional, wishes) = handler_name(handler), _wishes(handler)
    given = _injected(gateways, wishes)
    if transactional:
        async with gateways.db.unit_of_work(SYSTEM) as session:
            if not await outbox.first_time(session, delivery.message_id, name):
                return False
            await handler(session, event, **given)
        return True
    if await _handled(gateways, delivery, name):
        return False
    await handler(gateways.db, event, **given)
    async with gateways.db.unit_of_work(SYSTEM) as session:
        await outbox.first_time(session, delivery.message_id, name)
    return True


async def _handled(gateways: Gateways, delivery: Delivery, name: str) -> bool:
    async with gateways.db.reading(SYSTEM) as session:
        found = await session.execute(_HANDLED, {"id": delivery.message_id, "handler": name})
        return found.first() is not None


async def _give_up(
    gateways: Gateways, delivery: Delivery, name: str, error: Exception, *, attempts: int
) -> None:
    """Park the message where an operator sees it and can replay it."""
    MESSAGES.labels(name, "failed").inc()
    log.error(
        "handler gave up",
        handler=name,
        event_name=delivery.name,
        message=str(delivery.message_id),
        exc_info=error,
    )
    async with gateways.db.unit_of_work(SYSTEM) as session:
        where = {"id": delivery.message_id, "handler": name}
        await session.execute(
            _FAILED, {**where, "error": f"{type(error).__name__}: {error}", "attempts": attempts}
        )


async def sweep(gateways: Gateways, name: str) -> int:
    """Run one sweep until it is idle; returns how many rows it did."""
    done = 0
    while count := await sweep_once(gateways, name):
        done += count
        SWEPT.labels(name).inc(count)
    return done


async def sweep_once(gateways: Gateways, name: str) -> int:
    """One round of a sweep; 0 when it found nothing to do."""
    work = SWEEPS[name]
    _, wishes = _wishes(work)
    return int(await work(gateways.db, **_injected(gateways, wishes)))
