"""The worked order O1 of money.md §2, and others like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, OrderId, OrderLineId, PromoterId, SupplierId
from infra.payments.gateway import BalanceTransaction, Dispute
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement.capture import CapturedLine, CapturedOrder, CommissionShare, open_split
from supply.settlement.composition import Part

PAID_AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Parties:
    """Who earns from O1."""

    merchant: BrandId = field(default_factory=BrandId.new)
    supplier: SupplierId = field(default_factory=SupplierId.new)
    promoter_brand: BrandId = field(default_factory=BrandId.new)
    individual: PromoterId = field(default_factory=PromoterId.new)


def line_of_o1(parties: Parties, **other: object) -> CapturedLine:
    """2 × 5,000 less a coupon of 1,000; shipping 800 to the supplier; 6 % tax; CPS 15 %; fee 5 %."""
    facts: dict[str, object] = {
        "order_line_id": OrderLineId.new(), "quantity": 2, "goods_minor": 9_000, "tax_minor": 540,
        "supplier_id": parties.supplier, "supplier_cost_minor": 4_000, "shipping_minor": 800,
        "shipping_tax_minor": 48, "supplier_shipping_minor": 800, "platform_fee_minor": 450,
        "commission": (
            CommissionShare(str(parties.promoter_brand), Part.PROMOTER_BRAND, 900),
            CommissionShare(str(parties.individual), Part.INDIVIDUAL, 450),
        ),
    }  # fmt: skip
    return CapturedLine(**{**facts, **other})  # type: ignore[arg-type]


def order_of(
    parties: Parties, lines: Sequence[CapturedLine], *, charge_id: str = "ch_1", **other: object
) -> CapturedOrder:
    facts: dict[str, object] = {
        "order_id": OrderId.new(), "merchant_id": parties.merchant, "currency": "CNY", "charge_id": charge_id,
        "paid_at": PAID_AT, "lines": lines, "tax_jurisdiction": "CN", "return_window_days": 15,
    }  # fmt: skip
    return CapturedOrder(**{**facts, **other})  # type: ignore[arg-type]


async def captured_o1(session: AsyncSession, clock: Clock, parties: Parties) -> CapturedOrder:
    order = order_of(parties, [line_of_o1(parties)])
    await open_split(session, order, clock=clock)
    return order


async def legs(session: AsyncSession, key: str) -> set[tuple[Code, str, int]]:
    """(account code, owner, debit above zero) of one journal."""
    return {(e.code, e.owner, e.amount_minor) for e in await ledger.entries_of_journal(session, key)}


def dispute_of(
    charge_id: str,
    *,
    dispute_id: str = "du_1",
    status: str = "needs_response",
    amount_minor: int = 10_388,
    fee_minor: int = 1_500,
    withdrawn: bool = True,
    currency: str = "CNY",
) -> Dispute:
    """A dispute as the provider tells it: withdrawn with its fee, and given back when it was won."""
    moved = [("dispute", -amount_minor, fee_minor)] if withdrawn else []
    moved += [("dispute_reversal", amount_minor, 0)] if withdrawn and status == "won" else []
    rows = tuple(
        BalanceTransaction(
            f"txn_{dispute_id}_{n}", "adjustment", category, dispute_id, amount, fee, amount - fee, currency,
            "available", None, PAID_AT, PAID_AT,
        )
        for n, (category, amount, fee) in enumerate(moved)
    )  # fmt: skip
    return Dispute(
        dispute_id, charge_id, None, amount_minor, currency, status, "fraudulent",
        fee_minor if withdrawn else 0, PAID_AT, evidence_due_at=PAID_AT + timedelta(days=9),
        transactions=rows,
    )  # fmt: skip
