"""R9a to R9d in the ledger, one order at a time: withdrawn, frozen, lost, won, won back.

Every journal is keyed by the dispute and the order, so that a repeated notice moves nothing. Call ``hold`` for
all orders of a dispute first: what the steps lock afterwards is locked then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, OrderId, TenantId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, Leg, credit, debit, merged
from supply.settlement import withheld
from supply.settlement.disputes import freezing
from supply.settlement.disputes.freezing import Frozen
from supply.settlement.disputes.models import DisputeShare
from supply.settlement.goodwill_owed import change_goodwill
from supply.settlement.ids import SplitLineId
from supply.settlement.kinds import Kind
from supply.settlement.order_book import OrderBook, save
from supply.settlement.parties import platform_account, provider_account
from supply.settlement.taken_commission import named_for
from supply.settlement.taking import Share, accounts_touched, take
from supply.settlement.undoing import (
    legs_body,
    legs_of,
    moved,
    payees_body,
    payees_of,
    positions,
    put_back,
    taken_body,
    undo,
)

_PARTS = text("SELECT * FROM dispute_orders WHERE dispute_id = :id ORDER BY order_id")
_OPEN_PARTS = text(
    "SELECT o.* FROM dispute_orders o JOIN disputes d ON d.id = o.dispute_id AND d.stage = 'open'"
    " WHERE o.order_id = :order_id ORDER BY o.dispute_id"
)
_SHARES_TABLE = table_of(DisputeShare)
_SHARES = text(
    "SELECT line_id, seat, payee_id, tenant_id, pending_minor, available_minor FROM dispute_shares"
    " WHERE dispute_id = :dispute_id AND order_id = :order_id ORDER BY line_id, seat"
)
_THAWED = text("DELETE FROM dispute_shares WHERE dispute_id = :dispute_id AND order_id = :order_id")
_FROZEN = text(
    "UPDATE dispute_orders SET freezes = freezes + 1 WHERE dispute_id = :dispute_id AND order_id = :order_id"
)
_LOST = text(
    "UPDATE dispute_orders SET lost = CAST(:lost AS jsonb) WHERE dispute_id = :dispute_id AND order_id = :order_id"
)


@dataclass(frozen=True, slots=True)
class Part:
    """One order's part of a dispute, as its row says."""

    dispute_id: str
    order_id: OrderId
    merchant_id: BrandId
    currency: str
    amount_minor: int
    freezes: int
    absorbed: Sequence[dict[str, Any]]
    lost: dict[str, Any] | None

    def key(self, step: str) -> str:
        return f"dispute:{self.dispute_id}:{step}:{self.order_id}"

    @property
    def receivable(self) -> AccountKey:
        return owed_by_bank(self.dispute_id, self.currency)


@dataclass(frozen=True, slots=True)
class Fee:
    """The provider's fee for a dispute, in the currency it settles in."""

    currency: str
    amount_minor: int


def owed_by_bank(dispute_id: str, currency: str) -> AccountKey:
    return AccountKey(Code.DISPUTE_RECEIVABLE, f"dispute:{dispute_id}", currency)


def provider_legs(provider: str, currency: str, came_minor: int) -> list[Leg]:
    """The provider's side of what came (below zero: went), as the customer's currency names it: what it settled
    in another one is a conversion of its own (R10)."""
    return [debit(provider_account(Code.PROVIDER_AVAILABLE, provider, currency), came_minor)]


def fee_legs(provider: str, fee: Fee) -> list[Leg]:
    return [
        debit(platform_account(Code.DISPUTE_FEE, fee.currency), fee.amount_minor),
        credit(provider_account(Code.PROVIDER_AVAILABLE, provider, fee.currency), fee.amount_minor),
    ]


async def parts_of(session: AsyncSession, dispute_id: str) -> list[Part]:
    """By order."""
    return [_part(row) for row in await session.execute(_PARTS, {"id": dispute_id})]


