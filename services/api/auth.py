"""Who asks: a secret token for the brand API, a publishable key for the storefront API."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from core.actor import SYSTEM, Actor
from core.errors import Unauthenticated
from infra.gateways import Gateways
from marketplace.brands import service
from marketplace.brands.queries import StorefrontFacts

STOREFRONT_KEY = "x-storefront-key"
_REMEMBERED_S = 5.0
"""How long a revoked or expired token may still work on one process; looking each one up costs a statement."""
_REMEMBERED = 10_000
_SECRET, _PUBLIC = b"secret:", b"public:"
"""What opens one surface is nothing on the other, however lately it was used there."""


class MissingKey(Unauthenticated):
    code = "MISSING_KEY"


@dataclass(frozen=True, slots=True)
class _Known:
    actor: Actor
    storefront: StorefrontFacts | None
    until: float


class Authenticator:
    """Tokens are looked up by hash and remembered for a few seconds of ``now``, by hash too."""

    def __init__(self, gateways: Gateways, *, now: Callable[[], float] = time.monotonic) -> None:
        self._gateways, self._now = gateways, now
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def brand(self, connection: HTTPConnection) -> Actor | None:
        """``None`` without a token (sign-up needs none). Raises ``Unauthenticated`` for a bad one."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Authorization must be: Bearer <token>")
        known = self._remembered(_SECRET, token)
        if known is None:
            async with self._gateways.db.unit_of_work(SYSTEM) as session:
                actor = await service.authenticate(session, token, clock=self._gateways.clock)
            known = self._remember(_SECRET, token, actor, None)
        return known.actor

    async def reader(self, connection: HTTPConnection, scope: str) -> Actor:
        """For files behind a token. Raises ``Unauthenticated`` without one, ``MissingScope`` with too little."""
        actor = await self.brand(connection)
        if actor is None:
            raise Unauthenticated("this needs a token: Authorization: Bearer …")
        actor.require(scope)
        return actor

    async def storefront(self, connection: HTTPConnection) -> tuple[Actor, StorefrontFacts]:
        """Raises ``Unauthenticated`` without a valid publishable key."""
        key = connection.headers.get(STOREFRONT_KEY, "")
        if not key:
            raise MissingKey(f"the storefront API needs the header {STOREFRONT_KEY}")
        known = self._remembered(_PUBLIC, key)
        if known is None:
            async with self._gateways.db.reading(SYSTEM) as session:
                actor, facts = await service.authenticate_storefront(session, key)
            known = self._remember(_PUBLIC, key, actor, facts)
        assert known.storefront is not None
        return known.actor, known.storefront

    def _remembered(self, surface: bytes, secret: str) -> _Known | None:
        known = self._known.get(_digest(surface, secret))
        return known if known is not None and known.until > self._now() else None

    def _remember(
        self, surface: bytes, secret: str, actor: Actor, storefront: StorefrontFacts | None
    ) -> _Known:
        digest = _digest(surface, secret)
        known = _Known(actor, storefront, self._now() + _REMEMBERED_S)
        self._known[digest] = known
        self._known.move_to_end(digest)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return known


def _digest(surface: bytes, secret: str) -> bytes:
    return hashlib.sha256(surface + secret.encode()).digest()
