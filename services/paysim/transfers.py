"""Transfers from the platform to connected accounts, and their reversals."""

from __future__ import annotations

from services.paysim import books
from services.paysim.events import emit
from services.paysim.faults import fire
from services.paysim.metadata import merged
from services.paysim.movements import record
from services.paysim.tariff import shown
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict, no_such

SHORT_OF_FUNDS = (
    "You have insufficient available funds in your Stripe account. Try adding funds directly to your "
    "available balance "
    "by creating Charges using the 4000000000000077 test card."
)


def create(tx: Tx, params: JsonDict) -> JsonDict:
    source = _source(tx, params)
    if "amount" not in params and source is None:
        raise ApiError(
            400, "Missing required param: amount.", code="parameter_missing", param="amount", began=False
        )
    amount_minor: int = (params if "amount" in params else source or {})["amount"]
    currency, destination = params["currency"], _destination(tx, params["destination"])
    if (
        fire(tx, "transfer_refusal", amount=amount_minor, currency=currency, account=destination["id"])
        is not None
    ):
        raise _short()
    if source is not None:
        _refuse_beyond_source(tx, source, amount_minor, currency)
    elif books.balance(tx, tx.account, "available", currency) < amount_minor:
        raise _short()
    id = new_id("tr")
    ready_at = _source_ready_at(tx, source)
    transfer: JsonDict = {
        "id": id,
        "object": "transfer",
        "amount": amount_minor,
        "amount_reversed": 0,
        "balance_transaction": None,
        "created": tx.now,
        "currency": currency,
        "description": params.get("description"),
        "destination": destination["id"],
        "destination_payment": new_id("py"),
        "livemode": False,
        "metadata": merged({}, params.get("metadata")),
        "reversals": {
            "object": "list",
            "data": [],
            "has_more": False,
            "url": f"/v1/transfers/{id}/reversals",
        },
        "reversed": False,
        "source_transaction": source["id"] if source else None,
        "source_type": params.get("source_type", "card"),
        "transfer_group": _group(tx, source, params),
    }
    transfer["balance_transaction"] = record(
        tx,
        owner=tx.account,
        type="transfer",
        category="transfer",
        amount_minor=-amount_minor,
        currency=currency,
        source=id,
        against=[(books.CLEARING, currency, amount_minor)],
        ready_at=ready_at,
        description=params.get("description"),
    )["id"]
    tx.insert(transfer)
    _receive(tx, transfer, ready_at)
    emit(tx, "transfer.created", transfer)
    return transfer


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("transfer", id)


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    filters = {name: params[name] for name in ("transfer_group", "destination") if name in params}
    return tx.page("transfer", params, **filters)


