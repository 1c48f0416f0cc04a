"""Relay connections over keyset pages. ``totalCount`` is a field of its own: only who asks pays for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, TypeVar

import strawberry

from core.pagination import MAX_PAGE, Page

T = TypeVar("T")
Row = TypeVar("Row")

First = Annotated[int, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}.")]
After = Annotated[str | None, strawberry.argument(description="A cursor of this list: what comes after it.")]


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Edge(Generic[T]):
    node: T
    cursor: str


@strawberry.type
class Connection(Generic[T]):
    edges: list[Edge[T]]
    page_info: PageInfo
    count: strawberry.Private[Callable[[], Awaitable[int]] | None] = None

    @strawberry.field(description="How many there are in all; counted only when asked for.")
    async def total_count(self) -> int | None:
        return await self.count() if self.count else None

    @strawberry.field(description="The nodes without their cursors.")
    def nodes(self) -> list[T]:
        return [edge.node for edge in self.edges]


def connection(
    page: Page[Row], node: Callable[[Row], T], count: Callable[[], Awaitable[int]] | None = None
) -> Connection[T]:
    """A page of rows as a connection of nodes."""
    edges = [
        Edge(node=node(row), cursor=cursor) for row, cursor in zip(page.items, page.cursors, strict=True)
    ]
    end = page.cursors[-1] if page.cursors else None
    return Connection(
        edges=edges, page_info=PageInfo(has_next_page=page.has_next, end_cursor=end), count=count
    )
