"""``lianyu evaluate cps FILE --out OUT.json``: the CPS arithmetic on test vectors, for whoever brings them.

A vector is ``{"name", "kind", "input"}``; the answer has the keys a vector's ``expect`` has. Nothing here
computes: each kind says what its input holds, and is one call of the engine that settles real orders. What an
input leaves out is what the contract gives as default. A vector that cannot be answered says why and takes
nobody else's answer away.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, BeforeValidator, Field, Strict, ValidationError, model_validator

from core.canonical import to_micros
from core.errors import Invalid
from core.money import MAX_MINOR, PPM
from marketplace.promotion.agreements.terms import DEFAULT_WINDOW_S
from marketplace.promotion.attribution import decision as attribution
from marketplace.promotion.attribution.decision import AttributionModel
from marketplace.promotion.commission import rules as commission

MOST = 10_000
"""Entries of a list, touches of a sale: far above what an order may have."""
_LONGEST_INTEGER = 20
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


class BadVectorFile(Invalid):
    """No ``{"vectors": [...]}`` can be read, or the answers not be written; ``OUT`` is as it was."""

    code = "BAD_VECTOR_FILE"


# --- what an input holds: an integer is written as one, a float has been rounded by somebody else already ---


def _instant(text: Any) -> datetime:
    """RFC 3339, whose letters may be small; UTC where the text names no zone."""
    if not isinstance(text, str):
        raise ValueError("an instant is text")
    at = datetime.fromisoformat(text.upper())
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _funder(name: Any) -> Any:
    return commission.Funder.MERCHANT if name == _ADVERTISER else name


_Entry = TypeVar("_Entry")
Many = Annotated[list[_Entry], Field(max_length=MOST)]
Minor = Annotated[int, Strict(), Field(ge=0, le=MAX_MINOR)]
Balance = Annotated[int, Strict(), Field(ge=-MAX_MINOR, le=MAX_MINOR)]
"""Minor units that may be owed: what is carried, or left of a cap that was overdrawn."""
Ppm = Annotated[int, Strict(), Field(ge=0, le=PPM)]
Count = Annotated[int, Strict(), Field(ge=1, le=MAX_MINOR)]
Seconds = Annotated[int, Strict(), Field(ge=0, le=MAX_MINOR)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Funder = Annotated[commission.Funder, BeforeValidator(_funder)]


class _Facts(BaseModel):
    """``null`` is a key left out; keys that no rule reads are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, facts: Any) -> Any:
        if not isinstance(facts, Mapping):
            return facts
        return {key: value for key, value in facts.items() if value is not None}


class _Kind(_Facts, ABC):
    @abstractmethod
    def result(self) -> dict[str, Any]:
        """Raises ``ValueError`` for facts that are in range and yet do not fit together."""

    def untold(self) -> str | None:
        """A key of the result that is given only where ``expect`` has it."""
        return None


class _Split(_Kind):
    commission: Minor
    fee_ppm: Ppm = 0
    individual_ppm: Ppm = 0

    def shares(self) -> list[int]:
        return list(
            commission.split_commission(
                self.commission, fee_ppm=self.fee_ppm, individual_ppm=self.individual_ppm
            )
        )

    def result(self) -> dict[str, Any]:
        return {"shares": self.shares()}


class _Refund(_Split):
    basis: Minor
    refunds_of_basis: Many[Minor]

    def result(self) -> dict[str, Any]:
        held, refunded, reversals = self.shares(), 0, []
        for slice_minor in self.refunds_of_basis:
            refunded += slice_minor
            taken = commission.reverse_line(
                commission_minor=self.commission,
                basis_minor=self.basis,
                refunded_basis_minor=refunded,
                held=held,
            )
            held = [has - gives for has, gives in zip(held, taken, strict=True)]
            reversals.append(taken)
        return {"shares": self.shares(), "reversals": reversals, "remaining": held}


class _Line(_Facts):
    gross: Minor
    discount: Minor = 0
    tax_ppm: Ppm = 0


class _Discount(_Facts):
    amount: Minor
    funder: Funder


class _Order(_Kind):
    lines: Many[_Line]
    rates_ppm: Many[Ppm]
    order_discounts: Many[_Discount] = []
    fee_ppm: Ppm = 0
    individual_ppm: Ppm = 0

    def result(self) -> dict[str, Any]:
        if len(self.rates_ppm) != len(self.lines):
            raise ValueError("rates_ppm has one rate for each line")
        bases = commission.basis_of_lines(
            [commission.LineAmounts(line.gross, line.discount, line.tax_ppm) for line in self.lines],
            [commission.OrderDiscount(each.amount, each.funder) for each in self.order_discounts],
        )
        earned = commission.commission_of_order(
            bases, self.rates_ppm, fee_ppm=self.fee_ppm, individual_ppm=self.individual_ppm
        )
        return {
            "basis": bases,
            "commission_total": earned.total_minor,
            "commission_lines": earned.commissions,
            "shares": [list(shares) for shares in earned.shares],
        }


