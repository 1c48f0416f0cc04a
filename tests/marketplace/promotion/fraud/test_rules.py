"""For each rule: the attack is caught, an honest promoter of similar volume is not."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from marketplace.promotion.fraud.rules import (
    Click,
    NewSale,
    Refunds,
    banned_source,
    click_flood,
    coupon_leak,
    device_reuse,
    hollow_clicks,
    refund_ring,
    self_referral,
    time_to_order_flat,
    time_to_order_short,
    velocity,
)
from marketplace.promotion.fraud.signals import Action, Rule
from marketplace.promotion.touches.ad_clicks import ad_parameters

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DAY_S = 86_400


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def clicks(at_s: list[float], *, network: str = "n1", agent: str = "a1", link: str = "l1") -> list[Click]:
    return [
        Click(f"{network}-{agent}-{i}", link, network, agent, AT + seconds(s)) for i, s in enumerate(at_s)
    ]


def test_a_script_that_clicks_twenty_times_a_minute_is_a_flood_and_its_clicks_are_named() -> None:
    quiet = clicks([0, 4_000], network="n2")
    (signal,) = click_flood(quiet + clicks([s * 2.5 for s in range(40)]))

    assert (signal.rule, signal.action) == (Rule.CLICK_FLOOD, Action.EXCLUDE_CLICKS)
    assert len(signal.touch_ids) == 40
    assert signal.evidence["peak"] == 24  # 60 s hold 24 clicks at 2.5 s
    assert set(signal.touch_ids).isdisjoint(click.touch_id for click in quiet)


def test_the_same_volume_from_many_readers_is_no_flood() -> None:
    readers = [click for n in range(40) for click in clicks([n * 2.5], network=f"n{n % 20}", agent=f"a{n}")]

    assert click_flood(readers) == []


@pytest.mark.parametrize(("count", "caught"), [(19, 0), (20, 1)])
def test_the_flood_begins_at_twenty_in_sixty_seconds(count: int, caught: int) -> None:
    assert len(click_flood(clicks([i * 60 / 20 for i in range(count)]))) == caught


def test_clicks_sixty_seconds_apart_are_not_in_one_minute() -> None:
    assert click_flood(clicks([0.0] * 10 + [60.0] * 10)) == []


def test_a_day_of_hollow_clicks_is_caught_and_a_good_campaign_is_not() -> None:
    usual = [90, 110, 100, 95, 105, 100, 100]

    caught = hollow_clicks("plc", clicks=9_000, orders=1, history=usual)
    assert caught is not None
    assert caught.evidence["orders"] == 1
    assert hollow_clicks("plc", clicks=9_000, orders=90, history=usual) is None
    assert hollow_clicks("plc", clicks=130, orders=0, history=usual) is None
    assert hollow_clicks("plc", clicks=9_000, orders=1, history=[8_800, 9_100, 9_050]) is None


@pytest.mark.parametrize(("took_s", "caught"), [(0.0, True), (9.999, True), (10.0, False), (45.0, False)])
def test_paying_faster_than_anybody_can(took_s: float, caught: bool) -> None:
    signal = time_to_order_short("ord", "tch", touch_at=AT, paid_at=AT + seconds(took_s))

    assert (signal is not None) is caught


def test_cookie_stuffing_is_even_over_the_window_and_honest_sales_are_not() -> None:
    rng = random.Random(11)
    window_s = 15 * DAY_S
    others = [min(rng.expovariate(1 / 7_200), window_s) for _ in range(400)]
    stuffed = [rng.uniform(0, window_s) for _ in range(60)]
    honest = [min(rng.expovariate(1 / 7_200), window_s) for _ in range(60)]
    slow = [min(rng.expovariate(1 / 90_000), window_s) for _ in range(60)]  # a considered purchase

    caught = time_to_order_flat(stuffed, others, window_s=window_s)
    assert caught is not None
    assert caught.action is Action.HOLD
    assert time_to_order_flat(honest, others, window_s=window_s) is None
    assert time_to_order_flat(slow, others, window_s=window_s) is None
    assert time_to_order_flat(stuffed[:29], others, window_s=window_s) is None


def sale(number: int, buyer: str, *, days: float = 0, **marks: str) -> NewSale:
    return NewSale(f"ord_{number}", buyer, AT + timedelta(days=days), marks)


def test_three_new_customers_on_one_phone_are_caught() -> None:
    farm = [sale(n, f"b{n}", days=n, device="d1", address=f"x{n}") for n in range(4)]
    (signal,) = device_reuse(farm)

    assert (signal.action, signal.evidence["buyers"]) == (Action.DENY_NEW_RATE, 4)
    assert signal.order_ids == ("ord_0", "ord_1", "ord_2", "ord_3")


def test_a_couple_a_loyal_buyer_and_a_slow_street_are_not() -> None:
    couple = [sale(1, "b1", device="d"), sale(2, "b2", device="d")]
    loyal = [sale(n, "b1", days=n / 10, device="e") for n in range(9)]
    street = [sale(n, f"b{n}", days=8 * n, address="block 7") for n in range(6)]

    assert device_reuse(couple + loyal + street) == []


def test_a_code_on_a_coupon_site_is_caught_and_one_read_aloud_is_not() -> None:
    caught = coupon_leak("SPRING", uses=40, without_touch=31)
    assert caught is not None
    assert caught.action is Action.LOWER_COUPON
    assert coupon_leak("SPRING", uses=10, without_touch=5) is not None
    assert coupon_leak("SPRING", uses=40, without_touch=19) is None
    assert coupon_leak("SPRING", uses=9, without_touch=9) is None


def test_a_refund_ring_stands_out_of_its_offer() -> None:
    offer = [Refunds(1_000, 50)]
    caught = refund_ring(Refunds(40, 16), offer)
    assert caught is not None
    assert (caught.evidence["rate_ppm"], caught.threshold["rate_ppm"]) == (400_000, 200_000)
    # Shoes go back: with 15 % as the mean the limit is 45 %.
    assert refund_ring(Refunds(40, 16), [Refunds(1_000, 150)]) is None
    assert refund_ring(Refunds(40, 8), offer) is None
    assert refund_ring(Refunds(9, 9), offer) is None


def test_a_ring_is_compared_with_the_nearest_who_sell_enough() -> None:
    shoes, marketplace = Refunds(100, 30), Refunds(10_000, 100)
    assert refund_ring(Refunds(40, 34), [Refunds(9, 9), shoes, marketplace]) is None
    assert refund_ring(Refunds(40, 37), [Refunds(9, 9), shoes, marketplace]) is not None
    assert refund_ring(Refunds(40, 37), [Refunds(10, 9), shoes, marketplace]) is None
    # Nobody else sells: more than a fifth is told, and no more is made of it than that.
    alone = refund_ring(Refunds(40, 9), [Refunds(0, 0)] * 3)
    assert alone is not None
    assert (alone.evidence["others"], alone.threshold["rate_ppm"]) == (0, 200_000)


def test_a_burst_of_orders_is_caught_and_a_good_evening_is_not() -> None:
    rng = random.Random(3)
    usual = [rng.choice([0, 0, 1, 2, 3]) for _ in range(28 * 24)]

    caught = velocity(orders=31, hourly=usual)
    assert caught is not None
    assert (caught.evidence["p99"], caught.threshold["orders"]) == (3, 30)
    assert velocity(orders=30, hourly=usual) is None
    assert velocity(orders=10, hourly=[]) is None


def source(
    host: str = "", parameters: tuple[str, ...] = (), *, paid: bool = False, banned: tuple[str, ...] = ()
) -> object:
    signal = banned_source(
        "tch",
        order_id="ord",
        referrer_host=host,
        ad_parameters=parameters,
        banned_hosts=frozenset(banned),
        paid_traffic_allowed=paid,
    )
    return None if signal is None else dict(signal.evidence)


def test_bought_clicks_and_banned_pages_are_caught() -> None:
    assert source(parameters=("gclid",)) == {"parameters": ["gclid"]}
    assert source("M.coupons.example", banned=("coupons.example",)) == {"host": "m.coupons.example"}


def test_where_it_is_allowed_or_merely_alike_nothing_is_said() -> None:
    assert source(parameters=("gclid",), paid=True) is None
    assert source("notcoupons.example", banned=("coupons.example",)) is None
    assert source() is None


def test_of_a_query_only_the_names_of_ad_parameters_are_kept() -> None:
    assert ad_parameters(b"utm_source=x&gclid=abc&gclid=d", b"bd_vid=1") == "bd_vid,gclid"
    assert ad_parameters(b"s=1", b"") is None
    assert ad_parameters(b"xgclid=1&q=gclid") is None


def test_self_promotion_comes_from_the_decision() -> None:
    own = frozenset({"SELF_PURCHASE", "STAFF_PURCHASE"})

    caught = self_referral("ord", [("t1", "SELF_PURCHASE"), ("t2", "EARLIER_TOUCH")], own)
    assert caught is not None
    assert (caught.action, caught.touch_ids) == (Action.INVALIDATE, ("t1",))
    assert self_referral("ord", [("t2", "EARLIER_TOUCH")], own) is None
