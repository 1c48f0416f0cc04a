"""``expand[]``: references replaced by the objects they name, at most four levels deep."""

from __future__ import annotations

from typing import Any

from services.paysim.transaction import Tx, public
from services.paysim.wire import ApiError, JsonDict

MAX_DEPTH = 4
EXPANDABLE = frozenset(
    [
        "balance_transaction",
        "charge",
        "destination",
        "destination_payment",
        "failure_balance_transaction",
        "latest_charge",
        "payment_intent",
        "payment_method",
        "source",
        "source_transaction",
        "source_transfer",
        "transfer",
    ]
)


def expanded(tx: Tx, answer: JsonDict, paths: list[str]) -> JsonDict:
    """``answer`` with each path filled in. Raises 400 for a property that cannot be expanded."""
    for path in paths:
        steps = path.split(".")
        if len(steps) > MAX_DEPTH:
            message = f"You cannot expand more than {MAX_DEPTH} levels of a property."
            raise ApiError(400, message, param="expand", began=False)
        _fill(tx, answer, steps, path)
    return answer


def _fill(tx: Tx, node: JsonDict, steps: list[str], path: str) -> None:
    step, *rest = steps
    if step == "data" and node.get("object") == "list":
        for row in node["data"] if rest else ():
            _fill(tx, row, rest, path)
        return
    if step == "refunds" and node.get("object") == "charge":
        node["refunds"] = _refunds(tx, node["id"])
    elif step not in EXPANDABLE and not isinstance(node.get(step), dict):
        message = f"This property cannot be expanded ({path})."
        if node.get("object") == "list":
            message += f" You may want to try expanding 'data.{path}' instead."
        raise ApiError(400, message, param="expand", began=False)
    node[step] = _resolved(tx, node.get(step))
    if rest and isinstance(node[step], dict):
        _fill(tx, node[step], rest, path)


def _resolved(tx: Tx, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = tx.find(value)
    return value if found is None else public(found)


def _refunds(tx: Tx, charge: str) -> JsonDict:
    page = tx.page("refund", {}, account=tx.owner(charge), charge=charge)
    return {**page, "data": [public(row) for row in page["data"]], "url": f"/v1/charges/{charge}/refunds"}