async def open_parts(session: AsyncSession, order_id: OrderId) -> list[Part]:
    """What banks hold of one order, by dispute."""
    return [_part(row) for row in await session.execute(_OPEN_PARTS, {"order_id": order_id})]


def _part(row: Any) -> Part:
    return Part(
        row.dispute_id, OrderId.of(row.order_id), BrandId.of(row.merchant_id), row.currency,
        row.amount_minor, row.freezes, row.absorbed, row.lost,
    )  # fmt: skip


async def withdraw(
    session: AsyncSession, part: Part, provider: str, fee: Fee | None, *, now: datetime
) -> None:
    """R9a. The provider's fee is booked with the first order of the dispute."""
    legs = [
        debit(part.receivable, part.amount_minor),
        *provider_legs(provider, part.currency, -part.amount_minor),
        *(fee_legs(provider, fee) if fee else ()),
    ]
    await _post(session, part, "withdrawn", Kind.DISPUTE_WITHDRAWN, legs, now)


async def freeze(
    session: AsyncSession, part: Part, book: OrderBook, owed_minor: int, *, now: datetime
) -> None:
    """R9b, but for ``owed_minor``, which a loss would take of what the customer is owed. What was thawed before can
    be frozen again: the journals are counted."""
    _, taken = freezing.shares_of(book, part.amount_minor - owed_minor)
    held = await ledger.hold(session, _accounts(book, part))
    legs, frozen = freezing.freeze(book, taken, held)
    if not frozen:
        return
    await save(session, [book])
    await insert_rows(session, _SHARES_TABLE, [_share_row(part, each) for each in frozen])
    await session.execute(_FROZEN, _ids(part))
    step = "freeze" if not part.freezes else f"freeze{part.freezes + 1}"
    await _post(session, part, step, Kind.DISPUTE_FROZEN, legs, now)


async def thaw(session: AsyncSession, part: Part, book: OrderBook, *, now: datetime, step: str) -> None:
    """The second half of R9d: the frozen shares go back where they were."""
    frozen = await frozen_of(session, part)
    held = await ledger.hold(session, _accounts(book, part, frozen))
    legs = freezing.thaw(book, frozen, held)
    await save(session, [book])
    await session.execute(_THAWED, _ids(part))
    await _post(session, part, step, Kind.DISPUTE_UNFROZEN, legs, now)


async def lose(session: AsyncSession, part: Part, book: OrderBook, *, now: datetime) -> list[Leg]:
    """R9c: frozen shares are gone, what was paid out is owed, the platform's fee and the tax go back.

    What the customer was owed already it has now; what the order no longer holds (it was refunded beside the
    dispute) is the platform's loss. Returns the legs of what parties owe now (1100).
    """
    frozen = await frozen_of(session, part)
    held = await ledger.hold(session, _accounts(book, part, frozen))
    thawed = freezing.thaw(book, frozen, held)
    before = positions(book)
    owed = min(part.amount_minor, book.owed_to_customer_minor)
    state, taken = freezing.shares_of(book, part.amount_minor - owed)
    book.take_over(state)
    shares = [Share(book.line(each.source_id).cells[each.seat], each.amount_minor) for each in taken]
    legs = merged(take(book, shares, held))
    amount = sum(each.amount_minor for each in taken)
    beyond = part.amount_minor - owed - amount
    paid = change_goodwill(book, owed)
    book.refunded_minor += amount
    cells = moved(before, positions(book))
    lost = {
        "legs": legs_body(legs), "cells": cells, "payees": payees_body(book, cells),
        "taken": taken_body(taken), "amount": amount, "beyond": beyond, "owed": owed,
    }  # fmt: skip
    await save(session, [book])
    await session.execute(_THAWED, _ids(part))
    await session.execute(_LOST, {**_ids(part), "lost": orjson.dumps(lost).decode()})
    closing = [
        *paid,
        debit(platform_account(Code.CHARGEBACK_LOSS, part.currency), beyond),
        credit(part.receivable, part.amount_minor),
    ]
    await _post(session, part, "lost", Kind.DISPUTE_LOST, [*thawed, *legs, *closing], now)
    return [leg for leg in legs if leg.account.code is Code.RECEIVABLE and leg.amount_minor > 0]


