"""Why a posting was refused. A refused posting changes nothing."""

from __future__ import annotations

from core.errors import Conflict, Invalid


class Overdraft(Conflict):
    """A strict account would go below zero. Look at the balances again and post what they carry."""

    code = "LEDGER_OVERDRAFT"

    def __init__(
        self,
        message: str,
        *,
        account_code: int | None = None,
        owner: str | None = None,
        currency: str | None = None,
        available_minor: int | None = None,
        wanted_minor: int | None = None,
    ) -> None:
        super().__init__(message)
        self.account_code, self.owner, self.currency = account_code, owner, currency
        self.available_minor, self.wanted_minor = available_minor, wanted_minor


class Unbalanced(Invalid):
    """The legs do not sum to zero per currency, or there are none: a bug of the caller."""

    code = "LEDGER_UNBALANCED"


class JournalKeyReused(Conflict):
    """The key belongs to another journal: the amount changed between two tries. Never retry as it is."""

    code = "LEDGER_KEY_REUSED"

    def __init__(self, key: str) -> None:
        super().__init__(f"the journal key {key!r} was used for another journal")
        self.key = key


class UnknownAccountCode(Invalid):
    """No such code in the chart of accounts."""

    code = "LEDGER_ACCOUNT_CODE"

    def __init__(self, number: int) -> None:
        super().__init__(f"{number} is not a code of the chart of accounts", field="accountCodes")
        self.number = number
