"""A promoter's code from the checkout to the commission: whose sale it is, and when it no longer says so.

A cream of ¥100.00 with 13 % tax inside, sold for 10 % of what is left without tax; the code takes ¥10.00 off at the
merchant's cost: 9,000 − half_up(9,000·13/113) = 9,000 − 1,035 = 7,965, of which 10 % is 796.5, rounded to 797.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM, Actor
from core.canonical import to_micros
from core.clock import FixedClock
from core.errors import LianyuError
from core.ids import BrandId, CheckoutId, LinkId, OrderId, TouchId
from core.money import Money
from infra.db.session import Database
from marketplace.audiences.models import IdentifierKind
from marketplace.orders import cart, checkout, payment
from marketplace.promotion import service
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.coupons import codes, entries
from marketplace.promotion.coupons.codes import CouponTerms
from marketplace.promotion.coupons.entries import owner_touched
from marketplace.promotion.coupons.models import CouponId, Funder
from marketplace.promotion.facts import TouchFact, TouchKind
from marketplace.promotion.service import CreatedLink
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import orders, promotion
from tests.factories.audiences import VAULT
from tests.factories.brands import committed_brand
from tests.factories.orders import Shop

SIGNER = TouchSigner(orders.SECRET)
TEN_OFF = Money(1_000, "CNY")
COMMISSION = 797
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BUYER = "anna@example.com"


@dataclass(frozen=True, slots=True)
class Fair:
    """A shop whose promoter has a link and a code, and a rival with a link for the same products."""

    shop: Shop
    link: CreatedLink
    rival: CreatedLink

    @property
    def merchant(self) -> Actor:
        return self.shop.promotion.merchant


@pytest.fixture
async def fair(db: Database, clock: FixedClock) -> Fair:
    shop = await orders.open_shop(db, clock)
    rival, _ = await committed_brand(db, clock, name="Rival")
    async with db.unit_of_work(SYSTEM) as session:
        other = await promotion.market(session, shop.promotion.merchant, rival, clock)
        links = [await promotion.link(session, market, clock) for market in (shop.promotion, other)]
    return Fair(shop, *links)


async def code_of(
    db: Database, fair: Fair, clock: FixedClock, actor: Actor | None = None, **terms: Any
) -> CouponId:
    actor = actor or fair.merchant
    given = {
        "code": "MEI-10", "currency": "CNY", "starts_at": clock.now(), "amount": TEN_OFF,
        "link_id": fair.link.id, "funder": Funder.ADVERTISER, **terms,
    }  # fmt: skip
    funder = given.pop("funder")
    async with db.unit_of_work(actor) as session:
        return await codes.create_coupon(session, actor, CouponTerms(**given), funder=funder, now=clock.now())


async def clicked(db: Database, link: CreatedLink, clock: FixedClock) -> str:
    async with db.unit_of_work(SYSTEM) as session:
        return await promotion.click(session, link, clock.now())


async def placed(
    db: Database, shop: Shop, clock: FixedClock, *, code: str | None, tokens: tuple[str, ...] = ()
) -> tuple[CheckoutId, list[OrderId]]:
    async with db.unit_of_work(SYSTEM) as session:
        cart_id = await cart.create(
            session, shop.storefront.actor, shop.facts, quantities={shop.variant: 1}, touch_tokens=tokens,
            clock=clock,
        )  # fmt: skip
        if code is not None:
            await cart.apply_coupon(session, cart_id, storefront=shop.facts, code=code, clock=clock)
        view, quote = await checkout.start(
            session, shop.storefront.actor, shop.facts, cart_id=cart_id, address=orders.HOME, email=BUYER,
            policy=orders.POLICY, clock=clock,
        )  # fmt: skip
        assert not quote.problems
        clock.advance(timedelta(minutes=1))
        return view.id, await orders.place(session, shop, view.id, clock)


async def bought(
    db: Database, shop: Shop, clock: FixedClock, *, code: str | None = "mei-10", tokens: tuple[str, ...] = ()
) -> OrderId:
    checkout_id, made = await placed(db, shop, clock, code=code, tokens=tokens)
    clock.advance(timedelta(minutes=1))
    async with db.unit_of_work(SYSTEM) as session:
        await orders.pay(session, checkout_id, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await orders.book(session, checkout_id, made, clock)
    return made[0]


async def earned(db: Database, order_id: OrderId) -> list[tuple[LinkId, int]]:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(
            text("SELECT link_id, commission_minor FROM commission_lines WHERE order_id = :id"),
            {"id": order_id},
        )
        return [(LinkId.of(row.link_id), row.commission_minor) for row in rows]


async def fates(db: Database, order_id: OrderId) -> dict[str, RejectReason | None]:
    """By kind of touch: why it earned nothing, or None."""
    async with db.reading(SYSTEM) as session:
        told = await service.explain_attribution(session, SYSTEM, order_id)
    assert told.verified
    return {touch.kind: touch.rejected for touch in told.touches}


async def test_an_exclusive_code_goes_before_anothers_click(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    await code_of(db, fair, clock)
    token = await clicked(db, fair.rival, clock)
    clock.advance(HOUR)

    order = await bought(db, fair.shop, clock, tokens=(token,))

    assert await earned(db, order) == [(fair.link.id, COMMISSION)]
    assert await fates(db, order) == {"click": RejectReason.LOWER_PRECEDENCE, "coupon": None}


async def test_an_exclusive_code_needs_no_click_at_all(db: Database, fair: Fair, clock: FixedClock) -> None:
    await code_of(db, fair, clock)
    order = await bought(db, fair.shop, clock)
    assert await earned(db, order) == [(fair.link.id, COMMISSION)]


async def test_a_code_that_is_not_exclusive_is_a_touch_of_the_checkout(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    await code_of(db, fair, clock, exclusive=False)
    token = await clicked(db, fair.rival, clock)
    clock.advance(HOUR)

    order = await bought(db, fair.shop, clock, tokens=(token,))
    alone = await bought(db, fair.shop, clock)

    assert await earned(db, order) == [(fair.rival.id, COMMISSION)]
    assert await fates(db, order) == {"click": None, "coupon": RejectReason.CHECKOUT_STAGE}
    assert await earned(db, alone) == []


@pytest.mark.parametrize(("flagged_from", "earns"), [(-DAY, "rival"), (timedelta(0), "rival"), (DAY, "link")])
async def test_a_leaked_code_is_judged_at_the_moment_it_was_entered(
    db: Database, fair: Fair, clock: FixedClock, flagged_from: timedelta, earns: str
) -> None:
    coupon_id = await code_of(db, fair, clock)
    token = await clicked(db, fair.rival, clock)
    clock.advance(HOUR)
    checkout_id, made = await placed(db, fair.shop, clock, code="MEI-10", tokens=(token,))
    async with db.unit_of_work(SYSTEM) as session:
        assert await entries.flag_leaked(session, [coupon_id], since=clock.now() + flagged_from)
        await orders.pay(session, checkout_id, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await orders.book(session, checkout_id, made, clock)

    assert await earned(db, made[0]) == [(getattr(fair, earns).id, COMMISSION)]


async def test_a_flag_is_moved_back_in_time_only_and_can_be_cleared(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    coupon_id = await code_of(db, fair, clock)
    public = await code_of(db, fair, clock, code="ALL", exclusive=False)
    noon = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        both = [public, coupon_id]
        done = [await entries.flag_leaked(session, both, since=noon + n * HOUR) for n in (0, 1, 0, -1)]
        assert done == [{coupon_id}, set(), set(), {coupon_id}]
        assert (await codes.coupon(session, SYSTEM, coupon_id)).leaked_since == noon - HOUR
        assert [await entries.clear_leaked(session, coupon_id) for _ in range(2)] == [True, False]
        assert (await codes.coupon(session, SYSTEM, coupon_id)).leaked_since is None


async def test_the_promoter_buying_with_their_own_code_earns_nothing(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock, terms=Terms.flat(100_000, individual_ppm=500_000))
    async with db.unit_of_work(SYSTEM) as session:
        person = await service.create_promoter(
            session, shop.promotion.promoter, name="Mei", kind="koc",
            identifiers=[(IdentifierKind.EMAIL, BUYER)], vault=VAULT, clock=clock,
        )  # fmt: skip
        link = await promotion.link(session, shop.promotion, clock, promoter_id=person)
    fair = Fair(shop, link, link)
    await code_of(db, fair, clock)

    order = await bought(db, shop, clock)

    assert await earned(db, order) == []
    assert await fates(db, order) == {"coupon": RejectReason.SELF_PURCHASE}


async def test_a_code_of_a_link_that_was_disabled_takes_off_and_earns_nothing(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    await code_of(db, fair, clock)
    clock.advance(HOUR)
    promoter = fair.shop.promotion.promoter
    async with db.unit_of_work(promoter) as session:
        await service.disable_link(session, promoter, fair.link.id, clock=clock)

    order = await bought(db, fair.shop, clock)

    assert await earned(db, order) == []
    assert await fates(db, order) == {"coupon": RejectReason.LINK_DISABLED}


async def test_the_promoter_brand_pays_for_its_own_code_and_earns_by_it(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    """The basis is the full price then: 10,000 − 1,150 = 8,850, of which 10 % is 885; ¥5.00 of it pay the code."""
    promoter = fair.shop.promotion.promoter
    await code_of(db, fair, clock, promoter, funder=Funder.PROMOTER, amount=Money(500, "CNY"))
    order = await bought(db, fair.shop, clock)
    assert await earned(db, order) == [(fair.link.id, 885)]
    async with db.reading(SYSTEM) as session:
        held = await session.scalar(
            text("SELECT sum(pending_minor) FROM split_parts WHERE part = 'promoter_brand'")
        )
    assert held == 885 - 44 - 500  # half_up(885·5 %) = 44 are the platform's


async def test_a_checkout_that_is_not_paid_gives_the_use_back_and_counts_for_no_leak(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    coupon_id = await code_of(db, fair, clock, max_uses=1)
    checkout_id, _ = await placed(db, fair.shop, clock, code="MEI-10")
    clock.advance(HOUR)
    async with db.unit_of_work(SYSTEM) as session:
        await payment.expire(session, checkout_id, clock=clock)
        assert (await codes.coupon(session, SYSTEM, coupon_id)).uses == 0
        tallies = await entries.tally_exclusive(session, since=clock.now() - DAY, least_entries=1)
    assert tallies == []
    assert len(await earned(db, await bought(db, fair.shop, clock))) == 1


async def test_the_tally_tells_buyers_the_promoter_brought_from_strangers(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    coupon_id = await code_of(db, fair, clock)
    began = clock.now() - HOUR
    brought = [await clicked(db, fair.link, clock) for _ in range(2)]
    strange = await clicked(db, fair.rival, clock)
    clock.advance(HOUR)
    for tokens in [(brought[0],), (brought[1], strange), (strange,), (), ()]:
        await bought(db, fair.shop, clock, tokens=tokens)

    async with db.reading(SYSTEM) as session:
        (tally,) = await entries.tally_exclusive(session, since=began, least_entries=5)
        assert await entries.tally_exclusive(session, since=began, least_entries=6) == []
        assert await entries.tally_exclusive(session, since=clock.now(), least_entries=1) == []
    assert (tally.coupon_id, tally.entries, tally.strangers) == (coupon_id, 5, 3)
    assert (tally.promoter_brand_id, tally.promoter_id) == (fair.shop.promotion.promoter.brand_id, None)


def _touch(**facts: Any) -> TouchFact:
    base: Mapping[str, Any] = {
        "id": str(TouchId.new()), "agreement_id": "a", "agreement_version": 1, "promoter_brand_id": "brand",
        "placement_id": "slot", "touch_at_us": to_micros(NOON), "promoter_id": None,
    }  # fmt: skip
    return TouchFact(**{**base, **facts})


@pytest.mark.parametrize(
    ("owner", "touch", "counts"),
    [
        (None, {"placement_id": "other"}, True),
        (None, {"promoter_brand_id": "rival"}, False),
        ("mei", {"promoter_id": "mei", "placement_id": "other"}, True),
        ("mei", {"promoter_id": "lin"}, True),
        ("mei", {"promoter_id": "lin", "placement_id": "other"}, False),
        (None, {"is_bot": True}, False),
        (None, {"kind": TouchKind.COUPON}, False),
        (None, {"touch_at_us": to_micros(NOON) + 1_000_000}, False),
    ],
)
def test_whose_placements_are_the_owners(owner: str | None, touch: dict[str, Any], counts: bool) -> None:
    entry = _touch(kind=TouchKind.COUPON, promoter_id=owner)
    assert owner_touched(entry, [entry, _touch(**touch)]) is counts


@pytest.mark.parametrize(
    ("who", "terms", "code"),
    [
        ("promoter", {}, "LINK_NOT_FOUND"),
        ("merchant", {"funder": Funder.PROMOTER}, "LINK_NOT_FOUND"),
        ("stranger", {}, "LINK_NOT_FOUND"),
        ("merchant", {"link_id": LinkId.new()}, "LINK_NOT_FOUND"),
        ("merchant", {"code": "TAKEN"}, "COUPON_CODE_TAKEN"),
    ],
)
async def test_a_promoters_code_is_made_by_the_side_that_pays(
    db: Database, fair: Fair, clock: FixedClock, who: str, terms: dict[str, Any], code: str
) -> None:
    stranger, _ = await committed_brand(db, clock, name="Stranger")
    actors = {
        "merchant": fair.merchant, "promoter": fair.shop.promotion.promoter, "stranger": stranger,
    }  # fmt: skip
    await code_of(db, fair, clock, code="TAKEN")
    with pytest.raises(LianyuError) as refused:
        await code_of(db, fair, clock, actors[who], **terms)
    assert refused.value.code == code


async def test_a_code_needs_a_link_that_is_active(db: Database, fair: Fair, clock: FixedClock) -> None:
    promoter = fair.shop.promotion.promoter
    async with db.unit_of_work(promoter) as session:
        await service.disable_link(session, promoter, fair.link.id, clock=clock)
    with pytest.raises(LianyuError) as refused:
        await code_of(db, fair, clock)
    assert (refused.value.code, refused.value.field) == ("BAD_COUPON", "linkId")


async def test_an_order_of_an_outside_checkout_names_codes_too(
    db: Database, fair: Fair, clock: FixedClock
) -> None:
    coupon_id = await code_of(db, fair, clock, max_uses=1)
    await code_of(db, fair, clock, code="LATER", starts_at=clock.now() + DAY)
    checkouts = [CheckoutId.new(), CheckoutId.new()]
    async with db.unit_of_work(SYSTEM) as session:
        used = [
            await entries.enter(
                session, each, ["MEI-10", "LATER", "NOBODYS"], advertiser_id=fair.merchant.brand_id,
                at=clock.now(),
            )
            for each in checkouts
        ]  # fmt: skip
        strange = await entries.enter(
            session, checkouts[1], ["MEI-10"], advertiser_id=BrandId.new(), at=clock.now()
        )
        found = await entries.entries_of(session, checkouts)
        uses = (await codes.coupon(session, SYSTEM, coupon_id)).uses
    assert (used, strange, uses) == ([{"MEI-10"}, set()], set(), 1)
    assert [len(found.get(each, [])) for each in checkouts] == [1, 0]
