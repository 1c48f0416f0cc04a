from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.suppliers.addresses import is_public, parse, resolve
from infra.suppliers.endpoint import OutgoingWebhook, WebhookUrlRefused
from infra.suppliers.http_endpoint import HttpEndpoint


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:7f00:1::", "fd00:ec2::254", "::",
    ],
)  # fmt: skip
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_outer_addresses_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https:///path", "https://user:pw@example.com/",
        "https://example.com/#part", "https://example.com:99999/", "not a url", "https://[::1", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_only_plain_https_urls_are_taken(url: str) -> None:
    with pytest.raises(WebhookUrlRefused):
        parse(url, allow_private=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "169.254.169.254"]
)
async def test_a_name_for_an_inner_address_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises((WebhookUrlRefused, OSError)):
        await resolve(f"https://{host}/hook", allow_private=False)
    with pytest.raises(WebhookUrlRefused):
        await HttpEndpoint().check(f"https://{host}/hook")
    webhook = OutgoingWebhook(f"https://{host}/hook", "msg", b"{}", [], datetime(2026, 3, 2, tzinfo=UTC))
    answer = await HttpEndpoint().send(webhook)
    assert (answer.status, answer.delivered) == (None, False)
