from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, LinkId, OrderId, OrderLineId, ProductId, RefundId, TouchId
from infra.db.session import Database
from marketplace.audiences.models import IdentifierKind
from marketplace.promotion import service
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.commission.rules import Funder, OrderDiscount
from marketplace.promotion.errors import DecisionNotFound
from marketplace.promotion.events import OrderCredited
from marketplace.promotion.facts import AttributionModel, ScopeKind
from marketplace.promotion.fraud.on_credit import on_order_credited
from marketplace.promotion.models import CommissionStatus, ShareRole
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from marketplace.promotion.touches.clicks import Click
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import audiences as people
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.commission_refunds import refund_basis

MERCHANT, PROMOTER, STRANGER = (brand_actor(BrandId.new()) for _ in range(3))
DAY = timedelta(days=1)


def _line(
    gross_minor: int = 10_000,
    *,
    sku: str = "sku-1",
    category: str = "beauty/skin",
    product: ProductId | None = None,
) -> LineForAttribution:
    return LineForAttribution(
        OrderLineId.new(), ProductId.new(), sku, category, quantity=1, gross_minor=gross_minor
    )


def _order(
    clock: FixedClock, tokens: Sequence[str], lines: Sequence[LineForAttribution] | None = None, **facts: Any
) -> OrderForAttribution:
    return OrderForAttribution(
        OrderId.new(),
        MERCHANT.brand_id,
        "CNY",
        clock.now(),
        lines or [_line()],
        touch_tokens=tokens,
        **{"paid_at": clock.now(), **facts},
    )


async def _attributed(
    session: AsyncSession, clock: FixedClock, order: OrderForAttribution
) -> tuple[service.Attributed, dict[TouchId, RejectReason | None]]:
    done = await service.attribute(session, order, signer=make.SIGNER, clock=clock)
    told = await service.explain_attribution(session, SYSTEM, order.order_id)
    assert told.verified
    return done, {touch.touch_id: touch.rejected for touch in told.touches}


def _touch(token: str) -> TouchId:
    return make.SIGNER.read(token).touch_id


async def test_three_lines_and_a_merchant_coupon(session: AsyncSession, clock: FixedClock) -> None:
    # shared/vectors/cps.json, "multi-line, SKU over category over campaign, merchant coupon"
    terms = Terms(
        (
            Rule(150_000, ScopeKind.SKU, "cream-50"),
            Rule(80_000, ScopeKind.CATEGORY, "beauty"),
            Rule(50_000),
        ),
        fee_ppm=50_000,
        individual_ppm=600_000,
    )
    market = await make.market(session, MERCHANT, PROMOTER, clock, terms)
    promoter = await service.create_promoter(
        session, PROMOTER, name="Mei", kind="koc", vault=people.VAULT, clock=clock
    )
    link = await make.link(session, market, clock, promoter_id=promoter)
    token = await make.click(session, link, clock.now())
    clock.advance(DAY)
    lines = [
        _line(25_800, sku="cream-50"),
        _line(5_990, category="beauty/hair"),
        _line(5_997, category="toys"),
    ]
    order = _order(clock, [token], lines, discounts=[OrderDiscount(3_000, Funder.MERCHANT)])

    done, _ = await _attributed(session, clock, order)

    assert [line.basis_minor for line in done.lines] == [23_752, 5_514, 5_521]
    assert [line.commission_minor for line in done.lines] == [3_563, 441, 276]
    shares = [[share.amount_minor for share in line.shares] for line in done.lines]
    assert shares == [[2031, 1354, 178], [251, 168, 22], [157, 105, 14]]
    assert [share.payee for share in done.lines[0].shares] == [
        str(promoter),
        str(PROMOTER.brand_id),
        "platform",
    ]


async def test_an_order_without_a_touch_earns_nobody(session: AsyncSession, clock: FixedClock) -> None:
    order = _order(clock, [])
    done, touches = await _attributed(session, clock, order)
    assert (done.lines, touches) == ((), {})


