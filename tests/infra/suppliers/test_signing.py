from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.suppliers.secrets import SecretBox
from infra.suppliers.signing import (
    BadWebhookSecret,
    BadWebhookSignature,
    headers_of,
    key_of,
    new_secret,
    sign,
    verify,
)

# The reference vector of the Standard Webhooks specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, STAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
AT = datetime.fromtimestamp(STAMP, UTC)


def test_the_reference_vector() -> None:
    assert sign(SECRET, message_id=ID, timestamp=STAMP, body=BODY) == SIGNATURE
    assert headers_of([SECRET], message_id=ID, at=AT, body=BODY) == {
        "webhook-id": ID,
        "webhook-timestamp": str(STAMP),
        "webhook-signature": SIGNATURE,
    }


def test_either_secret_verifies_while_one_is_rotated_out() -> None:
    old, new = new_secret(), new_secret()
    headers = headers_of([new, old], message_id=ID, at=AT, body=BODY)
    verify([old], headers, BODY, now=AT)
    verify([new], headers, BODY, now=AT)
    with pytest.raises(BadWebhookSignature):
        verify([new_secret()], headers, BODY, now=AT)


@pytest.mark.parametrize("seconds", [301, -301])
def test_five_minutes_are_tolerated_and_no_more(seconds: int) -> None:
    headers = headers_of([SECRET], message_id=ID, at=AT, body=BODY)
    verify([SECRET], headers, BODY, now=AT + timedelta(seconds=seconds - (1 if seconds > 0 else -1)))
    with pytest.raises(BadWebhookSignature):
        verify([SECRET], headers, BODY, now=AT + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-id", "msg_other"),
        ("webhook-timestamp", str(STAMP + 1)),
        ("webhook-timestamp", "yesterday"),
        ("webhook-signature", "v1,AAAA"),
        ("webhook-signature", "é"),
    ],
)
def test_nothing_that_was_signed_can_change(header: str, value: str) -> None:
    headers = headers_of([SECRET], message_id=ID, at=AT, body=BODY)
    with pytest.raises(BadWebhookSignature):
        verify([SECRET], headers | {header: value}, BODY, now=AT)
    with pytest.raises(BadWebhookSignature):
        verify([SECRET], headers, BODY + b" ", now=AT)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "whsec_" + "A" * 200])
def test_secrets_are_base64_of_a_decent_length(secret: str) -> None:
    with pytest.raises(BadWebhookSecret):
        key_of(secret)


def test_a_sealed_secret_opens_for_its_owner_only() -> None:
    from cryptography.exceptions import InvalidTag

    box = SecretBox("platform secret")
    sealed = box.seal(SECRET, owner="whe_1")
    assert box.open(sealed, owner="whe_1") == SECRET
    with pytest.raises(InvalidTag):
        box.open(sealed, owner="whe_2")
    with pytest.raises(InvalidTag):
        SecretBox("another").open(sealed, owner="whe_1")
