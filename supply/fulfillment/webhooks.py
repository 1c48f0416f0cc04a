"""What suppliers are told on their own servers: endpoints, a queue with a log, deliveries with retries.

A message carries the ids and the whole new state, so that the receiver needs no further call. It is queued in
the database once per endpoint and fact, then sent; what fails is sent again on the schedule by the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.errors import Invalid, NotFound
from core.ids import DeliveryId, FulfillmentOrderId, SupplierId, WebhookEndpointId
from infra.config import Settings
from infra.db.session import Database
from infra.suppliers.endpoint import RETRY_AFTER, Answer, OutgoingWebhook, SupplierEndpoint
from infra.suppliers.secrets import SecretBox
from infra.suppliers.signing import new_secret
from supply.fulfillment import queries
from supply.fulfillment.models import DeliveryState, EndpointStatus
from supply.fulfillment.views import fulfillment_order_json

EVENT_TYPES = (
    "fulfillment_order.submitted",
    "fulfillment_order.accepted",
    "fulfillment_order.rejected",
    "fulfillment_order.shipped",
    "fulfillment_order.delivered",
    "fulfillment_order.cancellation_requested",
    "fulfillment_order.cancelled",
)
MAX_ENDPOINTS = 10
OLD_SECRET_FOR = timedelta(hours=24)
_CLAIMED_FOR = timedelta(minutes=2)
"""How long a delivery in hand stays hidden from other senders; after a crash it comes back."""

_INSERT_ENDPOINT = text(
    "INSERT INTO webhook_endpoints (id, supplier_id, url, events, status, secret, created_at, updated_at, version)"
    " VALUES (:id, :supplier_id, :url, :events, 'active', :secret, :now, :now, 1)"
)
_ENDPOINTS = text(
    "SELECT id, url, events, status, disabled_reason, previous_until, created_at, version FROM webhook_endpoints"
    " WHERE supplier_id = :supplier_id ORDER BY id"
)
_UPDATE_ENDPOINT = text(
    "UPDATE webhook_endpoints SET url = coalesce(:url, url),"
    " events = coalesce(CAST(:events AS varchar[]), events), status = coalesce(:status, status),"
    " disabled_reason = CASE WHEN CAST(:status AS varchar) = 'active' THEN NULL ELSE disabled_reason END,"
    " updated_at = :now, version = version + 1"
    " WHERE id = :id AND supplier_id = :supplier_id RETURNING id"
)
_ROTATE = text(
    "UPDATE webhook_endpoints SET previous_secret = secret, previous_until = :until, secret = :secret,"
    " updated_at = :now, version = version + 1 WHERE id = :id AND supplier_id = :supplier_id RETURNING id"
)
_DELETE = text("DELETE FROM webhook_endpoints WHERE id = :id AND supplier_id = :supplier_id RETURNING id")
_QUEUE = text("""
INSERT INTO webhook_deliveries (id, endpoint_id, supplier_id, message_key, event_type, payload, state, attempts,
    next_attempt_at, created_at, updated_at)
SELECT w.id, e.id, e.supplier_id, :key, :type, :payload, 'pending', 0, :now, :now, :now
FROM webhook_endpoints e JOIN unnest(CAST(:endpoints AS uuid[]), CAST(:ids AS uuid[])) AS w(endpoint_id, id)
    ON w.endpoint_id = e.id
