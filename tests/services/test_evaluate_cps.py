"""The CPS command on vectors nobody has seen: every kind drawn at random, against exact fractions written here.

The oracle below knows nothing of the engine: it is the contract's section 4 in ``Fraction``, rule by rule.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import build
from services.evaluate_cps import evaluate_vectors

PPM = 10**6
EACH_KIND = 150
SEEDS = (1, 2, 3)

# --- the contract in fractions ---


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2)) if value >= 0 else -floor(-value + Fraction(1, 2))


def largest_remainder(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """Floor every exact share, the left-over units to the largest fractions, ties to the earlier."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    exact = [Fraction(total) * weight / whole for weight in weights]
    given = [floor(share) for share in exact]
    ranked = sorted(range(len(exact)), key=lambda index: (given[index] - exact[index], index))
    for index in ranked[: total - sum(given)]:
        given[index] += 1
    return given


def shares_of(commission: int, facts: dict[str, Any]) -> list[int]:
    f = Fraction(facts.get("fee_ppm", 0), PPM)
    k = Fraction(facts.get("individual_ppm", 0), PPM)
    return largest_remainder(commission, [(1 - f) * k, (1 - f) * (1 - k), f])


def order(facts: dict[str, Any]) -> dict[str, Any]:
    nets = [max(line["gross"] - line.get("discount", 0), 0) for line in facts["lines"]]
    lowering = sum(
        each["amount"]
        for each in facts.get("order_discounts", [])
        if each["funder"] in ("merchant", "advertiser", "supplier")
    )
    parts = largest_remainder(min(lowering, sum(nets)), nets)
    bases = []
    for line, net, part in zip(facts["lines"], nets, parts, strict=True):
        t = line.get("tax_ppm", 0)
        bases.append(net - part - half_up(Fraction((net - part) * t, PPM + t)))
    exact = [Fraction(b * r, PPM) for b, r in zip(bases, facts["rates_ppm"], strict=True)]
    total = half_up(sum(exact, Fraction(0)))
    lines = largest_remainder(total, exact)
    if any(exact):
        # By the contract the floors of the exact values stay, and only what is left over is dealt out.
        lines = [floor(each) for each in exact]
        ranked = sorted(range(len(exact)), key=lambda i: (lines[i] - exact[i], i))
        for index in ranked[: total - sum(lines)]:
            lines[index] += 1
    return {
        "basis": bases,
        "commission_total": total,
        "commission_lines": lines,
        "shares": [shares_of(each, facts) for each in lines],
    }


def split(facts: dict[str, Any]) -> dict[str, Any]:
    return {"shares": shares_of(facts["commission"], facts)}


def refund(facts: dict[str, Any]) -> dict[str, Any]:
    shares = shares_of(facts["commission"], facts)
    held, back, before, reversals = list(shares), 0, 0, []
    for part in facts["refunds_of_basis"]:
        back += part
        now = half_up(Fraction(facts["commission"] * back, facts["basis"]))
        taken = largest_remainder(now - before, held)
        held = [has - gives for has, gives in zip(held, taken, strict=True)]
        before = now
        reversals.append(taken)
    return {"shares": shares, "reversals": reversals, "remaining": held}


def tier(facts: dict[str, Any]) -> dict[str, Any]:
    prior, basis, tiers = facts.get("prior_basis", 0), facts["basis"], facts["tiers"]

    def rate_at(counter: int) -> int:
        return [each["rate_ppm"] for each in tiers if each["from_basis"] <= counter][-1]

    mode = facts.get("mode", "MARGINAL")
    if mode == "MARGINAL":
        ends = [each["from_basis"] for each in tiers[1:]] + [prior + basis]
        exact = Fraction(0)
        for each, end in zip(tiers, ends, strict=True):
            inside = min(prior + basis, max(end, each["from_basis"])) - max(prior, each["from_basis"])
            exact += Fraction(max(inside, 0) * each["rate_ppm"], PPM)
        return {"commission": half_up(exact)}
    reached = rate_at(prior + basis)
    answer = {"commission": half_up(Fraction(basis * reached, PPM))}
    if mode == "RETROACTIVE":
        answer["adjustment"] = half_up(Fraction(prior * (reached - rate_at(prior)), PPM))
    return answer


