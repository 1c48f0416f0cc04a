"""The CPS command on vectors nobody has seen: every kind drawn at random, against exact fractions; and on bad files."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import build
from services.evaluate_cps import evaluate_vectors
from tests.fixtures.cps_in_fractions import ORACLE, PPM, drawn

EACH_KIND = 150
SEEDS = (1, 2, 3)


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
