from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, TouchId
from infra.config import Settings
from infra.db.session import Database
from infra.embedded.postgres import APPLICATION
from marketplace.promotion import service
from marketplace.promotion.service import CreatedLink
from marketplace.promotion.touches.touch_token import COOKIE, TouchSigner
from services.edge.app import Edge, create_app
from services.edge.spool import Claimed, Spool
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.fixtures.waiting import PATIENCE_S, until
from tests.services.edge.gate import Gate

MERCHANT, PROMOTER = brand_actor(BrandId.new()), brand_actor(BrandId.new())
SECRET = "a secret of the tests, long enough to be one"
PHONE = {"user-agent": "Mozilla/5.0 (iPhone) MicroMessenger/8.0"}


@pytest.fixture
async def link(db: Database, clock: FixedClock) -> CreatedLink:
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, MERCHANT, PROMOTER, clock)
        return await make.link(session, market, clock)


@pytest.fixture
async def gate(postgres: Any) -> AsyncIterator[Gate]:
    gate = Gate(postgres.url(APPLICATION))
    await gate.open()
    yield gate
    await gate.close()


def _edge(gate: Gate, clock: FixedClock, data_dir: Path) -> Edge:
    settings = Settings(
        app_database_url=gate.url, secret_key=SECRET, data_dir=data_dir, edge_url="https://l.example.com"
    )
    # What is slow here is the machine; a database that is away refuses at once.
    return create_app(settings, clock=clock, patience_s=PATIENCE_S)


@pytest.fixture
async def edge(gate: Gate, link: CreatedLink, clock: FixedClock, tmp_path: Path) -> AsyncIterator[Edge]:
    edge = _edge(gate, clock, tmp_path)
    await edge.start()
    await until(_awake(edge), "the edge does not reach the database")
    yield edge
    await edge.close()


def _browser(edge: Edge, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(edge), base_url="https://l.example.com", headers={**PHONE, **headers}
    )


async def _touches(db: Database) -> Sequence[Any]:
    async with db.reading(SYSTEM) as session:
        return (await session.execute(text("SELECT * FROM touches ORDER BY id"))).all()


async def _eventually(db: Database, count: int) -> Sequence[Any]:
    async def stored() -> bool:
        return len(await _touches(db)) >= count

    await until(stored, f"not {count} touches")
    return await _touches(db)


def _awake(edge: Edge) -> Callable[[], Awaitable[bool]]:
    async def awake() -> bool:
        return edge.clicks.database_up and edge.links.loaded

    return awake


async def test_a_click_is_stored_before_its_redirect_leaves(
    edge: Edge, link: CreatedLink, db: Database, clock: FixedClock
) -> None:
    async with _browser(edge, referer="https://mp.weixin.qq.com/s/abc?secret=1") as browser:
        answer = await browser.get(f"/l/{link.code}")

    assert answer.status_code == 302
    location = urlsplit(answer.headers["location"])
    assert location._replace(query="").geturl() == link.destination
    signed = TouchSigner(SECRET).read(parse_qs(location.query)["lyt"][0])
    assert (signed.link_id, signed.at) == (link.id, clock.now())
    [touch] = await _touches(db)
    assert TouchId.of(touch.id) == signed.touch_id
    assert (touch.kind, touch.is_bot, touch.duplicate_of) == ("click", False, None)
    assert touch.referrer_host == "mp.weixin.qq.com"
    assert touch.advertiser_id == MERCHANT.brand_id
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert all(flag in cookie for flag in ("HttpOnly", "Secure", "SameSite=Lax"))
    assert answer.headers["cache-control"] == "no-store"


async def test_every_click_has_its_own_id_and_a_repeat_names_the_first(
    edge: Edge, link: CreatedLink, db: Database, clock: FixedClock
) -> None:
    async with _browser(edge) as browser:
        first = await browser.get(f"/l/{link.code}")
        second = await browser.get(f"/l/{link.code}")
        clock.advance(timedelta(seconds=31))
        third = await browser.get(f"/l/{link.code}")
    async with _browser(edge) as other:
        await other.get(f"/l/{link.code}")

    touches = await _touches(db)
    assert len({touch.id for touch in touches}) == 4
    assert [touch.duplicate_of for touch in touches] == [None, touches[0].id, None, None]
    assert len({bytes(touch.session_key) for touch in touches}) == 2
    assert "set-cookie" in first.headers
    assert "set-cookie" not in second.headers
    assert len({answer.headers["location"] for answer in (first, second, third)}) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"},
        {"user-agent": "curl/8.5.0"},
        {"user-agent": ""},
        {"user-agent": "facebookexternalhit/1.1"},
        {"sec-purpose": "prefetch;prerender"},
    ],
)
async def test_bots_are_redirected_and_marked(
    edge: Edge, link: CreatedLink, db: Database, headers: dict[str, str]
) -> None:
    async with _browser(edge, **headers) as bot:
        assert (await bot.get(f"/l/{link.code}")).status_code == 302
    [touch] = await _touches(db)
    assert touch.is_bot


