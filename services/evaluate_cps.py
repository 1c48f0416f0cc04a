"""``lianyu evaluate cps FILE --out OUT.json``: the CPS arithmetic on test vectors, for whoever brings them.

A vector is ``{"name", "kind", "input"}``; the answer has the keys a vector's ``expect`` has. Nothing here
computes: each kind is one call of the engine that settles real orders. What an input leaves out is what the
contract gives as default. A vector that cannot be answered says why and takes nobody else's answer away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from core.canonical import to_micros
from core.errors import Invalid
from marketplace.promotion.agreements.terms import DEFAULT_WINDOW_S
from marketplace.promotion.attribution import decision as attribution
from marketplace.promotion.attribution.decision import AttributionModel
from marketplace.promotion.commission import rules as commission

Facts = Mapping[str, Any]
_ADVERTISER = "advertiser"
"""The contract's word for the merchant that pays."""


class UnknownVectorKind(Invalid):
    code = "UNKNOWN_VECTOR_KIND"

    def __init__(self, kind: str) -> None:
        super().__init__(f"no rule is called {kind[:64]!r}")
        self.kind = kind[:64]


class BadVector(Invalid):
    """A vector that lacks what its rule needs, or has what no sale can have."""

    code = "BAD_VECTOR"


def evaluate_vectors(vectors: Sequence[Facts]) -> list[dict[str, Any]]:
    """``{"name", "result"}`` for each, in the sequence given; ``{"name", "error"}`` where there is no answer."""
    return [_answer(number, vector) for number, vector in enumerate(vectors, start=1)]


def _answer(number: int, vector: Facts) -> dict[str, Any]:
    name = vector.get("name", f"#{number}") if isinstance(vector, Mapping) else f"#{number}"
    try:
        return {"name": name, "result": evaluate_vector(vector)}
    except Invalid as error:
        return {"name": name, "error": {"code": error.code, "message": error.message}}


