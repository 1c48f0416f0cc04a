"""QR codes in print: each arm its own code, and a scan that tells which."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reportlab
import segno
from reportlab.lib.units import mm
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import BrandId, TouchId
from core.pagination import PageRequest
from marketplace.promotion import queries, service
from marketplace.promotion.errors import BadQrBatch, QrAssetNotFound, QrBatchNotFound
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.links import print_sheet, qr_batches
from marketplace.promotion.links.cards import Card
from marketplace.promotion.links.print_sheet import sheets, wrapped
from marketplace.promotion.links.qr_batches import NewArm, NewBatch, QrAssetRow, Responses
from marketplace.promotion.reach_models import LeadKind, QrBatchKind
from marketplace.promotion.service import NewLink, ToldTouch
from marketplace.promotion.touches.clicks import Click
from tests.factories import audiences
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.promotion import POLICY, SIGNER, Market

CARDS = NewBatch(
    "双十一 cards", QrBatchKind.PARCEL_CARD,
    [NewArm("A", 5_000, "扫码领券", "Scan for a coupon"), NewArm("B", 5_000, "扫码进群", "", "https://b.example.com/")],
    sku="CREAM-50", warehouse="SH-01",
)  # fmt: skip


@pytest.fixture
async def market(session: AsyncSession, clock: FixedClock) -> Market:
    return await make.market(session, brand_actor(BrandId.new()), brand_actor(BrandId.new()), clock)


async def _printed(
    session: AsyncSession, market: Market, clock: FixedClock, batch: NewBatch = CARDS
) -> list[QrAssetRow]:
    link = NewLink(market.placement_id, "https://shop.example.com/", agreement_id=market.agreement_id)
    batch_id = await qr_batches.create_batch(
        session, market.promoter, batch, link, policy=POLICY, clock=clock
    )
    return (await qr_batches.assets_of(session, [batch_id]))[batch_id]


async def _scan(session: AsyncSession, asset: QrAssetRow, clock: FixedClock, **facts: Any) -> None:
    target = await queries.link_by_code(session, asset.code)
    assert target is not None
    touch = Click(
        TouchId.new(), target.id, target.agreement_id, target.advertiser_id, target.promoter_brand_id,
        clock.now(), TouchKind.SCAN,
    )  # fmt: skip
    assert await service.record_clicks(session, [touch._replace(**facts)]) == 1


async def test_every_arm_has_a_code_of_its_own_and_scans_tell_them_apart(
    session: AsyncSession, market: Market, clock: FixedClock
) -> None:
    first, second = await _printed(session, market, clock)
    assert (first.arm, second.arm) == ("A", "B")
    assert first.code != second.code
    links = await queries.links_of(session, market.promoter, [first.link_id, second.link_id])
    assert links[first.link_id].destination == "https://shop.example.com/"
    assert links[second.link_id].destination == "https://b.example.com/"

    for session_key in (b"anna", b"anna", b"bert"):
        await _scan(session, first, clock, session_key=session_key)
    await _scan(session, first, clock, is_bot=True)
    await _scan(session, first, clock, kind=TouchKind.CLICK)  # typed, not scanned
    await _scan(session, second, clock, session_key=b"anna")
    community = await audiences.community(session, market.promoter, clock)
    [contact] = await audiences.members(session, market.promoter, clock, community, [audiences.person()])
    lead = ToldTouch(
        "lead", TouchKind.LEAD, clock.now(), first.code, lead=LeadKind.CONTACT_ADDED, contact_id=contact
    )
    assert not (
        await service.record_touches(session, market.promoter, [lead], signer=SIGNER, clock=clock)
    ).errors
    assert await qr_batches.responses_of(session, [first.link_id, second.link_id]) == {
        first.link_id: Responses(3, 2, 1),
        second.link_id: Responses(1, 1),
    }


async def test_a_batch_is_its_brands_alone(session: AsyncSession, market: Market, clock: FixedClock) -> None:
    [asset, _] = await _printed(session, market, clock)
    page = await qr_batches.batches_page(session, market.promoter, PageRequest())
    assert [(row.name, row.sku, row.warehouse) for row in page.items] == [
        ("双十一 cards", "CREAM-50", "SH-01")
    ]
    with pytest.raises(QrBatchNotFound):
        await qr_batches.batch(session, market.merchant, asset.batch_id)
    with pytest.raises(QrAssetNotFound):
        await qr_batches.asset(session, market.merchant, asset.id)
    assert not (await qr_batches.batches_page(session, market.merchant, PageRequest())).items


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"sku": ""}, "sku"),
        ({"warehouse": ""}, "warehouse"),
        ({"arms": []}, "arms"),
        ({"arms": [NewArm(str(n), 1) for n in range(9)]}, "arms"),
        ({"arms": [NewArm("A", 1), NewArm("A", 1)]}, "arms.arm"),
        ({"arms": [NewArm("A", 1), NewArm("", 1)]}, "arms.arm"),
        ({"arms": [NewArm("A", 0)]}, "arms.quantity"),
        ({"arms": [NewArm("A", 1, "a\nb")]}, "arms.captionZh"),
        ({"arms": [NewArm("A", 1, "", "🎁 gift")]}, "arms.captionEn"),
    ],
)
async def test_a_batch_that_cannot_be_printed_is_refused_by_field(
    session: AsyncSession, market: Market, clock: FixedClock, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadQrBatch) as refused:
        await _printed(session, market, clock, replace(CARDS, **wrong))
    assert refused.value.field == field
    assert await session.scalar(text("SELECT count(*) FROM tracked_links")) == 0


# --- sheets ---

CARD = Card(
    "https://l.example.com/l/abcDEF2345?k=qr", "abcDEF2345", "扫码领券", "Scan for a coupon", "SH-01 / A"
)


def _streams(pdf: bytes) -> list[bytes]:
    """The drawing instructions of a file, in its order."""
    found = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    return [zlib.decompress(base64.a85decode(b"<~" + each.strip(), adobe=True)) for each in found]


def test_ten_cards_go_on_a_sheet_and_the_last_is_not_filled() -> None:
    for copies, pages in ((1, 1), (10, 1), (11, 2), (25, 3)):
        pdf = sheets([(CARD, copies)], title="cards")
        assert pdf.startswith(b"%PDF-")
        assert pdf.count(b"/Type /Page\n") == pages
        placed = sum(stream.count(b" Do") for stream in _streams(pdf))
        assert placed == copies


def test_the_same_cards_give_the_same_bytes() -> None:
    assert sheets([(CARD, 3)], title="x") == sheets([(CARD, 3)], title="x")


def test_the_code_on_the_card_is_the_links() -> None:
    """The dark rectangles on the card, put back on the grid of modules, are the code's matrix."""
    pdf = sheets([(CARD, 1)], title="x")
    matrix = segno.make(CARD.url, error="m", micro=False).matrix
    size = len(matrix)
    module = print_sheet._CODE / (size + 8)
    [drawn] = [s for s in _streams(pdf) if s.count(b" re") > 50]
    dark = set()
    for x, y, width, _ in re.findall(rb"([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) re", drawn):
        column = round((float(x) - print_sheet._INSET) / module) - 4
        bottom = (print_sheet.CARD[1] - print_sheet._CODE) / 2 + 2 * mm
        row = size - 1 - (round((float(y) - bottom) / module) - 4)
        dark |= {(row, column + n) for n in range(round(float(width) / module))}
    assert dark == {(r, c) for r, bits in enumerate(matrix) for c, bit in enumerate(bits) if bit}


@pytest.mark.parametrize("copies", [0, 1001, -1])
def test_a_file_has_one_to_a_thousand_cards(copies: int) -> None:
    with pytest.raises(BadQrBatch):
        sheets([(CARD, copies)], title="x")


def test_lines_break_at_spaces_and_between_characters() -> None:
    assert wrapped("Scan to join", "Helvetica", 10, 45) == ["Scan to", "join"]
    sheets([(CARD, 1)], title="x")  # the font is known from here on
    assert wrapped("扫码加入早安护肤群", "STSong-Light", 10, 40) == ["扫码加入", "早安护肤", "群"]
    assert wrapped("x" * 12, "Helvetica", 10, 20) == ["xxxx", "xxxx", "xxxx"]


def test_an_operators_font_is_embedded() -> None:
    # Vera comes with the library; it has no Chinese, which is the operator's affair.
    font = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
    pdf = sheets([(CARD, 1)], title="x", font=font)
    assert b"/FontFile2" in pdf
    assert b"STSong" not in pdf
