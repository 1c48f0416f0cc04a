"""Who acts: every service verb and query takes an ``Actor`` first, so nobody can forget to ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from core.errors import Forbidden
from core.ids import BrandId, StorefrontId, SupplierId, TenantId, TokenId, UserId


class ActorKind(StrEnum):
    BRAND = "brand"
    SUPPLIER = "supplier"
    STOREFRONT = "storefront"
    """A shopper behind a partner storefront's publishable key: only what a shopper may see."""
    PLATFORM = "platform"
    """An operator of the platform."""
    SYSTEM = "system"
    """Handlers, schedules and migrations of data: the platform itself."""


class MissingScope(Forbidden):
    code = "MISSING_SCOPE"

    def __init__(self, scope: str) -> None:
        super().__init__(f"this needs the scope {scope}")
        self.scope = scope


class WrongTenant(Forbidden):
    code = "WRONG_TENANT"


@dataclass(frozen=True, slots=True)
class Actor:
    """``tenant_id`` is the tenant whose rows may be touched; ``None`` only for platform and system."""

    kind: ActorKind
    tenant_id: TenantId | None = None
    user_id: UserId | None = None
    token_id: TokenId | None = None
    storefront_id: StorefrontId | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)

    @property
    def sees_everything(self) -> bool:
        return self.kind in (ActorKind.PLATFORM, ActorKind.SYSTEM)

    @property
    def brand_id(self) -> BrandId:
        """Raises ``WrongTenant`` when this actor is not a brand (or a storefront of one)."""
        if self.kind not in (ActorKind.BRAND, ActorKind.STOREFRONT) or self.tenant_id is None:
            raise WrongTenant("only a brand can do this")
        return BrandId.of(self.tenant_id)

    @property
    def supplier_id(self) -> SupplierId:
        """Raises ``WrongTenant`` when this actor is not a supplier."""
        if self.kind is not ActorKind.SUPPLIER or self.tenant_id is None:
            raise WrongTenant("only a supplier can do this")
        return SupplierId.of(self.tenant_id)

    def require(self, scope: str) -> None:
        """Raises ``MissingScope`` unless the scope was granted; system has every scope."""
        if self.kind is not ActorKind.SYSTEM and scope not in self.scopes:
            raise MissingScope(scope)

    def __str__(self) -> str:
        return f"{self.kind}:{self.user_id or self.token_id or self.tenant_id or '-'}"


SYSTEM = Actor(ActorKind.SYSTEM)
