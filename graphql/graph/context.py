"""What a resolver may use, one per request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader
from strawberry.fastapi import BaseContext
from strawberry.types import Info as StrawberryInfo

from core.actor import Actor, ActorKind
from core.clock import Clock
from core.errors import Unauthenticated
from core.ids import TenantId
from infra.db.session import Database
from infra.gateways import Gateways
from marketplace.brands.queries import StorefrontFacts

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
BatchLoad = Callable[["Context", Sequence[Any]], Awaitable[Sequence[Any]]]


class Context(BaseContext):
    """``actor`` is who asks (``None`` before sign-up); ``storefront`` is set behind a publishable key."""

    def __init__(
        self, gateways: Gateways, *, actor: Actor | None, storefront: StorefrontFacts | None = None
    ) -> None:
        super().__init__()
        self.gateways = gateways
        self.maybe_actor = actor
        self.storefront = storefront
        self._loaders: dict[Any, DataLoader[Any, Any]] = {}
        self._reading: AsyncSession | None = None
        self._turn = asyncio.Lock()
        self._exit = AsyncExitStack()

    @property
    def actor(self) -> Actor:
        if self.maybe_actor is None:
            raise Unauthenticated("this needs a token: Authorization: Bearer …")
        return self.maybe_actor

    @property
    def tenant(self) -> TenantId:
        """The caller's tenant under its own kind of id. Raises ``WrongTenant`` for the platform."""
        actor = self.actor
        return actor.supplier_id if actor.kind is ActorKind.SUPPLIER else actor.brand_id

    @property
    def db(self) -> Database:
        return self.gateways.db

    @property
    def clock(self) -> Clock:
        return self.gateways.clock

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """The request's one reading session, a resolver or loader batch at a time.

        Sibling fields run concurrently and an ``AsyncSession`` does not, so they take turns; sharing it saves
        every batch after the first a connection and the statement that says who asks.
        """
        async with self._turn:
            if self._reading is None:
                self._reading = await self._exit.enter_async_context(self.db.reading(self.actor))
            yield self._reading

    def loader(self, load: BatchLoad, *, variant: Hashable = None) -> DataLoader[Any, Any]:
        """The request's DataLoader over ``load(context, keys)``; ``variant`` tells apart its parameters."""
        known = self._loaders.get((load, variant))
        if known is None:

            async def batch(keys: list[Any]) -> Sequence[Any]:
                return await load(self, keys)

            known = self._loaders[(load, variant)] = DataLoader(load_fn=batch)
        return known

    async def close(self) -> None:
        await self._exit.aclose()


Info = StrawberryInfo[Context, None]
