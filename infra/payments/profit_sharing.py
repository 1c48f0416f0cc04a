"""The sharing rail over HTTP, as paysim serves it under ``/sharing/v1``.

Every request is signed (HMAC-SHA256 over verb, path, time, nonce and body); every call is safe to repeat because
it carries its own number, so a lost answer is simply asked for again.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from core.clock import Clock
from infra.payments.errors import (
    IdempotencyMismatch,
    PaymentDeclined,
    ProviderRefused,
    ProviderUnavailable,
    WebhookRejected,
)
from infra.payments.gateway import WEBHOOK_TOLERANCE_S, Capabilities
from infra.payments.sharing import (
    BillRow,
    LeftToShare,
    Receiver,
    ReceiverKind,
    Relation,
    SharedPayment,
    ShareLine,
    ShareOrder,
    ShareResult,
    ShareReturn,
    ShareState,
    ShareTo,
    SharingMerchant,
    SharingNotice,
    SharingRefund,
)

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 20.0
SCHEME = "SHARING-HMAC-SHA256"

CAPABILITIES = Capabilities(
    name="profit_sharing",
    pools_funds=False,
    claws_back_from_individuals=False,
    claws_back_from_businesses=True,
    transfers_before_funds=False,
    asynchronous_transfers=True,
    max_receivers=50,
    max_outward_ppm=300_000,
    freeze_days=180,
    idempotency_hours=180 * 24,
    max_requests=50,
    clawback_days=180,
    currencies=frozenset({"CNY"}),
)


class ProfitSharing:
    """``base`` is the rail's address. Close it when done."""

    def __init__(
        self,
        *,
        base: str,
        key: str,
        clock: Clock,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        timeout = httpx.Timeout(answer_timeout_s, connect=CONNECT_TIMEOUT_S)
        self._http = httpx.AsyncClient(base_url=base, timeout=timeout, trust_env=False, transport=transport)
        self._key, self._clock = key, clock

    def capabilities(self) -> Capabilities:
        """Of any merchant. One that was allowed another cap says so in ``retrieve_merchant``."""
        return CAPABILITIES

    async def close(self) -> None:
        await self._http.aclose()

    async def register_merchant(self, *, party_ref: str, name: str) -> SharingMerchant:
        return _merchant(await self._post("/merchants", {"out_merchant_no": party_ref, "name": name}))

    async def retrieve_merchant(self, merchant_id: str) -> SharingMerchant:
        return _merchant(await self._get(f"/merchants/{quote(merchant_id, safe='')}"))

    async def platform_merchant(self) -> SharingMerchant:
        return _merchant(await self._get("/platform"))

    async def pay(
        self,
        *,
        merchant_id: str,
        trade_no: str,
        amount_minor: int,
        currency: str,
        description: str,
        notify_url: str | None = None,
        payer: str | None = None,
    ) -> SharedPayment:
        body: dict[str, Any] = {
            "merchant_id": merchant_id,
            "out_trade_no": trade_no,
            "amount": {"total": amount_minor, "currency": currency},
            "description": description,
            "profit_sharing": True,
        }
        if notify_url:
            body["notify_url"] = notify_url
        if payer:
            body["payer"] = {"openid": payer}
        return _payment(await self._post("/transactions", body, key=trade_no))

    async def retrieve_payment(self, *, merchant_id: str, trade_no: str) -> SharedPayment:
        path = f"/transactions/{quote(trade_no, safe='')}"
        return _payment(await self._get(path, merchant_id=merchant_id))

    async def add_receiver(
        self, *, merchant_id: str, receiver: Receiver, relation: Relation, name: str = ""
    ) -> None:
        body = {"merchant_id": merchant_id, "type": receiver.kind, "account": receiver.account}
        await self._post("/receivers", {**body, "relation": relation, "name": name})

    async def share(
        self, *, merchant_id: str, payment_id: str, order_no: str, receivers: Sequence[ShareTo], finish: bool
    ) -> ShareOrder:
        named = [
            {
                "type": each.receiver.kind,
                "account": each.receiver.account,
                "amount": each.amount_minor,
                "description": each.description,
            }
            for each in receivers
        ]
        body = {"merchant_id": merchant_id, "transaction_id": payment_id, "out_order_no": order_no}
        return _order(
            await self._post("/orders", {**body, "receivers": named, "finish": finish}, key=order_no)
        )

    async def retrieve_share(self, *, merchant_id: str, payment_id: str, order_no: str) -> ShareOrder | None:
        path = f"/orders/{quote(order_no, safe='')}"
        found = await self._find(path, "ORDER_NOT_FOUND", merchant_id=merchant_id, transaction_id=payment_id)
        return None if found is None else _order(found)

    async def finish(self, *, merchant_id: str, payment_id: str, order_no: str) -> ShareOrder:
        body = {"merchant_id": merchant_id, "transaction_id": payment_id, "out_order_no": order_no}
        return _order(await self._post("/orders/finish", body, key=order_no))

    async def left_to_share(self, *, merchant_id: str, payment_id: str) -> LeftToShare:
        row = await self._get(f"/amounts/{quote(payment_id, safe='')}", merchant_id=merchant_id)
        return LeftToShare(
            row["unsplit_amount"], row["outward_allowed"], row["outward_used"], _when(row["unfrozen_at"])
        )

    async def take_back(
        self,
        *,
        merchant_id: str,
        payment_id: str,
        order_no: str,
        return_no: str,
        account: str,
        amount_minor: int,
    ) -> ShareReturn:
        body = {
            "merchant_id": merchant_id,
            "transaction_id": payment_id,
            "out_order_no": order_no,
            "out_return_no": return_no,
            "account": account,
            "amount": amount_minor,
        }
        return _return(await self._post("/returns", body, key=return_no))

    async def retrieve_return(self, *, merchant_id: str, return_no: str) -> ShareReturn | None:
        path = f"/returns/{quote(return_no, safe='')}"
        found = await self._find(path, "RETURN_NOT_FOUND", merchant_id=merchant_id)
        return None if found is None else _return(found)

    async def refund(
        self,
        *,
        merchant_id: str,
        payment_id: str,
        refund_no: str,
        amount_minor: int,
        from_available_minor: int = 0,
    ) -> SharingRefund:
        body: dict[str, Any] = {
            "merchant_id": merchant_id,
            "transaction_id": payment_id,
            "out_refund_no": refund_no,
            "amount": amount_minor,
        }
        if from_available_minor:
            body["from_available"] = from_available_minor
        return _refund(await self._post("/refunds", body, key=refund_no))

    async def retrieve_refund(self, *, merchant_id: str, refund_no: str) -> SharingRefund | None:
        path = f"/refunds/{quote(refund_no, safe='')}"
        found = await self._find(path, "REFUND_NOT_FOUND", merchant_id=merchant_id)
        return None if found is None else _refund(found)

    async def bill(self, day: date) -> list[BillRow]:
        announced = await self._get(f"/bills/{day.isoformat()}")
        content = await self._send("GET", f"/sharing/v1/bills/{day.isoformat()}/file", b"")
        if hashlib.sha256(content).hexdigest() != announced["hash"]:
            raise ProviderUnavailable("the bill is not the one announced", outcome_unknown=False)
        return [_bill_row(row) for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]

    def verify_notice(
        self,
        raw: bytes,
        headers: Mapping[str, str],
        *,
        clock: Clock,
        tolerance_s: int = WEBHOOK_TOLERANCE_S,
    ) -> SharingNotice:
        given = {name.lower(): value for name, value in headers.items()}
        stamp, nonce = given.get("sharing-timestamp", ""), given.get("sharing-nonce", "")
        try:
            expected = _signature(self._key, stamp, nonce, raw.decode())
            if not hmac.compare_digest(expected, given.get("sharing-signature", "")):
                raise WebhookRejected("not signed by the rail")
            if abs(clock.now().timestamp() - int(stamp)) > tolerance_s:
                raise WebhookRejected(f"signed more than {tolerance_s} s away from now")
            notice = json.loads(raw)
            inside = notice["resource"]
            numbers = ("out_order_no", "out_return_no", "out_refund_no", "out_trade_no")
            return SharingNotice(
                id=notice["id"],
                type=notice["type"],
                merchant_id=inside.get("merchant_id"),
                payment_id=inside.get("transaction_id"),
                number=next((inside[name] for name in numbers if name in inside), None),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WebhookRejected(f"not a notice of the rail: {type(error).__name__}") from error

    async def _post(self, path: str, body: Mapping[str, Any], *, key: str = "") -> dict[str, Any]:
        content = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        answer: dict[str, Any] = json.loads(await self._send("POST", f"/sharing/v1{path}", content, key=key))
        return answer

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        target = f"/sharing/v1{path}" + (f"?{urlencode(query)}" if query else "")
        answer: dict[str, Any] = json.loads(await self._send("GET", target, b""))
        return answer

    async def _find(self, path: str, absent: str, **query: str) -> dict[str, Any] | None:
        try:
            return await self._get(path, **query)
        except ProviderRefused as refused:
            if refused.provider_code == absent:
                return None
            raise

    async def _send(self, verb: str, target: str, content: bytes, *, key: str = "") -> bytes:
        stamp, nonce = str(int(self._clock.now().timestamp())), secrets.token_hex(8)
        # Signed as it goes over the wire: the client re-encodes nothing.
        mac = _signature(self._key, verb, target, stamp, nonce, content.decode())
        headers = {
            "authorization": f"{SCHEME} timestamp={stamp},nonce={nonce},signature={mac}",
            "content-type": "application/json",
        }
        try:
            answer = await self._http.request(verb, target, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise ProviderUnavailable(f"no answer: {type(error).__name__}") from error
        if answer.is_success:
            return answer.content
        raise _translated(answer, key)


def _signature(key: str, *parts: str) -> str:
    return hmac.new(key.encode(), "".join(f"{part}\n" for part in parts).encode(), hashlib.sha256).hexdigest()


def _translated(answer: httpx.Response, key: str) -> Exception:
    try:
        said = answer.json()
    except ValueError:
        said = {}
    code, message = said.get("code"), said.get("message") or f"HTTP {answer.status_code}"
    if answer.status_code == 429:
        return ProviderUnavailable(message, outcome_unknown=False, http_status=429)
    if answer.status_code >= 500:
        return ProviderUnavailable(message, http_status=answer.status_code)
    if code == "NUMBER_REUSED":
        return IdempotencyMismatch(message, key=key)
    if code == "PAYER_DECLINED":
        return PaymentDeclined(message, decline_code=None)
    field = (said.get("detail") or {}).get("field")
    return ProviderRefused(message, provider_code=code, param=field, http_status=answer.status_code)


def _when(stamp: str | None) -> datetime | None:
    return datetime.fromisoformat(stamp) if stamp else None


def _merchant(row: Mapping[str, Any]) -> SharingMerchant:
    return SharingMerchant(row["merchant_id"], row["name"], row["max_outward_ppm"])


def _payment(row: Mapping[str, Any]) -> SharedPayment:
    return SharedPayment(
        id=row["transaction_id"],
        trade_no=row["out_trade_no"],
        merchant_id=row["merchant_id"],
        amount_minor=row["amount"]["total"],
        currency=row["amount"]["currency"],
        fee_minor=row["fee"],
        state=row["state"],
        paid_at=_when(row["paid_at"]),
        refunded_minor=row["refunded"],
        pay_url=row["pay_url"],
    )


def _order(row: Mapping[str, Any]) -> ShareOrder:
    lines = tuple(
        ShareLine(
            Receiver(ReceiverKind(each["type"]), each["account"]),
            each["amount"],
            ShareResult(each["result"]),
            each["detail_id"],
            each.get("fail_reason"),
        )
        for each in row["receivers"]
    )
    return ShareOrder(
        row["out_order_no"],
        row["transaction_id"],
        ShareState(row["state"]),
        row["finish"],
        _when(row["finished_at"]),
        lines,
    )


def _return(row: Mapping[str, Any]) -> ShareReturn:
    return ShareReturn(
        row["out_return_no"],
        row["out_order_no"],
        row["transaction_id"],
        row["account"],
        row["amount"],
        row["state"],
        row["fail_reason"],
    )


def _refund(row: Mapping[str, Any]) -> SharingRefund:
    return SharingRefund(
        row["out_refund_no"], row["transaction_id"], row["amount"], row["fee_back"], row["state"]
    )


def _bill_row(row: Mapping[str, str]) -> BillRow:
    kind = row["receiver_type"]
    at = _when(row["time"])
    assert at is not None
    return BillRow(
        at=at,
        merchant_id=row["merchant_id"],
        payment_id=row["transaction_id"],
        kind=row["kind"],
        number=row["number"],
        receiver=Receiver(ReceiverKind(kind), row["account"]) if kind else None,
        amount_minor=int(row["amount"]),
        result=row["result"],
        reason=row["reason"],
    )
