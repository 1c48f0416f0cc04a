"""What the ledger records of a sharing rail: memorandum accounts, because the money is never ours.

1900 is what the rail keeps frozen, 2900 whose it is, 2910 what of that the rail was told to pay. Only the
platform's own fee, once the rail has paid it to the platform's account there, is money of ours: 1010 and 4000.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.ids import BrandId, TenantId
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Leg, credit, debit
from supply.settlement.parties import PLATFORM, party_account, platform_account, provider_account


def frozen(rail: str, currency: str) -> AccountKey:
    return AccountKey(Code.RAIL_FROZEN, f"rail:{rail}", currency)


def of_payee(code: Code, payee_id: str, currency: str, tenant_id: Any) -> AccountKey:
    if payee_id == PLATFORM:
        return platform_account(code, currency)
    return party_account(code, payee_id, currency, TenantId.of(tenant_id) if tenant_id else None)


def recorded(order: Any, payees: Iterable[Any]) -> tuple[Leg, ...]:
    """The payment is frozen on the rail, less its fee; everybody's part of it."""
    merchant = entitled_merchant(order)
    legs = [debit(frozen(order.rail, order.currency), order.paid_minor - order.fee_minor)]
    legs += [credit(merchant, order.merchant_minor)]
    return (*legs, *(credit(_entitled(order, each), each.amount_minor) for each in payees))


def instructed(order: Any, payees: Iterable[Any]) -> tuple[Leg, ...]:
    return tuple(
        leg
        for each in payees
        for leg in (
            debit(_entitled(order, each), each.amount_minor),
            credit(_instructed(order, each), each.amount_minor),
        )
    )


def taken_back(order: Any, payees: Iterable[Any]) -> tuple[Leg, ...]:
    """Not paid: entitled again."""
    return tuple(
        leg
        for each in payees
        for leg in (
            debit(_instructed(order, each), each.amount_minor),
            credit(_entitled(order, each), each.amount_minor),
        )
    )


def paid(order: Any, payees: Iterable[Any]) -> tuple[Leg, ...]:
    legs: list[Leg] = []
    for each in payees:
        amount = each.amount_minor
        legs += [debit(_instructed(order, each), amount), credit(frozen(order.rail, order.currency), amount)]
        if each.payee_id == PLATFORM:
            ours = provider_account(Code.PROVIDER_AVAILABLE, order.rail, order.currency)
            legs += [debit(ours, amount), credit(platform_account(Code.FEE_REVENUE, order.currency), amount)]
    return tuple(legs)


def fee_returned(order: Any, amount_minor: int) -> tuple[Leg, ...]:
    """The platform gave back of what it was paid. Other businesses' returns are between them and the rail."""
    ours = provider_account(Code.PROVIDER_AVAILABLE, order.rail, order.currency)
    return debit(platform_account(Code.FEE_REVENUE, order.currency), amount_minor), credit(ours, amount_minor)


def finished(order: Any, unpaid: Iterable[Any]) -> tuple[Leg, ...]:
    """Everything that is left is the merchant's: its own part, and what others were not paid."""
    merchant = entitled_merchant(order)
    owed = [debit(_entitled(order, each), each.amount_minor) for each in unpaid]
    rest = order.merchant_minor + sum(leg.amount_minor for leg in owed)
    return (debit(merchant, order.merchant_minor), *owed, credit(frozen(order.rail, order.currency), rest))


def entitled_merchant(order: Any) -> AccountKey:
    merchant_id = BrandId.of(order.merchant_id)
    return party_account(Code.RAIL_ENTITLED, str(merchant_id), order.currency, merchant_id)


def _entitled(order: Any, each: Any) -> AccountKey:
    return of_payee(Code.RAIL_ENTITLED, each.payee_id, order.currency, each.tenant_id)


def _instructed(order: Any, each: Any) -> AccountKey:
    return of_payee(Code.RAIL_INSTRUCTED, each.payee_id, order.currency, each.tenant_id)
