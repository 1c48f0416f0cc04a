"""paysim's own double-entry books. Every movement is a balanced posting; nothing else changes a balance.

Signs: positive is what paysim owes an account holder, negative is what it holds against that. Accounts:
``{acct}:pending``, ``{acct}:available`` (the holders), ``network`` (card networks), ``bank`` (paid out),
``fees`` (earned by the provider), ``clearing`` (between two holders, always zero), ``fx``, ``reserve`` (held
back from holders). The sharing rail has accounts of its own, all beginning with ``share:``.
"""

from __future__ import annotations

from collections import defaultdict

from services.paysim.transaction import Tx
from services.paysim.wire import JsonDict

Leg = tuple[str, str, int]
"""Account, currency, signed minor units."""

NETWORK, BANK, FEES, CLEARING, FX, RESERVE = "network", "bank", "fees", "clearing", "fx", "reserve"


class Unbalanced(AssertionError):
    """A movement that does not sum to zero in each currency: a bug, never an answer."""


def post(tx: Tx, memo: str, legs: list[Leg]) -> None:
    sums: defaultdict[str, int] = defaultdict(int)
    for _, currency, amount in legs:
        sums[currency] += amount
    if any(sums.values()):
        raise Unbalanced(f"{memo}: {legs}")
    cursor = tx.db.execute("INSERT INTO posting (memo, created) VALUES (?, ?)", (memo, tx.now))
    moved = [leg for leg in legs if leg[2]]
    tx.db.executemany(
        "INSERT INTO entry VALUES (?,?,?,?,?)", [(cursor.lastrowid, n, *leg) for n, leg in enumerate(moved)]
    )
    tx.db.executemany(
        "INSERT INTO book VALUES (?,?,?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount", moved
    )


def balance(tx: Tx, owner: str, bucket: str, currency: str) -> int:
    """What ``owner`` has in ``bucket`` (pending or available), minor units."""
    row = tx.db.execute(
        "SELECT amount FROM book WHERE account = ? AND currency = ?", (f"{owner}:{bucket}", currency)
    ).fetchone()
    return int(row[0]) if row else 0


def balances(tx: Tx, owner: str) -> dict[str, dict[str, int]]:
    """Currency to ``{"pending": …, "available": …}``."""
    found: dict[str, dict[str, int]] = {}
    for bucket in ("pending", "available"):
        rows = tx.db.execute(
            "SELECT currency, amount FROM book WHERE account = ? ORDER BY currency", (f"{owner}:{bucket}",)
        )
        for currency, amount in rows:
            found.setdefault(currency, {"pending": 0, "available": 0})[bucket] = amount
    return found


def report(tx: Tx) -> JsonDict:
    """The trial balance and every check on it; ``balanced`` is the verdict."""
    accounts = [
        {"account": account, "currency": currency, "amount": amount}
        for account, currency, amount in tx.db.execute("SELECT * FROM book ORDER BY account, currency")
    ]
    sums = dict(tx.db.execute("SELECT currency, sum(amount) FROM book GROUP BY currency"))
    replayed = {
        (account, currency): amount
        for account, currency, amount in tx.db.execute(
            "SELECT account, currency, sum(amount) FROM entry GROUP BY account, currency"
        )
    }
    drifted = [row for row in accounts if replayed.get((row["account"], row["currency"]), 0) != row["amount"]]
    unbalanced = tx.db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM entry GROUP BY posting, currency HAVING sum(amount) <> 0)"
    ).fetchone()[0]
    postings = tx.db.execute("SELECT count(*) FROM posting").fetchone()[0]
    uncleared = [row for row in accounts if row["account"] == CLEARING and row["amount"]]
    unexplained = _unexplained(tx)
    wrong = [*drifted, *uncleared, *unexplained]
    return {
        "balanced": not (any(sums.values()) or unbalanced or wrong),
        "postings": postings,
        "sum_by_currency": sums,
        "unbalanced_postings": unbalanced,
        "drifted_accounts": drifted,
        "uncleared": uncleared,
        "unexplained_balances": unexplained,
        "accounts": accounts,
    }


def _unexplained(tx: Tx) -> list[JsonDict]:
    """Holders whose balance is not the sum of their balance transactions' net."""
    listed = tx.db.execute(
        "SELECT account || ':' || (CAST(doc AS TEXT) ->> '$.status'), f4, sum(CAST(doc AS TEXT) ->> "
        "'$.net') FROM object "
        "WHERE kind = 'balance_transaction' GROUP BY 1, 2"
    )
    by_transactions = {(account, currency): net for account, currency, net in listed}
    by_book = {
        (account, currency): amount
        for account, currency, amount in tx.db.execute(
            "SELECT * FROM book WHERE account LIKE 'acct\\_%' ESCAPE '\\'"
        )
    }
    keys = sorted(by_book.keys() | by_transactions.keys())
    return [
        {
            "account": a,
            "currency": c,
            "book": by_book.get((a, c), 0),
            "transactions": by_transactions.get((a, c), 0),
        }
        for a, c in keys
        if by_book.get((a, c), 0) != by_transactions.get((a, c), 0)
    ]
