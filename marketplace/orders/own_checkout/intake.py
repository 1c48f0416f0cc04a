"""Take in what a shop tells: stored once, row by row, whatever the sequence; a handler does the rest.

One transaction and a fixed number of statements for any number of rows. A reference told again with the same content,
or an event id with the same event, is no news; with another one it is refused, and what was told first stands. An event
of an order that nobody told of yet waits for it; one that names lines which its order does not have is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.errors import LianyuError
from core.ids import ContactId, OrderId, OrderLineId
from infra import outbox
from infra.db.base import table_of
from infra.db.rows import insert_rows
from marketplace.audiences import queries as audiences
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import IdentifierKind
from marketplace.brands.queries import StorefrontFacts
from marketplace.catalog import queries as catalog
from marketplace.catalog.queries import VariantForSale
from marketplace.orders.own_checkout import told
from marketplace.orders.own_checkout.errors import (
    CurrencyNotTheStorefronts,
    NoSuchLine,
    TellingsTooMany,
    ToldDifferently,
)
from marketplace.orders.own_checkout.events import OrderTold
from marketplace.orders.own_checkout.models import ToldEvent
from marketplace.orders.own_checkout.placing import Placed, write_orders
from marketplace.orders.own_checkout.told import MOST_ROWS, EventTold, Known, Telling
from marketplace.promotion.touches.lead_contacts import lead_contacts

_COMPARED = frozenset({IdentifierKind.EMAIL, IdentifierKind.PHONE})
"""What says at another brand who somebody is; a customer id is one shop's own."""
_EVENTS = table_of(ToldEvent)
# Two calls of one shop take turns: a reference and an event id count once.
_ONE_TELLER = text("SELECT pg_advisory_xact_lock(hashtextextended(:storefront, 29))")
_KNOWN_ORDERS = text(
    "SELECT reference, order_id, content_hash, (SELECT array_agg(line ->> 0) FROM jsonb_array_elements("
    "content -> 'lines') line) AS lines FROM told_orders WHERE storefront_id = :storefront"
    " AND reference = ANY(:references)"
)
_KNOWN_EVENTS = text(
    "SELECT event_id, body_hash FROM told_events WHERE storefront_id = :storefront AND event_id = ANY(:events)"
)


class Result(StrEnum):
    RECORDED = "recorded"
    UNCHANGED = "unchanged"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class EventAnswer:
    id: str
    result: Result
    error: LianyuError | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one row. ``order_id`` is None for an order that was not told of yet."""

    reference: str
    result: Result
    order_id: OrderId | None = None
    error: LianyuError | None = None
    events: tuple[EventAnswer, ...] = ()


class _ToldBefore(NamedTuple):
    """An order that was told of. ``lines``: the shop's references of them."""

    id: OrderId
    content_hash: str
    lines: frozenset[str]


@dataclass(slots=True)
class _Batch:
    """What is known, growing as the rows are gone through, and what is to be written."""

    orders: dict[str, _ToldBefore]
    events: dict[str, str]
    new_orders: list[Placed] = field(default_factory=list)
    new_events: list[dict[str, Any]] = field(default_factory=list)
    news: dict[str, None] = field(default_factory=dict)
    """References about which something was told, in the sequence of the rows."""


async def take_in(
    session: AsyncSession,
    shop: StorefrontFacts,
    rows: Sequence[Telling],
    *,
    secret: str,
    clock: Clock,
) -> list[Answer]:
    """Each row's answer, in their sequence; a row that is refused leaves nothing behind and hinders no other.

    SYSTEM session. Raises ``TellingsTooMany``.
    """
    if not 1 <= len(rows) <= MOST_ROWS:
        raise TellingsTooMany(MOST_ROWS, len(rows))
    now = clock.now()
    await session.execute(_ONE_TELLER, {"storefront": str(shop.id)})
    batch = await _known(session, shop, rows)
    answers = [_row(shop, batch, row, secret, now) for row in rows]
    await _write(session, shop, batch, secret=secret, now=now)
    await outbox.record(session, *(OrderTold(shop.id, reference) for reference in batch.news))
    return answers


async def _known(session: AsyncSession, shop: StorefrontFacts, rows: Sequence[Telling]) -> _Batch:
    # Names that PostgreSQL could not even be asked for are refused with their rows.
    references = {row.reference for row in rows if told.is_reference(row.reference)}
    ids = {event.id for row in rows for event in row.events if told.is_reference(event.id)}
    where = {"storefront": shop.id}
    orders = await session.execute(_KNOWN_ORDERS, {**where, "references": list(references)})
    events = await session.execute(_KNOWN_EVENTS, {**where, "events": list(ids)})
    return _Batch(
        {
            row.reference: _ToldBefore(OrderId.of(row.order_id), row.content_hash, frozenset(row.lines))
            for row in orders
        },
        {row.event_id: row.body_hash for row in events},
    )


