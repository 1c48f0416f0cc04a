"""Payments that are shared: they belong to one merchant and stay frozen until shared, finished or 180 days old."""

from __future__ import annotations

import secrets
from fractions import Fraction

from core.money import PPM, half_up
from services.paysim import books
from services.paysim.idempotency import fingerprint
from services.paysim.movements import DAY_S
from services.paysim.sharing import funds, merchants
from services.paysim.sharing.notices import tell
from services.paysim.sharing.wire import SharingRefused, amount, invalid, number, only, rfc3339, words
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import JsonDict

PAYS_AT_ONCE, DECLINES = "test_pays", "test_declines"
"""Payers of test mode; anybody else opens the pay page."""


def create(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"merchant_id", "out_trade_no", "amount": {"total", "currency"}, "description", "profit_sharing",
    "notify_url"?, "payer"?: {"openid"}}``"""
    only(
        given,
        *("merchant_id", "out_trade_no", "amount", "description", "profit_sharing", "notify_url", "payer"),
    )
    merchant, trade_no = merchants.need(tx, given.get("merchant_id")), number(given, "out_trade_no")
    id = f"{merchant['id']}/{trade_no}"
    if known := tx.find(id, "share_trade"):
        return _replayed(tx, known, given)
    asked = given.get("amount")
    if not isinstance(asked, dict):
        raise invalid("amount", "{total, currency}")
    if asked.get("currency") != "CNY":
        raise SharingRefused(400, "CURRENCY_NOT_SUPPORTED", "This rail pays in CNY only.")
    shares = given.get("profit_sharing") is True
    if shares and merchant["id"] == tx.setting("share_platform"):
        message = "Money of several merchants may not be pooled in the platform's account."
        raise SharingRefused(403, "POOLING_FORBIDDEN", message)
    payment: JsonDict = {
        "id": new_id("trx"),
        "object": "share_payment",
        "created": tx.now,
        "merchant_id": merchant["id"],
        "out_trade_no": trade_no,
        "total": amount(asked, "total"),
        "description": words(given, "description"),
        "profit_sharing": shares,
        "notify_url": words(given, "notify_url", most=256, needed=False) or None,
        "state": "NOTPAY",
        "paid_at": None,
        "fee": 0,
        "fee_back": 0,
        "frozen": 0,
        "outward": 0,
        "refunded": 0,
        "requests": 0,
        "unfrozen_at": None,
        "token": secrets.token_urlsafe(18),
    }
    tx.insert(payment, account=tx.platform)
    trade: JsonDict = {"id": id, "object": "share_trade", "created": tx.now, "payment": payment["id"]}
    tx.insert({**trade, "print": fingerprint(given)}, account=tx.platform)
    payer = (given.get("payer") or {}).get("openid", "")
    if payer == DECLINES:
        raise SharingRefused(403, "PAYER_DECLINED", "The payer's bank declined the payment.")
    return shown(tx, pay(tx, payment) if payer == PAYS_AT_ONCE else payment)


def pay(tx: Tx, payment: JsonDict) -> JsonDict:
    """The payer paid. Frozen when it is to be shared, the merchant's at once otherwise; less the rail's fee."""
    if payment["state"] != "NOTPAY":
        return payment
    total = payment["total"]
    fee = half_up(Fraction(total * funds.FEE_PPM, PPM))
    lands = funds.frozen if payment["profit_sharing"] else funds.available
    merchant = payment["merchant_id"]
    memo = f"share_payment:{payment['id']}"
    funds.move(tx, memo, (lands(merchant), total - fee), (books.FEES, fee), (books.NETWORK, -total))
    payment.update(state="SUCCESS", paid_at=tx.now, fee=fee)
    if payment["profit_sharing"]:
        payment["frozen"] = total - fee
        tx.schedule(tx.now + funds.FREEZE_DAYS * DAY_S, "share_thaw", payment["id"])
    tx.put(payment)
    funds.note(tx, "PAYMENT", payment, payment["out_trade_no"], total)
    if fee:
        funds.note(tx, "FEE", payment, payment["out_trade_no"], fee)
    tell(tx, "TRANSACTION.SUCCESS", shown(tx, payment), payment["notify_url"])
    return payment


def retrieve(tx: Tx, given: JsonDict) -> JsonDict:
    merchant = merchants.need(tx, given.get("merchant_id"))
    trade = tx.find(f"{merchant['id']}/{given['out_trade_no']}", "share_trade")
    if trade is None:
        raise SharingRefused(404, "TRANSACTION_NOT_FOUND", f"There is no {given['out_trade_no']}.")
    return shown(tx, need(tx, trade["payment"]))


def close(tx: Tx, given: JsonDict) -> JsonDict:
    """Nobody can pay it any more."""
    payment = need(tx, retrieve(tx, given)["transaction_id"])
    if payment["state"] == "SUCCESS":
        raise SharingRefused(400, "TRANSACTION_PAID", "A paid transaction is refunded, not closed.")
    payment["state"] = "CLOSED"
    return shown(tx, tx.put(payment))


def amounts(tx: Tx, given: JsonDict) -> JsonDict:
    """What of a payment can still be shared."""
    return amounts_of(tx, of_merchant(tx, given))


def amounts_of(tx: Tx, payment: JsonDict) -> JsonDict:
    return {
        "transaction_id": payment["id"],
        "unsplit_amount": payment["frozen"],
        "outward_allowed": outward_allowed(tx, payment),
        "outward_used": payment["outward"],
        "unfrozen_at": rfc3339(payment["unfrozen_at"]),
    }


def refund(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"merchant_id", "transaction_id", "out_refund_no", "amount", "from_available"?, "reason"?}``: out of what
    is frozen, then out of what the merchant has; ``from_available`` of it (shares that came back) not out of the
    frozen money. The rail's fee comes back in proportion."""
    only(given, "merchant_id", "transaction_id", "out_refund_no", "amount", "from_available", "reason")
    payment, refund_no = of_merchant(tx, given), number(given, "out_refund_no")
    id = f"{payment['merchant_id']}/refund/{refund_no}"
    if known := tx.find(id, "share_refund"):
        if known["print"] != fingerprint(given):
            raise SharingRefused(409, "NUMBER_REUSED", f"{refund_no} was used for another refund.")
        return _refund_shown(known)
    asked = amount(given)
    left = payment["total"] - payment["refunded"]
    if payment["state"] != "SUCCESS" or asked > left:
        raise SharingRefused(
            400, "REFUND_EXCEEDS_PAYMENT", f"{left} of this payment can be refunded.", left=left
        )
    back = half_up(Fraction(payment["fee"] * (payment["refunded"] + asked), payment["total"]))
    fee_back, merchant = back - payment["fee_back"], payment["merchant_id"]
    needed = asked - fee_back
    came_back = amount(given, "from_available") if given.get("from_available") else 0
    if came_back > asked:
        raise invalid("from_available", f"at most {asked}")
    # Where more came back than is needed beside the fee, the merchant keeps that.
    from_frozen = min(max(needed - came_back, 0), payment["frozen"])
    from_available = needed - from_frozen
    if from_available > funds.held(tx, funds.available(merchant)):
        message = "The merchant holds too little: what was shared has to be returned first."
        raise SharingRefused(403, "NOT_ENOUGH_FUNDS", message, short=from_available)
    funds.move(
        tx,
        f"share_refund:{id}",
        (funds.frozen(merchant), -from_frozen),
        (funds.available(merchant), -from_available),
        (books.FEES, -fee_back),
        (books.NETWORK, asked),
    )
    payment["frozen"] -= from_frozen
    payment["refunded"] += asked
    payment["fee_back"] = back
    tx.put(payment)
    made: JsonDict = {
        "id": id,
        "object": "share_refund",
        "created": tx.now,
        "print": fingerprint(given),
        "payment": payment["id"],
        "out_refund_no": refund_no,
        "amount": asked,
        "fee_back": fee_back,
        "state": "PROCESSING",
    }
    tx.insert(made, account=tx.platform)
    tx.schedule(tx.now + funds.RESULT_AFTER_S, "share_refund", id)
    funds.note(tx, "REFUND", payment, refund_no, asked)
    if fee_back:
        funds.note(tx, "FEE_BACK", payment, refund_no, fee_back)
    return _refund_shown(made)


