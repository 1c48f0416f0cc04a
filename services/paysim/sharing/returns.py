"""Returns (回退): a business gives back what it was shared. Individuals never can."""

from __future__ import annotations

from services.paysim.faults import fire
from services.paysim.idempotency import fingerprint
from services.paysim.movements import DAY_S
from services.paysim.sharing import funds, payments, shares
from services.paysim.sharing.notices import tell
from services.paysim.sharing.wire import SharingRefused, amount, number, only, rfc3339, words
from services.paysim.transaction import Tx
from services.paysim.wire import JsonDict


def create(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"merchant_id", "transaction_id", "out_order_no", "out_return_no", "account", "amount", "description"?}``"""
    only(
        given,
        *(
            "merchant_id",
            "transaction_id",
            "out_order_no",
            "out_return_no",
            "account",
            "amount",
            "description",
        ),
    )
    payment, return_no = payments.of_merchant(tx, given), number(given, "out_return_no")
    id = f"{payment['merchant_id']}/return/{return_no}"
    if known := tx.find(id, "share_return"):
        if known["print"] != fingerprint(given):
            raise SharingRefused(409, "NUMBER_REUSED", f"{return_no} was used for another return.")
        return shown(known)
    order = shares.need(tx, payment, number(given, "out_order_no"))
    receiver = _receiver(order, words(given, "account"))
    asked, left = amount(given), receiver["amount"] - receiver["returned"]
    if asked > left:
        raise SharingRefused(
            400, "RETURN_EXCEEDS_SHARE", f"{left} of this share are left to return.", left=left
        )
    if tx.now > order["finished_at"] + funds.RETURN_DAYS * DAY_S:
        message = f"A share can be returned within {funds.RETURN_DAYS} days."
        raise SharingRefused(403, "RETURN_WINDOW_OVER", message)
    receiver["returned"] += asked
    tx.put(order)
    made: JsonDict = {
        "id": id,
        "object": "share_return",
        "created": tx.now,
        "print": fingerprint(given),
        "merchant_id": payment["merchant_id"],
        "payment": payment["id"],
        "out_order_no": order["out_order_no"],
        "out_return_no": return_no,
        "account": receiver["account"],
        "amount": asked,
        "state": "PROCESSING",
        "fail_reason": None,
        "finished_at": None,
    }
    tx.insert(made, account=tx.platform)
    tx.schedule(tx.now + funds.RESULT_AFTER_S, "share_return", id)
    return shown(made)


def retrieve(tx: Tx, given: JsonDict) -> JsonDict:
    found = tx.find(f"{given.get('merchant_id')}/return/{given['out_return_no']}", "share_return")
    if found is None:
        raise SharingRefused(404, "RETURN_NOT_FOUND", f"There is no {given['out_return_no']}.")
    return shown(found)


def settle(tx: Tx, id: str) -> None:
    made = tx.find(id, "share_return")
    if made is None or made["state"] != "PROCESSING":
        return
    payment = payments.need(tx, made["payment"])
    giver = funds.available(made["account"])
    facts = {"amount": made["amount"], "account": made["account"]}
    broken = fire(tx, "return_failure", **facts) if tx.faults() else None
    if broken is not None or funds.held(tx, giver) < made["amount"]:
        made.update(state="FAILED", fail_reason=(broken or {}).get("reason", "BALANCE_NOT_ENOUGH"))
        order = shares.need(tx, payment, made["out_order_no"])
        _receiver(order, made["account"])["returned"] -= made["amount"]
        tx.put(order)
    else:
        back = funds.available(made["merchant_id"])
        funds.move(tx, f"share_return:{id}", (giver, -made["amount"]), (back, made["amount"]))
        made["state"] = "SUCCESS"
    made["finished_at"] = tx.now
    tx.put(made)
    funds.note(
        tx,
        "RETURN",
        payment,
        made["out_return_no"],
        made["amount"],
        receiver=("MERCHANT", made["account"]),
        result=made["state"],
        reason=made["fail_reason"] or "",
    )
    tell(tx, "SHARING.RETURNED", shown(made), payment["notify_url"])


def shown(made: JsonDict) -> JsonDict:
    names = ("merchant_id", "out_order_no", "out_return_no", "account", "amount", "state", "fail_reason")
    return {
        **{name: made[name] for name in names},
        "transaction_id": made["payment"],
        "finished_at": rfc3339(made["finished_at"]),
    }


def _receiver(order: JsonDict, account: str) -> JsonDict:
    for each in order["receivers"]:
        if each["account"] == account and each["result"] == "SUCCESS":
            if each["type"] != "MERCHANT":
                message = "What an individual received cannot be taken back."
                raise SharingRefused(403, "INDIVIDUAL_CANNOT_RETURN", message, account=account)
            found: JsonDict = each
            return found
    raise SharingRefused(
        404, "SHARE_NOT_FOUND", f"{account} received nothing by this request.", account=account
    )
