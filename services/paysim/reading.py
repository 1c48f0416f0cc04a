"""Calls that only look: charges, balance, its transactions, events."""

from __future__ import annotations

from services.paysim.events import emit
from services.paysim.metadata import merged
from services.paysim.movements import balance_object
from services.paysim.transaction import Tx
from services.paysim.wire import ApiError, JsonDict, no_such


def payment_method(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("payment_method", id)


def charge(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("charge", id)


def update_charge(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    charge = tx.need("charge", id)
    if "customer" in params:
        raise no_such("customer", params["customer"], param="customer", status=400)
    for name in ("description", "receipt_email", "shipping", "transfer_group"):
        if name in params:
            charge[name] = params[name]
    if report := (params.get("fraud_details") or {}).get("user_report"):
        charge["fraud_details"] = {"user_report": report}
    charge["metadata"] = merged(charge["metadata"], params.get("metadata"))
    tx.put(charge)
    emit(tx, "charge.updated", charge)
    return charge


def charges(tx: Tx, params: JsonDict) -> JsonDict:
    names = ("payment_intent", "transfer_group", "customer")
    return tx.page("charge", params, **{name: params[name] for name in names if name in params})


def balance(tx: Tx, params: JsonDict) -> JsonDict:
    return balance_object(tx, tx.account)


def balance_transaction(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("balance_transaction", id)


def balance_transactions(tx: Tx, params: JsonDict) -> JsonDict:
    """``payout`` lists the rows an automatic payout is made of, its own included; no other payout has any."""
    filters: dict[str, str] = {
        name: params[name] for name in ("source", "type", "currency") if name in params
    }
    if "payout" in params:
        payout = tx.find(params["payout"], "payout", account=tx.account)
        if payout is None:
            raise no_such("payout", params["payout"], param="payout", status=400)
        if not payout["automatic"]:
            message = "Balance transaction history can only be filtered on automatic transfers, not manual."
            raise ApiError(400, message, param="payout")
        filters["_payout"] = payout["id"]
    return tx.page("balance_transaction", params, **filters)


def event(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return with_pending(tx, tx.need("event", id))


def events(tx: Tx, params: JsonDict) -> JsonDict:
    if "type" in params and "types" in params:
        raise ApiError(400, "You may pass only one of `type` and `types`.", param="types")
    if params.get("types"):
        return _of_types(tx, params, params["types"])
    if params.get("type", "").endswith("*"):
        return _of_types(tx, params, [params["type"]])
    page = tx.page("event", params, **({"type": params["type"]} if "type" in params else {}))
    page["data"] = [with_pending(tx, row) for row in page["data"]]
    return page


def with_pending(tx: Tx, event: JsonDict) -> JsonDict:
    """The event with the number of deliveries still owed."""
    owed = tx.db.execute(
        "SELECT count(*) FROM delivery WHERE event = ? AND state IN ('due', 'held')", (event["id"],)
    ).fetchone()[0]
    return {**event, "pending_webhooks": owed}


def _of_types(tx: Tx, params: JsonDict, types: list[str]) -> JsonDict:
    """Several exact types, or one ``group.*``: pages are read until one is full."""
    limit, cursor = params.get("limit", 10), dict(params)
    found: list[JsonDict] = []
    exact, groups = set(types), tuple(name[:-1] for name in types if name.endswith("*"))
    while True:
        page = tx.page("event", {**cursor, "limit": 100})
        fits = (
            row for row in page["data"] if row["type"] in exact or (groups and row["type"].startswith(groups))
        )
        found.extend(with_pending(tx, row) for row in fits)
        if len(found) > limit or not page["has_more"]:
            return {"object": "list", "data": found[:limit], "has_more": len(found) > limit}
        cursor = {name: value for name, value in cursor.items() if name != "ending_before"}
        cursor["starting_after"] = page["data"][-1]["id"]
