"""What every endpoint needs: who calls, may it, has this request been answered before, which version it saw."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.errors import Invalid, Unauthenticated
from infra.config import Settings
from infra.db.idempotency import once
from infra.db.session import Database
from infra.suppliers.endpoint import SupplierEndpoint
from infra.suppliers.secrets import SecretBox
from marketplace.brands.authentication import authenticate

READ, WRITE = "fulfillment:read", "fulfillment:write"


class BadIfMatch(Invalid):
    code = "BAD_IF_MATCH"
    status = 400


@dataclass(frozen=True, slots=True)
class Services:
    db: Database
    clock: Clock
    settings: Settings
    endpoints: SupplierEndpoint

    @property
    def box(self) -> SecretBox:
        return SecretBox(self.settings.secret_key.get_secret_value())


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def _caller(request: Request, authorization: Annotated[str, Header()] = "") -> Actor:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send a supplier's token: Authorization: Bearer …")
    services = services_of(request)
    async with services.db.unit_of_work(SYSTEM) as session:
        actor = await authenticate(session, token.strip(), clock=services.clock)
    actor.supplier_id  # noqa: B018  (raises WrongTenant for tokens of brands and operators)
    actor.require(READ if request.method == "GET" else WRITE)
    return actor


Caller = Annotated[Actor, Depends(_caller)]


async def _key(idempotency_key: Annotated[str, Header()] = "") -> str:
    """Missing or too long: ``once`` refuses it with a code of its own."""
    return idempotency_key


Key = Annotated[str, Depends(_key)]


async def _if_match(if_match: Annotated[str | None, Header()] = None) -> int | None:
    """The version in ``If-Match: "7"``. Raises ``BadIfMatch``."""
    if if_match is None or if_match == "*":
        return None
    text = if_match.removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadIfMatch('If-Match is the version from the ETag, as in "7"', field="If-Match")
    return int(text)


IfMatch = Annotated[int | None, Depends(_if_match)]
Run = Callable[[AsyncSession], Awaitable[Any]]


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    return Response(
        orjson.dumps(body), status, media_type="application/json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )  # fmt: skip


async def write_once(
    request: Request,
    actor: Actor,
    key: str,
    body: BaseModel | None,
    run: Run,
    *,
    status: int = 200,
    shown: Callable[[Any], Any] | None = None,
    as_actor: Actor | None = None,
) -> Response:
    """Run a write in the caller's own transaction, once per Idempotency-Key; a repeat gets the same answer.

    ``shown`` makes the answer out of what is stored, where that must not be what the caller sees. ``as_actor``:
    whose transaction it is, where the work touches rows of others; ``run`` checks the caller itself.
    """
    services = services_of(request)

    async def answered(session: AsyncSession) -> dict[str, Any]:
        return {"body": await run(session)}

    async with services.db.unit_of_work(as_actor or actor) as session:
        stored, replayed = await once(
            session,
            actor,
            operation=f"{request.method} {request.url.path}",
            key=key,
            body=body.model_dump(mode="json") if body else None,
            now=services.clock.now(),
            run=lambda: answered(session),
        )
    result = stored["body"] if shown is None else shown(stored["body"])
    headers = {"idempotency_replayed": "true"} if replayed else {}
    if isinstance(result, dict) and isinstance(result.get("version"), int):
        headers["etag"] = f'"{result["version"]}"'
    return answer(result, status, **headers)
