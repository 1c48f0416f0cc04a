"""The port to a supplier's own server: one signed message, one answer, never an exception for the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from core.errors import Invalid

RETRY_AFTER: tuple[timedelta, ...] = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""Pauses after the first, second, … failed attempt (Standard Webhooks); after the last one we give up."""


class WebhookUrlRefused(Invalid):
    """Not a public https address."""

    code = "WEBHOOK_URL_REFUSED"


@dataclass(frozen=True, slots=True)
class OutgoingWebhook:
    """``secrets`` in the order they sign, the newest first. ``at`` is stamped and signed."""

    url: str
    message_id: str
    body: bytes
    secrets: Sequence[str]
    at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is ``None`` when nobody answered; ``error`` says why, in a few words."""

    status: int | None
    error: str | None = None
    retry_after_s: int | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """410: the receiver wants nothing more, ever."""
        return self.status == 410


class SupplierEndpoint(Protocol):
    async def check(self, url: str) -> None:
        """Raises ``WebhookUrlRefused`` for an address we would not deliver to."""
        ...

    async def send(self, webhook: OutgoingWebhook) -> Answer: ...