async def test_a_forged_cookie_is_replaced(edge: Edge, link: CreatedLink, db: Database) -> None:
    forged = TouchSigner("another secret that is long enough").new_session()[0]
    async with _browser(edge, cookie=f"a=b; {COOKIE}={forged}") as browser:
        answer = await browser.get(f"/l/{link.code}")
    assert forged not in answer.headers["set-cookie"]
    [touch] = await _touches(db)
    assert touch.duplicate_of is None


async def test_a_scan_is_told_from_a_click_and_the_code_has_a_picture(
    edge: Edge, link: CreatedLink, db: Database
) -> None:
    async with _browser(edge) as browser:
        svg = await browser.get(f"/l/{link.code}.svg")
        png = await browser.get(f"/l/{link.code}.png")
        await browser.get(f"/l/{link.code}?k=qr")
        assert (await browser.get(f"/l/{link.code}.exe")).status_code == 404
    assert (svg.status_code, svg.headers["content-type"]) == (200, "image/svg+xml")
    assert png.content.startswith(b"\x89PNG")
    [touch] = await _touches(db)
    assert touch.kind == "scan"


async def test_nobody_chooses_where_a_link_leads(edge: Edge, link: CreatedLink) -> None:
    async with _browser(edge) as browser:
        answer = await browser.get(
            f"/l/{link.code}?url=https://evil.example.com&lyt=x&next=//evil.example.com"
        )
    assert "evil" not in answer.headers["location"]
    assert urlsplit(answer.headers["location"]).hostname == "shop.example.com"


@pytest.mark.parametrize(
    "code", ["nosuchcode", "x", "", "../../etc/passwd", "%00", "a" * 400, "码码码码码码"]
)
async def test_an_unknown_code_is_a_small_page(edge: Edge, db: Database, code: str) -> None:
    async with _browser(edge) as browser:
        answer = await browser.get(f"/l/{code}")
        again = await browser.get(f"/l/{code}")
    assert (answer.status_code, again.status_code) == (404, 404)
    assert "Link not found" in answer.text
    assert await _touches(db) == []


async def test_head_looks_without_visiting_and_other_methods_are_refused(
    edge: Edge, link: CreatedLink, db: Database
) -> None:
    async with _browser(edge) as browser:
        looked = await browser.head(f"/l/{link.code}")
        assert (looked.status_code, looked.headers["location"]) == (302, link.destination)
        assert (await browser.post(f"/l/{link.code}")).status_code == 405
    assert await _touches(db) == []


async def test_a_link_made_a_moment_ago_works_at_once(
    edge: Edge, link: CreatedLink, db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, MERCHANT, PROMOTER, clock)
        new = await make.link(session, market, clock)
    async with _browser(edge) as browser:
        assert (await browser.get(f"/l/{new.code}")).status_code == 302


async def test_a_disabled_link_redirects_and_its_clicks_do_not_qualify(
    edge: Edge, link: CreatedLink, db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(PROMOTER) as session:
        await service.disable_link(session, PROMOTER, link.id, clock=clock)
    async with _browser(edge) as browser:
        assert (await browser.get(f"/l/{link.code}")).status_code == 302


@pytest.mark.parametrize("known_from_disk", [False, True])
async def test_wechat_opens_the_mini_program_and_everybody_else_the_page(
    edge: Edge,
    gate: Gate,
    link: CreatedLink,
    db: Database,
    clock: FixedClock,
    tmp_path: Path,
    known_from_disk: bool,
) -> None:
    in_app = "weixin://dl/business/?appid=wx0123456789abcdef&path=p&query=lyt%3D{touch}%26x%3D1"
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, MERCHANT, PROMOTER, clock)
        new = await make.link(session, market, clock)
        # A link never changes once it is made; this one is made with a mini-program before the edge hears of it.
        await session.execute(
            text("UPDATE tracked_links SET in_app_destination = :in_app WHERE id = :id"),
            {"in_app": in_app, "id": new.id},
        )
    if known_from_disk:

        async def on_disk() -> bool:
            return (tmp_path / "edge" / "links.jsonl").read_bytes().count(b"\n") == 2

        await until(on_disk, "the new link is not on disk")
        await edge.close()
        await gate.shut()
        edge = _edge(gate, clock, tmp_path)
        await edge.start()
    async with _browser(edge) as wechat:
        inside = (await wechat.get(f"/l/{new.code}")).headers["location"]
    async with _browser(edge, **{"user-agent": "Mozilla/5.0 (iPhone) Safari/605"}) as safari:
        outside = (await safari.get(f"/l/{new.code}")).headers["location"]
    if known_from_disk:
        await edge.close()

    before, after = in_app.split("{touch}")
    assert inside.startswith(before)
    assert inside.endswith(after)
    signed = TouchSigner(SECRET).read(inside.removeprefix(before).removesuffix(after))
    assert signed.link_id == new.id
    assert outside.startswith("https://shop.example.com/cream?lyt=")


