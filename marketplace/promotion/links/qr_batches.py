"""Printing QR codes: a batch, its arms, and what of them is counted.

Every arm of a batch has a link of its own, hence a code of its own: a scan tells batch and arm without anybody
asking the visitor. A parcel card names the SKU and the warehouse whose parcels it is put into.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import BrandId, LinkId
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from marketplace.promotion.errors import BadQrBatch, QrAssetNotFound, QrBatchNotFound
from marketplace.promotion.ids import QrAssetId, QrBatchId
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.links.lifecycle import create_links
from marketplace.promotion.links.link_facts import NewLink
from marketplace.promotion.models import TrackedLink
from marketplace.promotion.reach_models import QrAsset, QrBatch, QrBatchKind

MOST_ARMS = 8
LONGEST_NAME, LONGEST_CODE, LONGEST_ARM, LONGEST_CAPTION = 120, 64, 16, 60
MOST_PRINTED = 10_000_000
_BATCHES, _ASSETS = table_of(QrBatch), table_of(QrAsset)
_B, _A, _L = _BATCHES.c, _ASSETS.c, table_of(TrackedLink).c
_RESPONSES = text(
    "SELECT a.link_id, t.scans, t.people,"
    " (SELECT count(*) FROM touch_events e JOIN touches l ON l.id = e.touch_id AND l.duplicate_of IS NULL"
    "  WHERE e.link_id = a.link_id AND e.lead IS NOT NULL) AS leads,"
    " (SELECT count(DISTINCT c.order_id) FROM commission_lines c WHERE c.link_id = a.link_id) AS orders"
    " FROM unnest(CAST(:links AS uuid[])) AS a(link_id) CROSS JOIN LATERAL ("
    "  SELECT count(*) AS scans, count(DISTINCT session_key) AS people FROM touches"
    "  WHERE link_id = a.link_id AND kind = 'scan' AND NOT is_bot AND duplicate_of IS NULL) t"
)


@dataclass(frozen=True, slots=True)
class NewArm:
    """One variant of a card. ``destination`` is where its code leads, when it differs from the batch's."""

    arm: str
    quantity: int
    caption_zh: str = ""
    caption_en: str = ""
    destination: str | None = None


@dataclass(frozen=True, slots=True)
class NewBatch:
    name: str
    kind: QrBatchKind
    arms: Sequence[NewArm]
    sku: str = ""
    warehouse: str = ""


@dataclass(frozen=True, slots=True)
class QrBatchRow:
    id: QrBatchId
    brand_id: BrandId
    name: str
    kind: QrBatchKind
    sku: str
    warehouse: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class QrAssetRow:
    id: QrAssetId
    brand_id: BrandId
    batch_id: QrBatchId
    link_id: LinkId
    code: str
    arm: str
    caption_zh: str
    caption_en: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Responses:
    """What the cards of one arm brought. Scans without bots; a browser that scans again within seconds counts once.
    ``people`` are distinct browsers, ``leads`` contacts bound through the link, ``orders`` credited to it."""

    scans: int = 0
    people: int = 0
    leads: int = 0
    orders: int = 0


_BATCH = select(_B.id, _B.brand_id, _B.name, _B.kind, _B.sku, _B.warehouse, _B.created_at)
_ASSET = select(
    _A.id, _A.brand_id, _A.batch_id, _A.link_id, _L.code, _A.arm, _A.caption_zh, _A.caption_en, _A.quantity
).join_from(_ASSETS, table_of(TrackedLink), _L.id == _A.link_id)


async def create_batch(
    session: AsyncSession,
    actor: Actor,
    batch: NewBatch,
    link: NewLink,
    *,
    policy: DestinationPolicy,
    clock: Clock,
) -> QrBatchId:
    """A batch with one link per arm, all like ``link`` but for an arm's own destination.

    Raises ``BadQrBatch`` and what ``link_facts.link_row`` raises.
    """
    batch = checked(batch)
    wanted = [replace(link, destination=arm.destination or link.destination) for arm in batch.arms]
    made = await create_links(session, actor, wanted, all_or_none=True, policy=policy, clock=clock)
    if made.errors:
        raise made.errors[0].error
    batch_id = QrBatchId.new()
    row = {
        "id": batch_id, "brand_id": actor.brand_id, "name": batch.name, "kind": batch.kind, "sku": batch.sku,
        "warehouse": batch.warehouse, "created_at": clock.now(),
    }  # fmt: skip
    await session.execute(insert(_BATCHES), [row])
    assets = [
        {
            "id": QrAssetId.new(), "brand_id": actor.brand_id, "batch_id": batch_id, "link_id": each.id,
            "arm": arm.arm, "caption_zh": arm.caption_zh, "caption_en": arm.caption_en, "quantity": arm.quantity,
        }
        for arm, each in zip(batch.arms, made.links, strict=True)
        if each is not None
    ]  # fmt: skip
    await session.execute(insert(_ASSETS), assets)
    return batch_id