def retrieve_refund(tx: Tx, given: JsonDict) -> JsonDict:
    merchant = merchants.need(tx, given.get("merchant_id"))
    found = tx.find(f"{merchant['id']}/refund/{given['out_refund_no']}", "share_refund")
    if found is None:
        raise SharingRefused(404, "REFUND_NOT_FOUND", f"There is no {given['out_refund_no']}.")
    return _refund_shown(found)


def refund_arrives(tx: Tx, id: str) -> None:
    made = tx.find(id, "share_refund")
    if made is not None and made["state"] == "PROCESSING":
        made["state"] = "SUCCESS"
        tx.put(made)
        tell(tx, "REFUND.SUCCESS", _refund_shown(made), need(tx, made["payment"])["notify_url"])


def outward_allowed(tx: Tx, payment: JsonDict) -> int:
    """The largest sum that may leave to others, rounded down."""
    return int(payment["total"]) * int(merchants.need(tx, payment["merchant_id"])["max_outward_ppm"]) // PPM


def of_merchant(tx: Tx, given: JsonDict) -> JsonDict:
    """The payment named by ``transaction_id``, if it is this merchant's."""
    merchant, payment = merchants.need(tx, given.get("merchant_id")), need(tx, given.get("transaction_id"))
    if payment["merchant_id"] != merchant["id"]:
        raise SharingRefused(404, "TRANSACTION_NOT_FOUND", f"There is no {payment['id']}.")
    return payment


def need(tx: Tx, id: object) -> JsonDict:
    found = tx.find(id, "share_payment") if isinstance(id, str) else None
    if found is None:
        raise SharingRefused(404, "TRANSACTION_NOT_FOUND", f"There is no {id}.", field="transaction_id")
    return found


def shown(tx: Tx, payment: JsonDict) -> JsonDict:
    return {
        "transaction_id": payment["id"],
        "out_trade_no": payment["out_trade_no"],
        "merchant_id": payment["merchant_id"],
        "amount": {"total": payment["total"], "currency": "CNY"},
        "fee": payment["fee"],
        "profit_sharing": payment["profit_sharing"],
        "state": payment["state"],
        "paid_at": rfc3339(payment["paid_at"]),
        "refunded": payment["refunded"],
        "pay_url": f"{tx.config.base_url}/sharing/pay/{payment['id']}?token={payment['token']}",
    }


def _refund_shown(made: JsonDict) -> JsonDict:
    return {name: made[name] for name in ("out_refund_no", "amount", "fee_back", "state")} | {
        "transaction_id": made["payment"]
    }


def _replayed(tx: Tx, trade: JsonDict, given: JsonDict) -> JsonDict:
    if trade["print"] != fingerprint(given):
        raise SharingRefused(409, "NUMBER_REUSED", "This out_trade_no was used for another payment.")
    return shown(tx, need(tx, trade["payment"]))
