"""Sign-up as the outside sees it: a supplier is a tenant and a row of supply's directory, or neither."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import SupplierId
from marketplace.brands import service
from marketplace.brands.models import TenantKind
from marketplace.brands.service import SignedUp
from supply.suppliers import service as suppliers


async def onboard(
    session: AsyncSession,
    *,
    kind: TenantKind | str,
    name: str,
    email: str,
    country: str,
    currency: str,
    clock: Clock,
) -> SignedUp:
    """``service.sign_up``, and for a supplier its registration. Runs in a SYSTEM unit of work."""
    signed_up = await service.sign_up(
        session, kind=kind, name=name, email=email, country=country, currency=currency, clock=clock
    )
    if kind == TenantKind.SUPPLIER:
        supplier_id = SupplierId.of(signed_up.tenant_id)
        await suppliers.register(session, supplier_id=supplier_id, name=name.strip(), clock=clock)
    return signed_up
