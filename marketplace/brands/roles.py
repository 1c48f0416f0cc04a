"""What a role may do: each is a set of scopes, and a token never has more than its maker."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from core.actor import Actor
from marketplace.brands.errors import ScopeNotHeld, UnknownScope
from marketplace.brands.models import TenantKind

BRAND_SCOPES = frozenset(
    {
        "catalog:read", "catalog:write", "audiences:read", "audiences:write", "promotion:read",
        "promotion:write", "matching:read", "orders:read", "orders:write", "supply:read", "supply:write",
        "settlement:read", "settlement:write", "fulfillment:read", "tokens:write",
    }
)  # fmt: skip
SUPPLIER_SCOPES = frozenset(
    {
        "supply:read",
        "supply:write",
        "fulfillment:read",
        "fulfillment:write",
        "settlement:read",
        "settlement:write",
        "tokens:write",
    }
)
PLATFORM_SCOPES = BRAND_SCOPES | SUPPLIER_SCOPES | {"platform:admin"}
SCOPES_OF_KIND: dict[TenantKind, frozenset[str]] = {
    TenantKind.BRAND: BRAND_SCOPES,
    TenantKind.SUPPLIER: SUPPLIER_SCOPES,
    TenantKind.PLATFORM: PLATFORM_SCOPES,
}
STOREFRONT_SCOPES = frozenset({"storefront"})
"""A publishable key is public, so it grants nothing of the brand's own."""


class Role(StrEnum):
    OWNER = "owner"
    MARKETING = "marketing"
    SALES = "sales"
    SERVICE = "service"
    FINANCE = "finance"
    DEVELOPER = "developer"
    READ_ONLY = "read_only"


_READ = frozenset(scope for scope in PLATFORM_SCOPES if scope.endswith(":read"))
_OF_ROLE: dict[Role, frozenset[str]] = {
    Role.OWNER: PLATFORM_SCOPES,
    Role.MARKETING: frozenset(
        {
            "catalog:read",
            "audiences:read",
            "audiences:write",
            "promotion:read",
            "promotion:write",
            "matching:read",
        }
    ),
    Role.SALES: frozenset(
        {"catalog:read", "catalog:write", "promotion:read", "promotion:write", "matching:read", "orders:read"}
    ),
    Role.SERVICE: frozenset({"catalog:read", "orders:read", "orders:write", "fulfillment:read"}),
    Role.FINANCE: frozenset({"orders:read", "settlement:read", "settlement:write", "promotion:read"}),
    Role.DEVELOPER: _READ | {"catalog:write", "supply:write", "fulfillment:write", "tokens:write"},
    Role.READ_ONLY: _READ - {"settlement:read"},
}


def scopes_of(role: Role, kind: TenantKind) -> frozenset[str]:
    """The role's scopes as far as the kind of tenant has them."""
    return _OF_ROLE[role] & SCOPES_OF_KIND[kind]


def granted(actor: Actor, scopes: Iterable[str], kind: TenantKind) -> list[str]:
    """The scopes of a new token, sorted. Raises ``UnknownScope`` and ``ScopeNotHeld``."""
    wanted = frozenset(scopes)
    if unknown := wanted - SCOPES_OF_KIND[kind]:
        raise UnknownScope(unknown)
    if not wanted:
        raise UnknownScope(["(none)"])
    if not actor.sees_everything and (missing := wanted - actor.scopes):
        raise ScopeNotHeld(missing)
    return sorted(wanted)
