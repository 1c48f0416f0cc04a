"""Delivers over HTTP: signed, to the address that was checked, no redirects, short timeouts, no body read."""

from __future__ import annotations

import httpx

from infra.suppliers.addresses import Target, resolve
from infra.suppliers.endpoint import Answer, OutgoingWebhook, WebhookUrlRefused
from infra.suppliers.signing import headers_of

_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
_LONGEST_ERROR = 200


class HttpEndpoint:
    """``allow_private`` also lets http and private addresses through: development and tests only."""

    def __init__(self, *, allow_private: bool = False, timeout: httpx.Timeout = _TIMEOUT) -> None:
        self._allow_private, self._timeout = allow_private, timeout
        # Reading the world's certificates takes 50 ms: once, not for every message.
        self._tls = httpx.create_ssl_context(trust_env=False)

    async def check(self, url: str) -> None:
        try:
            await resolve(url, allow_private=self._allow_private)
        except OSError as error:
            raise WebhookUrlRefused("the host has no address", field="url") from error

    async def send(self, webhook: OutgoingWebhook) -> Answer:
        try:
            target = await resolve(webhook.url, allow_private=self._allow_private)
            return await self._post(target, webhook)
        except WebhookUrlRefused as error:
            return Answer(None, error.message)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer(None, f"{type(error).__name__}: {error}"[:_LONGEST_ERROR])

    async def _post(self, target: Target, webhook: OutgoingWebhook) -> Answer:
        literal = f"[{target.address}]" if ":" in target.address else target.address
        path = target.url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        headers = {
            **headers_of(webhook.secrets, message_id=webhook.message_id, at=webhook.at, body=webhook.body),
            "content-type": "application/json",
            "user-agent": "Lianyu-Webhooks/1",
            "host": target.url.netloc,
        }
        async with (
            httpx.AsyncClient(
                timeout=self._timeout, follow_redirects=False, trust_env=False, verify=self._tls
            ) as client,
            client.stream(
                "POST",
                f"{target.url.scheme}://{literal}:{target.port}{path}",
                content=webhook.body,
                headers=headers,
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            return Answer(
                response.status_code,
                None if response.is_success else f"answered {response.status_code}",
                _seconds(response.headers.get("retry-after")),
            )


def _seconds(retry_after: str | None) -> int | None:
    return int(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