class _TierFrom(_Facts):
    from_basis: Minor
    rate_ppm: Ppm


class _Tier(_Kind):
    basis: Minor
    tiers: Annotated[Many[_TierFrom], Field(min_length=1)]
    prior_basis: Minor = 0
    mode: commission.TierMode = commission.TierMode.MARGINAL

    def result(self) -> dict[str, Any]:
        tiers = sorted(
            [commission.Tier(tier.from_basis, tier.rate_ppm) for tier in self.tiers],
            key=lambda tier: tier.from_basis_minor,
        )
        if tiers[0].from_basis_minor > 0:
            # With tiers every line earns their rate instead of its rule's: below the first there is none.
            tiers.insert(0, commission.Tier(0, 0))
        tiered = commission.tier_commission(
            prior_basis_minor=self.prior_basis, basis_minor=self.basis, tiers=tiers, mode=self.mode
        )
        return {"commission": tiered.commission_minor, "adjustment": tiered.adjustment_minor}

    def untold(self) -> str | None:
        return None if self.mode is commission.TierMode.RETROACTIVE else "adjustment"


class _Cap(_Kind):
    remaining: Balance
    commission_lines: Many[Minor]
    on_cap: commission.CapMode = commission.CapMode.TRUNCATE
    fallback_rate_ppm: Ppm | None = None
    basis: Many[Minor] = []

    def result(self) -> dict[str, Any]:
        if self.on_cap is commission.CapMode.FALLBACK_RATE and self.fallback_rate_ppm is None:
            raise ValueError("FALLBACK_RATE needs fallback_rate_ppm")
        cap = commission.Cap(self.remaining, self.on_cap, self.fallback_rate_ppm or 0)
        capped = commission.apply_caps(self.commission_lines, [cap], bases=self.basis)
        return {"commission_lines": list(capped.lines), "remaining": capped.remaining_minor[0]}


class _MultiTouch(_Kind):
    """One share for each touch, oldest first: in a model with one winner the others have nothing."""

    commission: Minor
    touches: Annotated[Count, Field(le=MOST)]
    model: AttributionModel = AttributionModel.LAST_TOUCH

    def result(self) -> dict[str, Any]:
        shares = attribution.share_over_touches(self.commission, self.model, self.touches)
        nothing = [0] * (self.touches - len(shares))
        first = self.model is AttributionModel.FIRST_TOUCH
        return {"shares": shares + nothing if first else nothing + shares}


class _Period(_Facts):
    earned: Minor = 0
    clawed_back: Minor = 0


class _Balance(_Kind):
    periods: Many[_Period]
    minimum_payout: Minor = 0
    carry_in: Balance = 0

    def result(self) -> dict[str, Any]:
        carry, periods = self.carry_in, []
        for period in self.periods:
            settled = commission.settle_period(
                carry_in_minor=carry,
                earned_minor=period.earned,
                clawed_back_minor=period.clawed_back,
                minimum_payout_minor=self.minimum_payout,
            )
            carry = settled.carry_minor
            periods.append({"paid": settled.paid_minor, "carry": carry})
        return {"periods": periods}


class _Fixed(_Kind):
    amount: Minor
    basis: Minor
    quantity: Count = 1
    cap_ppm: Ppm = commission.FIXED_CAP_PPM

    def result(self) -> dict[str, Any]:
        earned = commission.fixed_commission(
            self.amount, quantity=self.quantity, basis_minor=self.basis, cap_ppm=self.cap_ppm
        )
        return {"commission": earned}


class _Window(_Kind):
    touch_at: Instant
    order_created_at: Instant
    window_s: Seconds = DEFAULT_WINDOW_S

    def result(self) -> dict[str, Any]:
        touch_us, order_us = to_micros(self.touch_at), to_micros(self.order_created_at)
        return {"qualifies": attribution.in_window(touch_us, order_us, self.window_s)}


_KINDS: Mapping[str, type[_Kind]] = {
    "order": _Order,
    "split": _Split,
    "refund": _Refund,
    "tier": _Tier,
    "cap": _Cap,
    "multi_touch": _MultiTouch,
    "balance": _Balance,
    "fixed": _Fixed,
    "window": _Window,
}


