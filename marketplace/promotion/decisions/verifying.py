"""Decided again from what was stored: whether a decision, its hashes, and what it earned are what they must be.

Nothing of the present is read: a decision's two texts hold everything it rests on, so that either brand verifies
with them alone. What is compared: the hashes of inputs, amounts and result, and every commission line and share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AgreementId, BrandId, DecisionId, OrderId, OrderLineId, TouchId, TypedId
from infra.db.session import driver_connection
from marketplace.promotion.attribution.crediting import LineEarned, Recomputed, recompute
from marketplace.promotion.errors import BadExplanation

PAGE = 1_000
_ASK = (
    "SELECT id, order_id, input, input_hash, amounts, amounts_hash, result_hash,"
    " encode(sha256(convert_to(result, 'UTF8')), 'hex') AS hash_of_result FROM attribution_decisions"
    " WHERE id > $1 AND ($2::timestamptz IS NULL OR decided_at >= $2) AND ($3::uuid IS NULL OR order_id = $3)"
    " ORDER BY id LIMIT $4"
)
# A line's shares come with it, column by column: a row for each share would be three times the rows.
_LINES = (
    "SELECT l.order_id, l.order_line_id, l.agreement_id, l.agreement_version, l.rule_id, l.rate_ppm, l.basis_minor,"
    " l.commission_minor, l.return_window_days, l.promoter_brand_id, l.touch_id, s.roles, s.payees, s.earned, s.touches"
    " FROM commission_lines l CROSS JOIN LATERAL (SELECT array_agg(role ORDER BY position) AS roles,"
    " array_agg(payee ORDER BY position) AS payees, array_agg(earned_minor ORDER BY position) AS earned,"
    " array_agg(touch_id ORDER BY position) AS touches FROM commission_shares WHERE commission_line_id = l.id) s"
    " WHERE l.order_id = ANY($1::uuid[])"
)
_FIRST = DecisionId(int=0)


class LineFacts(NamedTuple):
    """What is stored of one commission line; ``None`` where whoever tells does not tell it."""

    agreement_id: str | None
    agreement_version: int | None
    rule_id: str | None
    rate_ppm: int | None
    basis_minor: int | None
    commission_minor: int | None
    return_window_days: int | None
    shares: tuple[tuple[str, str, int], ...] | None
    """(role, payee, minor units), in the order of R3."""
    promoter_brand_id: str | None = None
    touch_id: str | None = None
    touches_of_shares: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """``partial``: told to one of several promoter brands, whose own lines are all it holds."""

    order_id: str
    decision_id: str
    input: str
    input_hash: str
    amounts: str
    amounts_hash: str
    result_hash: str
    lines: Mapping[str, LineFacts]
    """By order line."""
    hash_of_result: str | None = None
    """Of the stored result's text; ``result_hash`` is what was stored beside it."""
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    order_id: str
    what: str
    stored: str
    recomputed: str


@dataclass(frozen=True, slots=True)
class Verified:
    """``differences`` is empty when the decision holds."""

    order_id: str
    decision_id: str
    input_hash: str
    amounts_hash: str
    result_hash: str
    """The three as recomputed; empty for texts that cannot be read."""
    differences: tuple[Difference, ...]


def verify(stored: StoredDecision) -> Verified:
    """Decide again and compare. Pure; some tenths of a millisecond."""
    try:
        again = recompute(stored.input, stored.amounts)
    except Exception as error:
        # Whatever the text does to the engine, the answer is that it does not verify.
        unread = Difference(
            stored.order_id, "input", stored.input[:80], f"{type(error).__name__}: {error}"[:200]
        )
        return Verified(stored.order_id, stored.decision_id, "", "", "", (unread,))
    found = [*_texts(stored, again), *_lines(stored, again)]
    differences = tuple([Difference(stored.order_id, *each) for each in found])
    return Verified(
        stored.order_id,
        stored.decision_id,
        again.input_hash,
        again.amounts_hash,
        again.result_hash,
        differences,
    )


_Found = list[tuple[str, str, str]]


def _texts(stored: StoredDecision, again: Recomputed) -> _Found:
    pairs = [
        ("order", stored.order_id, again.credit.decision.order_id),
        ("input hash", stored.input_hash, again.input_hash),
        ("amounts hash", stored.amounts_hash, again.amounts_hash),
        ("result hash", stored.result_hash, again.result_hash),
    ]
    if stored.hash_of_result is not None:
        pairs.append(("result", stored.hash_of_result, again.result_hash))
    return [each for each in pairs if each[1] != each[2]]