WHERE e.status = 'active' ON CONFLICT (endpoint_id, message_key) DO NOTHING
""")
_LISTENING = text(
    "SELECT id FROM webhook_endpoints WHERE supplier_id = :supplier_id AND status = 'active'"
    " AND (:type = ANY(events) OR '*' = ANY(events))"
)
_CLAIM = text("""
WITH due AS (
    SELECT d.id FROM webhook_deliveries d
    WHERE d.state = 'pending' AND d.next_attempt_at <= :now
      AND (CAST(:supplier_id AS uuid) IS NULL OR d.supplier_id = CAST(:supplier_id AS uuid))
    ORDER BY d.next_attempt_at, d.id LIMIT :batch FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d SET next_attempt_at = :hidden_until, attempts = attempts + 1, updated_at = :now
FROM due, webhook_endpoints e WHERE d.id = due.id AND e.id = d.endpoint_id
RETURNING d.id, d.endpoint_id, d.payload, d.attempts, e.url, e.status, e.secret, e.previous_secret,
    e.previous_until
""")
_SETTLE = text(
    "UPDATE webhook_deliveries SET state = :state, next_attempt_at = :next, last_status = :status,"
    " last_error = :error, updated_at = :now WHERE id = :id AND state = 'pending'"
)
_DISABLE = text(
    "UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = :reason, updated_at = :now,"
    " version = version + 1 WHERE id = :id"
)
_LOG = text(
    "SELECT id, endpoint_id, event_type, message_key, state, attempts, next_attempt_at, last_status, last_error,"
    " created_at FROM webhook_deliveries WHERE supplier_id = :supplier_id"
    " AND (CAST(:before AS uuid) IS NULL OR id < CAST(:before AS uuid)) ORDER BY id DESC LIMIT :limit"
)
_REPLAY = text(
    "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_attempt_at = :now, updated_at = :now"
    " WHERE id = :id AND supplier_id = :supplier_id AND state <> 'pending' RETURNING id"
)


class WebhookEndpointNotFound(NotFound):
    code = "WEBHOOK_ENDPOINT_NOT_FOUND"


class WebhookDeliveryNotFound(NotFound):
    code = "WEBHOOK_DELIVERY_NOT_FOUND"


class UnknownWebhookEvent(Invalid):
    code = "UNKNOWN_WEBHOOK_EVENT"


class TooManyWebhookEndpoints(Invalid):
    code = "TOO_MANY_WEBHOOK_ENDPOINTS"


@dataclass(frozen=True, slots=True)
class EndpointView:
    id: WebhookEndpointId
    url: str
    events: tuple[str, ...]
    status: EndpointStatus
    disabled_reason: str | None
    rotating_until: datetime | None
    created_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class DeliveryView:
    id: DeliveryId
    endpoint_id: WebhookEndpointId
    event_type: str
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime


async def create_endpoint(
    session: AsyncSession,
    actor: Actor,
    *,
    url: str,
    events: Sequence[str],
    box: SecretBox,
    clock: Clock,
) -> tuple[WebhookEndpointId, str]:
    """Returns the id and the secret, which is never shown again. The caller has checked the URL's address.

    Raises ``UnknownWebhookEvent`` and ``TooManyWebhookEndpoints``.
    """
    wanted = _checked_events(events)
    if len(await endpoints(session, actor)) >= MAX_ENDPOINTS:
        raise TooManyWebhookEndpoints(f"at most {MAX_ENDPOINTS} endpoints")
    endpoint_id, secret = WebhookEndpointId.new(), new_secret()
    await session.execute(
        _INSERT_ENDPOINT,
        {
            "id": endpoint_id, "supplier_id": actor.supplier_id, "url": url, "events": wanted,
            "secret": box.seal(secret, owner=str(endpoint_id)), "now": clock.now(),
        },
    )  # fmt: skip
    return endpoint_id, secret


async def endpoints(session: AsyncSession, actor: Actor) -> list[EndpointView]:
    return [
        EndpointView(
            WebhookEndpointId.of(r.id), r.url, tuple(r.events), EndpointStatus(r.status), r.disabled_reason,
            r.previous_until, r.created_at, r.version,
        )
        for r in await session.execute(_ENDPOINTS, {"supplier_id": actor.supplier_id})
    ]  # fmt: skip


async def update_endpoint(
    session: AsyncSession,
    actor: Actor,
    endpoint_id: WebhookEndpointId,
    *,
    clock: Clock,
    url: str | None = None,
    events: Sequence[str] | None = None,
    active: bool | None = None,
) -> None:
    """Raises ``WebhookEndpointNotFound`` and ``UnknownWebhookEvent``."""
    status = None if active is None else ("active" if active else "disabled")
    await _changed(
        session,
        _UPDATE_ENDPOINT,
        {
            "id": endpoint_id, "supplier_id": actor.supplier_id, "url": url, "status": status,
            "events": None if events is None else _checked_events(events), "now": clock.now(),
        },
    )  # fmt: skip


async def rotate_secret(
    session: AsyncSession, actor: Actor, endpoint_id: WebhookEndpointId, *, box: SecretBox, clock: Clock
) -> str:
    """A new secret; for a day messages carry a signature of each. Raises ``WebhookEndpointNotFound``."""
    secret, now = new_secret(), clock.now()
    await _changed(
        session,
        _ROTATE,
        {
            "id": endpoint_id, "supplier_id": actor.supplier_id, "until": now + OLD_SECRET_FOR,
            "secret": box.seal(secret, owner=str(endpoint_id)), "now": now,
        },
    )  # fmt: skip
    return secret


async def delete_endpoint(session: AsyncSession, actor: Actor, endpoint_id: WebhookEndpointId) -> None:
    await _changed(session, _DELETE, {"id": endpoint_id, "supplier_id": actor.supplier_id})


async def deliveries(
    session: AsyncSession, actor: Actor, *, limit: int = 50, before: DeliveryId | None = None
) -> list[DeliveryView]:
    """The log, newest first."""
    where = {"supplier_id": actor.supplier_id, "before": before, "limit": limit}
    return [
        DeliveryView(
            DeliveryId.of(r.id), WebhookEndpointId.of(r.endpoint_id), r.event_type, DeliveryState(r.state),
            r.attempts, r.next_attempt_at, r.last_status, r.last_error, r.created_at,
        )
        for r in await session.execute(_LOG, where)
    ]  # fmt: skip


async def replay(session: AsyncSession, actor: Actor, delivery_id: DeliveryId, *, clock: Clock) -> None:
    """Send one again, under the same message id. Raises ``WebhookDeliveryNotFound``."""
    where = {"id": delivery_id, "supplier_id": actor.supplier_id, "now": clock.now()}
    if (await session.execute(_REPLAY, where)).first() is None:
        raise WebhookDeliveryNotFound("no such delivery, or it is still being sent")


async def queue(
    session: AsyncSession,
    supplier_id: SupplierId,
    order_id: FulfillmentOrderId,
    *,
    event_type: str,
    key: str,
    at: datetime,
    clock: Clock,
) -> int:
    """Queue one fact about an order for every endpoint that listens. ``key`` names the fact. Returns how many."""
    where = {"supplier_id": supplier_id, "type": event_type}
    listening = list((await session.execute(_LISTENING, where)).scalars())
    if not listening:
        return 0
    view = await queries.fulfillment_order(session, SYSTEM, order_id)
    if view.submitted_at is None:
        return 0  # the supplier never heard of it
    payload = {
        "type": event_type,
        "timestamp": at.isoformat(),
        "data": {"fulfillment_order": fulfillment_order_json(view, for_supplier=True)},
    }
    await session.execute(
        _QUEUE,
        {
            "key": key, "type": event_type, "payload": orjson.dumps(payload).decode(), "now": clock.now(),
            "endpoints": listening, "ids": [DeliveryId.new() for _ in listening],
        },
    )  # fmt: skip
    return len(listening)


async def send_due(
    db: Database,
    *,
    clock: Clock,
    endpoints: SupplierEndpoint,
    settings: Settings,
    supplier_id: SupplierId | None = None,
    batch: int = 50,
) -> int:
    """Sweep: send what is due. No transaction is open while the network is waited for. Returns how many."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        claimed = await session.execute(
            _CLAIM,
            {"now": now, "supplier_id": supplier_id, "batch": batch, "hidden_until": now + _CLAIMED_FOR},
        )
        due = claimed.all()
    box = SecretBox(settings.secret_key.get_secret_value())
    for row in due:
        answer = await _send(row, box, endpoints, clock)
        async with db.unit_of_work(SYSTEM) as session:
            await _settle(session, row, answer, clock.now())
    return len(due)


