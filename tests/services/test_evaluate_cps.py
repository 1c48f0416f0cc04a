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
    n, model = facts["touches"], facts["model"]
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
        return {"commission": amount(draw), "touches": draw.randrange(1, 9), "model": draw.choice(models)}
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


def evaluated(vectors: Any, tmp_path: Path) -> tuple[int, list[dict[str, Any]], str]:
    """(exit code, answers, what was said) of the command itself."""
    file, out = tmp_path / "in.json", tmp_path / "out.json"
    file.write_text(json.dumps(vectors), encoding="utf-8")
    done = CliRunner().invoke(build(), ["evaluate", "cps", str(file), "--out", str(out)])
    return done.exit_code, json.loads(out.read_text(encoding="utf-8")), done.output


@pytest.mark.shared
def test_every_shared_vector_gives_its_expected_result(shared_data: Path, tmp_path: Path) -> None:
    document = json.loads((shared_data / "vectors" / "cps.json").read_text(encoding="utf-8"))
    code, answers, _ = evaluated(document, tmp_path)
    vectors = document["vectors"]
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
    code, answers, said = evaluated({"vectors": vectors}, tmp_path)
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


@pytest.mark.parametrize(
    ("vector", "code", "words"),
    [
        ({"name": "x", "kind": "magic", "input": {}}, "UNKNOWN_VECTOR_KIND", "'magic'"),
        ({"name": "x", "kind": "split", "input": {}}, "BAD_VECTOR", "'commission' is missing"),
        ({"name": "x", "kind": "tier"}, "BAD_VECTOR", "kind and input"),
        ({"name": "x", "kind": "tier", "input": {"basis": 1, "tiers": []}}, "BAD_VECTOR", "start at 0"),
        ({"name": "x", "kind": "cap", "input": {"remaining": 1, "commission_lines": [2], "on_cap": "NO"}},
         "BAD_VECTOR", "NO"),
        ({"name": "x", "kind": "split", "input": {"commission": "7"}}, "BAD_VECTOR", "split"),
        ({"name": "x", "kind": "split", "input": {"commission": 7.5}}, "BAD_VECTOR", "7.5"),
        ("not a vector", "BAD_VECTOR", "kind and input"),
    ],
)  # fmt: skip
def test_a_vector_without_an_answer_says_why_and_costs_the_others_nothing(
    vector: Any, code: str, words: str, tmp_path: Path
) -> None:
    good = {"name": "good", "kind": "split", "input": {"commission": 7}}
    status, answers, said = evaluated([vector, good], tmp_path)
    assert (status, answers[1]) == (1, {"name": "good", "result": {"shares": [0, 7, 0]}})
    assert answers[0]["error"]["code"] == code
    assert words in answers[0]["error"]["message"]
    assert "no answer" in said
