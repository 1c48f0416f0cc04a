"""The invariants of the books, each a query that finds what breaks it. Empty answers, or the books are broken.

Every query is written from the rules (docs/rules/money.md) over the tables as they stand, not with the functions
that filled them. They need a SYSTEM session and hold at every moment between two transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """``number`` is the invariant's in money.md §3."""

    number: int
    says: str
    broken: TextClause


@dataclass(frozen=True, slots=True)
class Violation:
    number: int
    says: str
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number}. {self.says}: {'; '.join(self.examples)}"


def _rule(number: int, says: str, query: str) -> Rule:
    return Rule(number, says, text(query))


# What each party's parts of orders still stand for, what customers of its own checkout paid it outside, what was paid
# to it, and what it paid or was forgiven, by the rows of settlement; beside it what the ledger says it has.
# Recharged fees are its cost, not its share.
_PARTIES = """
WITH held AS (
    SELECT payee_id AS party, o.currency, sum(p.amount_minor - p.by_line_minor - p.by_amount_minor) AS minor
    FROM split_parts p JOIN split_orders o USING (order_id)
    WHERE p.payee_id <> '' GROUP BY 1, 2
), outside AS (
    SELECT m.payee_id AS party, o.currency, sum(o.captured_minor - o.refunded_minor) AS minor
    FROM split_orders o JOIN (SELECT DISTINCT order_id, payee_id FROM split_parts WHERE part = 'merchant') m
    USING (order_id) WHERE o.provider LIKE 'own:%' GROUP BY 1, 2
), paid AS (
    SELECT payee_id AS party, currency, sum(amount_minor - reversed_minor) AS minor FROM payouts
    WHERE status = 'paid' GROUP BY 1, 2
), other AS (
    SELECT substr(a.owner, 7) AS party, a.currency, -sum(e.amount_minor) AS minor
    FROM ledger_journals j JOIN ledger_entries e ON e.journal_id = j.id
    JOIN ledger_accounts a ON a.id = e.account_id
    WHERE j.kind IN ({others}) AND a.owner LIKE 'party:%' GROUP BY 1, 2
), has AS (
    SELECT substr(a.owner, 7) AS party, a.currency, -sum(e.amount_minor) AS minor
    FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
    WHERE a.owner LIKE 'party:%' AND a.code IN (2000, 2010, 2020, 2030, 1100, 1120) GROUP BY 1, 2
)
SELECT party || ' has ' || coalesce(has.minor, 0) || ' ' || currency || ', its share is '
       || coalesce(held.minor, 0) || ', has itself ' || coalesce(outside.minor, 0) || ', paid '
       || coalesce(paid.minor, 0) || ', other ' || coalesce(other.minor, 0)
FROM has FULL JOIN held USING (party, currency) FULL JOIN paid USING (party, currency)
FULL JOIN other USING (party, currency) FULL JOIN outside USING (party, currency)
WHERE coalesce(has.minor, 0)
   <> coalesce(held.minor, 0) - coalesce(outside.minor, 0) - coalesce(paid.minor, 0) + coalesce(other.minor, 0)
""".format(
    others="'fee_recharge', 'write_off', 'dispute_absorbed', 'debt_paid', 'debt_owed_again', 'debt_paid_again'"
)