def update(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    transfer = tx.need("transfer", id)
    transfer["metadata"] = merged(transfer["metadata"], params.get("metadata"))
    transfer["description"] = params.get("description", transfer["description"])
    tx.put(transfer)
    emit(tx, "transfer.updated", transfer)
    return transfer


def reverse(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    transfer = tx.need("transfer", id)
    left = transfer["amount"] - transfer["amount_reversed"]
    if left == 0:
        raise ApiError(400, f"Transfer {id} is already fully reversed.", param="id")
    amount_minor = params.get("amount", left)
    currency = transfer["currency"]
    if amount_minor > left:
        wanted, most = shown(amount_minor, currency), shown(left, currency)
        message = (
            f"Transfer reversal amount ({wanted}) is greater than unreversed amount on transfer ({most})"
        )
        raise ApiError(400, message, param="amount")
    facts = {"amount": amount_minor, "currency": currency, "account": transfer["destination"]}
    refused = fire(tx, "reversal_refusal", **facts) is not None
    payment = tx.need("charge", transfer["destination_payment"], account=transfer["destination"])
    received = tx.need("balance_transaction", payment["balance_transaction"], account=transfer["destination"])
    held = books.balance(tx, transfer["destination"], received["status"], currency)
    if refused or held < amount_minor:
        message = (
            f"The connected account {transfer['destination']} does not have sufficient funds to reverse "
            f"{shown(amount_minor, currency)} of this transfer."
        )
        raise ApiError(400, message, code="balance_insufficient")
    reversal: JsonDict = {
        "id": new_id("trr"),
        "object": "transfer_reversal",
        "amount": amount_minor,
        "balance_transaction": None,
        "created": tx.now,
        "currency": currency,
        "destination_payment_refund": new_id("pyr"),
        "metadata": merged({}, params.get("metadata")),
        "source_refund": None,
        "transfer": id,
    }
    _give_back(tx, transfer, reversal, payment, ready_at=received["available_on"])
    tx.insert(reversal)
    transfer["amount_reversed"] += amount_minor
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    transfer["reversals"]["data"] = [reversal, *transfer["reversals"]["data"]][:10]
    tx.put(transfer)
    emit(tx, "transfer.reversed", transfer)
    return reversal


def reversals(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    tx.need("transfer", id)
    return tx.page("transfer_reversal", params, transfer=id)


def reversal(tx: Tx, params: JsonDict, id: str, reversal_id: str) -> JsonDict:
    found = tx.need("transfer_reversal", reversal_id)
    if found["transfer"] != id:
        raise no_such("transfer_reversal", reversal_id)
    return found


def _source(tx: Tx, params: JsonDict) -> JsonDict | None:
    if "source_transaction" not in params:
        return None
    source = tx.need("charge", params["source_transaction"], param="source_transaction")
    if source["status"] != "succeeded" or not source["captured"]:
        message = (
            f"The charge {source['id']} cannot be used as a source_transaction: it has not been captured."
        )
        raise ApiError(400, message, param="source_transaction")
    return source


def _destination(tx: Tx, id: str) -> JsonDict:
    destination = tx.find(id, "account", account=tx.platform)
    if destination is None:
        raise ApiError(400, f"No such destination: '{id}'", code="resource_missing", param="destination")
    if destination["capabilities"].get("transfers") != "active":
        message = (
            "Your destination account needs to have at least one of the following capabilities enabled: "
            "transfers, "
            "crypto_transfers, legacy_payments"
        )
        raise ApiError(400, message, code="insufficient_capabilities_for_transfer")
    return destination


def _refuse_beyond_source(tx: Tx, source: JsonDict, amount_minor: int, currency: str) -> None:
    """All transfers of one charge together never exceed it; reversed ones still count, as at Stripe."""
    settled = tx.need("balance_transaction", source["balance_transaction"])
    if settled["currency"] != currency:
        message = (
            f"The currency of source_transaction's balance transaction ({settled['currency']}) must be the "
            f"same as "
            f"the transfer currency ({currency})"
        )
        raise ApiError(400, message, param="currency")
    earlier = tx.all("transfer", source_transaction=source["id"])
    used = sum(transfer["amount"] for transfer in earlier)
    if used + amount_minor > settled["amount"]:
        plural = "s" if len(earlier) != 1 else ""
        message = (
            f"Transfers using this transaction as a source must not exceed the source amount of "
            f"{shown(settled['amount'], currency)}. (There {'are' if plural else 'is'} already "
            f"{len(earlier)} "
            f"transfer{plural} using this source, amounting to a total of {shown(used, currency)}.)"
        )
        raise ApiError(400, message, code="balance_insufficient", param="amount")


def _source_ready_at(tx: Tx, source: JsonDict | None) -> int:
    if source is None:
        return tx.now
    return int(tx.need("balance_transaction", source["balance_transaction"])["available_on"])


def _group(tx: Tx, source: JsonDict | None, params: JsonDict) -> str | None:
    asked: str | None = params.get("transfer_group")
    if source is None:
        return asked
    known: str | None = source["transfer_group"]
    if known and asked and known != asked:
        message = (
            f"The transfer_group of the source_transaction ({known}) does not match the one given ({asked})."
        )
        raise ApiError(400, message, param="transfer_group")
    group = known or asked or f"group_{source['payment_intent']}"
    if known is None:
        source["transfer_group"] = group
        tx.put(source)
    return group


def _receive(tx: Tx, transfer: JsonDict, ready_at: int) -> None:
    """The connected account's side: a payment in its own list."""
    owner, amount, currency = transfer["destination"], transfer["amount"], transfer["currency"]
    transaction = record(
        tx,
        owner=owner,
        type="payment",
        category="charge",
        amount_minor=amount,
        currency=currency,
        source=transfer["destination_payment"],
        against=[(books.CLEARING, currency, -amount)],
        ready_at=ready_at,
    )
    payment: JsonDict = {
        "id": transfer["destination_payment"],
        "object": "charge",
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": 0,
        "balance_transaction": transaction["id"],
        "billing_details": {},
        "captured": True,
        "created": tx.now,
        "currency": currency,
        "customer": None,
        "description": None,
        "disputed": False,
        "livemode": False,
        "metadata": {},
        "paid": True,
        "payment_intent": None,
        "payment_method": None,
        "refunded": False,
        "source": {"id": tx.platform, "object": "account"},
        "source_transfer": transfer["id"],
        "status": "succeeded",
        "transfer_group": None,
    }
    tx.insert(payment, account=owner)


def _give_back(tx: Tx, transfer: JsonDict, reversal: JsonDict, payment: JsonDict, *, ready_at: int) -> None:
    amount, currency, owner = reversal["amount"], reversal["currency"], transfer["destination"]
    record(
        tx,
        owner=owner,
        type="payment_refund",
        category="refund",
        amount_minor=-amount,
        currency=currency,
        source=reversal["destination_payment_refund"],
        against=[(books.CLEARING, currency, amount)],
        ready_at=ready_at,
    )
    payment["amount_refunded"] += amount
    payment["refunded"] = payment["amount_refunded"] == payment["amount"]
    tx.put(payment)
    reversal["balance_transaction"] = record(
        tx,
        owner=tx.account,
        type="transfer_refund",
        category="transfer_reversal",
        amount_minor=amount,
        currency=currency,
        source=reversal["id"],
        against=[(books.CLEARING, currency, -amount)],
        ready_at=ready_at,
    )["id"]


def _short() -> ApiError:
    return ApiError(400, SHORT_OF_FUNDS, code="balance_insufficient")
