"""The admin API under ``/_paysim/``: fault switches, things only the outside world can do, a look inside.

Every request carries ``Authorization: Bearer <admin key>``; bodies and answers are JSON.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.paysim import accounts, adjustments, books, disputes, faults, fraud, payouts, refunds, webhooks
from services.paysim.engine import Engine
from services.paysim.sharing import funds, merchants
from services.paysim.sharing.wire import SharingRefused
from services.paysim.transaction import Tx, public
from services.paysim.wire import ApiError, JsonDict

Work = Callable[[Tx, JsonDict], Any]


class Admin:
    def __init__(self, engine: Engine, key: str) -> None:
        self._engine, self._key = engine, key

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Work]] = [
            ("GET", "/faults", lambda tx, given: tx.faults()),
            ("POST", "/faults", add_fault),
            ("DELETE", "/faults", lambda tx, given: {"removed": faults.remove(tx)}),
            ("DELETE", "/faults/{id}", lambda tx, given: {"removed": faults.remove(tx, int(given["id"]))}),
            (
                "POST",
                "/webhooks/release",
                lambda tx, given: {"released": webhooks.release(tx, event=given.get("event"))},
            ),
            (
                "POST",
                "/webhooks/redeliver",
                lambda tx, given: {"queued": webhooks.redeliver(tx, given["event"])},
            ),
            ("GET", "/deliveries", deliveries),
            ("POST", "/disputes", open_dispute),
            ("POST", "/disputes/{id}/close", close_dispute),
            (
                "POST",
                "/disputes/{id}/escalate",
                lambda tx, given: public(disputes.escalate(tx, tx.need("dispute", given["id"]))),
            ),
            ("POST", "/early_fraud_warnings", warn_of_fraud),
            ("POST", "/payouts/automatic", pay_out_automatically),
            (
                "POST",
                "/balance_transactions",
                lambda tx, given: public(adjustments.inject(tx, given)),
            ),
            (
                "POST",
                "/payouts/{id}/fail",
                lambda tx, given: public(
                    payouts.fail(tx, given["id"], given.get("code", "could_not_process"))
                ),
            ),
            (
                "POST",
                "/refunds/{id}/fail",
                lambda tx, given: public(
                    refunds.fail(tx, given["id"], given.get("code", "lost_or_stolen_card"))
                ),
            ),
            ("POST", "/refunds/{id}/succeed", lambda tx, given: public(refunds.succeed(tx, given["id"]))),
            ("POST", "/accounts/{id}", restrict_account),
            ("POST", "/fx", set_fx),
            ("POST", "/sharing/merchants/{id}", merchants.allow),
            ("GET", "/books", report),
            ("GET", "/state", state),
        ]
        return [Route(f"/_paysim{path}", self._endpoint(work), methods=[verb]) for verb, path, work in table]

    def _endpoint(self, work: Work) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                self._authenticate(request)
                given = await _given(request)
                result = await self._engine.run(lambda tx: work(tx, given))
            except ApiError as refused:
                return _json(refused.body(), refused.status)
            except SharingRefused as refused:
                return _json(refused.body(), refused.status)
            except KeyError as missing:
                return _json(ApiError(400, f"Missing: {missing.args[0]}").body(), 400)
            return _json(result, 200)

        return answer

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            raise ApiError(401, "The admin key is missing or wrong.")


def add_fault(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"kind", "count"?: n, "once"?: true, "match"?: {…}, "options"?: {…}}``"""
    count = 1 if given.get("once") else given.get("count")
    return faults.add(
        tx, given["kind"], count=count, match=given.get("match") or {}, options=given.get("options") or {}
    )


def open_dispute(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"charge": id of a charge or intent, "amount"?, "reason"?, "inquiry"?, "lapses"?, "fee"?}``"""
    opened = disputes.open_dispute(
        tx,
        _charge(tx, given["charge"]),
        reason=given.get("reason") or "fraudulent",
        amount_minor=given.get("amount"),
        inquiry=bool(given.get("inquiry")),
        lapses=bool(given.get("lapses")),
        fee_minor=given.get("fee"),
    )
    return public(opened)


def warn_of_fraud(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"charge": id of a charge or intent, "fraud_type"?}``"""
    return public(fraud.warn(tx, _charge(tx, given["charge"]), given.get("fraud_type") or "misc"))