def checked(batch: NewBatch) -> NewBatch:
    """Raises ``BadQrBatch`` naming the field."""
    _require(1 <= len(batch.arms) <= MOST_ARMS, "arms", f"1 to {MOST_ARMS} arms")
    arms = [
        replace(
            arm,
            arm=_line(arm.arm, "arms.arm", LONGEST_ARM, empty=len(batch.arms) == 1),
            caption_zh=_line(arm.caption_zh, "arms.captionZh", LONGEST_CAPTION, empty=True),
            caption_en=_line(arm.caption_en, "arms.captionEn", LONGEST_CAPTION, empty=True),
        )
        for arm in batch.arms
    ]
    _require(len({arm.arm for arm in arms}) == len(arms), "arms.arm", "each arm has a name of its own")
    sane = all(1 <= arm.quantity <= MOST_PRINTED for arm in arms)
    _require(sane, "arms.quantity", f"1 to {MOST_PRINTED} cards")
    of_parcel = batch.kind is QrBatchKind.PARCEL_CARD
    return NewBatch(
        _line(batch.name, "name", LONGEST_NAME),
        batch.kind,
        arms,
        _line(batch.sku, "sku", LONGEST_CODE, empty=not of_parcel),
        _line(batch.warehouse, "warehouse", LONGEST_CODE, empty=not of_parcel),
    )


async def batch(session: AsyncSession, actor: Actor, batch_id: QrBatchId) -> QrBatchRow:
    """Raises ``QrBatchNotFound`` for another brand's."""
    row = (await session.execute(_BATCH.where(_B.id == batch_id, *_own(_B, actor)))).first()
    if row is None:
        raise QrBatchNotFound("no such batch", field="id")
    return QrBatchRow(*row)


async def batches_page(session: AsyncSession, actor: Actor, request: PageRequest) -> Page[QrBatchRow]:
    """The actor's batches, newest first."""
    wanted = _BATCH.where(*_own(_B, actor)).order_by(_B.id.desc()).limit(request.first + 1)
    if request.key:
        wanted = wanted.where(_B.id < QrBatchId.parse(request.key[0]))
    rows = [QrBatchRow(*row) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def assets_of(
    session: AsyncSession, batch_ids: Sequence[QrBatchId]
) -> dict[QrBatchId, list[QrAssetRow]]:
    """Of batches that the caller was allowed, by arm."""
    found: dict[QrBatchId, list[QrAssetRow]] = {}
    for row in await session.execute(_ASSET.where(_A.batch_id.in_(batch_ids)).order_by(_A.arm)):
        asset = QrAssetRow(*row)
        found.setdefault(asset.batch_id, []).append(asset)
    return found


async def asset(session: AsyncSession, actor: Actor, asset_id: QrAssetId) -> QrAssetRow:
    """Raises ``QrAssetNotFound`` for another brand's."""
    row = (await session.execute(_ASSET.where(_A.id == asset_id, *_own(_A, actor)))).first()
    if row is None:
        raise QrAssetNotFound("no such code", field="id")
    return QrAssetRow(*row)


async def responses_of(session: AsyncSession, link_ids: Sequence[LinkId]) -> dict[LinkId, Responses]:
    """Of links that the caller was allowed. One statement."""
    rows = await session.execute(_RESPONSES, {"links": list(link_ids)})
    return {LinkId.of(row.link_id): Responses(row.scans, row.people, row.leads, row.orders) for row in rows}


def _own(columns: Any, actor: Actor) -> list[Any]:
    return [] if actor.sees_everything else [columns.brand_id == actor.brand_id]


def _line(value: str, field: str, longest: int, *, empty: bool = False) -> str:
    """One line that a printed font has letters for: no controls, nothing beyond the basic plane."""
    line = unicodedata.normalize("NFC", value).strip()
    fits = (
        len(line) <= longest
        and (bool(line) or empty)
        and all(c.isprintable() and c < "\U00010000" for c in line)
    )
    _require(fits, field, f"{0 if empty else 1} to {longest} printable characters, no emoji")
    return line


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadQrBatch(f"{field}: {allowed}", field=field)
