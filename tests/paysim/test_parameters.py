"""paysim knows exactly the parameters Stripe's client types for the calls we make."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.paysim.routes import ROUTES

ID = "{id}"
CALLS = [
    ("POST", "/v1/payment_intents", "PaymentIntentCreateParams"),
    ("GET", "/v1/payment_intents", "PaymentIntentListParams"),
    ("POST", f"/v1/payment_intents/{ID}", "PaymentIntentUpdateParams"),
    ("POST", f"/v1/payment_intents/{ID}/confirm", "PaymentIntentConfirmParams"),
    ("POST", f"/v1/payment_intents/{ID}/capture", "PaymentIntentCaptureParams"),
    ("POST", f"/v1/payment_intents/{ID}/cancel", "PaymentIntentCancelParams"),
    ("GET", "/v1/charges", "ChargeListParams"),
    ("POST", "/v1/refunds", "RefundCreateParams"),
    ("GET", "/v1/refunds", "RefundListParams"),
    ("POST", "/v1/accounts", "AccountCreateParams"),
    ("POST", f"/v1/accounts/{ID}", "AccountUpdateParams"),
    ("POST", "/v1/account_links", "AccountLinkCreateParams"),
    ("POST", "/v1/transfers", "TransferCreateParams"),
    ("GET", "/v1/transfers", "TransferListParams"),
    ("POST", f"/v1/transfers/{ID}/reversals", "TransferReversalCreateParams"),
    ("POST", "/v1/payouts", "PayoutCreateParams"),
    ("GET", "/v1/payouts", "PayoutListParams"),
    ("POST", f"/v1/payouts/{ID}/cancel", "PayoutCancelParams"),
    ("GET", "/v1/disputes", "DisputeListParams"),
    ("POST", f"/v1/disputes/{ID}", "DisputeUpdateParams"),
    ("GET", "/v1/balance_transactions", "BalanceTransactionListParams"),
    ("GET", "/v1/events", "EventListParams"),
    ("POST", "/v1/webhook_endpoints", "WebhookEndpointCreateParams"),
]
FROM_BROWSERS = {"client_secret", "key"}
"""What a browser proves itself with; Stripe's server library does not type it."""


@pytest.mark.shared
@pytest.mark.parametrize(("verb", "path", "params"), CALLS, ids=[name for _, _, name in CALLS])
def test_no_parameter_is_missing_or_made_up(contract: Any, verb: str, path: str, params: str) -> None:
    (route,) = [r for r in ROUTES if (r.verb, re.sub(r"\{\w+\}", ID, r.path)) == (verb, path)]
    assert route.shape.keys() - FROM_BROWSERS == contract.REQUESTS[params].keys()


def test_every_operation_has_a_name_of_its_own_that_switches_can_use() -> None:
    names = [route.operation for route in ROUTES]
    assert len(names) == len(set(names))
    assert {"refunds.create", "intents.confirm", "transfers.reverse", "payouts.create"} <= set(names)
