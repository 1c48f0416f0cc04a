"""What a brand decides about who may deliver for it."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.ids import SupplierId
from graph.context import Info
from graph.errors import UserError, expected
from supply.suppliers import service
from supply.suppliers.models import BrandRelation


@strawberry.input
class SupplierRuleSetInput:
    supplier_id: strawberry.ID
    relation: BrandRelation
    preference: int = strawberry.field(default=0, description="-100 to 100; weighs in routing.")
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@strawberry.type
class SupplierRuleSetPayload:
    supplier_id: strawberry.ID | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class SupplyMutations:
    @strawberry.mutation(description="Whether, and how gladly, a supplier may fulfil the brand's products.")
    @expected(SupplierRuleSetPayload)
    async def supplier_rule_set(self, info: Info, input: SupplierRuleSetInput) -> SupplierRuleSetPayload:
        context = info.context
        context.actor.require("supply:write")
        async with context.db.unit_of_work(context.actor) as session:
            await service.set_brand_rule(
                session,
                context.actor,
                supplier_id=SupplierId.parse(input.supplier_id),
                relation=input.relation,
                preference=input.preference,
                valid_from=input.valid_from,
                valid_to=input.valid_to,
                clock=context.clock,
            )
        return SupplierRuleSetPayload(supplier_id=input.supplier_id)
