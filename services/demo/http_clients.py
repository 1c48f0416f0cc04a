"""How the demo speaks to the platform: over HTTP, as its users do, and stubbornly.

A call that meets a dead or dying process is repeated until ``patience_s`` is over, with the same idempotency
key: that is what makes the repetition harmless, and what the demo shows when processes are killed under it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpx

from marketplace.promotion.links.qr import scan_url

T = TypeVar("T")
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0


class Refused(Exception):
    """The platform said no, in its own words: ``codes`` are the stable ones of the answer."""

    def __init__(self, operation: str, codes: list[str], detail: str) -> None:
        super().__init__(f"{operation}: {', '.join(codes)}: {detail}")
        self.operation, self.codes = operation, codes


class GaveUp(Exception):
    """No usable answer within the patience."""


@dataclass(slots=True)
class Patience:
    """Shared by all clients of a run; ``troubles`` counts what had to be repeated, by kind."""

    patience_s: float = 30.0
    troubles: Counter[str] = field(default_factory=Counter)


class _Retry(Exception):
    pass


async def _stubbornly(
    patience: Patience, operation: str, attempt: Callable[[], Awaitable[Any]], why: str = ""
) -> Any:
    deadline, pause = time.monotonic() + patience.patience_s, _FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except (httpx.TransportError, _Retry) as error:
            why = f"{type(error).__name__} {error}".strip()
            patience.troubles[f"{operation}: {why[:80]}"] += 1
        if time.monotonic() > deadline:
            raise GaveUp(f"{operation}: {why}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)


@dataclass(slots=True)
class GraphQL:
    """One of the two GraphQL APIs, as one caller."""

    http: httpx.AsyncClient
    url: str
    headers: Mapping[str, str]
    patience: Patience

    async def __call__(self, document: str, **variables: Any) -> dict[str, Any]:
        """The ``data`` of the answer. Raises ``Refused`` for errors of the caller, ``GaveUp``."""
        operation = document.split("(")[0].split("{")[0].strip() or "query"
        body = {"query": document, "variables": variables}

        async def attempt() -> dict[str, Any]:
            answer = await self.http.post(self.url, json=body, headers=dict(self.headers))
            if answer.status_code >= 500:
                raise _Retry(str(answer.status_code))
            content = answer.json()
            errors = content.get("errors") or []
            codes = [str((error.get("extensions") or {}).get("code", "")) for error in errors]
            if "INTERNAL" in codes:
                raise _Retry("INTERNAL")
            if errors:
                raise Refused(operation, codes, "; ".join(error["message"] for error in errors)[:500])
            data: dict[str, Any] = content["data"]
            return data

        result: dict[str, Any] = await _stubbornly(self.patience, operation, attempt)
        return result

    async def mutate(self, document: str, **variables: Any) -> dict[str, Any]:
        """The payload of the one mutation in ``document``. Raises ``Refused`` with its ``userErrors``."""
        data = await self(document, **variables)
        ((name, payload),) = data.items()
        if problems := payload.get("userErrors"):
            detail = "; ".join(f"{problem['message']} {problem.get('field') or ''}" for problem in problems)
            raise Refused(name, [problem["code"] for problem in problems], detail)
        result: dict[str, Any] = payload
        return result


@dataclass(slots=True)
class Rest:
    """The fulfilment API as one supplier."""

    http: httpx.AsyncClient
    url: str
    token: str
    patience: Patience

    async def __call__(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """The answer's JSON. Raises ``Refused`` for a problem the caller must mend, ``GaveUp``."""
        headers = {"authorization": f"Bearer {self.token}"}
        if key is not None:
            headers["idempotency-key"] = key
        operation = f"{verb} {path.split('/')[1] if '/' in path else path}"

        async def attempt() -> Any:
            answer = await self.http.request(
                verb, self.url + path, json=body, headers=headers, params=dict(params or {})
            )
            if answer.status_code >= 500:
                raise _Retry(str(answer.status_code))
            if answer.status_code >= 400:
                problem = answer.json()
                raise Refused(operation, [str(problem.get("code", answer.status_code))], answer.text[:500])
            return answer.json() if answer.content else None

        return await _stubbornly(self.patience, operation, attempt)


@dataclass(slots=True)
class Edge:
    """A browser that follows a tracked link."""

    http: httpx.AsyncClient
    url: str
    patience: Patience

    async def click(self, code: str, *, address: str, agent: str, scan: bool = False) -> str:
        """The signed touch token the redirect carries in ``lyt``. ``scan``: the address of the printed code."""
        headers = {"user-agent": agent, "x-forwarded-for": address}

        async def attempt() -> str:
            url = scan_url(self.url, code) if scan else f"{self.url}/l/{code}"
            answer = await self.http.get(url, headers=headers, follow_redirects=False)
            if answer.status_code >= 500:
                raise _Retry(str(answer.status_code))
            if answer.status_code not in (302, 303, 307):
                raise Refused("click", [str(answer.status_code)], answer.text[:200])
            token: str = httpx.URL(answer.headers["location"]).params["lyt"]
            return token

        result: str = await _stubbornly(self.patience, "click", attempt)
        return result


@dataclass(slots=True)
class Browser:
    """Confirms a payment intent with the publishable key and its client secret, as a pay page does."""

    http: httpx.AsyncClient
    url: str
    patience: Patience

    async def confirm(
        self, intent_id: str, *, client_secret: str, publishable_key: str, card: str, key: str
    ) -> bool:
        """Whether the bank agreed."""
        form = {"client_secret": client_secret, "payment_method": card}
        headers = {"authorization": f"Bearer {publishable_key}", "idempotency-key": key}

        async def attempt() -> bool:
            answer = await self.http.post(
                f"{self.url}/v1/payment_intents/{intent_id}/confirm", data=form, headers=headers
            )
            if answer.status_code >= 500 or answer.status_code in (409, 429):
                raise _Retry(str(answer.status_code))
            content = answer.json()
            if answer.status_code == 402:
                return False
            if answer.status_code >= 400:
                error = content["error"]
                raise Refused("confirm", [str(error.get("code") or error["type"])], error["message"])
            return bool(content["status"] == "succeeded")

        result: bool = await _stubbornly(self.patience, "confirm", attempt)
        return result


def client() -> httpx.AsyncClient:
    """One pool for many people: it keeps nobody's cookies."""
    jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=16)
    return httpx.AsyncClient(cookies=jar, limits=limits, timeout=30.0, trust_env=False)


async def each(work: list[T], do: Callable[[T], Awaitable[None]], *, at_once: int = 6) -> None:
    """Do every piece of work, several at once. The first failure ends all and is raised."""
    queue = iter(work)

    async def worker() -> None:
        for item in queue:
            await do(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(work))):
            group.create_task(worker())
