"""Who is paid on the sharing rail: merchants, and the receivers each merchant has named beforehand."""

from __future__ import annotations

from services.paysim.sharing import funds
from services.paysim.sharing.wire import SharingRefused, invalid, number, only, words
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import JsonDict

RELATIONS = frozenset(["SUPPLIER", "DISTRIBUTOR", "PARTNER", "PLATFORM", "PROMOTER", "STORE"])
KINDS = frozenset(["MERCHANT", "INDIVIDUAL"])


def register(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"out_merchant_no", "name"}``: the same number again is the same merchant."""
    only(given, "out_merchant_no", "name")
    key, name = f"share_merchant:{number(given, 'out_merchant_no')}", words(given, "name")
    if known := tx.setting(key):
        return shown(need(tx, known))
    merchant: JsonDict = {
        "id": new_id("mch", 16),
        "object": "share_merchant",
        "created": tx.now,
        "name": name,
        "max_outward_ppm": funds.CAP_PPM,
    }
    tx.insert(merchant, account=tx.platform)
    tx.set(key, merchant["id"])
    return shown(merchant)


def platform(tx: Tx, given: JsonDict) -> JsonDict:
    """The platform's own merchant account: a receiver like others, never the payee of shared payments."""
    known = tx.setting("share_platform")
    if known is None:
        merchant = register(tx, {"out_merchant_no": "platform", "name": "platform"})
        known = merchant["merchant_id"]
        tx.set("share_platform", known)
    return shown(need(tx, known))


def allow(tx: Tx, given: JsonDict) -> JsonDict:
    """Another cap for one merchant (admin only)."""
    merchant = need(tx, given["id"])
    ppm = given["max_outward_ppm"]
    if not isinstance(ppm, int) or not 0 <= ppm <= 1_000_000:
        raise invalid("max_outward_ppm", "0 to 1000000")
    merchant["max_outward_ppm"] = ppm
    tx.put(merchant)
    return shown(merchant)


def retrieve(tx: Tx, given: JsonDict) -> JsonDict:
    return shown(need(tx, given["id"]))


def need(tx: Tx, id: object) -> JsonDict:
    found = tx.find(id, "share_merchant") if isinstance(id, str) else None
    if found is None:
        raise SharingRefused(404, "MERCHANT_NOT_FOUND", f"There is no merchant {id}.", field="merchant_id")
    return found


def shown(merchant: JsonDict) -> JsonDict:
    return {
        "merchant_id": merchant["id"],
        "name": merchant["name"],
        "max_outward_ppm": merchant["max_outward_ppm"],
        "max_receivers": funds.MAX_RECEIVERS,
        "max_requests": funds.MAX_REQUESTS,
        "freeze_days": funds.FREEZE_DAYS,
        "return_days": funds.RETURN_DAYS,
        "state": "ACTIVE",
    }


def add_receiver(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"merchant_id", "type", "account", "name"?, "relation"}``. Adding twice is adding once."""
    only(given, "merchant_id", "type", "account", "name", "relation")
    merchant, kind, account = (
        need(tx, given.get("merchant_id")),
        receiver_kind(given),
        words(given, "account"),
    )
    if given.get("relation") not in RELATIONS:
        raise invalid("relation", ", ".join(sorted(RELATIONS)))
    if kind == "MERCHANT":
        need_receiver_merchant(tx, account)
    if kind == "MERCHANT" and account == merchant["id"]:
        raise SharingRefused(400, "RECEIVER_IS_PAYEE", "A merchant does not share with itself.")
    receiver: JsonDict = {
        "id": _id(merchant["id"], kind, account),
        "object": "share_receiver",
        "created": tx.now,
        "relation": given["relation"],
        "name": words(given, "name", needed=False),
    }
    if tx.find(receiver["id"]) is None:
        tx.insert(receiver, account=tx.platform)
    return {"merchant_id": merchant["id"], "type": kind, "account": account, "relation": given["relation"]}


def remove_receiver(tx: Tx, given: JsonDict) -> JsonDict:
    only(given, "merchant_id", "type", "account")
    merchant, kind, account = (
        need(tx, given.get("merchant_id")),
        receiver_kind(given),
        words(given, "account"),
    )
    tx.db.execute("DELETE FROM object WHERE id = ?", (_id(merchant["id"], kind, account),))
    return {"merchant_id": merchant["id"], "type": kind, "account": account}


def receiver_kind(given: JsonDict) -> str:
    kind = given.get("type")
    if kind not in KINDS:
        raise invalid("type", "MERCHANT or INDIVIDUAL")
    return str(kind)


def need_receiver_merchant(tx: Tx, account: str) -> None:
    if tx.find(account, "share_merchant") is None:
        raise SharingRefused(400, "RECEIVER_NOT_FOUND", f"There is no merchant {account}.", account=account)


def is_added(tx: Tx, merchant: str, kind: str, account: str) -> bool:
    return tx.find(_id(merchant, kind, account), "share_receiver") is not None


def _id(merchant: str, kind: str, account: str) -> str:
    return f"shr:{merchant}:{kind}:{account}"