async def _send(row: Any, box: SecretBox, endpoints: SupplierEndpoint, clock: Clock) -> Answer:
    if row.status != EndpointStatus.ACTIVE:
        return Answer(None, "the endpoint is disabled")
    now, owner = clock.now(), str(WebhookEndpointId.of(row.endpoint_id))
    secrets = [box.open(row.secret, owner=owner)]
    if row.previous_secret is not None and row.previous_until > now:
        secrets.append(box.open(row.previous_secret, owner=owner))
    message_id = str(DeliveryId.of(row.id))
    return await endpoints.send(OutgoingWebhook(row.url, message_id, row.payload.encode(), secrets, now))


async def _settle(session: AsyncSession, row: Any, answer: Answer, now: datetime) -> None:
    following: datetime | None = None
    state = DeliveryState.DELIVERED if answer.delivered else DeliveryState.FAILED
    disabled = row.status != EndpointStatus.ACTIVE
    if not answer.delivered and not answer.gone and not disabled and row.attempts <= len(RETRY_AFTER):
        pause = max(RETRY_AFTER[row.attempts - 1], timedelta(seconds=answer.retry_after_s or 0))
        state, following = DeliveryState.PENDING, now + min(pause, RETRY_AFTER[-1])
    await session.execute(
        _SETTLE,
        {
            "id": row.id, "state": state.value, "next": following, "status": answer.status,
            "error": answer.error, "now": now,
        },
    )  # fmt: skip
    if answer.gone or (state is DeliveryState.FAILED and not disabled):
        reason = "410 Gone" if answer.gone else "every attempt failed"
        await session.execute(_DISABLE, {"id": row.endpoint_id, "reason": reason, "now": now})


async def _changed(session: AsyncSession, statement: Any, where: dict[str, Any]) -> None:
    if (await session.execute(statement, where)).first() is None:
        raise WebhookEndpointNotFound("no such endpoint")


def _checked_events(events: Sequence[str]) -> list[str]:
    for each in events:
        if each != "*" and each not in EVENT_TYPES:
            raise UnknownWebhookEvent(f"{each[:64]!r} is not one of {', '.join(EVENT_TYPES)}", field="events")
    return sorted(set(events)) or ["*"]