RULES: tuple[Rule, ...] = (
    _rule(
        1, "every journal sums to zero in each currency",
        "SELECT j.idem || ' is off by ' || sum(e.amount_minor) FROM ledger_entries e"
        " JOIN ledger_journals j ON j.id = e.journal_id GROUP BY j.idem, e.currency HAVING sum(e.amount_minor) <> 0",
    ),
    _rule(
        1, "the whole ledger sums to zero in each currency",
        "SELECT currency || ' is off by ' || sum(amount_minor) FROM ledger_entries GROUP BY currency"
        " HAVING sum(amount_minor) <> 0",
    ),
    _rule(
        1, "replaying the entries rebuilds every balance",
        "SELECT n.code || ' ' || n.owner || ' says ' || n.balance_minor || ' ' || n.currency || ', its entries '"
        " || coalesce(sum(e.amount_minor) * n.side, 0) FROM ledger_balances_now n"
        " LEFT JOIN ledger_entries e ON e.account_id = n.account_id"
        " GROUP BY n.code, n.owner, n.currency, n.balance_minor, n.side"
        " HAVING coalesce(sum(e.amount_minor) * n.side, 0) <> n.balance_minor",
    ),
    _rule(
        2, "no strict account was ever below zero",
        "SELECT a.code || ' ' || a.owner || ' was at ' || min(e.balance_after) || ' ' || a.currency"
        " FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id"
        " WHERE a.strict AND e.balance_after < 0 GROUP BY a.code, a.owner, a.currency",
    ),
    _rule(
        3, "a charge is captured once: its captures are what its orders cost",
        "SELECT o.charge_id || ' was captured with ' || c.minor || ', its orders cost ' || o.minor FROM"
        " (SELECT charge_id, sum(captured_minor) AS minor FROM split_orders GROUP BY 1) o JOIN"
        " (SELECT j.provider_ref, sum(e.amount_minor) AS minor FROM ledger_journals j"
        "  JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a ON a.id = e.account_id"
        "  WHERE j.kind = 'capture' AND a.code = 1000 GROUP BY 1) c ON c.provider_ref = o.charge_id"
        " WHERE c.minor <> o.minor",
    ),
    _rule(
        3, "a payment that belongs to no order came once and went back once",
        "SELECT j.provider_ref || ' was booked ' || count(*) || ' times' FROM ledger_journals j"
        " WHERE j.idem LIKE 'late:%' AND j.kind = 'capture' GROUP BY j.provider_ref HAVING count(*) > 1",
    ),
    _rule(
        3, "the provider's fee on a charge, and its becoming available, are booked once",
        "SELECT c.charge_id || ' fee ' || c.fee_minor || ', booked ' || coalesce(b.fee, 0) || '; net ' || c.net_minor"
        " || ', moved ' || coalesce(b.net, 0) FROM provider_charges c LEFT JOIN (SELECT j.provider_ref,"
        "  sum(e.amount_minor) FILTER (WHERE a.code = 5000) AS fee, sum(e.amount_minor) FILTER (WHERE a.code = 1010)"
        "  AS net FROM ledger_journals j JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a"
        "  ON a.id = e.account_id WHERE j.kind IN ('provider_fee', 'funds_available') GROUP BY 1) b"
        " ON b.provider_ref = c.transaction_id WHERE c.transaction_id IS NOT NULL"
        " AND (c.fee_minor <> coalesce(b.fee, 0)"
        "  OR coalesce(b.net, 0) <> CASE WHEN c.available THEN c.net_minor ELSE 0 END)",
    ),
    _rule(
        5, "the parts of an order are what was captured, what refunds took of them is what was refunded",
        "SELECT o.order_id || ' captured ' || o.captured_minor || ' split ' || sum(p.amount_minor)"
        " || ', refunded ' || o.refunded_minor || ' taken ' || sum(p.by_line_minor + p.by_amount_minor)"
        " FROM split_orders o JOIN split_parts p USING (order_id)"
        " GROUP BY o.order_id, o.captured_minor, o.refunded_minor HAVING sum(p.amount_minor) <> o.captured_minor"
        " OR sum(p.by_line_minor + p.by_amount_minor) <> o.refunded_minor",
    ),
    _rule(
        5, "nothing gives back more than it was given, the merchant's residual apart",
        "SELECT order_id || ' ' || seat || ' has ' || amount_minor - by_line_minor - by_amount_minor"
        " FROM split_parts WHERE part NOT IN ('merchant', 'coupon') AND (amount_minor < by_line_minor + by_amount_minor"
        " OR by_line_minor < 0 OR by_amount_minor < 0)",
    ),
    _rule(
        5, "a line gives back tax and fee in proportion to what was refunded of it, rounded half up over all slices",
        "SELECT l.order_id || ' ' || p.seat || ' gave ' || p.by_line_minor || ' of ' || p.amount_minor || ' for '"
        " || l.by_quantity_minor + l.by_value_minor || ' of ' || l.charged_minor FROM split_lines l"
        " JOIN split_parts p ON p.line_id = l.id AND p.part IN ('tax', 'platform_fee')"
        " WHERE l.kind = 'goods' AND l.charged_minor > 0"
        " AND NOT EXISTS (SELECT FROM split_parts q WHERE q.line_id = l.id AND q.by_amount_minor <> 0)"
        # A re-route cuts a line in two, each with what its units had given; those are told by the rule below.
        " AND NOT EXISTS (SELECT FROM split_lines s WHERE s.order_line_id = l.order_line_id AND s.id <> l.id"
        "  AND s.kind = l.kind)"
        # A refund that failed gives back what its slice took, and a slice is off by less than one unit.
        " AND abs(p.by_line_minor - div(2 * p.amount_minor * (l.by_quantity_minor + l.by_value_minor)"
        "  + l.charged_minor, 2 * l.charged_minor))"
        " > (SELECT count(*) FROM split_refunds r WHERE r.order_id = l.order_id AND r.status = 'voided')",
    ),
    _rule(
        5, "a line that was cut by re-routes gives back its proportion, but for a rounding of each piece",
        "SELECT l.order_id || ' ' || p.seat || ' gave ' || sum(p.by_line_minor) || ' of ' || sum(p.amount_minor)"
        " || ' for ' || sum(l.by_quantity_minor + l.by_value_minor) || ' of ' || sum(l.charged_minor)"
        " FROM split_lines l JOIN split_parts p ON p.line_id = l.id AND p.part IN ('tax', 'platform_fee')"
        " WHERE l.kind = 'goods' AND NOT EXISTS (SELECT FROM split_parts q JOIN split_lines s ON s.id = q.line_id"
        "  WHERE s.order_line_id = l.order_line_id AND q.by_amount_minor <> 0)"
        " GROUP BY l.order_id, l.order_line_id, p.seat HAVING count(*) > 1 AND sum(l.charged_minor) > 0"
        " AND abs(sum(p.by_line_minor) - sum(p.amount_minor) * sum(l.by_quantity_minor + l.by_value_minor)"
        "  / sum(l.charged_minor)) > count(*)"
        "  + (SELECT count(*) FROM split_refunds r WHERE r.order_id = l.order_id AND r.status = 'voided')",
    ),
    _rule(
        5, "a line that was returned whole leaves nothing of its commission",
        "SELECT l.order_id || ' ' || p.seat || ' keeps ' || p.amount_minor - p.by_line_minor FROM split_lines l"
        " JOIN split_parts p ON p.line_id = l.id AND p.part IN ('promoter_brand', 'individual', 'platform_commission')"
        " WHERE l.kind = 'goods' AND l.by_quantity_minor + l.by_value_minor = l.charged_minor AND l.charged_minor > 0"
        " AND NOT EXISTS (SELECT FROM split_parts q WHERE q.line_id = l.id AND q.by_amount_minor <> 0)"
        " AND p.amount_minor <> p.by_line_minor",
    ),
    _rule(
        5, "a supplier gives back the cost of the units it took back, and of no others (R6, R6a)",
        "SELECT l.order_id || ' ' || p.seat || ' gave ' || p.by_line_minor || ' of ' || p.amount_minor || ' for '"
        " || l.accepted_quantity || ' of ' || l.quantity FROM split_lines l"
        " JOIN split_parts p ON p.line_id = l.id AND p.part = 'supplier' WHERE l.kind = 'goods' AND l.quantity > 0"
        " AND p.amount_minor = p.captured_minor AND p.payee_id = p.captured_payee"
        # What an amount had taken meanwhile the units could not take; undone later, it is the supplier's again.
        " AND NOT EXISTS (SELECT FROM split_parts q WHERE q.line_id = l.id AND q.by_amount_minor <> 0)"
        " AND NOT EXISTS (SELECT FROM split_refunds r WHERE r.order_id = l.order_id AND r.status = 'voided')"
        " AND NOT EXISTS (SELECT FROM dispute_orders d WHERE d.order_id = l.order_id)"
        " AND p.by_line_minor <> div(2 * p.amount_minor * l.accepted_quantity + l.quantity, 2 * l.quantity)",
    ),
    _rule(
        5, "what refunds and lost disputes took is what was refunded; the rest is the platform's goodwill",
        "SELECT o.order_id || ' refunded ' || o.refunded_minor || ' for ' || coalesce(r.given, 0) || ' and disputes '"
        " || coalesce(d.lost, 0) || ', goodwill ' || o.goodwill_minor || ' for ' || coalesce(r.goodwill, 0)"
        " || ' and disputes ' || coalesce(d.owed, 0)"
        " FROM split_orders o LEFT JOIN (SELECT order_id, sum((changes->>'given')::bigint) AS given,"
        "  sum(amount_minor - (changes->>'given')::bigint) AS goodwill FROM split_refunds WHERE status <> 'voided'"
        "  GROUP BY 1) r USING (order_id) LEFT JOIN (SELECT p.order_id, sum((p.lost->>'amount')::bigint) AS lost,"
        "  sum((p.lost->>'owed')::bigint) AS owed"
        "  FROM dispute_orders p JOIN disputes d ON d.id = p.dispute_id AND d.stage = 'lost' GROUP BY 1) d"
        " USING (order_id) WHERE o.refunded_minor <> coalesce(r.given, 0) + coalesce(d.lost, 0)"
        " OR o.goodwill_minor <> coalesce(r.goodwill, 0) + coalesce(d.owed, 0)",
    ),
    _rule(
        5, "goodwill nobody has repaid is the platform's expense",
        "WITH books AS (SELECT a.currency, sum(e.amount_minor) AS minor FROM ledger_accounts a"
        "  JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 5030 AND a.owner = 'platform' GROUP BY 1),"
        " given AS (SELECT currency, sum(greatest(goodwill_minor, 0)) AS minor FROM split_orders GROUP BY 1)"
        " SELECT currency || ' expense ' || coalesce(books.minor, 0) || ', given ' || coalesce(given.minor, 0)"
        " FROM books FULL JOIN given USING (currency) WHERE coalesce(books.minor, 0) <> coalesce(given.minor, 0)",
    ),
    _rule(
        5, "goodwill that came back after it was repaid is the customer's",
        "WITH books AS (SELECT j.order_id, -sum(e.amount_minor) AS minor FROM ledger_accounts a"
        "  JOIN ledger_entries e ON e.account_id = a.id JOIN ledger_journals j ON j.id = e.journal_id"
        "  WHERE a.code = 2100 AND a.owner LIKE 'customer:ord%' GROUP BY 1)"
        " SELECT order_id || ' is owed ' || greatest(-o.goodwill_minor, 0) || ', in the books '"
        " || coalesce(b.minor, 0) FROM split_orders o FULL JOIN books b USING (order_id)"
        " WHERE coalesce(b.minor, 0) <> greatest(-o.goodwill_minor, 0)",
    ),
    _rule(
        5, "what is owed to customers is what refunds have reserved and not ended",
        "WITH owed AS (SELECT -coalesce(sum(e.amount_minor), 0) AS minor, a.currency FROM ledger_accounts a"
        "  JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 2100"
        # A payment that came late belongs to no order; that it goes back is looked at when everything rests.
        "  AND a.owner LIKE 'customer:rfd%' GROUP BY a.currency),"
        " open AS (SELECT sum(amount_minor) AS minor, currency FROM split_refunds WHERE status = 'reserved'"
        "  GROUP BY currency) SELECT currency || ' owed ' || coalesce(owed.minor, 0) || ', reserved '"
        " || coalesce(open.minor, 0) FROM owed FULL JOIN open USING (currency)"
        " WHERE coalesce(owed.minor, 0) <> coalesce(open.minor, 0)",
    ),
    _rule(
        5, "of a payment that came late is owed what has neither gone back nor been charged back",
        "WITH owed AS (SELECT substr(a.owner, 10) AS charge_id, -sum(e.amount_minor) AS minor FROM ledger_accounts a"
        "  JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 2100 AND a.owner LIKE 'customer:ch%'"
        "  GROUP BY 1), lost AS (SELECT charge_id, sum(owed_minor) AS minor FROM disputes WHERE stage = 'lost'"
        "  GROUP BY 1) SELECT charge_id || ' is owed ' || owed.minor || ' of ' || p.captured_minor || ', gone back '"
        " || p.refunded_minor || ', charged back ' || coalesce(lost.minor, 0) FROM owed JOIN payments p"
        " USING (charge_id) LEFT JOIN lost USING (charge_id)"
        " WHERE owed.minor <> p.captured_minor - p.refunded_minor - coalesce(lost.minor, 0)",
    ),
    _rule(
        5, "tax owed is the tax on what customers still hold",
        "WITH owed AS (SELECT a.owner, a.currency, -sum(e.amount_minor) AS minor FROM ledger_accounts a"
        "  JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 2200 GROUP BY 1, 2),"
        " held AS (SELECT 'tax:' || o.tax_jurisdiction AS owner, o.currency,"
        "  sum(p.amount_minor - p.by_line_minor - p.by_amount_minor) AS minor"
        "  FROM split_parts p JOIN split_orders o USING (order_id) WHERE p.part = 'tax' GROUP BY 1, 2)"
        " SELECT owner || ' is owed ' || coalesce(owed.minor, 0) || ' ' || currency || ', held '"
        " || coalesce(held.minor, 0) FROM owed FULL JOIN held USING (owner, currency)"
        " WHERE coalesce(owed.minor, 0) <> coalesce(held.minor, 0)",
    ),
    _rule(6, "a party has its share of what customers still hold, less what was paid to it", _PARTIES),
    _rule(
        6, "what is pending for a party is what its parts say is pending",
        "WITH books AS (SELECT substr(a.owner, 7) AS party, a.currency, -sum(e.amount_minor) AS minor"
        "  FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 2000 GROUP BY 1, 2),"
        " parts AS (SELECT p.payee_id AS party, o.currency, sum(p.pending_minor) AS minor FROM split_parts p"
        "  JOIN split_orders o USING (order_id) WHERE p.payee_id <> '' GROUP BY 1, 2)"
        " SELECT party || ' has ' || coalesce(books.minor, 0) || ' ' || currency || ' pending, its parts '"
        " || coalesce(parts.minor, 0) FROM books FULL JOIN parts USING (party, currency)"
        " WHERE coalesce(books.minor, 0) <> coalesce(parts.minor, 0)",
    ),
    _rule(
        6, "what a party will owe for its own checkout's sales is the commission of them that stands and is not due",
        "WITH books AS (SELECT substr(a.owner, 7) AS party, a.currency, sum(e.amount_minor) AS minor"
        "  FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 1120 GROUP BY 1, 2),"
        " dues AS (SELECT payee_id AS party, currency, sum(owed_minor) AS minor FROM commission_dues"
        "  WHERE claimed_at IS NULL GROUP BY 1, 2)"
        " SELECT party || ' ' || coalesce(books.minor, 0) || ' ' || currency || ' not due, its lines '"
        " || coalesce(dues.minor, 0) FROM books FULL JOIN dues USING (party, currency)"
        " WHERE coalesce(books.minor, 0) <> coalesce(dues.minor, 0)",
    ),
    _rule(
        6, "a line of a brand's own checkout owes the commission of it that stands",
        "SELECT d.order_line_id || ' owes ' || d.owed_minor || ', standing ' || s.minor FROM commission_dues d"
        " JOIN (SELECT l.order_line_id, sum(p.amount_minor - p.by_line_minor - p.by_amount_minor) AS minor"
        "  FROM split_lines l JOIN split_parts p ON p.line_id = l.id"
        "  AND p.part IN ('promoter_brand', 'individual', 'platform_commission') GROUP BY 1) s USING (order_line_id)"
        " WHERE d.owed_minor <> s.minor",
    ),
    _rule(
        6, "commission of a brand's own checkout is counted as come by no more than came off the brand's debts",
        "SELECT d.payee_id || ' came ' || d.minor || ' ' || d.currency || ', off its debts ' || coalesce(c.minor, 0)"
        " FROM (SELECT payee_id, currency, sum(covered_minor) AS minor FROM commission_dues GROUP BY 1, 2) d LEFT JOIN"
        " (SELECT substr(a.owner, 7) AS payee_id, a.currency, -sum(e.amount_minor) AS minor FROM ledger_journals j"
        "  JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a ON a.id = e.account_id"
        "  WHERE a.code = 1100 AND j.kind IN ('netting', 'debt_paid', 'reversal', 'write_off', 'dispute_absorbed')"
        "  GROUP BY 1, 2) c USING (payee_id, currency) WHERE d.minor > coalesce(c.minor, 0)",
    ),
    _rule(
        6, "commission of a brand's own checkout that was released has come: nobody is paid before",
        "SELECT d.order_line_id || ' released ' || s.minor || ', came ' || d.covered_minor FROM commission_dues d"
        " JOIN (SELECT l.order_line_id, sum(least(p.released_minor, p.amount_minor - p.by_line_minor"
        "   - p.by_amount_minor)) AS minor FROM split_lines l JOIN split_parts p ON p.line_id = l.id"
        "  AND p.part IN ('promoter_brand', 'individual', 'platform_commission') GROUP BY 1) s USING (order_line_id)"
        " WHERE s.minor > d.covered_minor",
    ),
    _rule(
        7, "deferred fee is the fee on what is not released; with revenue, the fee on what is left",
        "WITH books AS (SELECT a.currency, -sum(e.amount_minor) FILTER (WHERE a.code = 2400) AS deferred,"
        "  -sum(e.amount_minor) AS fee FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id"
        "  JOIN ledger_journals j ON j.id = e.journal_id WHERE a.code IN (2400, 4000)"
        "  AND NOT EXISTS (SELECT FROM rail_orders r WHERE r.order_id = j.order_id) GROUP BY 1),"
        " parts AS (SELECT o.currency, sum(p.pending_minor) AS deferred,"
        "  sum(p.amount_minor - p.by_line_minor - p.by_amount_minor) AS fee FROM split_parts p"
        "  JOIN split_orders o USING (order_id) WHERE p.part IN ('platform_fee', 'platform_commission') GROUP BY 1)"
        " SELECT currency || ' deferred ' || coalesce(b.deferred, 0) || ' for ' || coalesce(p.deferred, 0)"
        " || ', fee ' || coalesce(b.fee, 0) || ' for ' || coalesce(p.fee, 0)"
        " FROM books b FULL JOIN parts p USING (currency)"
        " WHERE coalesce(b.deferred, 0) <> coalesce(p.deferred, 0) OR coalesce(b.fee, 0) <> coalesce(p.fee, 0)",
    ),
    _rule(
        7, "what is kept back for a dispute is kept for an open one, and is what was frozen of parts",
        "WITH books AS (SELECT substr(a.owner, 7) AS party, a.currency, -sum(e.amount_minor) AS minor"
        "  FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 2030 GROUP BY 1, 2),"
        " open AS (SELECT s.payee_id AS party, s.currency, sum(s.pending_minor + s.available_minor) AS minor"
        "  FROM dispute_shares s JOIN disputes d ON d.id = s.dispute_id AND d.stage = 'open' GROUP BY 1, 2)"
        " SELECT party || ' has ' || coalesce(books.minor, 0) || ' ' || currency || ' kept, frozen '"
        " || coalesce(open.minor, 0) FROM books FULL JOIN open USING (party, currency)"
        " WHERE coalesce(books.minor, 0) <> coalesce(open.minor, 0)",
    ),
    _rule(
        7, "a bank owes what it withdrew for a dispute that is not decided, and nothing for one that is",
        "WITH books AS (SELECT substr(a.owner, 9) AS id, sum(e.amount_minor) AS minor FROM ledger_accounts a"
        "  JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 1110 GROUP BY 1),"
        # Who paid a debt and has it back owes it again itself.
        " open AS (SELECT d.id, d.amount_minor AS minor FROM disputes d WHERE d.stage = 'open'"
        "  AND NOT EXISTS (SELECT FROM debt_payments p WHERE p.charge_id = d.charge_id))"
        " SELECT id || ' owes ' || coalesce(books.minor, 0) || ', withdrawn ' || coalesce(open.minor, 0)"
        " FROM books FULL JOIN open USING (id) WHERE coalesce(books.minor, 0) <> coalesce(open.minor, 0)",
    ),
    _rule(
        7, "what lies frozen on a sharing rail is what its open orders have there, and a closed one leaves nothing",
        "SELECT o.order_id || ' ' || a.code || ' ' || a.owner || ' holds ' || sum(e.amount_minor) FROM rail_orders o"
        " JOIN ledger_journals j ON j.order_id = o.order_id JOIN ledger_entries e ON e.journal_id = j.id"
        " JOIN ledger_accounts a ON a.id = e.account_id WHERE a.code IN (1900, 2900) AND o.closed_at IS NOT NULL"
        " AND NOT EXISTS (SELECT FROM rail_refunds r WHERE r.order_id = o.order_id"
        "  AND r.status IN ('reserved', 'sending', 'refused'))"
        " GROUP BY o.order_id, a.code, a.owner HAVING sum(e.amount_minor) <> 0"
        " UNION ALL SELECT o.order_id || ' merchant has ' || -sum(e.amount_minor) || ', its row says '"
        " || o.merchant_minor FROM rail_orders o JOIN ledger_journals j ON j.order_id = o.order_id"
        " JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a ON a.id = e.account_id"
        " WHERE a.code = 2900 AND o.closed_at IS NULL AND a.tenant_id = o.merchant_id"
        " GROUP BY o.order_id, o.merchant_minor HAVING -sum(e.amount_minor) <> o.merchant_minor",
    ),
    _rule(
        9, "what is in payout is what payouts have reserved and not ended",
        "WITH books AS (SELECT substr(a.owner, 7) AS party, a.currency, -sum(e.amount_minor) AS minor"
        "  FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 2020 GROUP BY 1, 2),"
        " open AS (SELECT payee_id AS party, currency, sum(amount_minor) AS minor FROM payouts"
        "  WHERE status IN ('reserved', 'sending') GROUP BY 1, 2)"
        " SELECT party || ' has ' || coalesce(books.minor, 0) || ' ' || currency || ' in payout, payouts '"
        " || coalesce(open.minor, 0) FROM books FULL JOIN open USING (party, currency)"
        " WHERE coalesce(books.minor, 0) <> coalesce(open.minor, 0)",
    ),
    _rule(
        9, "a payout is settled or voided once, with its amount",
        "SELECT j.kind || ' ' || j.idem || ' moved ' || sum(e.amount_minor) FROM ledger_journals j"
        " JOIN ledger_entries e ON e.journal_id = j.id AND e.amount_minor > 0"
        " WHERE j.kind IN ('payout_settled', 'payout_voided') GROUP BY j.id, j.kind, j.idem HAVING sum(e.amount_minor)"
        " <> (SELECT sum(r.amount_minor) FROM ledger_journals o JOIN ledger_entries r ON r.journal_id = o.id"
        "  AND r.amount_minor > 0 WHERE o.idem = regexp_replace(j.idem, '[a-z]+$', 'reserve'))"
        " UNION ALL SELECT regexp_replace(idem, '[a-z]+$', '') || ' ended ' || count(*) || ' times'"
        " FROM ledger_journals WHERE kind IN ('payout_settled', 'payout_voided')"
        " GROUP BY regexp_replace(idem, '[a-z]+$', '') HAVING count(*) > 1",
    ),
    _rule(
        4, "a position that is back at zero in its own currency holds nothing in another one (R10c)",
        "SELECT o.owner || ' holds ' || o.minor || ' ' || o.currency FROM (SELECT a.owner, a.currency,"
        "  sum(e.amount_minor) AS minor, sum(sum(e.amount_minor)) FILTER (WHERE a.currency = substr(a.owner, 4))"
        "  OVER (PARTITION BY a.owner) AS own FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id"
        "  WHERE a.code = 6000 GROUP BY 1, 2) o WHERE coalesce(o.own, 0) = 0 AND o.minor <> 0",
    ),
    _rule(
        10, "a statement opens where the one before it closed, and names its hash",
        "SELECT payee_id || ' ' || currency || ' no ' || number || ' opens at ' || opening_minor FROM"
        " (SELECT *, lag(closing_minor) OVER w AS was, lag(hash) OVER w AS before, lag(number) OVER w AS last"
        "  FROM statements WINDOW w AS (PARTITION BY payee_id, currency ORDER BY number)) s"
        " WHERE opening_minor <> coalesce(was, 0) OR previous_hash <> coalesce(before, '')"
        " OR number <> coalesce(last, 0) + 1",
    ),
    _rule(
        12, "what lies in suspense is what reconciliation put there and nothing has explained since",
        "WITH books AS (SELECT a.currency, -sum(e.amount_minor) AS minor FROM ledger_accounts a"
        "  JOIN ledger_entries e ON e.account_id = a.id WHERE a.code = 2300 GROUP BY 1),"
        " rows AS (SELECT currency, sum(suspended_minor) AS minor FROM psp_txn GROUP BY 1)"
        " SELECT currency || ' ' || coalesce(books.minor, 0) || ' in suspense, rows ' || coalesce(rows.minor, 0)"
        " FROM books FULL JOIN rows USING (currency) WHERE coalesce(books.minor, 0) <> coalesce(rows.minor, 0)",
    ),
)  # fmt: skip


async def violations(session: AsyncSession, rules: Sequence[Rule] = RULES) -> list[Violation]:
    """Which rules are broken, with up to three examples each."""
    found = []
    for rule in rules:
        rows = list((await session.execute(rule.broken)).scalars())
        if rows:
            found.append(Violation(rule.number, rule.says, tuple(str(row) for row in rows[:_SHOWN])))
    return found
