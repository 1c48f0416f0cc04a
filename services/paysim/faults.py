"""Fault switches: what goes wrong on purpose, where, and how often.

A switch has a kind, a number of times it still fires (None: until removed), a match (glob patterns over
facts of the situation, all must fit) and options of its kind:

==================  ============================  =====================================================
kind                matches on                    options
==================  ============================  =====================================================
decline             amount, currency, method      code (decline code, default generic_decline)
three_ds            amount, currency, method
rate_limit          verb, path, key, operation    (429, nothing executed)
server_error        verb, path, key, operation    execute (default false), stored (default true: under
                                                  the key, so that a repeat is told the same)
drop_response       verb, path, key, operation    (executed, connection closed without an answer)
delay_response      verb, path, key, operation    seconds (default 1, real)
webhook_hold        event                         (until released)
webhook_drop        event                         (never delivered)
webhook_delay       event                         seconds (default 5, real)
webhook_duplicate   event                         copies (default 2)
webhook_shuffle     event                         seconds (default 2): each delay is drawn from the window
payout_failure      amount, currency, account     code (default could_not_process)
payout_refusal      amount, currency, account     (balance_insufficient)
refund_failure      amount, currency              code (default lost_or_stolen_card), pending, after_s
refund_action       amount, currency              (the payer must act first; only such a one can be cancelled)
transfer_refusal    amount, currency, account     (balance_insufficient)
reversal_refusal    amount, currency, account     (balance_insufficient)
dispute             amount, currency, method      reason, amount, inquiry, lapses: opened once it is captured
early_fraud         amount, currency, method      fraud_type (default misc)
late_availability   amount, currency              days (default 7) until a charge becomes available
share_failure       amount, account, type         reason (default ACCOUNT_ABNORMAL), on the sharing rail
return_failure      amount, account               reason (default BALANCE_NOT_ENOUGH), on the sharing rail
share_delay         amount, merchant              seconds of paysim's clock until the result (default 3600)
==================  ============================  =====================================================

An operation is ``refunds.create``, ``transfers.reverse``, ``intents.confirm`` …: the module and the verb.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import orjson

from services.paysim.transaction import Tx
from services.paysim.wire import ApiError, JsonDict

KINDS = frozenset(
    [
        "decline",
        "three_ds",
        "rate_limit",
        "server_error",
        "drop_response",
        "delay_response",
        "webhook_hold",
        "webhook_drop",
        "webhook_delay",
        "webhook_duplicate",
        "webhook_shuffle",
        "payout_failure",
        "payout_refusal",
        "refund_failure",
        "refund_action",
        "transfer_refusal",
        "reversal_refusal",
        "dispute",
        "early_fraud",
        "late_availability",
        "share_failure",
        "share_delay",
        "return_failure",
    ]
)


def add(tx: Tx, kind: str, *, count: int | None, match: dict[str, str], options: dict[str, Any]) -> JsonDict:
    """Raises 400 for a kind that does not exist or a count below one."""
    if kind not in KINDS:
        raise ApiError(400, f"No such fault: {kind}. One of {', '.join(sorted(KINDS))}", param="kind")
    if count is not None and count < 1:
        raise ApiError(400, "count must be at least 1", param="count")
    cursor = tx.db.execute(
        "INSERT INTO fault (kind, remaining, match, options) VALUES (?,?,?,?)",
        (kind, count, orjson.dumps(match), orjson.dumps(options)),
    )
    tx.faults_changed()
    return next(fault for fault in tx.faults() if fault["id"] == cursor.lastrowid)


def remove(tx: Tx, id: int | None = None) -> int:
    """How many switches were removed: the one, or all."""
    where, values = ("id = ?", (id,)) if id is not None else ("true", ())
    removed = tx.db.execute(f"DELETE FROM fault WHERE {where}", values).rowcount
    tx.faults_changed()
    return removed


def fire(tx: Tx, kind: str, **facts: Any) -> JsonDict | None:
    """The options of the first switch of this kind that fits, counted down; None when none does."""
    for fault in tx.faults():
        if fault["kind"] == kind and fault["remaining"] != 0 and _fits(fault["match"], facts):
            tx.fault_fired(fault["id"])
            options: JsonDict = fault["options"]
            return options
    return None


def _fits(match: dict[str, str], facts: dict[str, Any]) -> bool:
    return all(fnmatchcase(str(facts.get(name, "")), str(pattern)) for name, pattern in match.items())
