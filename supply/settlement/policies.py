"""What the platform decided about money that is owed to it: for everybody, or for one merchant.

A merchant's own policy goes before the platform's; without either the defaults here hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Self

import orjson
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Column, Field

from core.actor import Actor
from core.clock import Clock
from core.errors import Invalid
from infra.db.base import Row, utc_field

PLATFORM = "platform"
_SET = text(
    "INSERT INTO settlement_policies (name, scope, body, set_by, set_at)"
    " VALUES (:name, :scope, CAST(:body AS jsonb), :set_by, :now) ON CONFLICT (name, scope) DO UPDATE"
    " SET body = excluded.body, set_by = excluded.set_by, set_at = excluded.set_at"
)
_FIND = text(
    "SELECT body FROM settlement_policies WHERE name = :name AND scope IN (:scope, 'platform')"
    " ORDER BY scope = 'platform' LIMIT 1"
)


class SettlementPolicy(Row, table=True):
    """``scope``: ``platform``, or the outer id of a merchant brand."""

    __tablename__ = "settlement_policies"

    name: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    set_by: str
    set_at: datetime = utc_field()


class PolicyInvalid(Invalid):
    code = "POLICY_INVALID"


@dataclass(frozen=True, slots=True)
class _Policy:
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if any(isinstance(value, int) and value < 0 for value in self._values().values()):
            raise PolicyInvalid(f"{self.name}: no figure may be below zero")

    def _values(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in body.items() if name in known})


@dataclass(frozen=True, slots=True)
class Absorption(_Policy):
    """R9e: the platform bears what parties owe after a lost dispute, when one order's is at most ``up_to_minor``
    (minor units of its currency). 0: it bears nothing by itself."""

    name: ClassVar[str] = "absorption"
    up_to_minor: int = 0


@dataclass(frozen=True, slots=True)
class Recovery(_Policy):
    """R7a: what a party owes is taken back from its transfers when the debt is ``after_days`` old and at least
    ``minimum_minor``; until then its earnings pay it off (R7b)."""

    name: ClassVar[str] = "recovery"
    by_reversal: bool = True
    after_days: int = 3
    minimum_minor: int = 1


async def set_policy(
    session: AsyncSession, actor: Actor, policy: Absorption | Recovery, *, clock: Clock, scope: str = PLATFORM
) -> None:
    """Operators only (``platform:admin``). Holds for what is decided from now on."""
    actor.require("platform:admin")
    values = {
        "name": policy.name, "scope": scope, "body": orjson.dumps(policy._values()).decode(),
        "set_by": str(actor), "now": clock.now(),
    }  # fmt: skip
    await session.execute(_SET, values)


async def absorption(session: AsyncSession, merchant_id: str) -> Absorption:
    return Absorption.of(await _body(session, Absorption.name, merchant_id))


async def recovery(session: AsyncSession, party: str = PLATFORM) -> Recovery:
    return Recovery.of(await _body(session, Recovery.name, party))


async def _body(session: AsyncSession, name: str, scope: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = (
        await session.execute(_FIND, {"name": name, "scope": scope})
    ).scalar_one_or_none()
    return found or {}