async def win(session: AsyncSession, part: Part, book: OrderBook, *, now: datetime) -> None:
    """R9d: the money is back, and everybody's share where it was."""
    legs = [
        *provider_legs(book.provider, part.currency, part.amount_minor),
        credit(part.receivable, part.amount_minor),
    ]
    await _post(session, part, "won", Kind.DISPUTE_WON, legs, now)
    await thaw(session, part, book, now=now, step="unfreeze")


async def win_back(session: AsyncSession, part: Part, book: OrderBook, *, now: datetime) -> None:
    """Won after it was lost: what losing took comes back; what was owed and is paid off since, as available."""
    lost = part.lost or {}
    taken_legs = legs_of(lost["legs"], book)
    held = await ledger.hold(session, [*accounts_touched(book), *(leg.account for leg in taken_legs)])
    payees = payees_of(lost["payees"])
    legs = undo(book, taken_legs, put_back(book, lost["cells"], payees), held)
    book.refunded_minor -= lost["amount"]
    owed = change_goodwill(book, -lost.get("owed", 0))
    came = provider_legs(book.provider, part.currency, part.amount_minor)
    await save(session, [book])
    beyond = credit(platform_account(Code.CHARGEBACK_LOSS, part.currency), lost["beyond"])
    back = [*came, *legs, *owed, beyond]
    await _post(session, part, "won", Kind.DISPUTE_WON, back, now)
    await withheld.come_back(session, book, now=now, won=named_for(part.dispute_id, part.order_id))


async def hold(session: AsyncSession, parts: Sequence[Part], books: Mapping[OrderId, OrderBook]) -> None:
    """Lock every account the steps of these parts may post to, in one sorted pass."""
    accounts: list[AccountKey] = []
    for part in parts:
        accounts += _accounts(books[part.order_id], part, await frozen_of(session, part))
    await ledger.hold(session, accounts)


async def frozen_of(session: AsyncSession, part: Part) -> list[Frozen]:
    return [
        Frozen(
            SplitLineId.of(row.line_id), row.seat, row.payee_id,
            TenantId.of(row.tenant_id) if row.tenant_id else None, row.pending_minor, row.available_minor,
        )
        for row in await session.execute(_SHARES, _ids(part))
    ]  # fmt: skip


def _accounts(book: OrderBook, part: Part, frozen: Sequence[Frozen] = ()) -> list[AccountKey]:
    """Every strict account the steps may post to, to be locked in one pass; but for what the order's customer is
    owed (2100), which nobody touches without the order's lock."""
    theirs = [freezing.reserved(book, each.payee_id, each.tenant_id) for each in frozen]
    return [
        *accounts_touched(book), *book.party_accounts(Code.RESERVED), *theirs,
        *freezing.available_of(book, frozen), part.receivable,
    ]  # fmt: skip


async def _post(
    session: AsyncSession, part: Part, step: str, kind: Kind, legs: Sequence[Leg], now: datetime
) -> None:
    whole = merged(legs)
    if whole:
        journal = Journal(part.key(step), kind, whole, now, part.order_id, part.dispute_id)
        await ledger.post(session, journal, now=now)


def _share_row(part: Part, frozen: Frozen) -> dict[str, Any]:
    return {
        "dispute_id": part.dispute_id, "line_id": frozen.line_id, "seat": str(frozen.seat),
        "order_id": part.order_id, "merchant_id": part.merchant_id, "payee_id": frozen.payee_id,
        "tenant_id": frozen.tenant_id, "currency": part.currency, "pending_minor": frozen.pending_minor,
        "available_minor": frozen.available_minor,
    }  # fmt: skip


def _ids(part: Part) -> dict[str, Any]:
    return {"dispute_id": part.dispute_id, "order_id": part.order_id}
