"""How many statements the checkout pays for fulfilment: however many orders and lines it has."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import BrandId, VariantId
from supply.fulfillment import service
from tests.factories import supply


async def test_create_is_one_statement_and_submission_five(session: AsyncSession, clock: FixedClock) -> None:
    brand = BrandId.new()
    variants = [VariantId.new() for _ in range(3)]
    for variant in variants:
        await supply.supplier(session, clock, stock={variant: 9}, brand_id=brand)
    seen: list[str] = []
    connection = await session.connection()

    def count(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(connection.sync_connection, "before_cursor_execute", count)
    order_id, ids = await supply.routed_order(session, clock, brand, dict.fromkeys(variants, 2), paid=False)
    assert len(ids) == 3
    # Plan, record, reserve, create.
    assert len(seen) == 4

    seen.clear()
    await service.release_for_submission(session, [order_id], clock=clock)
    # Lock, read, save, outbox.
    assert len(seen) == 4
