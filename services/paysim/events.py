"""Events and the durable queue of their deliveries."""

from __future__ import annotations

import random
import time
from fnmatch import fnmatchcase

from services.paysim.faults import fire
from services.paysim.transaction import Tx, new_id, public
from services.paysim.wire import API_VERSION, JsonDict

FORGET_AT_ONCE = 5_000


def emit(
    tx: Tx, type: str, subject: JsonDict, *, before: JsonDict | None = None, account: str | None = None
) -> JsonDict:
    """Records the event with the object as it is now and queues its deliveries.

    ``before`` holds the previous values of the fields that changed. ``account`` owns the event when
    it is not the caller.
    """
    owner = account or tx.account
    data: JsonDict = {"object": public(subject)}
    if before is not None:
        data["previous_attributes"] = before
    endpoints = _endpoints(tx, type, connected=owner != tx.platform)
    event: JsonDict = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": tx.now,
        "data": data,
        "livemode": False,
        "pending_webhooks": len(endpoints),
        "request": {"id": tx.caller.request_id, "idempotency_key": tx.caller.idempotency_key},
        "type": type,
    }
    if owner != tx.platform:
        event["account"] = owner
    tx.insert(event, account=owner)
    for url, secret in endpoints:
        queue(tx, event, url, secret)
    return event


def forget(tx: Tx, *, before: int) -> None:
    """Drops events older than ``before`` whose deliveries are all over, at most ``FORGET_AT_ONCE``."""
    old = tx.db.execute(
        "SELECT id FROM object WHERE kind = 'event' AND created < ? AND NOT EXISTS "
        "(SELECT 1 FROM delivery WHERE event = object.id AND state IN ('due', 'held')) LIMIT ?",
        (before, FORGET_AT_ONCE),
    ).fetchall()
    tx.db.executemany("DELETE FROM delivery WHERE event = ?", old)
    tx.db.executemany("DELETE FROM object WHERE id = ?", old)


def _endpoints(tx: Tx, type: str, *, connected: bool) -> list[tuple[str, str]]:
    found = []
    if tx.config.webhook_url:
        found.append((tx.config.webhook_url, tx.config.webhook_secret))
    for endpoint in tx.all("webhook_endpoint"):
        wanted = any(fnmatchcase(type, pattern) for pattern in endpoint["enabled_events"])
        if wanted and endpoint["status"] == "enabled" and endpoint["_connect"] == connected:
            found.append((endpoint["url"], endpoint["_secret"]))
    return found


def queue(tx: Tx, event: JsonDict, url: str, secret: str) -> None:
    """One delivery, or what the switches make of it."""
    type, due_at, state, copies = event["type"], time.time(), "due", 1
    if tx.faults():
        if fire(tx, "webhook_drop", event=type) is not None:
            state = "dropped"
        elif fire(tx, "webhook_hold", event=type) is not None:
            state = "held"
        if (delay := fire(tx, "webhook_delay", event=type)) is not None:
            due_at += float(delay.get("seconds", 5))
        if (shuffle := fire(tx, "webhook_shuffle", event=type)) is not None:
            due_at += random.uniform(0, float(shuffle.get("seconds", 2)))
        if (again := fire(tx, "webhook_duplicate", event=type)) is not None:
            copies = max(1, int(again.get("copies", 2)))
    rows = [(event["id"], url, secret, state, due_at)] * copies
    tx.db.executemany("INSERT INTO delivery (event, url, secret, state, due_at) VALUES (?,?,?,?,?)", rows)
    tx.webhooks_queued()
