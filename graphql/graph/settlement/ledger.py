"""The caller's accounts and entries, and why any amount is what it is."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.ids import OrderId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money, Ppm
from supply.ledger import entries, queries
from supply.ledger.chart import Code
from supply.ledger.entries import EntryFilter, EntryLine
from supply.ledger.errors import UnknownAccountCode
from supply.settlement.explain_amount import AmountExplained, entry_name, explain_amount
from supply.settlement.parties import owner_of
from supply.settlement.statements.lines import Line

_READ = scope("settlement:read")


def party_of(context: Context, payee_id: strawberry.ID | None) -> str:
    """The caller itself unless another party is named; row-level security decides what is seen of it."""
    return str(payee_id) if payee_id else str(context.tenant)


@strawberry.type(description="One account and what it holds, on its normal side.")
class LedgerAccount:
    id: strawberry.ID
    account: str
    account_code: int
    owner: str
    balance: Money

    @classmethod
    def of(cls, row: queries.AccountView) -> LedgerAccount:
        return cls(
            id=strawberry.ID(str(row.id)),
            account=row.code.name.lower(),
            account_code=int(row.code),
            owner=row.owner,
            balance=Money.minor(row.balance_minor, row.currency),
        )


@strawberry.type(description="One leg of a journal. Debit above zero, credit below.")
class LedgerEntry:
    id: strawberry.ID = strawberry.field(description="As on statements: the journal's id and the leg.")
    journal: str = strawberry.field(description="The key that made it happen once.")
    kind: str
    account: str
    account_code: int
    owner: str
    order_id: strawberry.ID | None
    amount: Money
    balance_after: Money | None = strawberry.field(
        description="Null for accounts that are not counted entry by entry."
    )
    effective_at: datetime
    posted_at: datetime
    provider_ref: str | None
    memo: str | None

    @classmethod
    def of(cls, row: EntryLine) -> LedgerEntry:
        after = row.balance_after
        return cls(
            id=strawberry.ID(entry_name(row)),
            journal=row.key,
            kind=row.kind,
            account=row.code.name.lower(),
            account_code=int(row.code),
            owner=row.owner,
            order_id=strawberry.ID(str(row.order_id)) if row.order_id else None,
            amount=Money.minor(row.amount_minor, row.currency),
            balance_after=None if after is None else Money.minor(after, row.currency),
            effective_at=row.effective_at,
            posted_at=row.posted_at,
            provider_ref=row.provider_ref,
            memo=row.memo,
        )


@strawberry.type(description="A line as the party's statement has it. Above zero the party earns.")
class AmountLine:
    section: str
    order_line_id: strawberry.ID | None
    sku: str | None
    shipping: bool
    counterparty: str
    agreement: str | None = strawberry.field(description="Of a commission: the agreement and its version.")
    rate_ppm: Ppm | None
    gross: Money | None = strawberry.field(description="What the customer paid for the line, without tax.")
    amount: Money

    @classmethod
    def of(cls, section: str, line: Line, currency: str) -> AmountLine:
        return cls(
            section=section,
            order_line_id=strawberry.ID(line["order_line"]) if line["order_line"] else None,
            sku=line["sku"] or None,
            shipping=line["shipping"],
            counterparty=line["counterparty"],
            agreement=line["agreement"] or None,
            rate_ppm=Ppm(line["rate_ppm"]) if line["rate_ppm"] else None,
            gross=Money.minor(line["gross_minor"], currency) if line["gross_minor"] else None,
            amount=Money.minor(line["amount_minor"], currency),
        )


@strawberry.type(
    description="Why an amount is what it is. The lines are all that the journal did to the entry's owner."
)
class AmountExplanation:
    entry: LedgerEntry
    rule: str = strawberry.field(description="Its name in the rules of money, such as R4.")
    text: str
    journal: list[LedgerEntry] = strawberry.field(description="The legs the caller may see.")
    lines: list[AmountLine]

    @classmethod
    def of(cls, found: AmountExplained) -> AmountExplanation:
        currency = found.entry.currency
        return cls(
            entry=LedgerEntry.of(found.entry),
            rule=found.recipe.code,
            text=found.recipe.text,
            journal=[LedgerEntry.of(line) for line in found.journal],
            lines=[AmountLine.of(section, line, currency) for section, line in found.lines],
        )


@strawberry.input(description="What of the entries is asked for; posted in [postedFrom, postedTo).")
class LedgerEntryFilter:
    account_codes: list[int] | None = None
    kinds: list[str] | None = None
    order_id: strawberry.ID | None = None
    posted_from: datetime | None = None
    posted_to: datetime | None = None

    def parsed(self, currency: str | None) -> EntryFilter:
        return EntryFilter(
            currency=currency,
            codes=None if self.account_codes is None else codes_of(self.account_codes),
            kinds=self.kinds,
            order_id=OrderId.parse(self.order_id) if self.order_id else None,
            posted_from=self.posted_from,
            posted_to=self.posted_to,
        )


def codes_of(numbers: list[int]) -> list[Code]:
    """Raises ``UnknownAccountCode``."""
    known = {int(code) for code in Code}
    for number in numbers:
        if number not in known:
            raise UnknownAccountCode(number)
    return [Code(number) for number in numbers]


@strawberry.type
class LedgerQueries:
    @strawberry.field(permission_classes=[_READ], description="By code, owner and currency.")
    async def ledger_accounts(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        payee_id: strawberry.ID | None = None,
        account_codes: list[int] | None = None,
        currency_code: str | None = None,
    ) -> Connection[LedgerAccount]:
        codes = None if account_codes is None else codes_of(account_codes)
        async with info.context.reading() as session:
            page = await queries.accounts_page(
                session,
                PageRequest(first, after),
                owner=owner_of(party_of(info.context, payee_id)),
                codes=codes,
                currency=currency_code,
            )
        return connection(page, LedgerAccount.of)

    @strawberry.field(
        permission_classes=[_READ], description="What happened on the party's accounts, newest first."
    )
    async def ledger_entries(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        payee_id: strawberry.ID | None = None,
        currency_code: str | None = None,
        only: LedgerEntryFilter | None = None,
    ) -> Connection[LedgerEntry]:
        wanted = (only or LedgerEntryFilter()).parsed(currency_code)
        async with info.context.reading() as session:
            page = await entries.entries_page(
                session,
                owner_of(party_of(info.context, payee_id)),
                PageRequest(first, after),
                only=wanted,
            )
        return connection(page, LedgerEntry.of)

    @strawberry.field(
        permission_classes=[_READ], description="An entry by its rule, its journal and its order lines."
    )
    async def explain_amount(self, info: Info, id: strawberry.ID) -> AmountExplanation:
        context = info.context
        return AmountExplanation.of(await explain_amount(context.db, context.actor, str(id)))
