"""Early fraud warnings: the card network suspects a payment before its holder complains. Nothing moves."""

from __future__ import annotations

from services.paysim.events import emit
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict

KIND = "radar.early_fraud_warning"
TYPES = frozenset(
    [
        "card_never_received",
        "fraudulent_card_application",
        "made_with_counterfeit_card",
        "made_with_lost_card",
        "made_with_stolen_card",
        "misc",
        "unauthorized_use_of_card",
    ]
)


def warn(tx: Tx, charge: JsonDict, fraud_type: str = "misc") -> JsonDict:
    if fraud_type not in TYPES:
        raise ApiError(400, f"fraud_type must be one of {', '.join(sorted(TYPES))}", param="fraud_type")
    warning: JsonDict = {
        "id": new_id("issfr"),
        "object": KIND,
        "actionable": not charge["refunded"] and not charge["disputed"],
        "charge": charge["id"],
        "created": tx.now,
        "fraud_type": fraud_type,
        "livemode": False,
        "payment_intent": charge["payment_intent"],
    }
    tx.insert(warning)
    emit(tx, "radar.early_fraud_warning.created", warning)
    return warning


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need(KIND, id)


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    filters = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    return tx.page(KIND, params, **filters)
