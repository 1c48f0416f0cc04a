"""Plan who serves an order, keep why, explain it later, and find another source when one falls away."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import canonical_json
from core.ids import BrandId, LocationId, OfferId, OrderId, OrderLineId, RoutingRunId, SupplierId
from supply.routing.eligibility import CostBreakdown, OfferFact, OrderNeed, RoutingPolicy
from supply.routing.facts import Facts, facts_for, facts_for_many
from supply.routing.models import RoutingMode
from supply.routing.router import JudgedOffer, LineDecision, RoutingOutcome, route

POLICY = RoutingPolicy()
"""The policy in force; a change is a new version here, and every run keeps the one it was made under."""

_RECORD = text("""
WITH run AS (
    INSERT INTO routing_runs (id, order_id, brand_id, mode, previous_run_id, policy_version, algorithm,
        code_version, input, input_hash, currency, cost_minor, lower_bound_minor, cheapest_per_line_minor,
        duration_us, created_at)
    SELECT * FROM jsonb_to_recordset(CAST(:runs AS jsonb)) AS w(id uuid, order_id uuid, brand_id uuid,
        mode varchar, previous_run_id uuid, policy_version int, algorithm varchar, code_version varchar,
        input jsonb, input_hash varchar, currency varchar, cost_minor bigint, lower_bound_minor bigint,
        cheapest_per_line_minor bigint, duration_us bigint, created_at timestamptz)
), candidates AS (
    INSERT INTO routing_candidates (run_id, line_id, location_id, piece, quantity, offer_id, supplier_id,
        brand_id, eligible, reject_code, cost, chosen)
    SELECT run_id, line_id, location_id, piece, quantity, offer_id, supplier_id, brand_id, reject_code IS NULL,
        reject_code, cost, chosen
    FROM jsonb_to_recordset(CAST(:candidates AS jsonb)) AS w(run_id uuid, brand_id uuid, line_id uuid,
        location_id uuid, piece int, quantity bigint, offer_id uuid, supplier_id uuid, reject_code varchar,
        cost jsonb, chosen boolean)
)
INSERT INTO routing_decisions (run_id, line_id, piece, brand_id, quantity, offer_id, supplier_id, location_id,
    cost, runner_up_location_id, margin_minor)
SELECT run_id, line_id, piece, brand_id, quantity, offer_id, supplier_id, location_id, cost,
    runner_up_location_id, margin_minor
FROM jsonb_to_recordset(CAST(:decisions AS jsonb)) AS w(run_id uuid, brand_id uuid, line_id uuid, piece int,
    quantity bigint, offer_id uuid, supplier_id uuid, location_id uuid, cost jsonb, runner_up_location_id uuid,
    margin_minor bigint)
""")
_EXPLAIN = text("""
SELECT r.id, r.mode, r.previous_run_id, r.policy_version, r.algorithm, r.code_version, r.input_hash, r.currency,
    r.cost_minor, r.lower_bound_minor, r.cheapest_per_line_minor, r.duration_us, r.created_at,
    (SELECT jsonb_agg(to_jsonb(d) - 'run_id' - 'brand_id' ORDER BY d.line_id, d.piece) FROM routing_decisions d
     WHERE d.run_id = r.id) AS decisions,
    (SELECT jsonb_agg(to_jsonb(c) - 'run_id' - 'brand_id' ORDER BY c.line_id, c.piece, c.location_id)
     FROM routing_candidates c WHERE c.run_id = r.id) AS candidates
