"""Requests to share a frozen payment, their results some time later, and the end of the freeze."""

from __future__ import annotations

from typing import Any

from services.paysim.faults import fire
from services.paysim.idempotency import fingerprint
from services.paysim.sharing import funds, merchants, payments
from services.paysim.sharing.notices import tell
from services.paysim.sharing.wire import SharingRefused, amount, invalid, number, only, rfc3339, words
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import JsonDict


def create(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"merchant_id", "transaction_id", "out_order_no", "receivers": [{"type", "account", "amount",
    "description"}], "finish", "notify_url"?}``: accepted now, done later; the same number again is the same
    request."""
    only(
        given,
        "merchant_id",
        "transaction_id",
        "out_order_no",
        "receivers",
        "finish",
        "notify_url",
        "description",
    )
    payment, order_no = payments.of_merchant(tx, given), number(given, "out_order_no")
    if (known := _known(tx, payment, order_no, given)) is not None:
        return known
    receivers = _receivers(tx, payment, given.get("receivers"))
    _refuse_when_over(tx, payment, busy=False)
    asked = sum(each["amount"] for each in receivers)
    allowed, used = payments.outward_allowed(tx, payment), payment["outward"]
    if used + asked > allowed:
        message = f"Only {allowed} of this payment may leave to others; {used} did already."
        raise SharingRefused(403, "OUTWARD_CAP_EXCEEDED", message, allowed=allowed, used=used, asked=asked)
    if asked > payment["frozen"]:
        message = f"Only {payment['frozen']} of this payment are left to share."
        raise SharingRefused(403, "NOT_ENOUGH_FROZEN", message, left=payment["frozen"])
    merchant = payment["merchant_id"]
    funds.move(
        tx,
        f"share:{payment['id']}:{order_no}",
        (funds.frozen(merchant), -asked),
        (funds.sharing(merchant), asked),
    )
    payment["frozen"] -= asked
    payment["outward"] += asked
    return _open(tx, payment, order_no, given, receivers, finish=given.get("finish") is True)


def finish(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"merchant_id", "transaction_id", "out_order_no", "description"?}``: nothing more will be shared, the rest
    is the merchant's."""
    only(given, "merchant_id", "transaction_id", "out_order_no", "description", "notify_url")
    payment, order_no = payments.of_merchant(tx, given), number(given, "out_order_no")
    if (known := _known(tx, payment, order_no, given)) is not None:
        return known
    _refuse_when_over(tx, payment, busy=True)
    return _open(tx, payment, order_no, given, [], finish=True)


def retrieve(tx: Tx, given: JsonDict) -> JsonDict:
    payment = payments.of_merchant(tx, given)
    return shown(need(tx, payment, str(given["out_order_no"])))


def need(tx: Tx, payment: JsonDict, order_no: str) -> JsonDict:
    found = tx.find(_id(payment, order_no), "share_order")
    if found is None:
        raise SharingRefused(404, "ORDER_NOT_FOUND", f"There is no {order_no}.", field="out_order_no")
    return found


def settle(tx: Tx, id: str) -> None:
    """The result: each receiver by itself was paid or not; what was not goes back to the frozen money."""
    order = tx.find(id, "share_order")
    if order is None or order["state"] != "PROCESSING":
        return
    payment = payments.need(tx, order["payment"])
    for each in order["receivers"]:
        _settle_one(tx, payment, order, each)
    order.update(state="FINISHED", finished_at=tx.now)
    tx.put(order)
    tx.put(payment)
    if order["finish"]:
        _unfreeze(tx, payment, order["out_order_no"])
    tell(tx, "SHARING.FINISHED", shown(order), order["notify_url"] or payment["notify_url"])


def thaw(tx: Tx, id: str) -> None:
    """180 days have passed: what was never shared goes to the merchant by itself."""
    payment = payments.need(tx, id)
    if payment["unfrozen_at"] is None:
        _unfreeze(tx, payment, "180d")
        tell(tx, "SHARING.UNFROZEN", payments.amounts_of(tx, payment), payment["notify_url"])


def shown(order: JsonDict) -> JsonDict:
    return {
        "merchant_id": order["merchant_id"],
        "transaction_id": order["payment"],
        "out_order_no": order["out_order_no"],
        "order_id": order["order_id"],
        "state": order["state"],
        "finish": order["finish"],
        "finished_at": rfc3339(order["finished_at"]),
        "receivers": [
            {name: value for name, value in each.items() if name != "returned"} for each in order["receivers"]
        ],
    }


