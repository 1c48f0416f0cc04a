"""R15d: a party pays what it owes, on the provider's own page.

Ask → the payer pays → the provider's notice (or the sweep that looks) → booked once, under the payment's key. Meanwhile
earnings may have paid the debt off (R7b): what is more than is owed when the money comes is available to the party, so
that nothing is collected twice. One payment at a time is open in a currency; asked for another amount, the old one is
called off first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId
from core.money import Money
from infra.db.session import Database
from infra.payments.errors import ProviderRefused, ProviderUnavailable
from infra.payments.gateway import Charge, IntentStatus, PaymentGateway
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit, merged
from supply.settlement.at_source.errors import (
    DebtPaymentTooLarge,
    DebtPaymentTooSmall,
    DebtPaymentUnavailable,
    NoDebt,
)
from supply.settlement.at_source.ids import DebtPaymentId
from supply.settlement.at_source.models import DebtPaymentStatus
from supply.settlement.capture import register_charge
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account, provider_account

QUIET_FOR = timedelta(minutes=10)
"""A payment not heard of since then is looked up at the provider."""
_BATCH = 50
_TRIES = 3

_OPEN = text(
    "INSERT INTO debt_payments (id, payee_id, tenant_id, currency, amount_minor, status, created_at)"
    " VALUES (:id, :payee, :tenant, :currency, :amount, 'open', :now)"
    " ON CONFLICT (payee_id, currency) WHERE status = 'open' DO NOTHING"
)
_OPEN_ONE = text(
    "SELECT * FROM debt_payments WHERE payee_id = :payee AND currency = :currency AND status = 'open'"
)
_SET_INTENT = text(
    "UPDATE debt_payments SET intent_id = :intent, client_secret = :secret WHERE id = :id AND intent_id IS NULL"
)
_CANCEL = text("UPDATE debt_payments SET status = 'cancelled' WHERE intent_id = :intent AND status = 'open'")
_IS_OURS = text("SELECT EXISTS (SELECT FROM debt_payments WHERE intent_id = :intent)")
_LOCK = text("SELECT * FROM debt_payments WHERE intent_id = :intent FOR UPDATE")
_PAID = text(
    "UPDATE debt_payments SET status = 'paid', charge_id = :charge, covered_minor = :covered, paid_at = :at"
    " WHERE id = :id"
)
_QUIET = text(
    "SELECT intent_id FROM debt_payments WHERE status = 'open' AND intent_id IS NOT NULL AND created_at <= :before"
    " ORDER BY created_at, id LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class DebtPayment:
    """What is to be paid, and how: confirm the intent with the provider, or go to its page."""

    id: DebtPaymentId
    currency: str
    amount_minor: int
    status: DebtPaymentStatus
    intent_id: str | None
    client_secret: str | None


async def pay_debt(
    db: Database,
    party: BrandId,
    currency: str,
    *,
    amount: Money | None = None,
    payments: PaymentGateway,
    clock: Clock,
) -> DebtPayment:
    """The open payment of all that ``party`` owes in a currency, or of ``amount`` of it. Safe to repeat.

    Raises ``NoDebt``, ``DebtPaymentTooLarge``, ``DebtPaymentTooSmall``, ``DebtPaymentUnavailable``.
    """
    amount_minor = None if amount is None else (amount - Money(0, currency)).amount_minor
    if amount_minor is not None and amount_minor <= 0:
        raise DebtPaymentTooSmall("a payment is of something", field="amount")
    for _ in range(_TRIES):
        found = await _opened(db, party, currency, amount_minor, clock=clock)
        if found is not None:
            return await _asked(db, found, payments=payments)
        await _call_off(db, party, currency, payments=payments, clock=clock)
    raise DebtPaymentUnavailable("other payments of this debt were asked for at the same moment")


async def _opened(
    db: Database, party: BrandId, currency: str, amount_minor: int | None, *, clock: Clock
) -> DebtPayment | None:
    """None while one of another amount is open."""
    async with db.unit_of_work(SYSTEM) as session:
        owed_account = party_account(Code.RECEIVABLE, str(party), currency)
        owed = (await ledger.hold(session, [owed_account]))[owed_account]
        if not owed:
            raise NoDebt(currency)
        if amount_minor is not None and amount_minor > owed:
            raise DebtPaymentTooLarge(amount_minor, owed)
        wanted = owed if amount_minor is None else amount_minor
        values = {
            "id": DebtPaymentId.new(), "payee": str(party), "tenant": party, "currency": currency,
            "amount": wanted, "now": clock.now(),
        }  # fmt: skip
        await session.execute(_OPEN, values)
        row = (await session.execute(_OPEN_ONE, {"payee": str(party), "currency": currency})).one()
        return _payment(row) if row.amount_minor == wanted else None


async def _asked(db: Database, payment: DebtPayment, *, payments: PaymentGateway) -> DebtPayment:
    """The payment with an intent at the provider, under the key that its id fixes."""
    if payment.intent_id is not None:
        return payment
    try:
        intent = await payments.create_intent(
            order_ref=str(payment.id), amount_minor=payment.amount_minor, currency=payment.currency,
            key=f"debt:{payment.id}",
        )  # fmt: skip
    except (ProviderUnavailable, ProviderRefused) as error:
        raise DebtPaymentUnavailable("the payment provider does not answer; ask again") from error
    async with db.unit_of_work(SYSTEM) as session:
        values = {"id": payment.id, "intent": intent.id, "secret": intent.client_secret}
        await session.execute(_SET_INTENT, values)
    return DebtPayment(
        payment.id, payment.currency, payment.amount_minor, payment.status, intent.id, intent.client_secret
    )


async def _call_off(
    db: Database, party: BrandId, currency: str, *, payments: PaymentGateway, clock: Clock
) -> None:
    """The open payment is taken back at the provider; one that was paid after all is booked instead."""
    async with db.reading(SYSTEM) as session:
        row = (await session.execute(_OPEN_ONE, {"payee": str(party), "currency": currency})).one_or_none()
    if row is None:
        return
    payment = await _asked(db, _payment(row), payments=payments)
    assert payment.intent_id is not None
    try:
        await payments.cancel_intent(payment.intent_id, key=f"cancel:{payment.intent_id}")
    except ProviderRefused:
        await refresh(db, payment.intent_id, payments=payments, clock=clock)
        return
    except ProviderUnavailable as error:
        raise DebtPaymentUnavailable("the payment provider does not answer; ask again") from error
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_CANCEL, {"intent": payment.intent_id})


def pay_url(payment: DebtPayment, *, payments: PaymentGateway) -> str | None:
    """The provider's own page for a payment, where it has one."""
    if payment.intent_id is None or payment.client_secret is None:
        return None
    return payments.pay_page_url(payment.intent_id, payment.client_secret)