def _row(shop: StorefrontFacts, batch: _Batch, row: Telling, secret: str, now: datetime) -> Answer:
    try:
        told.check(row, now=now)
        result = _order(shop, batch, row, secret)
    except LianyuError as error:
        return Answer(row.reference, Result.ERROR, error=error)
    events = tuple([_event(shop, batch, row.reference, event, now) for event in row.events])
    if any(each.result is Result.RECORDED for each in events):
        result = Result.RECORDED
    if result is Result.RECORDED:
        batch.news[row.reference] = None
    elif events and all(each.result is Result.ERROR for each in events):
        result = Result.ERROR
    known = batch.orders.get(row.reference)
    return Answer(row.reference, result, known.id if known else None, events=events)


def _order(shop: StorefrontFacts, batch: _Batch, row: Telling, secret: str) -> Result:
    if row.content is None:
        return Result.UNCHANGED
    if row.content.currency != shop.currency:
        raise CurrencyNotTheStorefronts(f"this storefront sells in {shop.currency}", field="currency")
    known = told.known_of(row.content, shop.brand_id.bytes, secret)
    digest = told.hash_of(row.content, known)
    before = batch.orders.get(row.reference)
    if before is not None:
        if before.content_hash != digest:
            raise ToldDifferently("this reference was told with another content", field="reference")
        return Result.UNCHANGED
    line_ids = tuple([OrderLineId.new() for _ in row.content.lines])
    placed = Placed(OrderId.new(), row.reference, row.content, known, digest, line_ids)
    lines = frozenset(line.reference for line in row.content.lines)
    batch.orders[row.reference] = _ToldBefore(placed.order_id, digest, lines)
    batch.new_orders.append(placed)
    return Result.RECORDED


def _event(
    shop: StorefrontFacts, batch: _Batch, reference: str, event: EventTold, now: datetime
) -> EventAnswer:
    digest = told.event_hash(reference, event)
    before = batch.events.get(event.id)
    if before is not None:
        if before == digest:
            return EventAnswer(event.id, Result.UNCHANGED)
        error = ToldDifferently("this event id was told with another event", field="events.id")
        return EventAnswer(event.id, Result.ERROR, error)
    order = batch.orders.get(reference)
    if order is not None:
        for line in event.lines:
            if line.line not in order.lines:
                return EventAnswer(event.id, Result.ERROR, NoSuchLine(line.line))
    batch.events[event.id] = digest
    batch.new_events.append(
        {
            "storefront_id": shop.id, "event_id": event.id, "brand_id": shop.brand_id, "reference": reference,
            "kind": event.kind.value, "at": event.at, "body": told.event_json(event), "body_hash": digest,
            "received_at": now,
        }
    )  # fmt: skip
    return EventAnswer(event.id, Result.RECORDED)


async def _write(
    session: AsyncSession, shop: StorefrontFacts, batch: _Batch, *, secret: str, now: datetime
) -> None:
    if batch.new_orders:
        vault = IdentityVault(secret)
        variants = await _variants(session, shop, batch.new_orders)
        own = await _own_contacts(session, shop, batch.new_orders, vault)
        people = {each.order_id: (shop.brand_id, _comparable(each.known)) for each in batch.new_orders}
        led = await lead_contacts(session, people, vault=vault)
        await write_orders(session, shop, batch.new_orders, variants, own, led, now=now)
    await insert_rows(session, _EVENTS, batch.new_events)


async def _variants(
    session: AsyncSession, shop: StorefrontFacts, orders: Sequence[Placed]
) -> dict[str, VariantForSale]:
    """By SKU, those of the brand's own catalogue."""
    skus = {line.sku for order in orders for line in order.content.lines if line.sku}
    if not skus:
        return {}
    found = await catalog.resolve_skus(session, sorted(skus), shop.brand_id)
    variants = await catalog.variants_for_sale(session, found.values(), currency=shop.currency)
    return {variant.sku: variant for variant in variants.values()}


async def _own_contacts(
    session: AsyncSession, shop: StorefrontFacts, orders: Sequence[Placed], vault: IdentityVault
) -> dict[OrderId, ContactId]:
    """The brand's own contact of each buyer: by the first identifier that has one."""
    people = [(shop.brand_id, *each) for order in orders for each in order.known.identifiers]
    found = await audiences.contacts_of_people(session, list(dict.fromkeys(people)), vault=vault)
    contacts: dict[OrderId, ContactId] = {}
    for order in orders:
        mine = [found[key] for each in order.known.identifiers if (key := (shop.brand_id, *each)) in found]
        if mine:
            contacts[order.order_id] = mine[0]
    return contacts


def _comparable(known: Known) -> list[told.Identifier]:
    return [each for each in known.identifiers if each[0] in _COMPARED]
