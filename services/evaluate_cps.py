"""``lianyu evaluate cps FILE --out OUT.json``: the CPS arithmetic on test vectors, for whoever brings them.

A vector is ``{"name", "kind", "input"}``; the answer has the keys a vector's ``expect`` has. Nothing here
computes: each kind is one call of the engine that settles real orders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import Invalid
from marketplace.promotion.attribution import decision as attribution
from marketplace.promotion.commission import rules as commission

Facts = Mapping[str, Any]


class UnknownVectorKind(Invalid):
    code = "UNKNOWN_VECTOR_KIND"

    def __init__(self, kind: str) -> None:
        super().__init__(f"no rule is called {kind[:64]!r}")
        self.kind = kind[:64]


def evaluate_vectors(vectors: Sequence[Facts]) -> list[dict[str, Any]]:
    """``[{"name", "result"}]`` in the sequence given. Raises ``UnknownVectorKind``."""
    return [{"name": vector["name"], "result": _evaluate(vector)} for vector in vectors]


def _evaluate(vector: Facts) -> dict[str, Any]:
    rule = _RULES.get(vector["kind"])
    if rule is None:
        raise UnknownVectorKind(str(vector["kind"]))
    return rule(vector["input"])


def _order(facts: Facts) -> dict[str, Any]:
    lines = [
        commission.LineAmounts(line["gross"], line.get("discount", 0), line.get("tax_ppm", 0))
        for line in facts["lines"]
    ]
    discounts = [
        commission.OrderDiscount(each["amount"], commission.Funder(each["funder"]))
        for each in facts.get("order_discounts", [])
    ]
    bases = commission.basis_of_lines(lines, discounts)
    earned = commission.commission_of_order(
        bases, facts["rates_ppm"], fee_ppm=facts["fee_ppm"], individual_ppm=facts["individual_ppm"]
    )
    return {
        "basis": bases,
        "commission_total": earned.total_minor,
        "commission_lines": [line.commission_minor for line in earned.lines],
        "shares": [list(line.shares) for line in earned.lines],
    }


def _split(facts: Facts) -> dict[str, Any]:
    return {"shares": list(_shares(facts))}


def _shares(facts: Facts) -> commission.Shares:
    return commission.split_commission(
        facts["commission"], fee_ppm=facts["fee_ppm"], individual_ppm=facts["individual_ppm"]
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
    mode = commission.TierMode(facts["mode"])
    tiered = commission.tier_commission(
        prior_basis_minor=facts["prior_basis"],
        basis_minor=facts["basis"],
        tiers=[commission.Tier(tier["from_basis"], tier["rate_ppm"]) for tier in facts["tiers"]],
        mode=mode,
    )
    if mode is commission.TierMode.RETROACTIVE:
        return {"commission": tiered.commission_minor, "adjustment": tiered.adjustment_minor}
    return {"commission": tiered.commission_minor}


def _cap(facts: Facts) -> dict[str, Any]:
    cap = commission.Cap(
        facts["remaining"], commission.CapMode(facts["on_cap"]), facts.get("fallback_rate_ppm", 0)
    )
    capped = commission.apply_caps(facts["commission_lines"], [cap], bases=facts.get("basis", ()))
    return {"commission_lines": list(capped.lines), "remaining": capped.remaining_minor[0]}


def _multi_touch(facts: Facts) -> dict[str, Any]:
    model = attribution.AttributionModel(facts["model"])
    return {"shares": attribution.share_over_touches(facts["commission"], model, facts["touches"])}


def _balance(facts: Facts) -> dict[str, Any]:
    carry, periods = 0, []
    for period in facts["periods"]:
        settled = commission.settle_period(
            carry_in_minor=carry,
            earned_minor=period["earned"],
            clawed_back_minor=period["clawed_back"],
            minimum_payout_minor=facts["minimum_payout"],
        )
        carry = settled.carry_minor
        periods.append({"paid": settled.paid_minor, "carry": carry})
    return {"periods": periods}


def _fixed(facts: Facts) -> dict[str, Any]:
    return {
        "commission": commission.fixed_commission(
            facts["amount"],
            quantity=facts["quantity"],
            basis_minor=facts["basis"],
            cap_ppm=facts.get("cap_ppm", commission.FIXED_CAP_PPM),
        )
    }


def _window(facts: Facts) -> dict[str, Any]:
    touch_at, order_at = (datetime.fromisoformat(facts[key]) for key in ("touch_at", "order_created_at"))
    return {"qualifies": attribution.in_window(touch_at, order_at, facts["window_s"])}


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
        """Compute commission test vectors; where they carry an expectation, say how many agree."""
        document = json.loads(file.read_text(encoding="utf-8"))
        vectors = document["vectors"] if isinstance(document, dict) else document
        results = evaluate_vectors(vectors)
        out.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        expected = [(v, r) for v, r in zip(vectors, results, strict=True) if "expect" in v]
        wrong = [v["name"] for v, r in expected if r["result"] != v["expect"]]
        typer.echo(f"{len(results)} vectors, {len(expected) - len(wrong)} of {len(expected)} as expected")
        for name in wrong:
            typer.echo(f"differs: {name}", err=True)
        if wrong:
            raise typer.Exit(1)