def cap(facts: dict[str, Any]) -> dict[str, Any]:
    lines, left = facts["commission_lines"], facts["remaining"]
    mode = facts.get("on_cap", "TRUNCATE")
    if sum(lines) > left and mode == "ALL_OR_NOTHING":
        lines = [0] * len(lines)
    if sum(lines) > left and mode == "FALLBACK_RATE":
        again = order(
            {
                "lines": [{"gross": basis} for basis in facts["basis"]],
                "rates_ppm": [facts["fallback_rate_ppm"]] * len(lines),
            }
        )["commission_lines"]
        lines = again if sum(again) < sum(lines) else lines
    if sum(lines) > left:
        lines = largest_remainder(left, lines)
    return {"commission_lines": lines, "remaining": left - sum(lines)}


def multi_touch(facts: dict[str, Any]) -> dict[str, Any]:
    n, model = facts["touches"], facts.get("model", "LAST_TOUCH")
    weights = [Fraction(0)] * n
    if model == "FIRST_TOUCH":
        weights[0] = Fraction(1)
    elif model == "LAST_TOUCH":
        weights[-1] = Fraction(1)
    elif model == "LINEAR" or n <= 2:
        weights = [Fraction(1, n)] * n
    else:
        weights = [Fraction(2, 5), *[Fraction(1, 5) / (n - 2)] * (n - 2), Fraction(2, 5)]
    return {"shares": largest_remainder(facts["commission"], weights)}


def balance(facts: dict[str, Any]) -> dict[str, Any]:
    carry, periods = 0, []
    for period in facts["periods"]:
        net = carry + period.get("earned", 0) - period.get("clawed_back", 0)
        paid = net if net > 0 and net >= facts.get("minimum_payout", 0) else 0
        carry = net - paid
        periods.append({"paid": paid, "carry": carry})
    return {"periods": periods}


def fixed(facts: dict[str, Any]) -> dict[str, Any]:
    cap_ppm = facts.get("cap_ppm", 300_000)
    most = Fraction(facts["basis"] * cap_ppm, PPM)
    return {"commission": half_up(min(Fraction(facts["amount"] * facts.get("quantity", 1)), most))}


def window(facts: dict[str, Any]) -> dict[str, Any]:
    touch, placed = (
        floor(datetime.fromisoformat(facts[key]).timestamp()) for key in ("touch_at", "order_created_at")
    )
    return {"qualifies": 0 <= placed - touch <= facts.get("window_s", 15 * 86_400)}


ORACLE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "order": order, "split": split, "refund": refund, "tier": tier, "cap": cap,
    "multi_touch": multi_touch, "balance": balance, "fixed": fixed, "window": window,
}  # fmt: skip


# --- vectors drawn at random; edges more often than chance would ---


def amount(draw: random.Random) -> int:
    return draw.choice((0, 1, 2, 3, draw.randrange(100), draw.randrange(100_000), draw.randrange(10**12)))


def rate(draw: random.Random) -> int:
    return draw.choice((0, 1, 333_333, 500_000, PPM, draw.randrange(PPM), 10_000 * draw.randrange(100)))


def maybe(draw: random.Random, **facts: Any) -> dict[str, Any]:
    """Some of them: what is left out has a default."""
    return {key: value for key, value in facts.items() if draw.random() < 0.7}


