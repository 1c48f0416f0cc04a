from __future__ import annotations

import re

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import MissingScope
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, LinkId, PromoterId, TouchId
from marketplace.audiences.errors import PlacementNotFound
from marketplace.catalog.errors import ProductNotFound
from marketplace.promotion import queries, service
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import (
    AgreementNotActive,
    AgreementNotFound,
    BadDestination,
    InvalidTouchToken,
    LinkNotFound,
    NotInScope,
    PromoterNotFound,
)
from marketplace.promotion.links import qr
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import catalog
from tests.factories import promotion as make
from tests.factories.brands import brand_actor, shopper

MERCHANT, PROMOTER, STRANGER = (brand_actor(BrandId.new()) for _ in range(3))


async def test_codes_are_short_and_not_to_be_guessed(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    codes = {(await make.link(session, market, clock)).code for _ in range(50)}
    assert len(codes) == 50
    assert all(re.fullmatch(r"[2-9a-zA-Z]{10}", code) for code in codes)


async def test_a_link_needs_ones_own_slot_an_active_agreement_and_ones_own_promoter(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    theirs = await make.market(session, MERCHANT, STRANGER, clock)
    own = {"destination": "https://shop.example.com/", "policy": make.POLICY, "clock": clock}

    async def link(agreement: AgreementId, placement: object, **more: object) -> None:
        await service.create_link(
            session,
            PROMOTER,
            agreement_id=agreement,
            placement_id=placement,  # type: ignore[arg-type]
            **{**own, **more},  # type: ignore[arg-type]
        )

    with pytest.raises(PlacementNotFound):
        await link(market.agreement_id, theirs.placement_id)
    with pytest.raises(AgreementNotFound):
        await link(theirs.agreement_id, market.placement_id)
    with pytest.raises(PromoterNotFound):
        await link(market.agreement_id, market.placement_id, promoter_id=PromoterId.new())
    with pytest.raises(BadDestination):
        await link(market.agreement_id, market.placement_id, expires_at=clock.now())
    await service.pause(session, MERCHANT, market.agreement_id, reason="", clock=clock)
    with pytest.raises(AgreementNotActive):
        await link(market.agreement_id, market.placement_id)
    with pytest.raises(MissingScope):
        await service.disable_link(session, shopper(PROMOTER.brand_id), LinkId.new(), clock=clock)


async def test_a_link_sells_what_the_agreement_covers_or_ones_own(
    session: AsyncSession, clock: FixedClock
) -> None:
    covered = await catalog.product(session, MERCHANT, clock, category="beauty/skin/cream")
    other = await catalog.product(session, MERCHANT, clock, category="toys")
    foreign = await catalog.product(session, STRANGER, clock, category="beauty/skin")
    hidden = await catalog.product(session, MERCHANT, clock, publish=False)
    mine = await catalog.product(session, PROMOTER, clock)
    terms = Terms.flat(100_000, categories=["beauty/skin"])
    market = await make.market(session, MERCHANT, PROMOTER, clock, terms)

    await make.link(session, market, clock, product_id=covered.id)
    for product in (other, foreign):
        with pytest.raises(NotInScope):
            await make.link(session, market, clock, product_id=product.id)
    with pytest.raises(ProductNotFound):
        await make.link(session, market, clock, product_id=hidden.id)
    own = make.Market(PROMOTER, PROMOTER, None, market.community_id, market.placement_id)  # type: ignore[arg-type]
    created = await make.link(session, own, clock, product_id=mine.id)
    with pytest.raises(NotInScope):
        await make.link(session, own, clock, product_id=covered.id)
    row = await queries.link(session, PROMOTER, created.id)
    assert (row.advertiser_id, row.agreement_id) == (PROMOTER.brand_id, None)


async def test_another_brands_link_is_out_of_reach(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    assert (await queries.link(session, MERCHANT, link.id)).code == link.code
    with pytest.raises(LinkNotFound):
        await queries.link(session, STRANGER, link.id)
    for actor in (STRANGER, MERCHANT):
        with pytest.raises(LinkNotFound):
            await service.disable_link(session, actor, link.id, clock=clock)
    await service.disable_link(session, PROMOTER, link.id, clock=clock)
    await service.disable_link(session, PROMOTER, link.id, clock=clock)


async def test_counts_leave_out_bots_and_repeats(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    for _ in range(3):
        await make.click(session, link, clock.now())
    await make.click(session, link, clock.now(), is_bot=True)
    counts = await queries.click_counts(session, [link.id])
    assert counts[link.id] == queries.ClickCounts(clicks=3, bots=1, repeats=0)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com/p/1?a=b&c=%E4%B8%AD#top",
        "https://xn--fiqs8s.example/x",
        "http://shop.test:8080/x",
        "https://shop.example.com:8443/",
    ],
)
def test_https_anywhere_and_http_to_trusted_hosts(url: str) -> None:
    assert DestinationPolicy(frozenset({"shop.test"})).checked(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//evil.example.com/x",
        "http://shop.example.com/",
        "https://user:secret@shop.example.com/",
        "https://shop.example.com\\@evil.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://db.internal/",
        "https://shop.example.com/\r\nSet-Cookie: x=1",
        "https://shop.example.com/ x",
        "https://商店.example/",
        "https://shop.example.com:99999/",
        "https:///x",
        "ftp://shop.example.com/",
        "https://shop.example.com/" + "x" * 2000,
        "",
    ],
)
def test_what_a_link_may_not_lead_to(url: str) -> None:
    with pytest.raises(BadDestination):
        DestinationPolicy().checked(url)


def test_a_token_says_what_was_signed_and_every_changed_letter_breaks_it(clock: FixedClock) -> None:
    touch, link = TouchId.new(), LinkId.new()
    token = make.SIGNER.token(touch, link, clock.now())
    read = make.SIGNER.read(token)
    assert (read.touch_id, read.link_id, read.at) == (touch, link, clock.now())
    for index, letter in enumerate(token):
        changed = token[:index] + ("A" if letter != "A" else "B") + token[index + 1 :]
        with pytest.raises(InvalidTouchToken):
            make.SIGNER.read(changed)
    for broken in ("", token[:-1], token + "A", token + "=", token.upper(), "é" * 75, "+/" * 38):
        with pytest.raises(InvalidTouchToken):
            make.SIGNER.read(broken)
    with pytest.raises(InvalidTouchToken):
        TouchSigner("another secret of the platform").read(token)


def test_a_cookie_is_no_token_and_a_token_is_no_cookie(clock: FixedClock) -> None:
    (cookie, key), token = (
        make.SIGNER.new_session(),
        make.SIGNER.token(TouchId.new(), LinkId.new(), clock.now()),
    )
    assert make.SIGNER.session_of(cookie) == key
    assert len(key) == 16
    assert make.SIGNER.sessions_of([cookie, token, "", "x"]) == [key]
    with pytest.raises(InvalidTouchToken):
        make.SIGNER.session_of(token)
    with pytest.raises(InvalidTouchToken):
        make.SIGNER.read(cookie)


def test_a_qr_code_is_a_picture_of_the_scan_address() -> None:
    url = qr.scan_url("https://l.example.com/", "abc2345678")
    assert url == "https://l.example.com/l/abc2345678?k=qr"
    assert qr.svg(url).startswith(b"<?xml")
    assert qr.png(url).startswith(b"\x89PNG\r\n")
