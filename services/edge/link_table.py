"""Every link in memory, kept fresh from the database, and on disk for a start while the database is away.

What a redirect needs of a link never changes, so that a stale table can only lack a link made a moment ago;
that one is looked up by its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import orjson

from core.ids import AgreementId, BrandId, LinkId
from marketplace.promotion.link_target import LINK_BY_CODE, LINKS_SINCE, LinkTarget
from marketplace.promotion.links.deep_link_mark import TOUCH
from marketplace.promotion.touches.touch_token import PARAMETER
from services.edge.click_log import AWAY, Connect
from services.edge.metrics import Metrics

CODE = re.compile(r"[2-9a-zA-Z]{6,16}")
_REFRESH_S = 0.5
_OVERLAP = 500
"""A revision is taken before its transaction commits, so the last ones are always read again."""
_UNKNOWN_FOR_S = 1.0
_MOST_UNKNOWN = 10_000
_MOST_ASKING = 64


class Target(NamedTuple):
    """A link with its destinations cut open where the token goes; ``in_app_before`` is empty without a second."""

    link: LinkTarget
    before: str
    after: str
    in_app_before: str = ""
    in_app_after: str = ""


class LinkUnknown(Exception):
    """No link has this code."""


class LinkUnreachable(Exception):
    """The database is away and memory does not have it: nobody can say."""


class LinkTable:
    def __init__(self, connect: Connect, snapshot: Path, metrics: Metrics) -> None:
        self._connect, self._snapshot, self._metrics = connect, snapshot, metrics
        self._by_code: dict[str, Target] = {}
        self._unknown: dict[str, float] = {}
        self._connection: asyncpg.Connection[Any] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._asking = 0
        self._seen = 0
        self._task: asyncio.Task[None] | None = None
        self.loaded = False

    async def start(self) -> None:
        await asyncio.to_thread(self._read_snapshot)
        with contextlib.suppress(*AWAY):
            await self._refresh()
        self._task = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._drop()

    def get(self, code: str) -> Target | None:
        return self._by_code.get(code)

    async def find(self, code: str) -> Target:
        """From memory, else from the database. Raises ``LinkUnknown`` and ``LinkUnreachable``."""
        known = self._by_code.get(code)
        if known is not None:
            return known
        if not CODE.fullmatch(code) or self._unknown.get(code, 0.0) > time.monotonic():
            raise LinkUnknown
        if self._asking >= _MOST_ASKING:
            raise LinkUnreachable  # a flood of guesses must not queue up before real visitors
        self._asking += 1
        try:
            rows = await self._fetch(LINK_BY_CODE, code)
        except AWAY as error:
            raise LinkUnreachable from error
        finally:
            self._asking -= 1
        if not rows:
            if len(self._unknown) >= _MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown[code] = time.monotonic() + _UNKNOWN_FOR_S
            raise LinkUnknown
        return self._keep(LinkTarget.of(tuple(rows[0])))

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            with contextlib.suppress(*AWAY):
                await self._refresh()

    async def _refresh(self) -> None:
        rows = await self._fetch(LINKS_SINCE, max(0, self._seen - _OVERLAP))
        links = [LinkTarget.of(tuple(row)) for row in rows]
        new = [link for link in links if link.code not in self._by_code]
        for link in new:
            self._keep(link)
        self._seen = max([self._seen, *(link.revision for link in links)])
        self.loaded = True
        if new:
            await asyncio.to_thread(self._append_snapshot, new)

    async def _fetch(self, query: str, *args: Any) -> list[Any]:
        async with self._one_at_a_time, asyncio.timeout(5):
            if self._connection is None:
                self._connection = await self._connect()
            try:
                return await self._connection.fetch(query, *args)
            except BaseException:
                self._drop()
                raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _keep(self, link: LinkTarget) -> Target:
        parts = urlsplit(link.destination)
        query = f"{parts.query}&{PARAMETER}=" if parts.query else f"{PARAMETER}="
        before = urlunsplit((parts.scheme, parts.netloc, parts.path or "/", query, ""))
        in_app_before, _, in_app_after = (link.in_app_destination or "").partition(TOUCH)
        after = f"#{parts.fragment}" if parts.fragment else ""
        target = Target(link, before, after, in_app_before, in_app_after)
        self._by_code[link.code] = target
        self._metrics.links.set(len(self._by_code))
        return target

    def _read_snapshot(self) -> None:
        if not self._snapshot.exists():
            return
        for line in self._snapshot.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError, TypeError):
                row = orjson.loads(line)
                agreement = AgreementId(row[2]) if row[2] else None
                self._keep(
                    LinkTarget(LinkId(row[0]), row[1], agreement, BrandId(row[3]), BrandId(row[4]), *row[5:])
                )
        self.loaded = self.loaded or bool(self._by_code)

    def _append_snapshot(self, links: list[LinkTarget]) -> None:
        lines = [
            orjson.dumps(
                [
                    link.id.hex, link.code, link.agreement_id.hex if link.agreement_id else None,
                    link.advertiser_id.hex, link.promoter_brand_id.hex, link.destination, link.revision,
                    link.in_app_destination,
                ]
            )
            for link in links
        ]  # fmt: skip
        self._snapshot.parent.mkdir(parents=True, exist_ok=True)
        with self._snapshot.open("ab") as file:
            file.write(b"\n".join(lines) + b"\n")
