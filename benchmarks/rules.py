"""Orders per second of the pure rule engines on one core: attribution with commission, and routing.

    .venv/bin/python -m benchmarks.rules [--seconds 5]

Each figure is CPU time of this process over seeded random inputs built beforehand; nothing is kept between
orders but what an agreement version has, its text and its rates by scope. Attribution is measured twice: up to
the commission of each line, and as the handlers run it, up to what every payee earns of it. Targets: CPS contract
section 7, supply contract section 5.3.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from benchmarks.frame import Beside, Goal, Measured, lines_of, percentile
from core.canonical import to_micros
from marketplace.promotion.attribution.crediting import Amounts, LineMoney, SplitRule, credit
from marketplace.promotion.attribution.decision import (
    AgreementTerms,
    LineFact,
    OfferRule,
    OrderFact,
    ScopeKind,
    TouchFact,
    decide,
)
from marketplace.promotion.commission.rules import (
    Funder,
    OrderDiscount,
    basis_of_lines,
    commission_of_order,
)
from supply.routing.exact import Candidate, RoutingProblem, solve

Case = TypeVar("Case")
_AT = datetime(2026, 3, 1, tzinfo=UTC)
_AT_US, _DAY_US = to_micros(_AT), 86_400_000_000


Sale = tuple[OrderFact, list[TouchFact], Amounts]
FEE_PPM, INDIVIDUAL_PPM = 50_000, 600_000


def sale_cases(rng: random.Random, count: int) -> list[Sale]:
    """Orders of three lines, one to three touches of one agreement with SKU, category and campaign rates."""
    split = SplitRule("agr_1", 1, FEE_PPM, INDIVIDUAL_PPM, 15)
    cases = []
    for number in range(count):
        lines = tuple(LineFact(f"l{i}", f"sku{rng.randrange(50)}", f"p{i}", ("c1", "c2")) for i in range(3))
        order = OrderFact(
            f"ord_{number}", "brd_b", _AT_US + 20 * _DAY_US, lines, paid_at_us=_AT_US + 20 * _DAY_US
        )
        touches = [
            TouchFact(
                f"tch_{number}_{i}", "agr_1", 1, "brd_a", f"plc_{i}", _AT_US + rng.randrange(1, 20) * _DAY_US
            )
            for i in range(rng.randrange(1, 4))
        ]
        money = tuple(LineMoney(line.id, 1, rng.randrange(100, 50_000), 0, 0) for line in lines)
        discount = OrderDiscount(99, Funder.MERCHANT)
        cases.append((order, touches, Amounts("CNY", money, (discount,), (split,))))
    return cases


def routing_cases(rng: random.Random, count: int) -> list[RoutingProblem]:
    """Orders of 2.5 lines on average (1 to 8), 13 locations of which each carries about half of the lines."""
    cases = []
    for _ in range(count):
        lines = rng.choices(range(1, 9), weights=[30, 30, 20, 10, 5, 3, 1, 1])[0]
        shipment = {f"loc_{k:02}": rng.randrange(200, 1_500) for k in range(13)}
        candidates = tuple(
            tuple(Candidate(k, rng.randrange(500, 3_000)) for k in shipment if rng.random() < 0.5)
            for _ in range(lines)
        )
        cases.append(RoutingProblem(candidates, shipment, (100_000,) * lines))
    return cases


def agreement() -> AgreementTerms:
    return AgreementTerms(
        "agr_1",
        1,
        "brd_b",
        "brd_a",
        15 * 86_400,
        (
            OfferRule("r1", ScopeKind.CAMPAIGN, "", _AT, 50_000),
            OfferRule("r2", ScopeKind.CATEGORY, "c2", _AT, 80_000),
            OfferRule("r3", ScopeKind.SKU, "sku1", _AT, 150_000),
        ),
    )


def attribute_and_split(case: Sale, terms: Sequence[AgreementTerms]) -> int:
    order, touches, amounts = case
    decision = decide(order, touches, terms)
    bases = basis_of_lines(amounts.lines, amounts.discounts)
    rates = [rate.rate_ppm if rate else 0 for rate in decision.lines.values()]
    earned = commission_of_order(bases, rates, fee_ppm=FEE_PPM, individual_ppm=INDIVIDUAL_PPM)
    return earned.total_minor


@dataclass(frozen=True, slots=True)
class Measure:
    """CPU figures of one engine. ``steps`` is the yardstick taken between its rounds, in millions."""

    rates: list[float]
    steps: list[float]
    micros: list[float]


def measure(run: Callable[[Case], object], cases: Sequence[Case], seconds: float) -> Measure:
    """Whole rounds over the cases for ``seconds`` of CPU, a yardstick after each; then each case by itself."""
    # As a service does once it has started: what was built beforehand is not scanned again.
    gc.collect()
    gc.freeze()
    rates, steps, began = [], [], time.process_time()
    while time.process_time() - began < seconds:
        start = time.process_time()
        for case in cases:
            run(case)
        rates.append(len(cases) / (time.process_time() - start))
        steps.append(yardstick())
    micros = []
    for case in cases:
        before = time.thread_time_ns()
        run(case)
        micros.append((time.thread_time_ns() - before) / 1_000)
    return Measure(sorted(rates), sorted(steps), sorted(micros))


def yardstick() -> float:
    """Millions of steps of an empty loop per CPU-second: what this core gives Python right now."""
    start = time.process_time()
    for _ in range(500_000):
        pass
    return 0.5 / (time.process_time() - start)


def shown(name: str, found: Measure, target: int) -> Measured:
    """Beside the target, and beside this core's empty loop (both figures vary with what else the core does)."""
    rate = statistics.median(found.rates)
    steps = statistics.median(found.steps)
    return Measured(
        "rules",
        name,
        1,
        len(found.micros),
        rate,
        percentile(found.micros, 50) / 1_000,
        percentile(found.micros, 99) / 1_000,
        beside=[
            Beside(
                f"the target of {target:,}/s on one core",
                target,
                [r / target for r in found.rates],
                Goal(1.0),
            ),
            Beside("a million steps of an empty loop", steps, [rate / steps], unit=" M/s"),
        ],
    )


def rules(seconds: float) -> list[Measured]:
    terms = (agreement(),)
    sales = sale_cases(random.Random(7), 2_000)
    orders = routing_cases(random.Random(8), 2_000)
    mean = statistics.mean([len(order.candidates) for order in orders])
    eights = [order for order in routing_cases(random.Random(9), 20_000) if len(order.candidates) == 8]
    return [
        shown(
            "attribution (hash included) + commission, 3 lines, 1–3 touches",
            measure(lambda case: attribute_and_split(case, terms), sales, seconds),
            20_000,
        ),
        shown(
            "the same as the handlers run it, every payee's share named",
            measure(lambda sale: credit(sale[0], sale[1], terms, sale[2]), sales, seconds),
            20_000,
        ),
        shown(
            f"routing DP with runner-up and margin, {mean:.2f} lines, 13 locations",
            measure(solve, orders, seconds),
            10_000,
        ),
        shown("routing DP, 8 lines, 13 locations", measure(solve, eights, seconds), 2_000),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU seconds per measure")
    print("\n".join(lines_of(rules(parser.parse_args().seconds))))


if __name__ == "__main__":
    main()