def evaluate_vectors(vectors: Sequence[Any]) -> list[dict[str, Any]]:
    """``{"name", "result"}`` for each, in the sequence given; ``{"name", "error"}`` where there is no answer."""
    return [_answer(number, vector) for number, vector in enumerate(vectors, start=1)]


def _answer(number: int, vector: Any) -> dict[str, Any]:
    name = vector.get("name") if isinstance(vector, Mapping) else None
    answer = {"name": name if isinstance(name, str | int) else f"#{number}"}
    try:
        return {**answer, "result": evaluate_vector(vector)}
    except Invalid as error:
        return {**answer, "error": {"code": error.code, "message": error.message}}


def evaluate_vector(vector: Any) -> dict[str, Any]:
    """The result under the keys of ``expect`` where there is one. Raises ``UnknownVectorKind``, ``BadVector``."""
    if not isinstance(vector, Mapping) or not isinstance(vector.get("input"), Mapping):
        raise BadVector("a vector is an object with kind and input")
    kind = vector.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UnknownVectorKind(kind if isinstance(kind, str) else "")
    try:
        facts = _KINDS[kind].model_validate(vector["input"])
        result = facts.result()
    except ValidationError as error:
        raise BadVector(f"{kind}: {_first_fault(error)}") from error
    except (ValueError, ArithmeticError) as error:
        raise BadVector(f"{kind}: {error}") from error
    wanted = vector.get("expect")
    if isinstance(wanted, Mapping):
        return {key: result[key] for key in wanted if key in result}
    return {key: value for key, value in result.items() if key != facts.untold()}


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"


def read_vectors(file: Path) -> list[Any]:
    """The vectors of ``{"vectors": [...]}``, or of the list alone. Raises ``BadVectorFile``."""
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"), parse_int=_integer)
    except (OSError, ValueError, RecursionError) as error:
        raise BadVectorFile(f"{file} is not JSON: {error}") from error
    vectors = document.get("vectors") if isinstance(document, dict) else document
    if not isinstance(vectors, list):
        raise BadVectorFile(f'{file} is not an object with "vectors", a list')
    return vectors


def _integer(digits: str) -> int | str:
    """One that is beyond every range stays text, and is refused where it stands: Python reads no 5,000 digits."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


def write_answers(out: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """A file whole or not at all; a pipe or a device as it is. Raises ``BadVectorFile``."""
    text = json.dumps(answers, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    in_place = out.exists() and not out.is_file()
    target = out.resolve()
    written = out if in_place else target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        # Half a surrogate pair has no UTF-8; the backslash that replaces it is its JSON escape.
        written.write_text(text, encoding="utf-8", errors="backslashreplace")
        if not in_place:
            written.replace(target)
    except OSError as error:
        if not in_place:
            with suppress(OSError):
                written.unlink()
        raise BadVectorFile(f"{out} cannot be written: {error}") from error


def register(app: typer.Typer) -> None:
    """Add ``cps`` to the ``evaluate`` group."""

    @app.command("cps")
    def evaluate_cps(
        file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help='{"vectors": [...]} as JSON')],
        out: Annotated[Path, typer.Option("--out", help="where the answers go, as JSON")],
    ) -> None:
        """Compute commission test vectors; where they carry an expectation, say how many agree.

        Exits 0 when all do, 1 when one differs or has no answer, 2 when the file holds no vectors or OUT cannot
        be written.
        """
        try:
            vectors = read_vectors(file)
            answers = evaluate_vectors(vectors)
            write_answers(out, answers)
        except BadVectorFile as refused:
            typer.echo(f"{refused.code}: {refused.message}", err=True)
            raise typer.Exit(2) from refused
        typer.echo(_summary(vectors, answers))
        failures = [_failure(*each) for each in zip(vectors, answers, strict=True)]
        for failure in filter(None, failures):
            typer.echo(failure, err=True)
        if any(failures):
            raise typer.Exit(1)


def _expected(vector: Any) -> Any:
    return vector.get("expect") if isinstance(vector, Mapping) else None


def _summary(vectors: Sequence[Any], answers: Sequence[Mapping[str, Any]]) -> str:
    agree = [
        answer.get("result") == _expected(vector)
        for vector, answer in zip(vectors, answers, strict=True)
        if _expected(vector) is not None
    ]
    return f"{len(answers)} vectors, {sum(agree)} of {len(agree)} as expected"


def _failure(vector: Any, answer: Mapping[str, Any]) -> str | None:
    if "error" in answer:
        return f"no answer: {answer['name']}: {answer['error']['message']}"
    expected = _expected(vector)
    return f"differs: {answer['name']}" if expected not in (None, answer["result"]) else None
