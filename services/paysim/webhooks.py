"""Deliveries: signed, at least once, from the durable queue, with retries over three days of real time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
import time
from dataclasses import dataclass

import orjson

from core.clock import Clock
from services.paysim.engine import Engine
from services.paysim.posting import DeliveryFailed, Poster
from services.paysim.reading import with_pending
from services.paysim.sharing.notices import body_of
from services.paysim.sharing.wire import signature as sharing_signature
from services.paysim.transaction import Tx, public

log = logging.getLogger("paysim.webhooks")

AT_ONCE = 16
FETCH = 64
IDLE_S = 30.0
ANSWER_TIMEOUT_S = 20.0
MAX_DELAY_S = 3_600.0
GIVE_UP_AFTER_S = 3 * 86_400


@dataclass(frozen=True, slots=True)
class Delivery:
    id: int
    url: str
    secret: str
    attempts: int
    body: bytes
    sharing: bool = False
    """A notice of the sharing rail: signed in its own way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    delivery: Delivery
    delivered: bool
    answer: str


def signature(body: bytes, secret: str, at: int) -> str:
    """``Stripe-Signature`` of a body sent at ``at`` (unix seconds of paysim's clock)."""
    mac = hmac.new(secret.encode(), str(at).encode() + b"." + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Dispatcher:
    """Takes due deliveries and posts them, several at once. A crash between the receiver's answer and
    our note of it delivers again, never not at all."""

    def __init__(self, engine: Engine, clock: Clock, *, retry_base_s: float) -> None:
        self._engine, self._clock, self._retry_base_s = engine, clock, retry_base_s
        self._wake = asyncio.Event()
        self._flying: set[int] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: list[Outcome] = []
        self._noting = False

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        poster = Poster(timeout_s=ANSWER_TIMEOUT_S)
        try:
            while True:
                self._wake.clear()
                wait_s = await self._dispatch(poster)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait_s)
        finally:
            for task in self._tasks:
                task.cancel()
            poster.close()

    async def _dispatch(self, poster: Poster) -> float:
        """Starts what is due; returns the seconds until something else may be."""
        flying = frozenset(self._flying)
        due, next_at = await self._engine.run(lambda tx: take_due(tx, flying))
        for delivery in due:
            await self._room.acquire()
            self._flying.add(delivery.id)
            task = asyncio.create_task(self._deliver(poster, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if len(due) == FETCH:
            return 0.0
        return IDLE_S if next_at is None else max(0.0, min(IDLE_S, next_at - time.time()))

    async def _deliver(self, poster: Poster, delivery: Delivery) -> None:
        try:
            outcome = await self._post(poster, delivery)
        finally:
            self._room.release()
        self._finished.append(outcome)
        if not self._noting:
            await self._note_finished()

    async def _post(self, poster: Poster, delivery: Delivery) -> Outcome:
        at = int(self._clock.now().timestamp())
        headers = {"content-type": "application/json; charset=utf-8", **signed_headers(delivery, at)}
        try:
            status = await poster.post(delivery.url, delivery.body, headers)
        except DeliveryFailed as error:
            return Outcome(delivery, False, str(error))
        return Outcome(delivery, 200 <= status < 300, str(status))

    async def _note_finished(self) -> None:
        """Writes all outcomes that gathered while the last note was being written."""
        self._noting = True
        try:
            while self._finished:
                outcomes, self._finished = self._finished, []
                await self._engine.run(lambda tx, noted=outcomes: note(tx, noted, self._retry_base_s))  # type: ignore[misc]
                self._flying.difference_update(outcome.delivery.id for outcome in outcomes)
                if any(not outcome.delivered for outcome in outcomes):
                    self.wake()
        finally:
            self._noting = False


def signed_headers(delivery: Delivery, at: int) -> dict[str, str]:
    if not delivery.sharing:
        mac = signature(delivery.body, delivery.secret, at)
        return {"user-agent": "Stripe/1.0 (paysim)", "stripe-signature": mac}
    nonce = secrets.token_hex(8)
    mac = sharing_signature(delivery.secret, str(at), nonce, delivery.body.decode())
    return {"sharing-timestamp": str(at), "sharing-nonce": nonce, "sharing-signature": mac}


def take_due(tx: Tx, flying: frozenset[int]) -> tuple[list[Delivery], float | None]:
    now = time.time()
    rows = tx.db.execute(
        "SELECT id, event, url, secret, attempts FROM delivery WHERE state = 'due' AND due_at <= ? "
        "ORDER BY due_at, id LIMIT ?",
        (now, FETCH + len(flying)),
    ).fetchall()
    due: list[Delivery] = []
    for id, event_id, url, secret, attempts in rows:
        if id in flying or len(due) == FETCH:
            continue
        event = tx.find(event_id)
        if event is not None:
            sharing = event["object"] == "share_notice"
            body = body_of(event) if sharing else public(with_pending(tx, event))
            due.append(Delivery(id, url, secret, attempts, orjson.dumps(body), sharing))
    later = tx.db.execute(
        "SELECT min(due_at) FROM delivery WHERE state = 'due' AND due_at > ?", (now,)
    ).fetchone()
    return due, later[0]


def note(tx: Tx, outcomes: list[Outcome], retry_base_s: float) -> None:
    now = time.time()
    for outcome in outcomes:
        delivery = outcome.delivery
        delay_s = min(MAX_DELAY_S, retry_base_s * 2**delivery.attempts)
        if outcome.delivered:
            state = "delivered"
        elif delivery.attempts * MAX_DELAY_S > GIVE_UP_AFTER_S:
            state = "abandoned"
        else:
            state = "due"
        tx.db.execute(
            "UPDATE delivery SET state = ?, attempts = attempts + 1, due_at = ?, last_answer = ? WHERE id = "
            "?",
            (state, now + (delay_s if state == "due" else 0), outcome.answer, delivery.id),
        )
        if not outcome.delivered:
            log.info("delivery %s answered %s, %s", delivery.id, outcome.answer, state)


def release(tx: Tx, *, event: str | None = None) -> int:
    """Held deliveries go out: all, or those of one event. How many."""
    where, values = ("AND event = ?", (event,)) if event else ("", ())
    released = tx.db.execute(
        f"UPDATE delivery SET state = 'due', due_at = ? WHERE state = 'held' {where}", (time.time(), *values)
    ).rowcount
    tx.webhooks_queued()
    return released


def redeliver(tx: Tx, event: str) -> int:
    """Every delivery of an event once more, whatever became of it."""
    queued = tx.db.execute(
        "INSERT INTO delivery (event, url, secret, state, due_at) "
        "SELECT DISTINCT event, url, secret, 'due', ? FROM delivery WHERE event = ?",
        (time.time(), event),
    ).rowcount
    tx.webhooks_queued()
    return queued