def _settle_one(tx: Tx, payment: JsonDict, order: JsonDict, each: JsonDict) -> None:
    merchant, kind, account, due = payment["merchant_id"], each["type"], each["account"], each["amount"]
    facts = {"amount": due, "account": account, "type": kind}
    broken = fire(tx, "share_failure", **facts) if tx.faults() else None
    if broken is None and not merchants.is_added(tx, merchant, kind, account):
        broken = {"reason": "NO_RELATION"}
    to = funds.of_receiver(kind, account) if broken is None else funds.frozen(merchant)
    memo = f"share:{order['payment']}:{order['out_order_no']}:{each['detail_id']}"
    funds.move(tx, memo, (funds.sharing(merchant), -due), (to, due))
    if broken is None:
        each.update(result="SUCCESS", finished_at=rfc3339(tx.now))
    else:
        reason = broken.get("reason", "ACCOUNT_ABNORMAL")
        each.update(result="CLOSED", fail_reason=reason, finished_at=rfc3339(tx.now))
        payment["frozen"] += due
        payment["outward"] -= due
    funds.note(
        tx,
        "SHARE",
        payment,
        order["out_order_no"],
        due,
        receiver=(kind, account),
        result=each["result"],
        reason=each.get("fail_reason", ""),
    )


def _unfreeze(tx: Tx, payment: JsonDict, order_no: str) -> None:
    merchant, rest = payment["merchant_id"], payment["frozen"]
    funds.move(
        tx, f"unfreeze:{payment['id']}", (funds.frozen(merchant), -rest), (funds.available(merchant), rest)
    )
    payment.update(frozen=0, unfrozen_at=tx.now)
    tx.put(payment)
    if rest:
        funds.note(tx, "UNFREEZE", payment, order_no, rest)


def _open(
    tx: Tx, payment: JsonDict, order_no: str, given: JsonDict, receivers: list[JsonDict], *, finish: bool
) -> JsonDict:
    order: JsonDict = {
        "id": _id(payment, order_no),
        "object": "share_order",
        "created": tx.now,
        "print": fingerprint(given),
        "order_id": new_id("shd"),
        "merchant_id": payment["merchant_id"],
        "payment": payment["id"],
        "out_order_no": order_no,
        "state": "PROCESSING",
        "finish": finish,
        "finished_at": None,
        "notify_url": words(given, "notify_url", most=256, needed=False) or None,
        "receivers": receivers,
    }
    payment["requests"] += 1
    tx.put(payment)
    tx.insert(order, account=tx.platform)
    facts = {"amount": sum(each["amount"] for each in receivers), "merchant": payment["merchant_id"]}
    late = fire(tx, "share_delay", **facts) if tx.faults() else None
    after_s = funds.RESULT_AFTER_S if late is None else int(late.get("seconds", 3_600))
    tx.schedule(tx.now + after_s, "share_result", order["id"])
    return shown(order)


def _known(tx: Tx, payment: JsonDict, order_no: str, given: JsonDict) -> JsonDict | None:
    found = tx.find(_id(payment, order_no), "share_order")
    if found is None:
        return None
    if found["print"] != fingerprint(given):
        raise SharingRefused(409, "NUMBER_REUSED", f"{order_no} was used for another request.")
    return shown(found)


def _refuse_when_over(tx: Tx, payment: JsonDict, *, busy: bool) -> None:
    if payment["state"] != "SUCCESS" or not payment["profit_sharing"]:
        raise SharingRefused(403, "NOT_SHARABLE", "The payment is not paid, or not one to be shared.")
    open_orders = [
        each for each in tx.all("share_order", payment=payment["id"]) if each["state"] == "PROCESSING"
    ]
    if payment["unfrozen_at"] is not None or any(each["finish"] for each in open_orders):
        raise SharingRefused(403, "ALREADY_UNFROZEN", "The rest of this payment went to the merchant.")
    if busy and open_orders:
        raise SharingRefused(403, "SHARING_IN_PROGRESS", "A request of this payment has no result yet.")
    if payment["requests"] >= funds.MAX_REQUESTS:
        message = f"A payment takes {funds.MAX_REQUESTS} requests."
        raise SharingRefused(403, "TOO_MANY_REQUESTS", message, limit=funds.MAX_REQUESTS)


def _receivers(tx: Tx, payment: JsonDict, given: Any) -> list[JsonDict]:
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise invalid("receivers", "a list of {type, account, amount, description}")
    if len(given) > funds.MAX_RECEIVERS:
        message = f"A request names at most {funds.MAX_RECEIVERS} receivers, not {len(given)}."
        raise SharingRefused(400, "TOO_MANY_RECEIVERS", message, limit=funds.MAX_RECEIVERS)
    found: list[JsonDict] = []
    for each in given:
        only(each, "type", "account", "amount", "description")
        kind, account = merchants.receiver_kind(each), words(each, "account")
        if not merchants.is_added(tx, payment["merchant_id"], kind, account):
            message = f"{account} was not added as a receiver of this merchant."
            raise SharingRefused(403, "RECEIVER_NOT_ADDED", message, account=account)
        if any((kind, account) == (other["type"], other["account"]) for other in found):
            raise SharingRefused(400, "RECEIVER_TWICE", f"{account} is named twice.", account=account)
        found.append(
            {
                "detail_id": new_id("shl"),
                "type": kind,
                "account": account,
                "amount": amount(each),
                "description": words(each, "description", needed=False),
                "result": "PENDING",
                "returned": 0,
            }
        )
    return found


def _id(payment: JsonDict, order_no: str) -> str:
    return f"{payment['id']}/share/{order_no}"
