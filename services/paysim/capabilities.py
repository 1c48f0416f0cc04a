"""What a connected account may do: card payments, transfers. Kept on the account, shown one by one."""

from __future__ import annotations

from services.paysim.accounts import onboard
from services.paysim.accounts import retrieve as account_of
from services.paysim.events import emit
from services.paysim.transaction import Tx
from services.paysim.wire import ApiError, JsonDict

KNOWN = frozenset(["card_payments", "crypto_transfers", "legacy_payments", "transfers"])


def retrieve(tx: Tx, params: JsonDict, id: str, name: str) -> JsonDict:
    account = account_of(tx, {}, id)
    if name not in KNOWN:
        raise ApiError(404, f"No such capability: '{name}'", code="resource_missing", param="capability")
    return _shown(account, name)


def listed(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    account = account_of(tx, {}, id)
    return {
        "object": "list",
        "data": [_shown(account, name) for name in sorted(account["capabilities"])],
        "has_more": False,
    }


def update(tx: Tx, params: JsonDict, id: str, name: str) -> JsonDict:
    """Requesting starts as inactive until the account is onboarded; no longer requested is inactive again."""
    retrieve(tx, {}, id, name)
    account = account_of(tx, {}, id)
    if "requested" not in params or id == tx.platform:
        return _shown(account, name)
    held = account["capabilities"]
    if params["requested"]:
        held.setdefault(name, "inactive")
        tx.put(account)
        if account["details_submitted"]:
            account = onboard(tx, account)
    else:
        held.pop(name, None)
        tx.put(account)
        emit(tx, "account.updated", account, account=id)
    emit(tx, "capability.updated", _shown(account, name), account=id)
    return _shown(account, name)


def _shown(account: JsonDict, name: str) -> JsonDict:
    status = account["capabilities"].get(name)
    nothing_due: JsonDict = {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": [],
        "disabled_reason": None,
        "errors": [],
        "eventually_due": [],
        "past_due": [],
        "pending_verification": [],
    }
    due = account.get("requirements", nothing_due)
    return {
        "id": name,
        "object": "capability",
        "account": account["id"],
        "future_requirements": nothing_due,
        "requested": status is not None,
        "requested_at": account["created"] if status is not None else None,
        "requirements": due if status == "inactive" else nothing_due,
        "status": status or "unrequested",
    }
