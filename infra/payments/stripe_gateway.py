"""Stripe Connect (separate charges and transfers) behind the gateway port; paysim speaks the same wire.

The official client does signing, retries and typing; this file only translates. Timeouts are bounded so
that a worker never hangs on a provider, and retries re-use the caller's key, which makes them harmless.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx
import stripe

from core.clock import Clock
from infra.payments.errors import (
    IdempotencyMismatch,
    PaymentDeclined,
    ProviderRefused,
    ProviderUnavailable,
    WebhookRejected,
)
from infra.payments.gateway import (
    WEBHOOK_TOLERANCE_S,
    AccountLink,
    Balance,
    BalanceTransaction,
    Capabilities,
    Charge,
    ConnectedAccount,
    Dispute,
    Event,
    PaymentIntent,
    Payout,
    Refund,
    Transfer,
    TransferReversal,
)
from infra.payments.stripe_objects import (
    account_of,
    balance_of,
    charge_of,
    dispute_of,
    event_of,
    intent_of,
    payout_of,
    refund_of,
    reversal_of,
    transaction_of,
    transfer_of,
    when,
)

PAGE_SIZE = 100
CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 20.0

CAPABILITIES = Capabilities(
    name="stripe",
    pools_funds=True,
    claws_back_from_individuals=True,
    claws_back_from_businesses=True,
    transfers_before_funds=True,
    asynchronous_transfers=False,
    max_receivers=None,
    max_outward_ppm=None,
    freeze_days=None,
    idempotency_hours=24,
)


class StripeGateway:
    """``api_base`` is paysim's address, or None for Stripe itself; ``http`` carries the calls where it is not a
    socket of its own. Cards are told apart by digests under ``instrument_secret``, and without one not at all.
    Close it when done."""

    def __init__(
        self,
        *,
        secret_key: str,
        webhook_secret: str,
        api_base: str | None = None,
        max_network_retries: int = 2,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        http: stripe.HTTPXClient | None = None,
        instrument_secret: str = "",
    ) -> None:
        timeout = httpx.Timeout(answer_timeout_s, connect=CONNECT_TIMEOUT_S)
        self._http = http or stripe.HTTPXClient(timeout=timeout)
        self._client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": api_base} if api_base else None,
            http_client=self._http,
            max_network_retries=max_network_retries,
        )
        self._api_base, self._webhook_secret = api_base, webhook_secret
        self._instrument_secret = instrument_secret

    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def create_intent(
        self,
        *,
        order_ref: str,
        amount_minor: int,
        currency: str,
        key: str,
        transfer_group: str | None = None,
        metadata: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> PaymentIntent:
        params: dict[str, Any] = {
            "amount": amount_minor,
            "currency": currency.lower(),
            "automatic_payment_methods": {"enabled": True},
            "transfer_group": transfer_group or order_ref,
            "metadata": {**(metadata or {}), "order_ref": order_ref},
        }
        if description:
            params["description"] = description
        return intent_of(await self._send(self._client.v1.payment_intents.create_async, params, key=key))

    async def retrieve_intent(self, intent_id: str) -> PaymentIntent:
        return intent_of(await self._fetch(self._client.v1.payment_intents.retrieve_async, intent_id))

    async def confirm_intent(
        self, intent_id: str, *, payment_method: str, key: str, return_url: str | None = None
    ) -> PaymentIntent:
        params = {"payment_method": payment_method}
        if return_url:
            params["return_url"] = return_url
        return intent_of(
            await self._send(self._client.v1.payment_intents.confirm_async, intent_id, params, key=key)
        )

    async def cancel_intent(self, intent_id: str, *, key: str) -> PaymentIntent:
        return intent_of(
            await self._send(self._client.v1.payment_intents.cancel_async, intent_id, {}, key=key)
        )

    def pay_page_url(
        self, intent_id: str, client_secret: str, *, return_url: str | None = None
    ) -> str | None:
        if not self._api_base:
            return None
        query = {"client_secret": client_secret} | ({"return_url": return_url} if return_url else {})
        return f"{self._api_base}/pay/{intent_id}?{urlencode(query)}"

    async def retrieve_charge(self, charge_id: str) -> Charge:
        params = {"expand": ["balance_transaction"]}
        row = await self._fetch(self._client.v1.charges.retrieve_async, charge_id, params)
        return charge_of(row, self._instrument)

    def _instrument(self, fingerprint: str) -> str | None:
        if not self._instrument_secret:
            return None
        said = f"instrument\x1e{fingerprint}".encode()
        return hmac.digest(self._instrument_secret.encode(), said, hashlib.sha256)[:16].hex()

    async def refund(
        self,
        *,
        charge_or_intent: str,
        amount_minor: int,
        key: str,
        metadata: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> Refund:
        params = {
            **_payment_reference(charge_or_intent),
            "amount": amount_minor,
            "metadata": dict(metadata or {}),
        }
        if reason:
            params["reason"] = reason
        return refund_of(await self._send(self._client.v1.refunds.create_async, params, key=key))

    async def cancel_refund(self, refund_id: str, *, key: str) -> Refund:
        return refund_of(await self._send(self._client.v1.refunds.cancel_async, refund_id, {}, key=key))

    async def retrieve_refund(self, refund_id: str) -> Refund:
        return refund_of(await self._fetch(self._client.v1.refunds.retrieve_async, refund_id))

    async def find_refunds(self, charge_or_intent: str) -> list[Refund]:
        pages = self._pages(self._client.v1.refunds.list_async, _payment_reference(charge_or_intent))
        return [refund_of(row) async for row in pages]

    async def create_account(
        self,
        *,
        party_ref: str,
        country: str,
        key: str,
        email: str | None = None,
        individual: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> ConnectedAccount:
        """An Express-like account paid only by our transfers, on a manual payout schedule (money.md §0.6)."""
        params: dict[str, Any] = {
            "country": country,
            "business_type": "individual" if individual else "company",
            "controller": {
                "stripe_dashboard": {"type": "express"},
                "fees": {"payer": "application"},
                "losses": {"payments": "application"},
            },
            "capabilities": {"transfers": {"requested": True}},
            "settings": {"payouts": {"schedule": {"interval": "manual"}}},
            "metadata": {**(metadata or {}), "party_ref": party_ref},
        }
        if email:
            params["email"] = email
        return account_of(await self._send(self._client.v1.accounts.create_async, params, key=key))

    async def retrieve_account(self, account_id: str) -> ConnectedAccount:
        return account_of(await self._fetch(self._client.v1.accounts.retrieve_async, account_id))

    async def account_link(
        self, account_id: str, *, refresh_url: str, return_url: str, key: str
    ) -> AccountLink:
        params = {
            "account": account_id,
            "refresh_url": refresh_url,
            "return_url": return_url,
            "type": "account_onboarding",
        }
        link = await self._send(self._client.v1.account_links.create_async, params, key=key)
        return AccountLink(url=link["url"], expires_at=when(link["expires_at"]))

    async def transfer(
        self,
        *,
        destination: str,
        amount_minor: int,
        currency: str,
        key: str,
        transfer_group: str,
        source_transaction: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Transfer:
        params: dict[str, Any] = {
            "destination": destination,
            "amount": amount_minor,
            "currency": currency.lower(),
            "transfer_group": transfer_group,
            "metadata": dict(metadata or {}),
        }
        if source_transaction:
            params["source_transaction"] = source_transaction
        return transfer_of(await self._send(self._client.v1.transfers.create_async, params, key=key))

    async def retrieve_transfer(self, transfer_id: str) -> Transfer:
        return transfer_of(await self._fetch(self._client.v1.transfers.retrieve_async, transfer_id))

    async def find_transfers(self, transfer_group: str) -> list[Transfer]:
        pages = self._pages(self._client.v1.transfers.list_async, {"transfer_group": transfer_group})
        return [transfer_of(row) async for row in pages]

    async def reverse_transfer(
        self, transfer_id: str, *, amount_minor: int, key: str, metadata: Mapping[str, str] | None = None
    ) -> TransferReversal:
        params = {"amount": amount_minor, "metadata": dict(metadata or {})}
        create = self._client.v1.transfers.reversals.create_async
        return reversal_of(await self._send(create, transfer_id, params, key=key))

    async def find_reversals(self, transfer_id: str) -> list[TransferReversal]:
        async def listed(params: dict[str, Any]) -> Any:
            return await self._client.v1.transfers.reversals.list_async(transfer_id, params)  # type: ignore[arg-type]

        return [reversal_of(row) async for row in self._pages(listed, {})]

    async def balance(self, *, account: str | None = None) -> Balance:
        return balance_of(await self._fetch(self._client.v1.balance.retrieve_async, {}, _acting_for(account)))

    async def balance_transactions(
        self,
        *,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        type: str | None = None,
        source: str | None = None,
        payout: str | None = None,
        account: str | None = None,
    ) -> AsyncIterator[BalanceTransaction]:
        params = _created(created_from, created_to) | _given(type=type, source=source, payout=payout)
        listed = self._client.v1.balance_transactions.list_async
        async for row in self._pages(listed, params, account=account):
            yield transaction_of(row)

    async def retrieve_balance_transaction(self, transaction_id: str) -> BalanceTransaction:
        retrieve = self._client.v1.balance_transactions.retrieve_async
        return transaction_of(await self._fetch(retrieve, transaction_id))

    async def create_payout(
        self,
        *,
        amount_minor: int,
        currency: str,
        key: str,
        account: str | None = None,
        metadata: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> Payout:
        params: dict[str, Any] = {
            "amount": amount_minor,
            "currency": currency.lower(),
            "metadata": dict(metadata or {}),
            **_given(description=description),
        }
        return payout_of(
            await self._send(self._client.v1.payouts.create_async, params, key=key, account=account)
        )

    async def retrieve_payout(self, payout_id: str, *, account: str | None = None) -> Payout:
        retrieve = self._client.v1.payouts.retrieve_async
        return payout_of(await self._fetch(retrieve, payout_id, {}, _acting_for(account)))

    async def cancel_payout(self, payout_id: str, *, key: str, account: str | None = None) -> Payout:
        cancel = self._client.v1.payouts.cancel_async
        return payout_of(await self._send(cancel, payout_id, {}, key=key, account=account))

    async def payouts(
        self,
        *,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        status: str | None = None,
        account: str | None = None,
    ) -> AsyncIterator[Payout]:
        params = _created(created_from, created_to) | _given(status=status)
        async for row in self._pages(self._client.v1.payouts.list_async, params, account=account):
            yield payout_of(row)

    async def retrieve_dispute(self, dispute_id: str) -> Dispute:
        return dispute_of(await self._fetch(self._client.v1.disputes.retrieve_async, dispute_id))

    async def find_disputes(self, charge_or_intent: str) -> list[Dispute]:
        pages = self._pages(self._client.v1.disputes.list_async, _payment_reference(charge_or_intent))
        return [dispute_of(row) async for row in pages]

    async def disputes(self, *, created_from: datetime | None = None) -> AsyncIterator[Dispute]:
        async for row in self._pages(self._client.v1.disputes.list_async, _created(created_from, None)):
            yield dispute_of(row)

    async def submit_evidence(
        self, dispute_id: str, *, evidence: Mapping[str, str], key: str, submit: bool = True
    ) -> Dispute:
        params = {"evidence": dict(evidence), "submit": submit}
        return dispute_of(
            await self._send(self._client.v1.disputes.update_async, dispute_id, params, key=key)
        )

    async def close_dispute(self, dispute_id: str, *, key: str) -> Dispute:
        return dispute_of(await self._send(self._client.v1.disputes.close_async, dispute_id, {}, key=key))

    async def events(
        self, *, created_from: datetime | None = None, types: Sequence[str] = ()
    ) -> AsyncIterator[Event]:
        params = _created(created_from, None) | ({"types": list(types)} if types else {})
        async for row in self._pages(self._client.v1.events.list_async, params):
            yield event_of(row)

    async def retrieve_event(self, event_id: str) -> Event:
        return event_of(await self._fetch(self._client.v1.events.retrieve_async, event_id))

    def verify_webhook(
        self, raw: bytes, header: str | None, *, clock: Clock, tolerance_s: int = WEBHOOK_TOLERANCE_S
    ) -> Event:
        return verify_webhook(raw, header, secret=self._webhook_secret, clock=clock, tolerance_s=tolerance_s)

    async def _pages(
        self, listed: Callable[..., Awaitable[Any]], params: Mapping[str, Any], *, account: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        cursor: str | None = None
        options = (_acting_for(account),) if account else ()
        while True:
            paged = {**params, "limit": PAGE_SIZE} | ({"starting_after": cursor} if cursor else {})
            page = await self._fetch(listed, paged, *options)
            for row in page["data"]:
                yield row
            if not page["has_more"] or not page["data"]:
                return
            cursor = page["data"][-1]["id"]

    async def _send(
        self, call: Callable[..., Awaitable[Any]], *arguments: Any, key: str, account: str | None = None
    ) -> dict[str, Any]:
        return await self._fetch(call, *arguments, {"idempotency_key": key, **_acting_for(account)}, key=key)

    async def _fetch(
        self, call: Callable[..., Awaitable[Any]], *arguments: Any, key: str = ""
    ) -> dict[str, Any]:
        try:
            answer = await call(*arguments)
        except stripe.StripeError as error:
            raise _translated(error, key) from error
        # Floats stay the text they were on the wire: an exchange rate is never computed with as a float.
        return json.loads(str(answer), parse_float=str)  # type: ignore[no-any-return]


def verify_webhook(
    raw: bytes, header: str | None, *, secret: str, clock: Clock, tolerance_s: int = WEBHOOK_TOLERANCE_S
) -> Event:
    """The event of a signed delivery. Raises ``WebhookRejected`` for anything else.

    The signature is checked by Stripe's own code, the age by our clock: theirs knows only wall time,
    and an embedded stack may live in another fortnight. A stamp from the future is refused as well.
    """
    try:
        stripe.WebhookSignature.verify_header(raw, header, secret)
        signed_at = int(dict(part.split("=", 1) for part in (header or "").split(","))["t"])
        event = json.loads(raw)
        if abs(clock.now().timestamp() - signed_at) > tolerance_s:
            raise WebhookRejected(f"signed more than {tolerance_s} s away from now")
        return event_of(event)
    except (stripe.SignatureVerificationError, ValueError, KeyError, TypeError) as error:
        raise WebhookRejected(f"not a signed event: {type(error).__name__}") from error


def _acting_for(account: str | None) -> dict[str, str]:
    return {"stripe_account": account} if account else {}


def _created(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    bounds = {name: int(at.timestamp()) for name, at in (("gte", since), ("lt", until)) if at}
    return {"created": bounds} if bounds else {}


def _given(**values: str | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _payment_reference(charge_or_intent: str) -> dict[str, str]:
    return {"payment_intent" if charge_or_intent.startswith("pi_") else "charge": charge_or_intent}


def _translated(error: stripe.StripeError, key: str) -> Exception:
    message = error.user_message or str(error)
    status = error.http_status
    if isinstance(error, stripe.CardError):
        details = error.json_body["error"] if isinstance(error.json_body, dict) else {}
        decline_code = details.get("decline_code") or error.code
        return PaymentDeclined(message, decline_code=decline_code, charge_id=details.get("charge"))
    if isinstance(error, stripe.IdempotencyError):
        return IdempotencyMismatch(message, key=key)
    if isinstance(error, stripe.RateLimitError):
        return ProviderUnavailable(message, outcome_unknown=False, http_status=status)
    if isinstance(error, stripe.InvalidRequestError | stripe.AuthenticationError | stripe.PermissionError):
        param = getattr(error, "param", None)
        return ProviderRefused(message, provider_code=error.code, param=param, http_status=status)
    return ProviderUnavailable(message, http_status=status)
