"""One statement for as many statements and orders as a document asks for."""

from __future__ import annotations

from collections.abc import Sequence

from core.ids import OrderId, StatementId
from graph.context import Context
from supply.settlement.rails import queries as rails
from supply.settlement.rails.queries import RailRefundView
from supply.settlement.statements.contesting import StatementState, statement_states


async def states(context: Context, statement_ids: Sequence[StatementId]) -> list[StatementState]:
    async with context.reading() as session:
        found = await statement_states(session, list(statement_ids), now=context.clock.now())
    return [found[each] for each in statement_ids]


async def rail_refunds(context: Context, order_ids: Sequence[OrderId]) -> list[list[RailRefundView]]:
    async with context.reading() as session:
        found = await rails.rail_refunds_of(session, order_ids)
    return [found[each] for each in order_ids]