async def test_clicks_go_on_without_the_database_and_come_home_once(
    edge: Edge, gate: Gate, link: CreatedLink, db: Database
) -> None:
    async with _browser(edge) as browser:
        before = await asyncio.gather(*[browser.get(f"/l/{link.code}") for _ in range(20)])
        await gate.shut()
        away = await asyncio.gather(*[browser.get(f"/l/{link.code}") for _ in range(50)])
        assert (await browser.get("/readyz")).status_code == 200
        unknown = await browser.get("/l/nosuchcode")
        assert len(await _touches(db)) <= 70
        await gate.open()
        await until(_awake(edge), "the edge does not come back to the database")
        after = await asyncio.gather(*[browser.get(f"/l/{link.code}") for _ in range(20)])
        metrics = (await browser.get("/metrics")).text

    assert unknown.status_code == 503
    answers = [*before, *away, *after]
    assert {answer.status_code for answer in answers} == {302}
    touches = await _eventually(db, 90)
    given = {
        TouchSigner(SECRET).read(parse_qs(urlsplit(a.headers["location"]).query)["lyt"][0]).touch_id
        for a in answers
    }
    assert {TouchId.of(touch.id) for touch in touches} == given
    assert len(touches) == len(given) == 90
    assert "lianyu_edge_clicks_spooled_total" in metrics


async def test_a_start_without_the_database_redirects_what_it_knew_and_keeps_the_clicks(
    edge: Edge, gate: Gate, link: CreatedLink, db: Database, clock: FixedClock, tmp_path: Path
) -> None:
    await gate.shut()
    second = _edge(gate, clock, tmp_path)
    await second.start()
    async with _browser(second) as browser:
        assert (await browser.get(f"/l/{link.code}")).status_code == 302
    await second.close()  # its spool file is left for whoever comes next
    assert await _touches(db) == []

    await gate.open()
    third = _edge(gate, clock, tmp_path)
    await third.start()
    assert len(await _eventually(db, 1)) == 1

    async def home() -> bool:
        return Spool(tmp_path / "edge" / "spool").waiting() == []

    await until(home, "the spool file is kept")  # it goes a moment after its clicks have come
    await third.close()


async def test_a_line_cut_short_by_a_crash_does_not_stop_the_replay(
    edge: Edge, gate: Gate, link: CreatedLink, db: Database, clock: FixedClock, tmp_path: Path
) -> None:
    await gate.shut()
    async with _browser(edge) as browser:
        for _ in range(3):
            await browser.get(f"/l/{link.code}")
    await edge.close()
    [path] = Spool(tmp_path / "edge" / "spool").waiting()
    path.write_bytes(path.read_bytes() + b'["0193')
    claimed = Claimed.claim(path)
    assert claimed is not None
    assert len(claimed.clicks()) == 3
    assert Claimed.claim(path) is None
    claimed.release(done=False)

    await gate.open()
    again = _edge(gate, clock, tmp_path)
    await again.start()
    assert len(await _eventually(db, 3)) == 3
    await again.close()


async def test_health_and_metrics_answer(edge: Edge, link: CreatedLink) -> None:
    async with _browser(edge) as browser:
        await browser.get(f"/l/{link.code}")
        assert (await browser.get("/healthz")).text == "ok\n"
        assert (await browser.get("/readyz")).text == "database up\n"
        metrics = (await browser.get("/metrics")).text
        assert (await browser.get("/")).status_code == 404
    assert "lianyu_edge_clicks_stored_total 1.0" in metrics
    assert 'lianyu_edge_requests_total{status="302"} 1.0' in metrics
