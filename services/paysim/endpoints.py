"""Webhook endpoints made through the API, beside the one paysim was started with."""

from __future__ import annotations

from services.paysim.metadata import merged
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import API_VERSION, ApiError, JsonDict


def create(tx: Tx, params: JsonDict) -> JsonDict:
    _refuse_other_schemes(params["url"])
    secret = new_id("whsec", 32)
    endpoint: JsonDict = {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": params.get("api_version", API_VERSION),
        "application": None,
        "created": tx.now,
        "description": params.get("description"),
        "enabled_events": params["enabled_events"],
        "livemode": False,
        "metadata": merged({}, params.get("metadata")),
        "status": "enabled",
        "url": params["url"],
        "_secret": secret,
        "_connect": params.get("connect", False),
    }
    tx.insert(endpoint)
    return {**endpoint, "secret": secret}


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("webhook_endpoint", id)


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    return tx.page("webhook_endpoint", params)


def update(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    endpoint = tx.need("webhook_endpoint", id)
    if "url" in params:
        _refuse_other_schemes(params["url"])
    for name in ("url", "enabled_events", "description"):
        if name in params:
            endpoint[name] = params[name]
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    endpoint["metadata"] = merged(endpoint["metadata"], params.get("metadata"))
    return tx.put(endpoint)


def delete(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    tx.need("webhook_endpoint", id)
    tx.db.execute("DELETE FROM object WHERE id = ?", (id,))
    return {"id": id, "object": "webhook_endpoint", "deleted": True}


def _refuse_other_schemes(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        message = "Invalid URL: An explicit scheme (such as https) must be provided."
        raise ApiError(400, message, code="url_invalid", param="url")
