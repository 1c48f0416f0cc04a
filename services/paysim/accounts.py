"""Connected accounts and their onboarding."""

from __future__ import annotations

import secrets

from services.paysim import books
from services.paysim.events import emit
from services.paysim.metadata import merged
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict

LINK_TTL_S = 300
CURRENCY_OF = {
    "AE": "aed", "AU": "aud", "BR": "brl", "CA": "cad", "CH": "chf", "CN": "cny", "DE": "eur", "ES": "eur",
    "FR": "eur", "GB": "gbp", "HK": "hkd", "IE": "eur", "IN": "inr", "IT": "eur", "JP": "jpy", "KR": "krw",
    "MX": "mxn", "MY": "myr", "NL": "eur", "NZ": "nzd", "SG": "sgd", "TH": "thb", "TW": "twd", "US": "usd",
    "VN": "vnd",
}  # fmt: skip
TO_COLLECT = ["external_account", "tos_acceptance.date", "tos_acceptance.ip"]


def create(tx: Tx, params: JsonDict) -> JsonDict:
    country = params.get("country", "US").upper()
    if country not in CURRENCY_OF:
        raise ApiError(
            400,
            f"Country '{country}' is unknown. Try using a 2-character alphanumeric country code instead, "
            f"such as 'US', 'EG', or 'GB'.",
            code="country_unsupported",
            param="country",
        )
    if "type" in params and "controller" in params:
        message = (
            "You may not provide the `type` parameter and `controller` parameters simultaneously. "
            "They are mutually exclusive."
        )
        raise ApiError(400, message, param="type")
    id = new_id("acct", 16)
    account: JsonDict = {
        "id": id,
        "object": "account",
        "business_profile": {
            "mcc": None,
            "name": None,
            "product_description": None,
            "support_email": None,
            "url": None,
        }
        | _simple(params.get("business_profile")),
        "business_type": params.get("business_type"),
        "capabilities": dict.fromkeys(_requested(params), "inactive"),
        "charges_enabled": False,
        "controller": _controller(params),
        "country": country,
        "created": tx.now,
        "default_currency": params.get("default_currency", CURRENCY_OF[country]),
        "details_submitted": False,
        "email": params.get("email"),
        "external_accounts": _external_accounts(id),
        "future_requirements": _requirements([]),
        "metadata": merged({}, params.get("metadata")),
        "payouts_enabled": False,
        "requirements": _requirements(TO_COLLECT),
        "settings": _settings(params.get("settings") or {}),
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None},
        "type": params.get("type", "none" if "controller" in params else "standard"),
    }
    tx.insert(account, account=tx.platform)
    if tx.config.instant_onboarding:
        onboard(tx, account)
    return account


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    if id == tx.platform or (tx.caller.account is None and id == "account"):
        return platform_account(tx)
    found = tx.find(id, "account", account=tx.platform)
    if found is None:
        raise no_access(tx, id)
    return found


def own(tx: Tx, params: JsonDict) -> JsonDict:
    return (
        platform_account(tx)
        if tx.caller.account is None
        else tx.need("account", tx.account, account=tx.platform)
    )


