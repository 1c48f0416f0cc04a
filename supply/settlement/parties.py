"""Names of ledger accounts for the people and places of settlement.

A party is the outer text of its id (``brd_…``, ``sup_…``, ``pro_…``): brands and suppliers are tenants, an
individual promoter's accounts belong to the promoter brand it sells for.
"""

from __future__ import annotations

from core.ids import BrandId, RefundId, SupplierId, TenantId
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey
from supply.settlement.composition import Part

PLATFORM = "platform"
_AT_SOURCE = "own:"


def owner_of(party: str) -> str:
    return f"party:{party}"


def at_source(merchant: BrandId) -> str:
    """The provider's name of sales whose money the merchant itself has."""
    return f"{_AT_SOURCE}{merchant}"


def is_at_source(provider: str) -> bool:
    """Of a provider, or of a charge."""
    return provider.startswith(_AT_SOURCE)


def party_of(owner: str) -> str:
    return owner.removeprefix("party:")


def tenant_of(party: str) -> TenantId | None:
    """The tenant a party is; None for parties that are no tenants (individual promoters)."""
    for kind in (BrandId, SupplierId):
        if party.startswith(f"{kind.prefix}_"):
            return TenantId.of(kind.parse(party))
    return None


def party_account(code: Code, party: str, currency: str, tenant_id: TenantId | None = None) -> AccountKey:
    return AccountKey(code, owner_of(party), currency, tenant_id or tenant_of(party))


def provider_account(code: Code, provider: str, currency: str) -> AccountKey:
    return AccountKey(code, f"psp:{provider}", currency)


def platform_account(code: Code, currency: str) -> AccountKey:
    return AccountKey(code, PLATFORM, currency)


def coupon_account(currency: str) -> AccountKey:
    """What the platform paid of prices, apart from goodwill: every order's coupons can be told from it."""
    return AccountKey(Code.GOODWILL, "platform:coupons", currency)


def tax_account(jurisdiction: str, currency: str) -> AccountKey:
    return AccountKey(Code.TAX, f"tax:{jurisdiction}", currency)


def refund_account(refund_id: RefundId, currency: str) -> AccountKey:
    return AccountKey(Code.REFUND_PENDING, f"customer:{refund_id}", currency)


def pending_account(
    part: Part, party: str, currency: str, *, jurisdiction: str, tenant_id: TenantId | None
) -> AccountKey:
    """Where a part lies between capture and release. A coupon is nobody's money: it is an expense of the
    platform, or owed by the promoter that gave it."""
    if part is Part.COUPON:
        if not party:
            return coupon_account(currency)
        return party_account(Code.RECEIVABLE, party, currency, tenant_id)
    if part is Part.TAX:
        return tax_account(jurisdiction, currency)
    if part in (Part.PLATFORM_FEE, Part.PLATFORM_COMMISSION):
        return platform_account(Code.FEE_DEFERRED, currency)
    return party_account(Code.PENDING, party, currency, tenant_id)


def released_account(part: Part, party: str, currency: str, *, tenant_id: TenantId | None) -> AccountKey:
    """Where a part lies once it is released."""
    if part in (Part.PLATFORM_FEE, Part.PLATFORM_COMMISSION):
        return platform_account(Code.FEE_REVENUE, currency)
    return party_account(Code.AVAILABLE, party, currency, tenant_id)
