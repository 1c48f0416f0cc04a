"""The fraud rules, pure: facts in, a signal or nothing out (CPS contract, section 5).

Each rule has its own thresholds, defaults of the contract, so that a market can tune one and a signal can tell
what it was held against. Rates are ppm, spans are seconds; hashes are keyed digests.

Where the contract leaves room:

- CLICK_FLOOD counts any 60 seconds, not calendar minutes: a flood does not wait for the full minute.
- TIME_TO_ORDER_FLAT asks for both: the times differ from those of everybody else's sales of the offer (two-sample
  test, p below the threshold), and an even spread over the window is *not* ruled out. Buyers come soon after their
  click; who marks everybody with a cookie gets sales that have nothing to do with the click.
- DEVICE_REUSE, REFUND_RING and VELOCITY are about one promoter (the person, or the brand that sells by itself) under
  one agreement.

Evidence holds figures and ids, no digests: who may read a signal must not learn from it who bought.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from core.money import PPM
from marketplace.promotion.fraud.signals import Rule, Signal
from marketplace.promotion.fraud.statistics import ks_two_samples, ks_uniform, percentile, poisson_z

FLOOD_CLICKS: Final = 20
FLOOD_WITHIN: Final = timedelta(seconds=60)
FLOOD_THRESHOLD: Final[Mapping[str, object]] = {"clicks": FLOOD_CLICKS, "seconds": 60}
HOLLOW_CLICKS: Final = 200
FLAT_SALES: Final = 30
LEAK_USES: Final = 10
RING_ORDERS: Final = 10
VELOCITY_TIMES: Final = 10


@dataclass(frozen=True, slots=True)
class Click:
    """``network`` and ``agent`` are digests of the /24 (or /48) and of the user agent."""

    touch_id: str
    link_id: str
    network: str
    agent: str
    at: datetime


def click_flood(
    clicks: Iterable[Click], *, most: int = FLOOD_CLICKS, within: timedelta = FLOOD_WITHIN
) -> list[Signal]:
    """``most`` clicks or more by one (link, network, agent) inside ``within``; every click of the burst is named."""
    by_source: dict[tuple[str, str, str], list[Click]] = {}
    for click in sorted(clicks, key=lambda each: (each.at, each.touch_id)):
        by_source.setdefault((click.link_id, click.network, click.agent), []).append(click)
    threshold = {"clicks": most, "seconds": int(within.total_seconds())}
    signals = []
    for own in by_source.values():
        burst, peak = _bursts(own, most, within)
        if burst:
            evidence = flood_evidence(len(burst), peak, own[burst[0]].at, own[burst[-1]].at)
            touches = tuple([own[index].touch_id for index in burst])
            signals.append(Signal(Rule.CLICK_FLOOD, evidence, threshold, touch_ids=touches))
    return signals


def flood_evidence(clicks: int, peak: int, first: datetime, last: datetime) -> dict[str, object]:
    """Of the clicks of one source that lie in crowded minutes; ``peak`` is the most in any minute."""
    return {"clicks": clicks, "peak": peak, "from": first.isoformat(), "to": last.isoformat()}


def _bursts(clicks: Sequence[Click], most: int, within: timedelta) -> tuple[list[int], int]:
    """Which clicks (by place) lie in a crowded span, and the most clicks of any span."""
    window: deque[int] = deque()
    crowded: set[int] = set()
    peak = 0
    for index, click in enumerate(clicks):
        window.append(index)
        while click.at - clicks[window[0]].at >= within:
            window.popleft()
        peak = max(peak, len(window))
        if len(window) >= most:
            crowded.update(window)
    return sorted(crowded), peak


def hollow_clicks(
    placement_id: str,
    *,
    clicks: int,
    orders: int,
    history: Sequence[int],
    least_clicks: int = HOLLOW_CLICKS,
    least_conversion_ppm: int = 200,
    most_z: float = 4.0,
) -> Signal | None:
    """A day of a placement with far more clicks than ever (``history``: clicks of earlier days) and no buyers."""
    z = poisson_z(clicks, history)
    if clicks < least_clicks or orders * PPM >= least_conversion_ppm * clicks or z <= most_z:
        return None
    return Signal(
        Rule.CLICK_FLOOD,
        {"placement_id": placement_id, "clicks": clicks, "orders": orders, "z": round(z, 2), "days": len(history)},
        {"clicks": least_clicks, "conversion_ppm": least_conversion_ppm, "z": most_z},
    )  # fmt: skip


def time_to_order_short(
    order_id: str,
    touch_id: str,
    *,
    touch_at: datetime,
    paid_at: datetime,
    least: timedelta = timedelta(seconds=10),
) -> Signal | None:
    """Nobody reads a page, fills a cart and pays in ``least``: the click was made for an order under way."""
    took = paid_at - touch_at
    if took >= least:
        return None
    return Signal(
        Rule.TIME_TO_ORDER_SHORT,
        {"seconds": round(took.total_seconds(), 3)},
        {"seconds": int(least.total_seconds())},
        (touch_id,),
        (order_id,),
    )


def time_to_order_flat(
    spans_s: Sequence[float],
    elsewhere_s: Sequence[float],
    *,
    window_s: int,
    least_sales: int = FLAT_SALES,
    most_p: float = 0.001,
    least_even_p: float = 0.05,
) -> Signal | None:
    """Seconds from click to order of one promoter against those of all others of the offer."""
    if len(spans_s) < least_sales or len(elsewhere_s) < least_sales:
        return None
    p, even = ks_two_samples(spans_s, elsewhere_s), ks_uniform(spans_s, window_s)
    if p >= most_p or even < least_even_p:
        return None
    return Signal(
        Rule.TIME_TO_ORDER_FLAT,
        {"sales": len(spans_s), "others": len(elsewhere_s), "p": float(f"{p:.2e}"), "even_p": round(even, 4)},
        {"sales": least_sales, "p": most_p, "even_p": least_even_p},
    )


@dataclass(frozen=True, slots=True)
class NewSale:
    """A sale paid at the rate for new customers. ``marks``: kind of digest (device, payment, address) → digest."""

    order_id: str
    buyer: str
    paid_at: datetime
    marks: Mapping[str, str]


def device_reuse(
    sales: Iterable[NewSale], *, most_buyers: int = 3, within: timedelta = timedelta(days=7)
) -> list[Signal]:
    """``most_buyers`` or more "new" buyers behind one device, payment or address digest inside ``within``."""
    by_mark: dict[tuple[str, str], list[NewSale]] = {}
    for sale in sorted(sales, key=lambda each: (each.paid_at, each.order_id)):
        for mark in sale.marks.items():
            by_mark.setdefault(mark, []).append(sale)
    threshold = {"buyers": most_buyers, "days": within.days}
    signals = []
    for (kind, _), own in sorted(by_mark.items()):
        found: dict[str, None] = {}
        most = 0
        for index, sale in enumerate(own):
            near = [each for each in own[: index + 1] if sale.paid_at - each.paid_at <= within]
            buyers = len({each.buyer for each in near})
            if buyers >= most_buyers:
                most = max(most, buyers)
                found.update(dict.fromkeys(each.order_id for each in near))
        if found:
            evidence = {"kind": kind, "buyers": most, "orders": len(found)}
            signals.append(Signal(Rule.DEVICE_REUSE, evidence, threshold, order_ids=tuple(found)))
    return signals


def coupon_leak(
    code: str, *, uses: int, without_touch: int, least_uses: int = LEAK_USES, most_without_ppm: int = 500_000
) -> Signal | None:
    """An exclusive code that half of its users found without ever touching a placement of its owner."""
    if uses < least_uses or without_touch * PPM < most_without_ppm * uses:
        return None
    return Signal(
        Rule.COUPON_LEAK,
        {"code": code, "uses": uses, "without_touch": without_touch},
        {"uses": least_uses, "without_ppm": most_without_ppm},
    )


@dataclass(frozen=True, slots=True)
class Refunds:
    """Orders, and how many of them were refunded, in whole or in part."""

    orders: int
    refunded: int


def refund_ring(
    own: Refunds,
    others: Sequence[Refunds],
    *,
    least_orders: int = RING_ORDERS,
    floor_ppm: int = 200_000,
    times: int = 3,
) -> Signal | None:
    """A promoter's 30 days against the mean of others, this promoter left out: a third of an offer's sales would else
    hide any share of refunds. ``others``: from those next to it outwards; the first with ``least_orders`` are asked.
    """
    beside = next((each for each in others if each.orders >= least_orders), Refunds(0, 0))
    mean_ppm = beside.refunded * PPM // beside.orders if beside.orders else 0
    limit_ppm = max(floor_ppm, times * mean_ppm)
    if own.orders < least_orders or own.refunded * PPM <= limit_ppm * own.orders:
        return None
    return Signal(
        Rule.REFUND_RING,
        {
            "orders": own.orders,
            "refunded": own.refunded,
            "rate_ppm": own.refunded * PPM // own.orders,
            "others": beside.orders,
            "others_mean_ppm": mean_ppm,
        },
        {"orders": least_orders, "rate_ppm": limit_ppm},
    )


def velocity(
    *,
    orders: int,
    hourly: Sequence[int],
    times: int = VELOCITY_TIMES,
    of_hundred: int = 99,
    least_usual: int = 1,
) -> Signal | None:
    """Orders of this hour against the 99th percentile of the hours of 28 days (hours without orders are zeros)."""
    usual = max(percentile(hourly, of_hundred), least_usual)
    if orders <= times * usual:
        return None
    return Signal(
        Rule.VELOCITY,
        {"orders": orders, "p99": usual, "hours": len(hourly)},
        {"times": times, "orders": times * usual},
    )


def banned_source(
    touch_id: str,
    *,
    order_id: str,
    referrer_host: str,
    ad_parameters: Iterable[str],
    banned_hosts: frozenset[str],
    paid_traffic_allowed: bool,
) -> Signal | None:
    """A click from a forbidden page, or one that was bought where the agreement forbids it.

    ``referrer_host`` may be empty; a banned host bans its sub-domains. ``ad_parameters`` are the names of advertising
    networks' parameters that it brought along.
    """
    labels = referrer_host.lower().split(".")
    banned = next((name for i in range(len(labels)) if (name := ".".join(labels[i:])) in banned_hosts), None)
    bought = sorted(ad_parameters)
    if banned is not None:
        told: Mapping[str, object] = {"host": referrer_host.lower()}
        limit: Mapping[str, object] = {"banned": banned}
    elif bought and not paid_traffic_allowed:
        told, limit = {"parameters": bought}, {"paid_traffic": "forbidden"}
    else:
        return None
    return Signal(Rule.BANNED_SOURCE, told, limit, (touch_id,), (order_id,))


def self_referral(
    order_id: str, rejected: Iterable[tuple[str, str]], reasons: frozenset[str]
) -> Signal | None:
    """From the attribution decision: (touch, reject reason) pairs whose reason is one of self-promotion."""
    own = [(touch, reason) for touch, reason in rejected if reason in reasons]
    if not own:
        return None
    evidence = {"reasons": sorted({reason for _, reason in own})}
    return Signal(Rule.SELF_REFERRAL, evidence, {}, tuple([touch for touch, _ in own]), (order_id,))
