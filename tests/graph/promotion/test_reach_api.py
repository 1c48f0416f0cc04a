"""Link batches, mini-programs, QR codes in print and told touches, over HTTP as clients use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import LinkId
from infra.db.session import Database
from marketplace.promotion.ids import QrAssetId, QrBatchId
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import promotion as make
from tests.factories.brands import committed_brand, committed_storefront
from tests.factories.orders import SECRET
from tests.factories.promotion import Market
from tests.fixtures.http import Served, codes_of, serving

BATCH = """mutation ($input: LinkBatchCreateInput!) { linkBatchCreate(input: $input) {
  links { id code url inAppDestination } rowErrors { row error { code field } } userErrors { code facts } } }"""
DEEP = """mutation ($input: DeepLinkSetInput!) { deepLinkSet(input: $input) {
  deepLink { storefrontId url } userErrors { code field } } }"""
PRINT = """mutation ($input: QrBatchCreateInput!) { qrBatchCreate(input: $input) { batch { id kind sku warehouse
  printSheetUrl assets { id arm code quantity svgUrl link { destination } responses { scans people leads orders } } }
  userErrors { code field } } }"""
TOUCHES = """mutation ($input: TouchesRecordInput!) { touchesRecord(input: $input) {
  touches { row eventId touchId touchToken replayed repeat bindsUntil } rowErrors { row error { code } }
  userErrors { code facts } } }"""

NOTHING = {"scans": 0, "people": 0, "leads": 0, "orders": 0}


@dataclass(frozen=True, slots=True)
class Selling:
    """A promoter at work in a market, and whoever else asks."""

    served: Served
    market: Market
    token: str
    merchant_token: str
    stranger_token: str

    def link(self, **facts: Any) -> dict[str, Any]:
        return {
            "agreementId": str(self.market.agreement_id), "placementId": str(self.market.placement_id),
            "destination": "https://shop.example.com/cream", **facts,
        }  # fmt: skip

    async def do(self, document: str, token: str = "", **input: Any) -> dict[str, Any]:
        answer = await self.served.brand(document, {"input": input}, token=token or self.token)
        assert "errors" not in answer, answer
        [payload] = answer["data"].values()
        return dict(payload)

    async def get(self, url: str, token: str | None = None) -> Any:
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        return await self.served.api.get(url, headers=headers if token != "" else {})


@pytest.fixture
async def selling(db: Database, clock: FixedClock) -> AsyncIterator[Selling]:
    made = [await committed_brand(db, clock, name=name) for name in ("Orchid", "Club", "Stranger")]
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, made[0][0], made[1][0], clock)
    async with serving(db, clock) as served:
        yield Selling(served, market, made[1][1], made[0][1], made[2][1])


async def test_a_batch_of_links_is_made_once_per_key_and_names_its_bad_rows(selling: Selling) -> None:
    rows = [
        selling.link(),
        selling.link(placementId="x"),
        selling.link(destination="http://evil"),
        selling.link(),
    ]
    done = await selling.do(BATCH, idempotencyKey="k", links=rows)
    assert [link is not None for link in done["links"]] == [True, False, False, True]
    assert done["rowErrors"] == [
        {"row": 2, "error": {"code": "MALFORMED_ID", "field": None}},
        {"row": 3, "error": {"code": "BAD_DESTINATION", "field": ["destination"]}},
    ]
    assert done["userErrors"] == []
    assert await selling.do(BATCH, idempotencyKey="k", links=rows) == done
    reused = await selling.do(BATCH, idempotencyKey="k", links=rows[:1])
    assert codes_of({"data": {"x": reused}}) == ["IDEMPOTENCY_KEY_REUSED"]

    for bad in rows[1:3]:
        whole = await selling.do(
            BATCH, idempotencyKey=str(bad), links=[rows[0], bad], policy="REJECT_EVERYTHING"
        )
        assert whole["links"] == [None, None]
        assert [row["row"] for row in whole["rowErrors"]] == [2]
        assert whole["userErrors"] == [{"code": "ROWS_REJECTED", "facts": {"failed": 1}}]
    links = await selling.served.brand("{ links { totalCount } }", token=selling.token)
    assert links["data"]["links"]["totalCount"] == 2
    many = await selling.do(BATCH, idempotencyKey="many", links=[selling.link()] * 1001)
    assert many["userErrors"] == [{"code": "BATCH_TOO_LARGE", "facts": {"most": 1000, "given": 1001}}]
    foreign = await selling.do(BATCH, selling.stranger_token, idempotencyKey="k", links=[selling.link()])
    assert foreign["rowErrors"][0]["error"]["code"] == "PLACEMENT_NOT_FOUND"


async def test_a_storefronts_mini_program_opens_from_links_made_after(
    selling: Selling, db: Database, clock: FixedClock
) -> None:
    shop = await committed_storefront(db, clock, selling.market.promoter)
    said = {
        "storefrontId": str(shop.id),
        "appId": "wx0123456789abcdef",
        "path": "pages/p",
        "query": "lyt={touch}",
    }
    before = await selling.do(
        BATCH, idempotencyKey="1", links=[selling.link(storefrontId=said["storefrontId"])]
    )
    assert before["rowErrors"][0]["error"]["code"] == "DEEP_LINK_NOT_FOUND"
    bad = await selling.do(DEEP, **(said | {"query": "x=1"}))
    assert bad["userErrors"] == [{"code": "BAD_DEEP_LINK", "field": ["query"]}]
    assert (await selling.do(DEEP, selling.stranger_token, **said))["userErrors"][0][
        "code"
    ] == "STOREFRONT_NOT_FOUND"
    await selling.do(DEEP, **said)
    made = await selling.do(
        BATCH, idempotencyKey="2", links=[selling.link(storefrontId=said["storefrontId"])]
    )
    assert made["links"][0]["inAppDestination"] == (
        "weixin://dl/business/?appid=wx0123456789abcdef&path=pages%2Fp&query=lyt%3D{touch}"
    )
    ask = "query ($id: ID!) { deepLink(storefrontId: $id) { appId path query } }"
    seen = await selling.served.brand(ask, {"id": said["storefrontId"]}, token=selling.merchant_token)
    assert seen["data"]["deepLink"] == {
        "appId": said["appId"],
        "path": "pages/p",
        "query": "lyt={touch}",
    }
    hidden = await selling.served.brand(ask, {"id": said["storefrontId"]}, token=selling.stranger_token)
    assert codes_of(hidden) == ["DEEP_LINK_NOT_FOUND"]


async def test_parcel_cards_are_made_downloaded_and_counted_by_arm(selling: Selling) -> None:
    arms = [
        {"arm": "A", "quantity": 500, "captionZh": "扫码领券"},
        {"arm": "B", "quantity": 500, "captionEn": "Scan me"},
    ]
    cards: dict[str, Any] = {
        "name": "双十一", "kind": "PARCEL_CARD", "sku": "CREAM", "warehouse": "SH-01", "link": selling.link(),
        "arms": arms,
    }  # fmt: skip
    refused = await selling.do(PRINT, **(cards | {"warehouse": ""}))
    assert refused["userErrors"] == [{"code": "BAD_QR_BATCH", "field": ["warehouse"]}]
    batch = (await selling.do(PRINT, **cards))["batch"]
    assert [(each["arm"], each["responses"]) for each in batch["assets"]] == [
        ("A", NOTHING),
        ("B", NOTHING),
    ]
    assert len({each["code"] for each in batch["assets"]}) == 2

    sheet = batch["printSheetUrl"].partition("8000")[2]
    pdf = await selling.get(f"{sheet}?copies=3")
    assert (pdf.status_code, pdf.headers["content-type"]) == (200, "application/pdf")
    assert pdf.content.startswith(b"%PDF-")
    assert pdf.headers["content-disposition"] == f'attachment; filename="{batch["id"]}.pdf"'
    assert (await selling.get(f"{sheet}?arm=B")).content != pdf.content
    svg = batch["assets"][0]["svgUrl"].partition("8000")[2]
    assert (await selling.get(svg)).headers["content-type"].startswith("image/svg+xml")
    png = await selling.get(svg.replace(".svg", ".png"))
    assert png.content.startswith(b"\x89PNG")
    for url, token, status, code in (
        (sheet, "", 401, "UNAUTHENTICATED"),
        (sheet, selling.stranger_token, 404, "QR_BATCH_NOT_FOUND"),
        (sheet, selling.merchant_token, 404, "QR_BATCH_NOT_FOUND"),
        (svg, selling.stranger_token, 404, "QR_ASSET_NOT_FOUND"),
        (f"{sheet}?copies=501", None, 422, "BAD_QR_BATCH"),
        (f"{sheet}?copies=-1", None, 422, "BAD_QR_BATCH"),
        (f"{sheet}?copies=ten", None, 422, "BAD_QR_BATCH"),
        (f"{sheet}?arm=C", None, 404, "QR_ASSET_NOT_FOUND"),
        (svg.replace(".svg", ".exe"), None, 404, "QR_ASSET_NOT_FOUND"),
        ("/print/qr-batches/x.pdf", None, 422, "MALFORMED_ID"),
        (f"/print/qr-batches/{QrBatchId.new()}.pdf", None, 404, "QR_BATCH_NOT_FOUND"),
        (f"/print/qr-assets/{QrAssetId.new()}.svg", None, 404, "QR_ASSET_NOT_FOUND"),
    ):
        answer = await selling.get(url, token)
        assert (answer.status_code, codes_of(answer.json())) == (status, [code]), url

    ask = "query ($id: ID!) { qrBatch(id: $id) { name } qrBatches { nodes { id } } }"
    own = await selling.served.brand(ask, {"id": batch["id"]}, token=selling.token)
    assert own["data"] == {"qrBatch": {"name": "双十一"}, "qrBatches": {"nodes": [{"id": batch["id"]}]}}
    other = await selling.served.brand(ask, {"id": batch["id"]}, token=selling.stranger_token)
    assert codes_of(other) == ["QR_BATCH_NOT_FOUND"]


async def test_told_touches_come_back_with_tokens_once(selling: Selling, clock: FixedClock) -> None:
    made = await selling.do(BATCH, idempotencyKey="1", links=[selling.link()])
    code, at = made["links"][0]["code"], clock.now().isoformat()
    clock.advance(timedelta(minutes=1))
    rows = [
        {"eventId": "a", "kind": "CLICK", "at": at, "linkCode": code, "userAgent": "Mozilla/5.0"},
        {"eventId": "b", "kind": "SCAN", "at": at, "linkId": "lnk_x"},
        {"eventId": "c", "kind": "SCAN", "at": at, "linkId": made["links"][0]["id"]},
        {"eventId": "d", "kind": "COUPON", "at": at, "linkCode": code},
    ]
    done = await selling.do(TOUCHES, touches=rows)
    assert [(row["row"], row["eventId"], row["replayed"]) for row in done["touches"]] == [
        (1, "a", False),
        (3, "c", False),
    ]
    assert done["rowErrors"] == [
        {"row": 2, "error": {"code": "MALFORMED_ID"}},
        {"row": 4, "error": {"code": "BAD_TOUCH"}},
    ]
    signed = TouchSigner(SECRET).read(done["touches"][0]["touchToken"])
    assert signed.link_id == LinkId.parse(made["links"][0]["id"])
    again = await selling.do(TOUCHES, touches=rows)
    assert [row["replayed"] for row in again["touches"]] == [True, True]
    assert [row["touchToken"] for row in again["touches"]] == [row["touchToken"] for row in done["touches"]]
    whole = await selling.do(
        TOUCHES, touches=[rows[0] | {"eventId": "e"}, rows[3]], policy="REJECT_EVERYTHING"
    )
    assert (whole["touches"], whole["userErrors"]) == (
        [],
        [{"code": "ROWS_REJECTED", "facts": {"failed": 1}}],
    )
    foreign = await selling.do(TOUCHES, selling.stranger_token, touches=rows[:1])
    assert [row["error"]["code"] for row in foreign["rowErrors"]] == ["LINK_NOT_FOUND"]
    clicks = await selling.served.brand(
        "{ links { nodes { clicks { clicks } } } }", token=selling.merchant_token
    )
    assert clicks["data"]["links"]["nodes"] == [{"clicks": {"clicks": 2}}]
