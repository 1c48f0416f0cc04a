"""Files to print, QR codes and sheets of cards, for the brand that made them. Errors: code and message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from infra.gateways import Gateways
from marketplace.promotion.errors import BadQrBatch, QrAssetNotFound
from marketplace.promotion.ids import QrAssetId, QrBatchId
from marketplace.promotion.links import qr, qr_batches
from marketplace.promotion.links.cards import ON_A_SHEET, Card
from marketplace.promotion.links.qr_batches import QrAssetRow, QrBatchRow
from services.api.auth import Authenticator

_PICTURES = {"svg": ("image/svg+xml", qr.svg), "png": ("image/png", qr.png)}
_PRIVATE = {"cache-control": "private, no-store"}


def print_files(gateways: Gateways, authenticator: Authenticator) -> APIRouter:
    router = APIRouter(prefix="/print")
    settings = gateways.settings

    @router.get("/qr-assets/{asset_id}.{kind}")
    async def picture(request: Request, asset_id: str, kind: str) -> Response:
        actor = await authenticator.reader(request, "promotion:read")
        if kind not in _PICTURES:
            raise QrAssetNotFound("a code is .svg or .png", field="id")
        async with gateways.db.reading(actor) as session:
            asset = await qr_batches.asset(session, actor, QrAssetId.parse(asset_id))
        media_type, drawn = _PICTURES[kind]
        return Response(
            drawn(qr.scan_url(settings.edge_url, asset.code)), media_type=media_type, headers=_PRIVATE
        )

    @router.get("/qr-batches/{batch_id}.pdf")
    async def sheet(
        request: Request,
        batch_id: str,
        arm: str | None = None,
        copies: Annotated[str, Query(description="Of each arm.")] = str(ON_A_SHEET),
    ) -> Response:
        actor = await authenticator.reader(request, "promotion:read")
        if not copies.isascii() or not copies.isdecimal() or len(copies) > 4:
            raise BadQrBatch("copies: a number of cards", field="copies")
        async with gateways.db.reading(actor) as session:
            batch = await qr_batches.batch(session, actor, QrBatchId.parse(batch_id))
            assets = (await qr_batches.assets_of(session, [batch.id]))[batch.id]
        cards = [(card, int(copies)) for card in _cards(batch, assets, arm, settings.edge_url)]
        # A hundred sheets take a third of a second: not on the thread that answers everybody.
        content = await asyncio.to_thread(_sheets, cards, batch.name, settings.print_font)
        named = {"content-disposition": f'attachment; filename="{batch.id}.pdf"'}
        return Response(content, media_type="application/pdf", headers=_PRIVATE | named)

    return router


def _sheets(cards: Sequence[tuple[Card, int]], title: str, font: Path | None) -> bytes:
    # Imported by who needs it: nine MiB for every process otherwise.
    from marketplace.promotion.links.print_sheet import sheets

    return sheets(cards, title=title, font=font)


def _cards(batch: QrBatchRow, assets: Sequence[QrAssetRow], arm: str | None, edge_url: str) -> list[Card]:
    """Of one arm or of all. Raises ``QrAssetNotFound``."""
    chosen = [asset for asset in assets if arm is None or asset.arm == arm]
    if not chosen:
        raise QrAssetNotFound("this batch has no such arm", field="arm")
    return [
        Card(
            url=qr.scan_url(edge_url, asset.code),
            code=asset.code,
            caption_zh=asset.caption_zh,
            caption_en=asset.caption_en,
            note=" / ".join(part for part in (batch.warehouse, batch.sku, asset.arm) if part),
        )
        for asset in chosen
    ]