async def test_the_window_is_inclusive_to_the_second(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    token = await make.click(session, link, clock.now())

    clock.advance(15 * DAY)
    inside, _ = await _attributed(session, clock, _order(clock, [token]))
    clock.advance(timedelta(seconds=1))
    outside, why = await _attributed(session, clock, _order(clock, [token]))

    assert [line.commission_minor for line in inside.lines] == [1_000]
    assert outside.lines == ()
    assert why == {_touch(token): RejectReason.OUT_OF_WINDOW}


async def test_an_order_earns_by_the_version_of_its_winning_touch(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    opened = await service.propose_version(
        session, MERCHANT, market.agreement_id, terms=Terms.flat(50_000), clock=clock
    )
    for signer in (MERCHANT, PROMOTER):
        await service.sign_agreement(
            session, signer, market.agreement_id, content_hash=opened.content_hash, clock=clock
        )
    before = await make.click(session, link, clock.now() + 7 * DAY - timedelta(seconds=1))
    after = await make.click(session, link, clock.now() + 7 * DAY)
    clock.advance(8 * DAY)

    old, _ = await _attributed(session, clock, _order(clock, [before]))
    new, _ = await _attributed(session, clock, _order(clock, [after]))

    assert [(line.agreement_version, line.commission_minor) for line in old.lines] == [(1, 1_000)]
    assert [(line.agreement_version, line.commission_minor) for line in new.lines] == [(2, 500)]


async def test_a_touch_is_judged_by_the_state_of_its_own_moment(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link, other = await make.link(session, market, clock), await make.link(session, market, clock)
    active = await make.click(session, link, clock.now())
    clock.advance(DAY)
    await service.pause(session, MERCHANT, market.agreement_id, reason="", clock=clock)
    paused = await make.click(session, link, clock.now() + timedelta(hours=1))
    clock.advance(DAY)
    await service.resume(session, MERCHANT, market.agreement_id, clock=clock)
    await service.disable_link(session, PROMOTER, other.id, clock=clock)
    disabled = await make.click(session, other, clock.now() + timedelta(hours=1))
    clock.advance(DAY)
    bot = await make.click(session, link, clock.now() - timedelta(hours=1), is_bot=True)

    done, why = await _attributed(session, clock, _order(clock, [active, paused, disabled, bot]))

    assert why == {
        _touch(active): None,
        _touch(paused): RejectReason.AGREEMENT_NOT_ACTIVE,
        _touch(disabled): RejectReason.LINK_DISABLED,
        _touch(bot): RejectReason.BOT,
    }
    assert [line.commission_minor for line in done.lines] == [1_000]


async def test_the_last_touch_wins_unless_at_the_checkout(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    first = await make.click(session, link, clock.now())
    second = await make.click(session, link, clock.now() + timedelta(hours=2))
    started = clock.advance(DAY)
    sniped = await make.click(session, link, started + timedelta(seconds=5))
    clock.advance(timedelta(minutes=5))
    order = _order(clock, [first, second, sniped], checkout_started_at=started)

    _, why = await _attributed(session, clock, order)

    assert why == {
        _touch(first): RejectReason.EARLIER_TOUCH,
        _touch(second): None,
        _touch(sniped): RejectReason.CHECKOUT_STAGE,
    }


@pytest.mark.parametrize("signed", [False, True])
async def test_a_lone_touch_at_the_checkout_earns_where_both_brands_signed_it(
    session: AsyncSession, clock: FixedClock, signed: bool
) -> None:
    terms = Terms((Rule(100_000),), checkout_touch_earns=signed)
    market = await make.market(session, MERCHANT, PROMOTER, clock, terms)
    link = await make.link(session, market, clock)
    earlier = await make.click(session, link, clock.now())
    started = clock.advance(DAY)
    sniped = await make.click(session, link, started + timedelta(seconds=5))
    clock.advance(timedelta(minutes=5))
    lone = _order(clock, [sniped], checkout_started_at=started)
    led = _order(clock, [earlier, sniped], checkout_started_at=started)

    done, why = await _attributed(session, clock, lone)

    assert why == {_touch(sniped): None if signed else RejectReason.CHECKOUT_STAGE}
    assert [line.commission_minor for line in done.lines] == ([1_000] if signed else [])
    # Whatever was signed: it displaces nobody who came before.
    _, why = await _attributed(session, clock, led)
    assert why == {_touch(earlier): None, _touch(sniped): RejectReason.CHECKOUT_STAGE}


async def test_a_forged_token_is_worth_nothing_and_stops_nothing(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    real = await make.click(session, link, clock.now())
    forged = real[:-1] + ("A" if real[-1] != "A" else "B")
    stranger = TouchSigner("another secret that is long enough").token(TouchId.new(), link.id, clock.now())

    done, touches = await _attributed(
        session, clock, _order(clock, [forged, stranger, "", "lyt", "x" * 5000])
    )

    assert (done.lines, touches) == ((), {})


async def test_a_click_still_in_the_spool_is_attributed(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    unread = make.SIGNER.token(TouchId.new(), link.id, clock.now())
    unknown = make.SIGNER.token(TouchId.new(), LinkId.new(), clock.now())

    done, why = await _attributed(session, clock, _order(clock, [unread, unknown]))

    assert why == {_touch(unread): None}
    assert [line.commission_minor for line in done.lines] == [1_000]


async def test_a_repeated_click_brings_the_one_it_repeats(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    first = await make.click(session, link, clock.now())
    again = TouchId.new()
    at = clock.now() + timedelta(seconds=2)
    repeat = Click(
        again,
        link.id,
        market.agreement_id,
        MERCHANT.brand_id,
        PROMOTER.brand_id,
        at,
        duplicate_of=_touch(first),
    )
    assert await service.record_clicks(session, [repeat]) == 1
    assert await service.record_clicks(session, [repeat]) == 0
    clock.advance(DAY)

    done, why = await _attributed(session, clock, _order(clock, [make.SIGNER.token(again, link.id, at)]))

    assert why == {_touch(first): None, again: RejectReason.DUPLICATE}
    assert [line.commission_minor for line in done.lines] == [1_000]


async def test_a_cookie_brings_what_its_browser_clicked(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    link = await make.link(session, market, clock)
    browser = make.SIGNER.new_session()[1]
    token = await make.click(session, link, clock.now(), session_key=browser)
    clock.advance(DAY)

    _, why = await _attributed(session, clock, _order(clock, [], session_keys=[browser]))

    assert why == {_touch(token): None}


async def test_buying_through_ones_own_link_earns_nothing(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    promoter = await service.create_promoter(
        session,
        PROMOTER,
        name="Mei",
        kind="koc",
        identifiers=[(IdentifierKind.EMAIL, "Mei@example.com")],
        vault=people.VAULT,
        clock=clock,
    )
    await service.create_promoter(
        session,
        PROMOTER,
        name="Lin",
        kind="staff",
        identifiers=[(IdentifierKind.PHONE, "13800138000")],
        vault=people.VAULT,
        clock=clock,
    )
    link = await make.link(session, market, clock, promoter_id=promoter)
    token = await make.click(session, link, clock.now())
    mei = people.VAULT.person(IdentifierKind.EMAIL, "mei@example.com")
    lin = people.VAULT.person(IdentifierKind.PHONE, "+8613800138000")
    clock.advance(DAY)
    for buyer, expected in (
        (mei, RejectReason.SELF_PURCHASE),
        (lin, RejectReason.STAFF_PURCHASE),
        ("somebody else", None),
    ):
        order = _order(clock, [token], buyer_keys=frozenset({buyer}))
        _, why = await _attributed(session, clock, order)
        assert why == {_touch(token): expected}


async def test_what_a_promoters_household_or_second_account_buys_earns_nothing(
    session: AsyncSession, clock: FixedClock
) -> None:
    """Mei once bought for herself. Her cousin has another name but her door, her brother her card; and Mei is paid to
    one account by two brands, so that the other one's person, who is her, does not help."""
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    promoters = [
        await service.create_promoter(
            session, brand, name="Mei", kind="koc", identifiers=[(IdentifierKind.EMAIL, email)],
            payout_account="6222 0001", vault=people.VAULT, clock=clock,
        )
        for brand, email in ((PROMOTER, "mei@example.com"), (MERCHANT, "m2@example.com"))
    ]  # fmt: skip
    token = await make.click(
        session, await make.link(session, market, clock, promoter_id=promoters[0]), clock.now()
    )
    mei, other = (
        people.VAULT.person(IdentifierKind.EMAIL, email) for email in ("mei@example.com", "m2@example.com")
    )
    clock.advance(DAY)
    cousin: dict[str, Any] = {"buyer_keys": frozenset({"cousin"}), "address_hash": "door"}
    brother: dict[str, Any] = {"buyer_keys": frozenset({"brother"}), "payment_instrument_hash": "card"}
    for household in (cousin, brother):
        _, why = await _attributed(session, clock, _order(clock, [token], **household))
        assert why == {_touch(token): None}  # nobody knows yet
    own = _order(clock, [], buyer_keys=frozenset({mei}), address_hash="door", payment_instrument_hash="card")
    done = await service.attribute(session, own, signer=make.SIGNER, clock=clock)
    for _ in range(2):
        await on_order_credited(session, OrderCredited(done.order_id, done.decision_id), clock=clock)
    for facts, expected in (
        (cousin, RejectReason.SHARED_ADDRESS),
        (brother, RejectReason.SHARED_INSTRUMENT),
        ({"buyer_keys": frozenset({other})}, RejectReason.SHARED_PAYOUT),
        ({"buyer_keys": frozenset({"fan"}), "address_hash": "elsewhere"}, None),
        ({"buyer_keys": frozenset({"stranger"})}, None),  # of whom neither is known
    ):
        _, why = await _attributed(session, clock, _order(clock, [token], **facts))
        assert why == {_touch(token): expected}


async def test_attributing_again_returns_what_was_stored(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    token = await make.click(session, await make.link(session, market, clock), clock.now())
    order = _order(clock, [token], [_line(), _line(3_333)])
    first = await service.attribute(session, order, signer=make.SIGNER, clock=clock)
    later = await make.click(session, await make.link(session, market, clock), clock.now())
    again = OrderForAttribution(
        order.order_id, order.advertiser_id, "CNY", clock.now(), order.lines, touch_tokens=[later]
    )
    assert await service.attribute(session, again, signer=make.SIGNER, clock=clock) == first


async def test_attribution_takes_few_statements_however_many_lines(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    tokens = [
        await make.click(session, await make.link(session, market, clock), clock.now()) for _ in range(5)
    ]
    order = _order(clock, tokens, [_line() for _ in range(20)])
    seen: list[str] = []
    connection = (await session.connection()).sync_connection
    event.listen(connection, "before_cursor_execute", lambda *args: seen.append(args[2]))

    await service.attribute(session, order, signer=make.SIGNER, clock=clock)

    assert len(seen) == 5


async def test_both_brands_see_and_recompute_a_decision_and_no_third_does(
    db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, MERCHANT, PROMOTER, clock)
        token = await make.click(session, await make.link(session, market, clock), clock.now())
        order = _order(clock, [token])
        await service.attribute(session, order, signer=make.SIGNER, clock=clock)
    hashes = set()
    for party in (MERCHANT, PROMOTER):
        async with db.reading(party) as session:
            told = await service.explain_attribution(session, party, order.order_id)
        assert told.verified
        assert [str(line.commission) for line in told.lines] == ["10.00 CNY"]
        hashes.add((told.input_hash, told.amounts_hash, told.result_hash))
    assert len(hashes) == 1
    async with db.reading(STRANGER) as session:
        with pytest.raises(DecisionNotFound):
            await service.explain_attribution(session, STRANGER, order.order_id)
        for table in (
            "attribution_decisions", "commission_lines", "commission_shares", "touches", "tracked_links",
        ):  # fmt: skip
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0, table


async def test_a_decision_cannot_be_rewritten(session: AsyncSession, clock: FixedClock) -> None:
    await service.attribute(session, _order(clock, []), signer=make.SIGNER, clock=clock)
    with pytest.raises(DBAPIError, match="append-only"):
        await session.execute(text("UPDATE attribution_decisions SET result = ''"))


async def test_seven_partial_refunds_take_back_exactly_the_commission(
    session: AsyncSession, clock: FixedClock
) -> None:
    # shared/vectors/cps.json, "seven partial refunds take back exactly the commission" (fee 0, no individual)
    [taken, status] = await _refunded(session, clock, [15, 15, 15, 15, 15, 15, 10])
    assert taken == [[2, 0], [1, 0], [2, 0], [1, 0], [2, 0], [1, 0], [1, 0]]
    assert status is CommissionStatus.REVERSED


async def _refunded(session: AsyncSession, clock: FixedClock, refunds: Sequence[int]) -> list[Any]:
    """A line of 100 that earns 10; the platform's fee is 0, as only the platform itself could agree."""
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    token = await make.click(session, await make.link(session, market, clock), clock.now())
    line = _line(100)
    await service.attribute(session, _order(clock, [token], [line]), signer=make.SIGNER, clock=clock)
    await session.execute(
        text("UPDATE commission_shares SET earned_minor = CASE role WHEN 'promoter_brand' THEN 10 ELSE 0 END")
    )
    taken = []
    for basis in refunds:
        refund = RefundId.new()
        await refund_basis(session, refund, {line.order_line_id: basis}, clock=clock)
        taken.append([amount for _, amount in await _taken(session, refund)])
    status = await session.scalar(text("SELECT status FROM commission_lines"))
    return [taken, CommissionStatus(status)]


async def _taken(session: AsyncSession, refund: RefundId) -> list[tuple[ShareRole, int]]:
    """What a refund took of each share, in the order of R3."""
    rows = await session.execute(_TAKEN, {"refund": refund})
    return [(ShareRole(row.role), row.amount_minor) for row in rows]


_TAKEN = text(
    "SELECT s.role, r.amount_minor FROM commission_reversals r JOIN commission_shares s"
    " USING (commission_line_id, position) WHERE r.refund_id = :refund ORDER BY r.commission_line_id, position"
)


async def test_the_same_refund_twice_takes_back_once(session: AsyncSession, clock: FixedClock) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    token = await make.click(session, await make.link(session, market, clock), clock.now())
    line, unsold = _line(10_000), _line(5_000)
    await service.attribute(session, _order(clock, [token], [line]), signer=make.SIGNER, clock=clock)
    refund = RefundId.new()
    wanted = {line.order_line_id: 4_000, unsold.order_line_id: 5_000}

    for _ in range(2):
        await refund_basis(session, refund, wanted, clock=clock)
        # 40 % of 1,000 is 400: of the 950 the brand holds 380, of the platform's 50 it is 20.
        assert await _taken(session, refund) == [(ShareRole.PROMOTER_BRAND, 380), (ShareRole.PLATFORM, 20)]
    refunded = await session.scalar(text("SELECT refunded_basis_minor FROM commission_lines"))
    assert refunded == 4_000


async def test_another_merchants_touch_is_not_this_orders_business(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, STRANGER, PROMOTER, clock)
    token = await make.click(session, await make.link(session, market, clock), clock.now())
    done, touches = await _attributed(session, clock, _order(clock, [token]))
    assert (done.lines, touches) == ((), {})


async def test_linear_shares_a_line_over_its_placements(session: AsyncSession, clock: FixedClock) -> None:
    terms = Terms.flat(100_000, model=AttributionModel.LINEAR)
    market = await make.market(session, MERCHANT, PROMOTER, clock, terms)
    second = make.Market(
        MERCHANT,
        PROMOTER,
        market.agreement_id,
        market.community_id,
        await people.placement(session, PROMOTER, clock, market.community_id),
    )
    tokens = [
        await make.click(session, await make.link(session, place, clock), clock.now())
        for place in (market, second)
    ]
    clock.advance(DAY)

    done, _ = await _attributed(session, clock, _order(clock, tokens, [_line(10_010)]))

    # 1,001 over two touches is 501 and 500, the older first; 5 % of each is the platform's.
    assert [share.amount_minor for share in done.lines[0].shares] == [476, 25, 475, 25]
    assert sum(share.amount_minor for share in done.lines[0].shares) == 1_001