FROM routing_runs r WHERE r.order_id = :order_id ORDER BY r.created_at, r.id
""")
_INPUT = text("SELECT input, input_hash FROM routing_runs WHERE id = :id")
_LAST_RUN = text(
    "SELECT id FROM routing_runs WHERE order_id = :order_id ORDER BY created_at DESC, id DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class PlannedRouting(RoutingOutcome):
    """An outcome with what it was made from, so that it can be recorded and recomputed."""

    need: OrderNeed = field(kw_only=True)
    offers: tuple[OfferFact, ...] = field(kw_only=True)
    policy: RoutingPolicy = field(kw_only=True)
    price_versions: Mapping[str, int] = field(kw_only=True)
    duration_us: int = field(kw_only=True)

    @property
    def savings_minor(self) -> int:
        """Against taking each line from its own cheapest location; 0 when that is what was done."""
        cheapest = cheapest_per_line(self)
        return 0 if cheapest is None else cheapest - self.cost_minor


@dataclass(frozen=True, slots=True)
class RunExplanation:
    """One run: what was chosen, the runner-up with its margin, and every candidate with its reject code."""

    id: RoutingRunId
    mode: RoutingMode
    previous_run_id: RoutingRunId | None
    policy_version: int
    algorithm: str
    code_version: str
    input_hash: str
    currency: str
    cost_minor: int
    cheapest_per_line_minor: int | None
    decisions: tuple[dict[str, Any], ...]
    candidates: tuple[dict[str, Any], ...]


async def plan(
    session: AsyncSession, need: OrderNeed, *, mode: RoutingMode, policy: RoutingPolicy = POLICY
) -> PlannedRouting:
    """Read the facts (one statement) and route. Writes nothing. Needs a SYSTEM session.

    ``need`` names sellable things by the outer form of their variant ids. ``mode`` is for the record.
    """
    return _planned(need, await facts_for(session, need), policy)


async def plan_many(
    session: AsyncSession, needs: Sequence[OrderNeed], *, policy: RoutingPolicy = POLICY
) -> list[PlannedRouting]:
    """``plan`` for many orders, each by itself: none of them takes stock from another. One statement."""
    facts = await facts_for_many(session, needs)
    return [_planned(need, known, policy) for need, known in zip(needs, facts, strict=True)]


def _planned(need: OrderNeed, facts: Facts, policy: RoutingPolicy) -> PlannedRouting:
    started = time.perf_counter_ns()
    outcome = route(need, facts.offers, policy)
    duration_us = (time.perf_counter_ns() - started) // 1_000
    values = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
    return PlannedRouting(
        **values, need=need, offers=facts.offers, policy=policy, price_versions=facts.price_versions,
        duration_us=duration_us,
    )  # fmt: skip


async def record(
    session: AsyncSession,
    outcome: RoutingOutcome,
    *,
    order_id: OrderId,
    mode: RoutingMode,
    previous_run: RoutingRunId | None = None,
) -> RoutingRunId:
    """Keep the decision with its candidates and its whole input. One statement.

    Raises ``TypeError`` for an outcome that ``plan`` did not make: nobody could recompute it.
    """
    return (await record_many(session, [(order_id, outcome)], mode=mode, previous_run=previous_run))[0]


async def record_many(
    session: AsyncSession,
    outcomes: Sequence[tuple[OrderId, RoutingOutcome]],
    *,
    mode: RoutingMode,
    previous_run: RoutingRunId | None = None,
) -> list[RoutingRunId]:
    """``record`` for many orders. One statement."""
    runs: list[str] = []
    candidates: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    ids = []
    for order_id, outcome in outcomes:
        if not isinstance(outcome, PlannedRouting):
            raise TypeError("only a planned routing can be recorded")
        run_id, brand = RoutingRunId.new(), BrandId.parse(outcome.need.brand_id)
        runs.append(_run_row(run_id, order_id, brand, outcome, mode, previous_run))
        of_run = {"run_id": run_id.hex, "brand_id": brand.hex}
        candidates += [of_run | _candidate_row(each) for each in outcome.candidates]
        decisions += [of_run | _decision_row(each) for each in outcome.decisions]
        ids.append(run_id)
    rows = {
        "runs": f"[{','.join(runs)}]", "candidates": _json(candidates), "decisions": _json(decisions),
    }  # fmt: skip
    if ids:
        await session.execute(_RECORD, rows)
    return ids


def _run_row(
    run_id: RoutingRunId,
    order_id: OrderId,
    brand_id: BrandId,
    outcome: PlannedRouting,
    mode: RoutingMode,
    previous_run: RoutingRunId | None,
) -> str:
    """One run as JSON; its input is canonical JSON already and goes in as it is."""
    exact = outcome.algorithm.startswith("exact")
    values = {
        "id": run_id.hex, "order_id": order_id.hex, "brand_id": brand_id.hex, "mode": mode.value,
        "previous_run_id": previous_run.hex if previous_run else None,
        "policy_version": outcome.policy_version, "algorithm": outcome.algorithm,
        "code_version": outcome.code_version, "input_hash": outcome.input_hash,
        "currency": outcome.need.currency, "cost_minor": outcome.cost_minor,
        "lower_bound_minor": outcome.cost_minor if exact else None,
        "cheapest_per_line_minor": cheapest_per_line(outcome), "duration_us": outcome.duration_us,
        "created_at": outcome.need.at,
    }  # fmt: skip
    given = {"need": outcome.need, "offers": outcome.offers, "policy": outcome.policy}
    return f'{orjson.dumps(values).decode()[:-1]},"input":{canonical_json(given)}}}'


async def explain(session: AsyncSession, order_id: OrderId) -> list[RunExplanation]:
    """Every routing run of an order, first to last. One statement; visible to its brand and the platform."""
    return [
        RunExplanation(
            RoutingRunId.of(r.id), RoutingMode(r.mode),
            RoutingRunId.of(r.previous_run_id) if r.previous_run_id else None, r.policy_version, r.algorithm,
            r.code_version, r.input_hash, r.currency, r.cost_minor, r.cheapest_per_line_minor,
            tuple(_named(d) for d in r.decisions or ()), tuple(_named(c) for c in r.candidates or ()),
        )
        for r in await session.execute(_EXPLAIN, {"order_id": order_id})
    ]  # fmt: skip


async def last_run(session: AsyncSession, order_id: OrderId) -> RoutingRunId | None:
    found = (await session.execute(_LAST_RUN, {"order_id": order_id})).scalar()
    return None if found is None else RoutingRunId.of(found)


async def stored_input(session: AsyncSession, run_id: RoutingRunId) -> tuple[dict[str, Any], str]:
    """The canonical input of a run and its hash, as recorded."""
    row = (await session.execute(_INPUT, {"id": run_id})).one()
    return row.input, row.input_hash


def cheapest_per_line(outcome: PlannedRouting) -> int | None:
    """Landed cost of taking each line from the location that is cheapest for it alone.

    ``None`` where some line has no eligible candidate. The yardstick of "routing savings".
    """
    best: dict[tuple[str, int], tuple[int, JudgedOffer]] = {}
    for each in outcome.candidates:
        if each.cost is None:
            continue
        alone, key = each.cost.line_minor + each.cost.shipment_minor, (each.line_id, each.piece)
        if key not in best or (alone, each.offer_id) < (best[key][0], best[key][1].offer_id):
            best[key] = (alone, each)
    if any((d.line_id, d.piece) not in best for d in outcome.decisions):
        return None
    shipments: dict[str, int] = {}
    total = 0
    for _, each in best.values():
        assert each.cost is not None
        total += each.cost.line_minor
        shipments[each.location_id] = max(shipments.get(each.location_id, 0), each.cost.shipment_minor)
    return total + sum(shipments.values())


def _candidate_row(each: JudgedOffer) -> dict[str, Any]:
    return {
        "line_id": OrderLineId.parse(each.line_id).hex, "piece": each.piece, "quantity": each.quantity,
        "offer_id": OfferId.parse(each.offer_id).hex, "supplier_id": SupplierId.parse(each.supplier_id).hex,
        "location_id": LocationId.parse(each.location_id).hex, "reject_code": each.reject_code,
        "cost": _cost(each.cost), "chosen": each.chosen,
    }  # fmt: skip


def _decision_row(each: LineDecision) -> dict[str, Any]:
    return {
        "line_id": OrderLineId.parse(each.line_id).hex, "piece": each.piece, "quantity": each.quantity,
        "offer_id": OfferId.parse(each.offer_id).hex if each.offer_id else None,
        "supplier_id": SupplierId.parse(each.supplier_id).hex if each.supplier_id else None,
        "location_id": LocationId.parse(each.location_id).hex if each.location_id else None,
        "cost": _cost(each.cost),
        "runner_up_location_id": LocationId.parse(each.runner_up_location_id).hex
        if each.runner_up_location_id
        else None,
        "margin_minor": each.margin_minor,
    }  # fmt: skip


def _cost(cost: CostBreakdown | None) -> dict[str, int] | None:
    return None if cost is None else dataclasses.asdict(cost)


_IDS = {
    "line_id": OrderLineId, "offer_id": OfferId, "supplier_id": SupplierId, "location_id": LocationId,
    "runner_up_location_id": LocationId,
}  # fmt: skip


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """The outer form of every id."""
    return {k: str(_IDS[k](v)) if k in _IDS and v is not None else v for k, v in row.items()}


def _json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()
