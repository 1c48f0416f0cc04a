"""The chart of accounts (money.md §1). The database has the same list in the view ``ledger_chart``."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    PROVIDER_PENDING = 1000
    PROVIDER_AVAILABLE = 1010
    BANK = 1020
    PLATFORM_PAYOUT_IN_TRANSIT = 1030
    PROVIDER_RESERVED = 1040
    """Held back by the provider for a while (its reserve_* rows); ours, and neither pending nor available."""
    RECEIVABLE = 1100
    """What a party owes back: refunds after it was paid, a negative residual."""
    DISPUTE_RECEIVABLE = 1110
    RECEIVABLE_NOT_DUE = 1120
    """Commission that a party will owe when its return window is over: of sales whose money it has itself."""
    RAIL_FROZEN = 1900
    """Memorandum: what a rail that shares profits by itself still keeps frozen of the customers' money. It was
    never ours; the ledger records and instructs (money.md §0.7)."""
    PENDING = 2000
    """Owed to a party, inside the return window."""
    AVAILABLE = 2010
    IN_PAYOUT = 2020
    """Reserved for a transfer whose outcome is not known yet."""
    RESERVED = 2030
    REFUND_PENDING = 2100
    TAX = 2200
    SUSPENSE = 2300
    FEE_DEFERRED = 2400
    RAIL_ENTITLED = 2900
    """Memorandum: a party's part of what such a rail keeps frozen."""
    RAIL_INSTRUCTED = 2910
    """Memorandum: of that, what the rail was told to pay, outcome not known yet."""
    OPENING_BALANCE = 3000
    """The platform's own: what a provider held before its account came into these books."""
    FEE_REVENUE = 4000
    PROCESSING_RECHARGE = 4010
    ROUNDING_GAIN = 4090
    PROVIDER_FEE = 5000
    DISPUTE_FEE = 5010
    CHARGEBACK_LOSS = 5020
    GOODWILL = 5030
    CURRENCY_DIFFERENCE = 5040
    ROUNDING_LOSS = 5050
    BAD_DEBT = 5060
    CURRENCY_POSITION = 6000

    @property
    def side(self) -> int:
        """1 when its normal balance is a debit, -1 when a credit."""
        return 1 if self < 2000 or self >= 5000 else -1

    @property
    def strict(self) -> bool:
        """Whether it may never go below zero on its normal side."""
        return self in _STRICT


_STRICT = frozenset(
    {
        Code.RECEIVABLE,
        Code.DISPUTE_RECEIVABLE,
        Code.RECEIVABLE_NOT_DUE,
        Code.PENDING,
        Code.AVAILABLE,
        Code.IN_PAYOUT,
        Code.RESERVED,
        Code.REFUND_PENDING,
    }
)
PARTY_CODES = (Code.RECEIVABLE, Code.PENDING, Code.AVAILABLE, Code.IN_PAYOUT, Code.RESERVED)