def update(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    account = retrieve(tx, {}, id)
    for name in ("email", "business_type", "default_currency"):
        if name in params:
            account[name] = params[name]
    account["metadata"] = merged(account["metadata"], params.get("metadata"))
    account["business_profile"].update(_simple(params.get("business_profile")))
    for capability in _requested(params):
        account["capabilities"].setdefault(capability, "inactive")
    if schedule := ((params.get("settings") or {}).get("payouts") or {}).get("schedule"):
        account["settings"]["payouts"]["schedule"].update(_schedule(schedule))
    tx.put(account)
    if account["details_submitted"]:
        return onboard(tx, account)
    emit(tx, "account.updated", account, account=id)
    return account


def delete(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    """Only an account that holds nothing."""
    account = retrieve(tx, {}, id)
    if id == tx.platform:
        raise ApiError(400, "You cannot delete your own account through the API.", param="account")
    if any(any(held.values()) for held in books.balances(tx, id).values()):
        raise ApiError(400, f"Account {id} cannot be deleted: its balance is not zero.", param="account")
    tx.db.execute("DELETE FROM object WHERE id = ?", (account["id"],))
    return {"id": id, "object": "account", "deleted": True}


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    return tx.page("account", params, account=tx.platform)


def link(tx: Tx, params: JsonDict) -> JsonDict:
    account = retrieve(tx, {}, params["account"])
    for needed in ("refresh_url", "return_url"):
        if needed not in params:
            raise ApiError(
                400, f"Missing required param: {needed}.", code="parameter_missing", param=needed, began=False
            )
    token = secrets.token_urlsafe(18)
    expires_at = tx.now + LINK_TTL_S
    tx.set(f"link:{token}", {"account": account["id"], "expires_at": expires_at, **params})
    return {
        "object": "account_link",
        "created": tx.now,
        "expires_at": expires_at,
        "url": f"{tx.config.base_url}/onboarding/{token}",
    }


def onboard(tx: Tx, account: JsonDict) -> JsonDict:
    """Everything asked for was given: requested capabilities become active."""
    account["capabilities"] = dict.fromkeys(account["capabilities"], "active")
    account.update(
        details_submitted=True,
        payouts_enabled=True,
        charges_enabled=account["capabilities"].get("card_payments") == "active",
        requirements=_requirements([]),
        tos_acceptance={"date": tx.now, "ip": "127.0.0.1", "user_agent": None},
    )
    account["external_accounts"]["data"] = [_bank_account(tx, account)]
    tx.put(account)
    emit(tx, "account.updated", account, account=account["id"])
    return account


def restrict(tx: Tx, id: str, *, transfers: str | None, payouts_enabled: bool | None) -> JsonDict:
    """The provider changes its mind about an account (admin only)."""
    account = tx.need("account", id, account=tx.platform)
    if transfers is not None:
        account["capabilities"]["transfers"] = transfers
    if payouts_enabled is not None:
        account["payouts_enabled"] = payouts_enabled
    tx.put(account)
    emit(tx, "account.updated", account, account=id)
    return account


def no_access(tx: Tx, id: str) -> ApiError:
    key = f"{tx.caller.key[:8]}{'*' * 20}{tx.caller.key[-4:]}"
    message = (
        f"The provided key '{key}' does not have access to account '{id}' (or that account does not exist). "
        "Application access may have been revoked."
    )
    return ApiError(403, message, code="account_invalid")


def platform_account(tx: Tx) -> JsonDict:
    return {
        "id": tx.platform,
        "object": "account",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "US",
        "created": tx.setting("platform_created", 0),
        "default_currency": "usd",
        "details_submitted": True,
        "email": "platform@lianyu.test",
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


def bank_of(tx: Tx, owner: str) -> str:
    """The bank account payouts go to."""
    if owner == tx.platform:
        return f"ba_{tx.platform.removeprefix('acct_')}"
    rows = tx.need("account", owner, account=tx.platform)["external_accounts"]["data"]
    if not rows:
        message = "Sorry, you don't have any external accounts in that currency."
        raise ApiError(400, message, param="destination")
    return str(rows[0]["id"])


def _simple(profile: JsonDict | None) -> JsonDict:
    """The plain texts of a business profile; what is nested is accepted and not kept."""
    return {name: value for name, value in (profile or {}).items() if isinstance(value, str)}


def _requested(params: JsonDict) -> list[str]:
    asked = params.get("capabilities") or {}
    return [name for name, wish in asked.items() if (wish or {}).get("requested")]


def _controller(params: JsonDict) -> JsonDict:
    given = params.get("controller") or {}
    return {
        "fees": {"payer": (given.get("fees") or {}).get("payer", "account")},
        "is_controller": True,
        "losses": {"payments": (given.get("losses") or {}).get("payments", "stripe")},
        "requirement_collection": given.get("requirement_collection", "stripe"),
        "stripe_dashboard": {"type": (given.get("stripe_dashboard") or {}).get("type", "full")},
        "type": "application",
    }


def _requirements(due: list[str]) -> JsonDict:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": due,
        "disabled_reason": "requirements.past_due" if due else None,
        "errors": [],
        "eventually_due": due,
        "past_due": due,
        "pending_verification": [],
    }


def _settings(given: JsonDict) -> JsonDict:
    schedule = {"delay_days": 2, "interval": "daily"} | _schedule(
        (given.get("payouts") or {}).get("schedule") or {}
    )
    return {
        "payouts": {"debit_negative_balances": True, "schedule": schedule, "statement_descriptor": None},
        "payments": {"statement_descriptor": None},
    }


def _schedule(given: JsonDict) -> JsonDict:
    return {"interval": given["interval"]} if "interval" in given else {}


def _external_accounts(id: str) -> JsonDict:
    return {"object": "list", "data": [], "has_more": False, "url": f"/v1/accounts/{id}/external_accounts"}


def _bank_account(tx: Tx, account: JsonDict) -> JsonDict:
    known = account["external_accounts"]["data"]
    if known:
        bank: JsonDict = known[0]
        return bank
    return {
        "id": new_id("ba"),
        "object": "bank_account",
        "account": account["id"],
        "account_holder_name": None,
        "account_holder_type": "individual" if account["business_type"] == "individual" else "company",
        "account_type": None,
        "bank_name": "PAYSIM TEST BANK",
        "country": account["country"],
        "currency": account["default_currency"],
        "default_for_currency": True,
        "fingerprint": account["id"].removeprefix("acct_"),
        "last4": "6789",
        "metadata": {},
        "routing_number": "110000000",
        "status": "verified",
    }