def _lines(stored: StoredDecision, again: Recomputed) -> _Found:
    expected = {line.order_line_id: line for line in again.credit.lines}
    found: _Found = []
    for line_id, told in stored.lines.items():
        line = expected.pop(line_id, None)
        if line is None:
            found.append((f"{line_id}: commission", str(told.commission_minor), "none"))
            continue
        facts = _facts(line)
        if told != facts:
            found += [
                (f"{line_id}: {name}", str(here), str(there))
                for name, here, there in zip(LineFacts._fields, told, facts, strict=True)
                if here is not None and here != there
            ]
    if not stored.partial:
        found += [
            (f"{line_id}: commission", "none", str(line.commission_minor))
            for line_id, line in expected.items()
        ]
    return found


def _facts(line: LineEarned) -> LineFacts:
    return LineFacts(
        line.agreement_id,
        line.agreement_version,
        line.rule_id,
        line.rate_ppm,
        line.basis_minor,
        line.commission_minor,
        line.return_window_days,
        tuple([(share.role, share.payee, share.amount_minor) for share in line.shares]),
        line.promoter_brand_id,
        line.touch_id,
        tuple([share.touch_id for share in line.shares]),
    )


async def stored_decisions(
    session: AsyncSession,
    *,
    after: DecisionId = _FIRST,
    since: datetime | None = None,
    order_id: OrderId | None = None,
    limit: int = PAGE,
) -> list[StoredDecision]:
    """The next decisions by id, those made from ``since`` on, with their lines. Two statements, SYSTEM session."""
    connection = await driver_connection(session)
    rows = await connection.fetch(_ASK, after, since, order_id, limit)
    outer = _Outer()
    lines: dict[Any, dict[str, LineFacts]] = {row["order_id"]: {} for row in rows}
    for line in await connection.fetch(_LINES, list(lines)):
        (
            order, line_id, agreement, version, rule, rate_ppm, basis, commission, window, brand, touch,
            roles, payees, earned, touches,
        ) = line  # fmt: skip
        lines[order][OrderLineId.outer(line_id.int)] = LineFacts(
            outer(AgreementId, agreement),
            version,
            rule,
            rate_ppm,
            basis,
            commission,
            window,
            tuple(zip(roles or (), payees or (), earned or (), strict=True)),
            outer(BrandId, brand),
            outer(TouchId, touch),
            tuple([outer(TouchId, each) for each in touches or ()]),
        )
    return [
        StoredDecision(
            OrderId.outer(row["order_id"].int),
            DecisionId.outer(row["id"].int),
            row["input"],
            row["input_hash"],
            row["amounts"],
            row["amounts_hash"],
            row["result_hash"],
            lines[row["order_id"]],
            row["hash_of_result"],
        )
        for row in rows
    ]


class _Outer:
    """Outer forms of ids of one page: an agreement or a touch stands in many lines."""

    def __init__(self) -> None:
        self._known: dict[tuple[type[TypedId], Any], str] = {}

    def __call__(self, kind: type[TypedId], value: Any) -> str:
        key = (kind, value)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = kind.outer(value.int)
        return known


def told_decision(told: Mapping[str, Any]) -> StoredDecision:
    """The answer of ``explainAttribution`` as a decision to verify: its ``orderId``, the texts and hashes, and of its
    ``lines`` what was asked for, amounts with ``minorUnits``. Raises ``BadExplanation``."""
    try:
        lines = told.get("lines") or []
        return StoredDecision(
            told["orderId"],
            told.get("decisionId", ""),
            told["input"],
            told["inputHash"],
            told["amounts"],
            told["amountsHash"],
            told["resultHash"],
            {line["orderLineId"]: _told_line(line) for line in lines},
            partial=True,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadExplanation(f"not an answer of explainAttribution: {error!r}") from error


def _told_line(line: Mapping[str, Any]) -> LineFacts:
    """What was asked for: the rest is None and not compared."""
    shares = line.get("shares")
    return LineFacts(
        line.get("agreementId"),
        line.get("agreementVersion"),
        line.get("ruleId"),
        line.get("ratePpm"),
        _minor(line.get("basis")),
        _minor(line.get("commission")),
        line.get("returnWindowDays"),
        None if shares is None else tuple(_told_share(share) for share in shares),
    )


def _told_share(share: Mapping[str, Any]) -> tuple[str, str, int]:
    return share["role"].lower(), share["payee"], int(share["earned"]["minorUnits"])


def _minor(amount: Mapping[str, str] | None) -> int | None:
    return None if amount is None else int(amount["minorUnits"])