def pay_out_automatically(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"currency"?, "account"?}``: everything available, as the provider's own schedule does it."""
    owner = given.get("account") or tx.platform
    return public(payouts.automatic(tx, owner, str(given.get("currency") or "usd").lower()))


def _charge(tx: Tx, id: str) -> JsonDict:
    if id.startswith("pi_"):
        id = tx.need("payment_intent", id)["latest_charge"] or ""
    return tx.need("charge", id)


def close_dispute(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"status": "won" | "lost", "fee_back"?: true}``"""
    if given["status"] not in {"won", "lost"}:
        raise ApiError(400, "status must be won or lost", param="status")
    dispute = tx.need("dispute", given["id"])
    won, fee_back = given["status"] == "won", bool(given.get("fee_back"))
    return public(disputes.close_dispute(tx, dispute, won=won, fee_back=fee_back))


def restrict_account(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"transfers"?: "active" | "inactive" | "pending", "payouts_enabled"?: bool}``"""
    found = accounts.restrict(
        tx, given["id"], transfers=given.get("transfers"), payouts_enabled=given.get("payouts_enabled")
    )
    return public(found)


def set_fx(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"eur": {"to": "usd", "rate": "1.08"}}``: charges in eur settle in usd from now on; ``{}`` stops it."""
    for rule in given.values():
        if not isinstance(rule, dict) or not isinstance(rule.get("rate"), str) or "to" not in rule:
            raise ApiError(400, "each rule is {to: currency, rate: decimal string}")
    tx.set("fx", given)
    return given


def report(tx: Tx, given: JsonDict) -> JsonDict:
    """Both rails: the trial balance, and the sharing rail's frozen money against its payments."""
    found, unexplained = books.report(tx), funds.report(tx)
    balanced = found["balanced"] and not unexplained
    return {**found, "balanced": balanced, "unexplained_frozen": unexplained}


def deliveries(tx: Tx, given: JsonDict) -> list[JsonDict]:
    """Newest first; ``?event=`` and ``?state=`` narrow it, at most 500."""
    rows = tx.db.execute(
        "SELECT d.id, d.event, o.f1, d.url, d.state, d.attempts, d.due_at, d.last_answer FROM delivery d "
        "JOIN object o ON o.id = d.event WHERE (?1 IS NULL OR d.event = ?1) AND (?2 IS NULL OR d.state = ?2) "
        "ORDER BY d.id DESC LIMIT 500",
        (given.get("event"), given.get("state")),
    )
    names = ("id", "event", "type", "url", "state", "attempts", "due_at", "last_answer")
    return [dict(zip(names, row, strict=True)) for row in rows]


def state(tx: Tx, given: JsonDict) -> JsonDict:
    """Counts of everything, balances by holder, the clock."""

    def count(sql: str) -> dict[str, int]:
        return dict(tx.db.execute(sql).fetchall())

    holders = [
        row[0]
        for row in tx.db.execute("SELECT DISTINCT account FROM object WHERE kind = 'balance_transaction'")
    ]
    return {
        "now": tx.now,
        "platform": tx.platform,
        "objects": count("SELECT kind, count(*) FROM object GROUP BY kind"),
        "intents": count(
            "SELECT CAST(doc AS TEXT) ->> '$.status', count(*) FROM object WHERE kind = 'payment_intent' "
            "GROUP BY 1"
        ),
        "deliveries": count("SELECT state, count(*) FROM delivery GROUP BY state"),
        "idempotency_keys": tx.db.execute("SELECT count(*) FROM idempotency").fetchone()[0],
        "balances": {holder: books.balances(tx, holder) for holder in holders},
        "faults": tx.faults(),
    }


async def _given(request: Request) -> JsonDict:
    body = await request.body()
    try:
        given = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ApiError(400, "The body is a JSON object.")
    return {**request.query_params, **given, **request.path_params}


def _json(value: Any, status: int) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
