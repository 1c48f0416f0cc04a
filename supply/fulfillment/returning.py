"""Units a supplier took back: counted on the fulfilment order that delivered them, and laid on its shelf again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId, OrderLineId, SupplierId
from supply.fulfillment import state
from supply.fulfillment.state import FulfillmentOrderState
from supply.inventory import service as inventory
from supply.inventory.service import ReturnedUnits


@dataclass(frozen=True, slots=True)
class TakenBack:
    """``quantity`` units of an order line; ``restock`` of them can be sold again."""

    order_line_id: OrderLineId
    quantity: int
    restock: int


async def take_back(
    session: AsyncSession,
    order_id: OrderId,
    supplier_id: SupplierId,
    units: Sequence[TakenBack],
    *,
    cause: str,
    clock: Clock,
) -> None:
    """Each unit goes back to where it was shipped from, the earliest fulfilment order first.

    ``cause`` names the decision (the return): a shelf takes its units once. Units beyond what was delivered and is
    not back yet are left out. ``session`` acts as SYSTEM.
    """
    found = await state.lock_of_orders(session, SYSTEM, [order_id])
    own = [fo for fo in found if fo.supplier_id == supplier_id]
    shelved = [piece for each in units for piece in _spread(own, each, cause)]
    await state.save(session, own, now=clock.now())
    await inventory.restock(session, supplier_id, shelved, clock=clock)


def _spread(orders: Sequence[FulfillmentOrderState], units: TakenBack, cause: str) -> list[ReturnedUnits]:
    """Count the units on the lines that delivered them; the sellable ones of each, for its shelf."""
    left, sellable, shelved = units.quantity, units.restock, list[ReturnedUnits]()
    for fo in orders:
        for line in fo.lines:
            if line.order_line_id != units.order_line_id:
                continue
            taken = min(left, line.delivered - line.returned)
            line.returned += taken
            left -= taken
            back = min(sellable, taken)
            sellable -= back
            shelved.append(
                ReturnedUnits(fo.location_id, line.variant_id, fo.brand_id, back, f"{cause}:{line.id}")
            )
    return shelved