def drawn(kind: str, draw: random.Random) -> dict[str, Any]:
    split_of = {"fee_ppm": rate(draw), "individual_ppm": rate(draw)}
    if kind == "order":
        lines = [
            {"gross": amount(draw), **maybe(draw, discount=amount(draw), tax_ppm=rate(draw))}
            for _ in range(draw.randrange(1, 7))
        ]
        funders = ("merchant", "advertiser", "supplier", "platform", "promoter")
        discounts = [
            {"amount": amount(draw), "funder": draw.choice(funders)} for _ in range(draw.randrange(4))
        ]
        return {
            "lines": lines, "rates_ppm": [rate(draw) for _ in lines],
            **maybe(draw, order_discounts=discounts, **split_of),
        }  # fmt: skip
    if kind == "split":
        return {"commission": amount(draw), **maybe(draw, **split_of)}
    if kind == "refund":
        basis = amount(draw) + 1
        cuts = sorted(draw.randrange(basis + 1) for _ in range(draw.randrange(8)))
        slices = [b - a for a, b in zip([0, *cuts], [*cuts, basis], strict=True)]
        return {
            "commission": draw.randrange(basis + 1), "basis": basis,
            "refunds_of_basis": slices[: draw.randrange(len(slices) + 1)], **maybe(draw, **split_of),
        }  # fmt: skip
    if kind == "tier":
        starts = [0, *sorted(draw.sample(range(1, 2_000_000), draw.randrange(5)))]
        near = draw.choice([start + draw.choice((-1, 0, 1)) for start in starts])
        mode = draw.choice(("MARGINAL", "WHOLE_ORDER", "RETROACTIVE"))
        prior = max(draw.choice((near, draw.randrange(3_000_000))), 0)
        return {
            "basis": amount(draw), "prior_basis": prior, "mode": mode,
            "tiers": [{"from_basis": start, "rate_ppm": rate(draw)} for start in starts],
        }  # fmt: skip
    if kind == "cap":
        lines = [amount(draw) for _ in range(draw.randrange(1, 6))]
        near = max(sum(lines) + draw.randrange(-2, 3), 0)
        return {
            "commission_lines": lines, "remaining": draw.choice((0, near, draw.randrange(sum(lines) + 2))),
            "on_cap": draw.choice(("TRUNCATE", "ALL_OR_NOTHING", "FALLBACK_RATE")),
            "basis": [amount(draw) for _ in lines], "fallback_rate_ppm": rate(draw),
        }  # fmt: skip
    if kind == "multi_touch":
        models = ("LAST_TOUCH", "FIRST_TOUCH", "LINEAR", "POSITION_40_20_40")
        return {
            "commission": amount(draw), "touches": draw.randrange(1, 9),
            **maybe(draw, model=draw.choice(models)),
        }  # fmt: skip
    if kind == "balance":
        periods = [maybe(draw, earned=amount(draw), clawed_back=amount(draw)) for _ in range(6)]
        return {"periods": periods, **maybe(draw, minimum_payout=amount(draw))}
    if kind == "fixed":
        return {
            "amount": amount(draw), "basis": amount(draw),
            **maybe(draw, quantity=draw.randrange(1, 9), cap_ppm=rate(draw)),
        }  # fmt: skip
    touch = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(microseconds=draw.randrange(3_000_000))
    window_s = draw.choice((3_600, 15 * 86_400, 90 * 86_400))
    after = timedelta(seconds=draw.choice((0, window_s)), microseconds=draw.randrange(-1_500_000, 1_500_000))
    placed = (touch + after).astimezone(draw.choice((UTC, None)))
    return {
        "touch_at": touch.isoformat().replace("+00:00", "Z"), "order_created_at": placed.isoformat(),
        "window_s": window_s,
    }  # fmt: skip