def evaluate_vector(vector: Facts) -> dict[str, Any]:
    """The result under the keys of ``expect`` where there is one. Raises ``UnknownVectorKind``, ``BadVector``."""
    if not isinstance(vector, Mapping) or not isinstance(vector.get("input"), Mapping):
        raise BadVector("a vector is an object with kind and input")
    rule = _RULES.get(str(vector.get("kind")))
    if rule is None:
        raise UnknownVectorKind(str(vector.get("kind")))
    _require_exact(vector["input"])
    try:
        result = rule(vector["input"])
    except KeyError as error:
        raise BadVector(f"{vector['kind']}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BadVector(f"{vector['kind']}: {error}") from error
    wanted = vector.get("expect")
    return {key: result[key] for key in wanted if key in result} if isinstance(wanted, Mapping) else result


def _require_exact(value: Any) -> None:
    """Amounts are integers of minor units: a float has been rounded by somebody else already."""
    if isinstance(value, float):
        raise BadVector(f"{value} is not an integer")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _require_exact(each)


def _order(facts: Facts) -> dict[str, Any]:
    lines = [
        commission.LineAmounts(line["gross"], line.get("discount", 0), line.get("tax_ppm", 0))
        for line in facts["lines"]
    ]
    discounts = [
        commission.OrderDiscount(each["amount"], _funder(each["funder"]))
        for each in facts.get("order_discounts", ())
    ]
    rates = facts["rates_ppm"] if "rates_ppm" in facts else [facts["rate_ppm"]] * len(lines)
    bases = commission.basis_of_lines(lines, discounts)
    earned = commission.commission_of_order(
        bases, rates, fee_ppm=facts.get("fee_ppm", 0), individual_ppm=facts.get("individual_ppm", 0)
    )
    return {
        "basis": bases,
        "commission_total": earned.total_minor,
        "commission_lines": earned.commissions,
        "shares": [list(shares) for shares in earned.shares],
    }


def _funder(name: str) -> commission.Funder:
    return commission.Funder.MERCHANT if name == _ADVERTISER else commission.Funder(name)


def _split(facts: Facts) -> dict[str, Any]:
    return {"shares": list(_shares(facts))}


def _shares(facts: Facts) -> commission.Shares:
    return commission.split_commission(
        facts["commission"], fee_ppm=facts.get("fee_ppm", 0), individual_ppm=facts.get("individual_ppm", 0)
    )


def _refund(facts: Facts) -> dict[str, Any]:
    shares = _shares(facts)
    held, refunded, reversals = list(shares), 0, []
    for slice_minor in facts["refunds_of_basis"]:
        refunded += slice_minor
        taken = commission.reverse_line(
            commission_minor=facts["commission"],
            basis_minor=facts["basis"],
            refunded_basis_minor=refunded,
            held=held,
        )
        held = [has - gives for has, gives in zip(held, taken, strict=True)]
        reversals.append(taken)
    return {"shares": list(shares), "reversals": reversals, "remaining": held}


def _tier(facts: Facts) -> dict[str, Any]:
    mode = commission.TierMode(facts.get("mode", commission.TierMode.MARGINAL))
    tiered = commission.tier_commission(
        prior_basis_minor=facts.get("prior_basis", 0),
        basis_minor=facts["basis"],
        tiers=[commission.Tier(tier["from_basis"], tier["rate_ppm"]) for tier in facts["tiers"]],
        mode=mode,
    )
    if mode is commission.TierMode.RETROACTIVE:
        return {"commission": tiered.commission_minor, "adjustment": tiered.adjustment_minor}
    return {"commission": tiered.commission_minor}


def _cap(facts: Facts) -> dict[str, Any]:
    mode = commission.CapMode(facts.get("on_cap", commission.CapMode.TRUNCATE))
    cap = commission.Cap(facts["remaining"], mode, facts.get("fallback_rate_ppm", 0))
    capped = commission.apply_caps(facts["commission_lines"], [cap], bases=facts.get("basis", ()))
    return {"commission_lines": list(capped.lines), "remaining": capped.remaining_minor[0]}


def _multi_touch(facts: Facts) -> dict[str, Any]:
    """One share for each touch, oldest first: in a model with one winner the others have nothing."""
    model, touches = AttributionModel(facts["model"]), facts["touches"]
    shares = attribution.share_over_touches(facts["commission"], model, touches)
    nothing = [0] * (touches - len(shares))
    return {"shares": shares + nothing if model is AttributionModel.FIRST_TOUCH else nothing + shares}


def _balance(facts: Facts) -> dict[str, Any]:
    carry, periods = facts.get("carry_in", 0), []
    for period in facts["periods"]:
        settled = commission.settle_period(
            carry_in_minor=carry,
            earned_minor=period.get("earned", 0),
            clawed_back_minor=period.get("clawed_back", 0),
            minimum_payout_minor=facts.get("minimum_payout", 0),
        )
        carry = settled.carry_minor
        periods.append({"paid": settled.paid_minor, "carry": carry})
    return {"periods": periods}


def _fixed(facts: Facts) -> dict[str, Any]:
    return {
        "commission": commission.fixed_commission(
            facts["amount"],
            quantity=facts.get("quantity", 1),
            basis_minor=facts["basis"],
            cap_ppm=facts.get("cap_ppm", commission.FIXED_CAP_PPM),
        )
    }


def _window(facts: Facts) -> dict[str, Any]:
    touch_us, order_us = (to_micros(_instant(facts[key])) for key in ("touch_at", "order_created_at"))
    return {"qualifies": attribution.in_window(touch_us, order_us, facts.get("window_s", DEFAULT_WINDOW_S))}


def _instant(text: str) -> datetime:
    """UTC where the text names no zone."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


_RULES: dict[str, Callable[[Facts], dict[str, Any]]] = {
    "order": _order,
    "split": _split,
    "refund": _refund,
    "tier": _tier,
    "cap": _cap,
    "multi_touch": _multi_touch,
    "balance": _balance,
    "fixed": _fixed,
    "window": _window,
}


def register(app: typer.Typer) -> None:
    """Add ``cps`` to the ``evaluate`` group."""

    @app.command("cps")
    def evaluate_cps(
        file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help='{"vectors": [...]} as JSON')],
        out: Annotated[Path, typer.Option("--out", help="where the answers go, as JSON")],
    ) -> None:
        """Compute commission test vectors; where they carry an expectation, say how many agree.

        Exit code 1 when one differs or has no answer.
        """
        document = json.loads(file.read_text(encoding="utf-8-sig"))
        vectors = document["vectors"] if isinstance(document, dict) else document
        answers = evaluate_vectors(vectors)
        out.write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        typer.echo(_summary(vectors, answers))
        failures = [_failure(*each) for each in zip(vectors, answers, strict=True)]
        for failure in filter(None, failures):
            typer.echo(failure, err=True)
        if any(failures):
            raise typer.Exit(1)


def _summary(vectors: Sequence[Facts], answers: Sequence[Facts]) -> str:
    expected = [
        answer.get("result") == vector["expect"]
        for vector, answer in zip(vectors, answers, strict=True)
        if isinstance(vector, Mapping) and "expect" in vector
    ]
    return f"{len(answers)} vectors, {sum(expected)} of {len(expected)} as expected"


def _failure(vector: Facts, answer: Facts) -> str | None:
    if "error" in answer:
        return f"no answer: {answer['name']}: {answer['error']['message']}"
    return (
        f"differs: {answer['name']}" if answer["result"] != vector.get("expect", answer["result"]) else None
    )