async def is_debt_payment(db: Database, intent_id: str) -> bool:
    async with db.reading(SYSTEM) as session:
        return bool((await session.execute(_IS_OURS, {"intent": intent_id})).scalar_one())


async def refresh(db: Database, intent_id: str, *, payments: PaymentGateway, clock: Clock) -> bool:
    """Look an intent up and book it when it was paid. True when that was news."""
    intent = await payments.retrieve_intent(intent_id)
    if intent.status is IntentStatus.CANCELED:
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_CANCEL, {"intent": intent_id})
    if intent.status is not IntentStatus.SUCCEEDED or intent.latest_charge_id is None:
        return False
    charge = await payments.retrieve_charge(intent.latest_charge_id)
    async with db.unit_of_work(SYSTEM) as session:
        return await book_payment(session, intent_id, charge, now=clock.now())


async def book_payment(session: AsyncSession, intent_id: str, charge: Charge, *, now: datetime) -> bool:
    """R15d. False when it was booked before, or the intent is none of a debt."""
    row = (await session.execute(_LOCK, {"intent": intent_id})).one_or_none()
    if row is None or row.status == DebtPaymentStatus.PAID:
        return False
    party = row.payee_id, row.currency, BrandId.of(row.tenant_id)
    owed, available = party_account(Code.RECEIVABLE, *party), party_account(Code.AVAILABLE, *party)
    held = await ledger.hold(session, [owed, available])
    covered = min(held[owed], charge.amount_minor)
    provider = "stripe"
    await register_charge(
        session, charge.id, provider=provider, currency=charge.currency, captured_at=charge.created_at
    )
    legs = (
        debit(provider_account(Code.PROVIDER_PENDING, provider, row.currency), charge.amount_minor),
        credit(owed, covered),
        credit(available, charge.amount_minor - covered),
    )
    key = f"debtpay:{DebtPaymentId.of(row.id)}"
    journal = Journal(key, Kind.DEBT_PAID, merged(legs), charge.created_at, provider_ref=charge.id)
    await ledger.post(session, journal, now=now)
    values = {"id": row.id, "charge": charge.id, "covered": covered, "at": charge.created_at}
    await session.execute(_PAID, values)
    return True


async def sweep_debt_payments(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Look up payments whose notice may never have come. Returns how many turned out paid."""
    async with db.reading(SYSTEM) as session:
        before = {"before": clock.now() - QUIET_FOR, "limit": _BATCH}
        quiet = list((await session.execute(_QUIET, before)).scalars())
    return sum([await refresh(db, each, payments=payments, clock=clock) for each in quiet])


def _payment(row: Any) -> DebtPayment:
    return DebtPayment(
        DebtPaymentId.of(row.id), row.currency, row.amount_minor, DebtPaymentStatus(row.status), row.intent_id,
        row.client_secret,
    )  # fmt: skip