def evaluated_text(text: str, tmp_path: Path) -> tuple[int, str]:
    """(exit code, what was said) of the command itself; an exception that it lets through is raised here."""
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(build(), ["evaluate", "cps", str(file), "--out", str(out)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def answers_in(tmp_path: Path) -> list[dict[str, Any]]:
    """What was written, by the letter of JSON: no NaN, no Infinity."""

    def no_json(constant: str) -> Any:
        raise AssertionError(constant)

    found = json.loads((tmp_path / "out.json").read_bytes(), parse_constant=no_json)
    assert isinstance(found, list)
    return found


def evaluated(vectors: Sequence[Any], tmp_path: Path) -> tuple[int, list[dict[str, Any]], str]:
    """(exit code, answers, what was said)."""
    code, said = evaluated_text(json.dumps({"vectors": vectors}), tmp_path)
    return code, answers_in(tmp_path), said


def result_of(kind: str, facts: Any, **more: Any) -> Any:
    return evaluate_vectors([{"name": "it", "kind": kind, "input": facts, **more}])[0]["result"]


@pytest.mark.shared
def test_every_shared_vector_gives_its_expected_result(shared_data: Path, tmp_path: Path) -> None:
    document = json.loads((shared_data / "vectors" / "cps.json").read_text(encoding="utf-8"))
    vectors = document["vectors"]
    code, answers, _ = evaluated(vectors, tmp_path)
    assert {a["name"]: a["result"] for a in answers} == {v["name"]: v["expect"] for v in vectors}
    assert (code, len(answers) >= 20) == (0, True)


@pytest.mark.shared
def test_the_oracle_here_agrees_with_the_contracts_own_vectors(shared_data: Path) -> None:
    vectors = json.loads((shared_data / "vectors" / "cps.json").read_text(encoding="utf-8"))["vectors"]
    assert {v["kind"] for v in vectors} == ORACLE.keys()
    for vector in vectors:
        assert ORACLE[vector["kind"]](vector["input"]) == vector["expect"], vector["name"]


@pytest.mark.parametrize("seed", SEEDS)
def test_vectors_of_every_kind_drawn_at_random_agree_with_exact_fractions(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    vectors = [
        {"name": f"{kind} {number}", "kind": kind, "input": drawn(kind, draw)}
        for kind in ORACLE
        for number in range(EACH_KIND)
    ]
    code, answers, said = evaluated(vectors, tmp_path)
    assert code == 0, said
    for vector, answer in zip(vectors, answers, strict=True):
        expected = {"name": vector["name"], "result": ORACLE[vector["kind"]](vector["input"])}
        assert answer == expected, vector


def test_an_answer_that_differs_is_named_and_ends_with_one(tmp_path: Path) -> None:
    three = {"kind": "split", "input": {"commission": 1001, "fee_ppm": 100_000, "individual_ppm": 600_000}}
    right = {"name": "right", **three, "expect": {"shares": [541, 360, 100]}}
    wrong = {"name": "wrong", **three, "expect": {"shares": [540, 361, 100]}}
    code, answers, said = evaluated([right, wrong], tmp_path)
    assert [answer["result"] for answer in answers] == [{"shares": [541, 360, 100]}] * 2
    assert (code, "1 of 2 as expected" in said, "differs: wrong" in said) == (1, True, True)


def test_the_answer_has_the_keys_that_are_expected(tmp_path: Path) -> None:
    vector = {
        "name": "total alone", "kind": "order", "expect": {"commission_total": 5},
        "input": {"lines": [{"gross": 33}] * 3, "rates_ppm": [50_000] * 3},
    }  # fmt: skip
    _, answers, _ = evaluated([vector], tmp_path)
    assert answers == [{"name": "total alone", "result": {"commission_total": 5}}]


FIFTEEN_DAYS = {"touch_at": "2026-03-01T00:00:00Z", "order_created_at": "2026-03-16T00:00:00Z"}
GOOD: dict[str, Any] = {"name": "good", "kind": "split", "input": {"commission": 7}}
ANSWER_OF_GOOD: dict[str, Any] = {"name": "good", "result": {"shares": [0, 7, 0]}}


@pytest.mark.parametrize("left_out", [True, False], ids=["left out", "null"])
@pytest.mark.parametrize(
    ("kind", "facts", "result"),
    [
        ("order",
         {"lines": [{"gross": 200, "discount": None, "tax_ppm": None}], "rates_ppm": [100_000],
          "order_discounts": None, "fee_ppm": None, "individual_ppm": None},
         {"basis": [200], "commission_total": 20, "commission_lines": [20], "shares": [[0, 20, 0]]}),
        ("split", {"commission": 7, "fee_ppm": None, "individual_ppm": None}, {"shares": [0, 7, 0]}),
        ("refund", {"commission": 10, "basis": 100, "refunds_of_basis": [50], "fee_ppm": None, "individual_ppm": None},
         {"shares": [0, 10, 0], "reversals": [[0, 5, 0]], "remaining": [0, 5, 0]}),
        # R5: marginal, from a counter of 0: 50,000 at 5 % and 10,000 at 8 %.
        ("tier",
         {"basis": 60_000, "prior_basis": None, "mode": None,
          "tiers": [{"from_basis": 0, "rate_ppm": 50_000}, {"from_basis": 50_000, "rate_ppm": 80_000}]},
         {"commission": 3_300}),
        # R4: truncate.
        ("cap", {"remaining": 5, "commission_lines": [6, 4], "on_cap": None, "fallback_rate_ppm": None, "basis": None},
         {"commission_lines": [3, 2], "remaining": 0}),
        # §3.3: the last touch.
        ("multi_touch", {"commission": 7, "touches": 3, "model": None}, {"shares": [0, 0, 7]}),
        ("balance",
         {"periods": [{"earned": 100, "clawed_back": None}, {"earned": None, "clawed_back": 30}],
          "minimum_payout": None, "carry_in": None},
         {"periods": [{"paid": 100, "carry": 0}, {"paid": 0, "carry": -30}]}),
        # R2: one piece, at most 30 % of the basis.
        ("fixed", {"amount": 500, "basis": 1_200, "quantity": None, "cap_ppm": None}, {"commission": 360}),
        # §3.1: fifteen days.
        ("window", {**FIFTEEN_DAYS, "window_s": None}, {"qualifies": True}),
    ],
)  # fmt: skip
def test_what_an_input_leaves_out_is_the_contracts_default(
    kind: str, facts: dict[str, Any], result: Any, left_out: bool
) -> None:
    def without_null(found: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in found.items() if value is not None}

    if left_out:
        facts = json.loads(json.dumps(facts), object_hook=without_null)
    assert result_of(kind, facts) == result
    assert result_of(kind, facts, expect=None) == result


LINE = {"lines": [{"gross": 200}], "rates_ppm": [100_000]}
TEN = {"commission": 10}
BACK = {"commission": 10, "basis": 100}
FIVE_PERCENT = [{"from_basis": 0, "rate_ppm": 50_000}]
BEYOND = 10**15 + 1
FALLBACK = {"remaining": 1, "commission_lines": [2, 2], "on_cap": "FALLBACK_RATE"}


@pytest.mark.parametrize(
    ("kind", "facts", "where"),
    [
        ("order", {**LINE, "lines": [{"gross": -1}]}, "lines.0.gross"),
        ("order", {**LINE, "lines": [{"gross": 200, "discount": -1}]}, "lines.0.discount"),
        ("order", {**LINE, "lines": [{"gross": 200, "tax_ppm": -PPM}]}, "lines.0.tax_ppm"),
        ("order", {**LINE, "lines": [7]}, "lines.0"),
        ("order", {**LINE, "lines": {"gross": 200}}, "lines"),
        ("order", {**LINE, "rates_ppm": [-50_000]}, "rates_ppm.0"),
        ("order", {**LINE, "rates_ppm": [PPM + 1]}, "rates_ppm.0"),
        ("order", {**LINE, "rates_ppm": [1, 1]}, "one rate for each line"),
        ("order", {**LINE, "fee_ppm": 1_500_000}, "fee_ppm"),
        ("order", {**LINE, "order_discounts": [{"amount": -1, "funder": "merchant"}]}, "order_discounts.0.amount"),
        ("order", {**LINE, "order_discounts": [{"amount": 1, "funder": "nobody"}]}, "order_discounts.0.funder"),
        ("order", {"lines": [{"gross": 1}] * 10_001, "rates_ppm": [1] * 10_001}, "lines"),
        ("split", {}, "commission"),
        ("split", {"commission": -5}, "commission"),
        ("split", {"commission": True}, "commission"),
        ("split", {"commission": "7"}, "commission"),
        ("split", {"commission": 7.5}, "commission"),
        ("split", {"commission": 7.0}, "commission"),
        ("split", {"commission": BEYOND}, "commission"),
        ("split", {**TEN, "individual_ppm": 1_500_000}, "individual_ppm"),
        ("split", {**TEN, "fee_ppm": 1_500_000}, "fee_ppm"),
        ("refund", {**BACK, "refunds_of_basis": [50, -20]}, "refunds_of_basis.1"),
        ("refund", {**BACK, "refunds_of_basis": [50, 51]}, "101 refunded of a basis of 100"),
        ("refund", BACK, "refunds_of_basis"),
        ("tier", {"basis": 1, "tiers": []}, "tiers"),
        ("tier", {"basis": 1, "tiers": FIVE_PERCENT * 2}, "tiers"),
        ("tier", {"basis": 1, "tiers": FIVE_PERCENT, "mode": "SOMETIMES"}, "mode"),
        ("tier", {"basis": 1, "tiers": FIVE_PERCENT, "prior_basis": -1}, "prior_basis"),
        ("cap", {"remaining": 1, "commission_lines": [2], "on_cap": "NO"}, "on_cap"),
        ("cap", {"remaining": 1, "commission_lines": [2, -1]}, "commission_lines.1"),
        ("cap", {**FALLBACK, "basis": [20, 20]}, "fallback_rate_ppm"),
        ("cap", {**FALLBACK, "fallback_rate_ppm": 1}, "basis"),
        ("multi_touch", {**TEN, "touches": 0}, "touches"),
        ("multi_touch", {**TEN, "touches": 99_999_999_999_999_999_999}, "touches"),
        ("multi_touch", {**TEN, "touches": 2, "model": "EVERY_TOUCH"}, "model"),
        ("balance", {"periods": [{"earned": -1}]}, "periods.0.earned"),
        ("balance", {"periods": [], "minimum_payout": -1}, "minimum_payout"),
        ("fixed", {"amount": 500, "basis": 1_200, "quantity": 0}, "quantity"),
        ("fixed", {"amount": 500, "basis": 1_200, "cap_ppm": PPM + 1}, "cap_ppm"),
        ("window", {**FIFTEEN_DAYS, "touch_at": 1_772_323_200}, "touch_at"),
        ("window", {**FIFTEEN_DAYS, "touch_at": "yesterday"}, "touch_at"),
        ("window", {**FIFTEEN_DAYS, "window_s": -1}, "window_s"),
    ],
)  # fmt: skip
def test_what_no_sale_can_have_is_refused_by_its_key(kind: str, facts: Any, where: str) -> None:
    refused, good = evaluate_vectors([{"name": "it", "kind": kind, "input": facts}, GOOD])
    assert good == ANSWER_OF_GOOD
    assert refused["error"]["code"] == "BAD_VECTOR"
    assert f"{kind}: " in refused["error"]["message"]
    assert where in refused["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "facts", "result"),
    [
        # Keys no rule reads.
        ("split", {"commission": 10, "note": 1.5, "more": {"at": [True, -1]}}, {"shares": [0, 10, 0]}),
        # No rate holds below the first tier: 5,000 at 10 % and 5,000 at 20 %. Tiers say themselves where they begin.
        ("tier",
         {"basis": 60_000, "prior_basis": 0,
          "tiers": [{"from_basis": 55_000, "rate_ppm": 200_000}, {"from_basis": 50_000, "rate_ppm": 100_000}]},
         {"commission": 1_500}),
        ("tier", {"basis": 9, "mode": "WHOLE_ORDER", "tiers": [{"from_basis": 10, "rate_ppm": PPM}]},
         {"commission": 0}),
        # A fallback rate of 0 is a rate.
        ("cap", {**FALLBACK, "basis": [20, 20], "fallback_rate_ppm": 0},
         {"commission_lines": [0, 0], "remaining": 1}),
        # A cap that restored commissions have overdrawn allows nothing.
        ("cap", {"remaining": -3, "commission_lines": [2]}, {"commission_lines": [0], "remaining": -3}),
        ("balance", {"carry_in": -30, "periods": [{"earned": 50}]}, {"periods": [{"paid": 20, "carry": 0}]}),
        ("refund", {"commission": 0, "basis": 0, "refunds_of_basis": [0]},
         {"shares": [0, 0, 0], "reversals": [[0, 0, 0]], "remaining": [0, 0, 0]}),
        # R1: a line's share is of the order's discounts together; 2 over 50 and 50 is 1 and 1.
        ("order",
         {"lines": [{"gross": 50}, {"gross": 50}], "rates_ppm": [0, 0],
          "order_discounts": [{"amount": 1, "funder": "merchant"}] * 2},
         {"basis": [49, 49], "commission_total": 0, "commission_lines": [0, 0], "shares": [[0, 0, 0]] * 2}),
        # RFC 3339 allows small letters; an offset is the same instant.
        ("window", {"touch_at": "2026-03-01t00:00:00z", "order_created_at": "2026-03-16T08:00:01+08:00"},
         {"qualifies": False}),
    ],
)  # fmt: skip
def test_what_is_beyond_doubt_is_answered(kind: str, facts: Any, result: Any) -> None:
    assert result_of(kind, facts) == result


def test_an_adjustment_is_told_where_it_is_expected_or_owed() -> None:
    facts = {"basis": 100, "tiers": FIVE_PERCENT}
    assert result_of("tier", facts) == {"commission": 5}
    assert result_of("tier", {**facts, "mode": "RETROACTIVE"}) == {"commission": 5, "adjustment": 0}
    expected = {"adjustment": 0, "commission": 5}
    assert result_of("tier", facts, expect=expected) == expected
    assert result_of("tier", {**facts, "mode": "RETROACTIVE"}, expect={"commission": 5}) == {"commission": 5}


@pytest.mark.parametrize(
    ("vector", "code", "words"),
    [
        ({"name": "x", "kind": "magic", "input": {}}, "UNKNOWN_VECTOR_KIND", "'magic'"),
        ({"name": "x", "input": {}}, "UNKNOWN_VECTOR_KIND", "no rule"),
        ({"name": "x", "kind": ["split"], "input": {}}, "UNKNOWN_VECTOR_KIND", "no rule"),
        ({"name": "x", "kind": "\ud800", "input": {}}, "UNKNOWN_VECTOR_KIND", "no rule"),
        ({"name": "x", "kind": "tier"}, "BAD_VECTOR", "kind and input"),
        ("not a vector", "BAD_VECTOR", "kind and input"),
        (None, "BAD_VECTOR", "kind and input"),
    ],
)
def test_a_vector_without_an_answer_says_why_and_costs_the_others_nothing(
    vector: Any, code: str, words: str, tmp_path: Path
) -> None:
    status, answers, said = evaluated([vector, GOOD], tmp_path)
    assert (status, answers[1]) == (1, ANSWER_OF_GOOD)
    assert answers[0]["error"]["code"] == code
    assert words in answers[0]["error"]["message"]
    assert "no answer" in said


def test_a_name_comes_back_as_it_was_whatever_it_holds(tmp_path: Path) -> None:
    names = ["\ud800", "佣金 😀", 'a "b"\n\\ud800', 5]
    _, answers, _ = evaluated([{**GOOD, "name": name} for name in names], tmp_path)
    assert [answer["name"] for answer in answers] == names
    assert all(answer["result"] == ANSWER_OF_GOOD["result"] for answer in answers)
    assert "佣金" in (tmp_path / "out.json").read_text(encoding="utf-8")


def test_a_vector_without_a_name_is_called_by_its_place(tmp_path: Path) -> None:
    bare = {key: value for key, value in GOOD.items() if key != "name"}
    _, answers, _ = evaluated([bare, {**GOOD, "name": ["x"]}, {**GOOD, "name": float("inf")}], tmp_path)
    assert [answer["name"] for answer in answers] == ["#1", "#2", "#3"]


STRANGE = ("-1", "true", "1.5", "1e999", "NaN", '"7"', '"\\ud800"', "[]", "{}", "[[{}]]", "null", "9" * 5_000)


def test_any_value_at_any_key_leaves_everybody_else_an_answer(tmp_path: Path) -> None:
    draw = random.Random(4)
    texts = [
        json.dumps({"kind": "split", "input": {"commission": 1}, "name": "N"}).replace('"N"', odd)
        for odd in STRANGE
    ]
    for kind in ORACLE:
        for _ in range(20):
            facts = drawn(kind, draw)
            texts += [
                json.dumps({"kind": kind, "input": {**facts, key: "ODD"}}).replace('"ODD"', odd)
                for key in facts
                for odd in STRANGE
            ]
    code, _ = evaluated_text(f'{{"vectors": [{",".join(texts)}, {json.dumps(GOOD)}]}}', tmp_path)
    *odd_ones, last = answers_in(tmp_path)
    assert (code, last, len(odd_ones)) == (1, ANSWER_OF_GOOD, len(texts))
    assert all(("result" in answer) != ("error" in answer) for answer in odd_ones)


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "7", '{"vectors": {}}', '{"vectors": null}', "[" * 100_000],
    ids=[
        "empty",
        "torn",
        "no vectors",
        "a number",
        "an object",
        "null",
        "deep",
    ],
)
def test_a_file_without_vectors_is_one_error_and_leaves_the_answers_of_before(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "out.json").write_text("before")
    code, said = evaluated_text(text, tmp_path)
    assert (code, said.count("BAD_VECTOR_FILE"), "Traceback" in said) == (2, 1, False)
    assert (tmp_path / "out.json").read_text() == "before"


def test_bytes_that_are_no_text_are_one_error(tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_bytes(b'{"vectors": ["\xff"]}')
    done = CliRunner().invoke(build(), ["evaluate", "cps", str(file), "--out", str(tmp_path / "out.json")])
    assert (done.exit_code, "BAD_VECTOR_FILE" in done.output) == (2, True)


def test_the_list_alone_is_read_too(tmp_path: Path) -> None:
    assert evaluated_text(json.dumps([GOOD]), tmp_path)[0] == 0
    assert [each["name"] for each in answers_in(tmp_path)] == [GOOD["name"]]


@pytest.mark.parametrize("out", ["missing/out.json", "in.json/out.json", "."])
def test_answers_that_cannot_be_written_are_one_error(out: str, tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    file.write_text(json.dumps({"vectors": [GOOD]}))
    done = CliRunner().invoke(build(), ["evaluate", "cps", str(file), "--out", str(tmp_path / out)])
    assert (done.exit_code, "BAD_VECTOR_FILE" in done.output) == (2, True)


def test_nothing_is_left_beside_the_answers(tmp_path: Path) -> None:
    assert evaluated([], tmp_path)[1] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.json", "out.json"]
