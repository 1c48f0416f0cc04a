"""Every call paysim answers: verb, path, the parameters it takes, the handler, who may call."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.paysim import (
    accounts,
    capabilities,
    disputes,
    endpoints,
    fraud,
    intents,
    payouts,
    reading,
    refunds,
    transfers,
)
from services.paysim.params import (
    EXPAND,
    LONG_TEXT,
    PAGE,
    Required,
    Rule,
    Shape,
    amount,
    boolean,
    currency,
    filled,
    hash_of,
    integer,
    list_of,
    metadata,
    object_of,
    one_of,
    opaque,
    text,
    time_range,
)
from services.paysim.transaction import Tx
from services.paysim.wire import JsonDict

Handler = Callable[..., JsonDict]


@dataclass(frozen=True, slots=True)
class Route:
    verb: str
    path: str
    handler: Handler
    shape: Shape
    publishable: bool = False
    """A browser may call it with the publishable key and the client secret."""

    @property
    def operation(self) -> str:
        """What a fault switch can name: the module and the verb, ``refunds.create``."""
        return f"{self.handler.__module__.rpartition('.')[2]}.{self.handler.__name__}"

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))


ADDRESS: Shape = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), text)
SHIPPING: Rule = object_of(
    {
        "address": Required(object_of(ADDRESS)),
        "name": Required(filled),
        "carrier": text,
        "phone": text,
        "tracking_number": text,
    }
)
CAPTURE_METHOD = one_of("automatic", "automatic_async", "manual")
FUTURE_USAGE = one_of("", "off_session", "on_session")
METADATA: Shape = {**EXPAND, "metadata": metadata}

_INTENT_COMMON: Shape = {
    **METADATA,
    "allowed_payment_method_types": list_of(filled),
    "amount_details": opaque,
    "capture_method": CAPTURE_METHOD,
    "excluded_payment_method_types": opaque,
    "hooks": opaque,
    "payment_details": opaque,
    "payment_method": filled,
    "payment_method_data": object_of(
        {
            "type": Required(filled),
            "card": hash_of(text),
            "billing_details": opaque,
            "metadata": metadata,
            "allow_redisplay": filled,
            "radar_options": opaque,
        }
    ),
    "payment_method_options": opaque,
    "receipt_email": text,
    "setup_future_usage": FUTURE_USAGE,
    "shipping": SHIPPING,
}
_INTENT_TERMS: Shape = {
    "customer": filled,
    "customer_account": filled,
    "description": text,
    "payment_method_configuration": filled,
    "statement_descriptor": text,
    "statement_descriptor_suffix": text,
    "transfer_group": text,
}
_CONFIRMATION: Shape = {
    "confirmation_token": filled,
    "error_on_requires_action": boolean,
    "mandate": filled,
    "mandate_data": opaque,
    "off_session": opaque,
    "radar_options": opaque,
    "return_url": filled,
    "use_stripe_sdk": boolean,
}
INTENT_CREATE: Shape = {
    "amount": Required(amount),
    "currency": Required(currency),
    **_INTENT_COMMON,
    **_INTENT_TERMS,
    **_CONFIRMATION,
    "application_fee_amount": integer,
    "automatic_payment_methods": object_of(
        {"enabled": Required(boolean), "allow_redirects": one_of("always", "never")}
    ),
    "confirm": boolean,
    "confirmation_method": one_of("automatic", "manual"),
    "on_behalf_of": filled,
    "transfer_data": opaque,
}
INTENT_UPDATE: Shape = {
    **_INTENT_COMMON,
    **_INTENT_TERMS,
    "amount": amount,
    "currency": currency,
    "application_fee_amount": opaque,
    "client_secret": filled,
    "transfer_data": opaque,
}
INTENT_CONFIRM: Shape = {
    **{name: rule for name, rule in _INTENT_COMMON.items() if name != "metadata"},
    **_CONFIRMATION,
    "amount_to_confirm": amount,
    "client_secret": filled,
    "key": filled,
}
INTENT_CAPTURE: Shape = {
    **METADATA,
    "amount_to_capture": amount,
    "amount_details": opaque,
    "application_fee_amount": integer,
    "final_capture": boolean,
    "hooks": opaque,
    "payment_details": opaque,
    "statement_descriptor": text,
    "statement_descriptor_suffix": text,
    "transfer_data": opaque,
}
INTENT_CANCEL: Shape = {
    **EXPAND,
    "cancellation_reason": one_of("duplicate", "fraudulent", "requested_by_customer", "abandoned"),
    "client_secret": filled,
}
REFUND_CREATE: Shape = {
    **METADATA,
    "amount": amount,
    "charge": filled,
    "currency": currency,
    "customer": filled,
    "instructions_email": text,
    "origin": one_of("customer_balance"),
    "payment_intent": filled,
    "reason": one_of("duplicate", "fraudulent", "requested_by_customer"),
    "refund_application_fee": boolean,
    "reverse_transfer": boolean,
}
BUSINESS_PROFILE: Shape = {
    **dict.fromkeys(("mcc", "name", "product_description", "support_email", "support_phone"), text),
    **dict.fromkeys(("support_url", "url", "specified_commercial_transactions_act_url"), text),
    **dict.fromkeys(("annual_revenue", "monthly_estimated_revenue", "support_address"), opaque),
    **dict.fromkeys(("estimated_worker_count", "minority_owned_business_designation"), opaque),
}
SCHEDULE: Shape = {
    "delay_days": opaque,
    "interval": one_of("daily", "manual", "monthly", "weekly"),
    **dict.fromkeys(("monthly_anchor", "monthly_payout_days", "weekly_anchor", "weekly_payout_days"), opaque),
}
_OTHER_SETTINGS = [
    "bacs_debit_payments",
    "branding",
    "card_issuing",
    "card_payments",
    "invoices",
    "payments",
    "paypay_payments",
    "sepa_debit_payments",
    "treasury",
]
SETTINGS: Shape = {
    "payouts": object_of(
        {"debit_negative_balances": boolean, "schedule": object_of(SCHEDULE), "statement_descriptor": text}
    ),
    **dict.fromkeys(_OTHER_SETTINGS, opaque),
}
_ACCOUNT_COMMON: Shape = {
    **METADATA,
    "account_token": filled,
    "business_profile": object_of(BUSINESS_PROFILE),
    "business_type": one_of("company", "government_entity", "individual", "non_profit"),
    "capabilities": hash_of(object_of({"requested": boolean})),
    "company": opaque,
    "default_currency": currency,
    "documents": opaque,
    "email": text,
    "external_account": opaque,
    "groups": opaque,
    "individual": opaque,
    "settings": object_of(SETTINGS),
    "tos_acceptance": opaque,
}
_PAYER = object_of({"payer": one_of("account", "application")})
ACCOUNT_CREATE: Shape = {
    **_ACCOUNT_COMMON,
    "controller": object_of(
        {
            "fees": _PAYER,
            "losses": object_of({"payments": one_of("application", "stripe")}),
            "requirement_collection": one_of("application", "stripe"),
            "stripe_dashboard": object_of({"type": one_of("express", "full", "none")}),
        }
    ),
    "country": filled,
    "type": one_of("custom", "express", "standard"),
}
ACCOUNT_LINK: Shape = {
    **EXPAND,
    "account": Required(filled),
    "collect": one_of("currently_due", "eventually_due"),
    "collection_options": opaque,
    "refresh_url": filled,
    "return_url": filled,
    "type": Required(one_of("account_onboarding", "account_update")),
}
SOURCE_TYPE = one_of("bank_account", "card", "fpx")
TRANSFER_CREATE: Shape = {
    **METADATA,
    "amount": amount,
    "currency": Required(currency),
    "description": text,
    "destination": Required(filled),
    "source_transaction": filled,
    "source_type": SOURCE_TYPE,
    "transfer_group": text,
}
REVERSAL_CREATE: Shape = {
    **METADATA,
    "amount": amount,
    "description": text,
    "refund_application_fee": boolean,
}
PAYOUT_CREATE: Shape = {
    **METADATA,
    "amount": Required(amount),
    "currency": Required(currency),
    "description": text,
    "destination": filled,
    "method": one_of("instant", "standard"),
    "payout_method": filled,
    "source_type": SOURCE_TYPE,
    "statement_descriptor": text,
}
# Evidence about enhanced programmes and appeals has no counterpart here and is not kept.
EVIDENCE: Shape = dict.fromkeys(disputes.EVIDENCE_FIELDS, LONG_TEXT)
DISPUTE_UPDATE: Shape = {
    **METADATA,
    "evidence": object_of(EVIDENCE),
    "intended_submission_method": one_of(
        "manual", "prefer_manual", "prefer_smart_disputes", "smart_disputes"
    ),
    "submit": boolean,
}
ENDPOINT_CREATE: Shape = {
    **METADATA,
    "api_version": filled,
    "connect": boolean,
    "description": text,
    "enabled_events": Required(list_of(filled)),
    "url": Required(filled),
}
ENDPOINT_UPDATE: Shape = {
    **METADATA,
    "description": text,
    "disabled": boolean,
    "enabled_events": list_of(filled),
    "url": filled,
}
CHARGE_UPDATE: Shape = {
    **METADATA,
    "customer": filled,
    "description": text,
    "fraud_details": object_of({"user_report": one_of("", "fraudulent", "safe")}),
    "receipt_email": text,
    "shipping": SHIPPING,
    "transfer_group": text,
}


def _listing(**filters: Rule) -> dict[str, Any]:
    return {**PAGE, "created": time_range, **filters}


SECRET: Shape = {**EXPAND, "client_secret": filled, "key": filled}
P_INTENT = "/v1/payment_intents"

ROUTES: tuple[Route, ...] = (
    Route("POST", P_INTENT, intents.create, INTENT_CREATE),
    Route("GET", P_INTENT, intents.listed, _listing(customer=filled, customer_account=filled)),
    Route("GET", P_INTENT + "/{id}", intents.retrieve, SECRET, publishable=True),
    Route("POST", P_INTENT + "/{id}", intents.update, INTENT_UPDATE),
    Route("POST", P_INTENT + "/{id}/confirm", intents.confirm, INTENT_CONFIRM, publishable=True),
    Route("POST", P_INTENT + "/{id}/capture", intents.capture, INTENT_CAPTURE),
    Route("POST", P_INTENT + "/{id}/cancel", intents.cancel, INTENT_CANCEL),
    Route("GET", "/v1/payment_methods/{id}", reading.payment_method, EXPAND),
    Route(
        "GET",
        "/v1/charges",
        reading.charges,
        _listing(payment_intent=filled, transfer_group=filled, customer=filled),
    ),
    Route("GET", "/v1/charges/{id}", reading.charge, EXPAND),
    Route("POST", "/v1/charges/{id}", reading.update_charge, CHARGE_UPDATE),
    Route("POST", "/v1/refunds", refunds.create, REFUND_CREATE),
    Route("GET", "/v1/refunds", refunds.listed, _listing(charge=filled, payment_intent=filled)),
    Route("GET", "/v1/refunds/{id}", refunds.retrieve, EXPAND),
    Route("POST", "/v1/refunds/{id}", refunds.update, METADATA),
    Route("POST", "/v1/refunds/{id}/cancel", refunds.cancel, EXPAND),
    Route("POST", "/v1/accounts", accounts.create, ACCOUNT_CREATE),
    Route("GET", "/v1/accounts", accounts.listed, _listing()),
    Route("GET", "/v1/account", accounts.own, EXPAND),
    Route("GET", "/v1/accounts/{id}", accounts.retrieve, EXPAND),
    Route("POST", "/v1/accounts/{id}", accounts.update, _ACCOUNT_COMMON),
    Route("DELETE", "/v1/accounts/{id}", accounts.delete, {}),
    Route("GET", "/v1/accounts/{id}/capabilities", capabilities.listed, EXPAND),
    Route("GET", "/v1/accounts/{id}/capabilities/{name}", capabilities.retrieve, EXPAND),
    Route(
        "POST",
        "/v1/accounts/{id}/capabilities/{name}",
        capabilities.update,
        {**EXPAND, "requested": boolean},
    ),
    Route("POST", "/v1/account_links", accounts.link, ACCOUNT_LINK),
    Route("POST", "/v1/transfers", transfers.create, TRANSFER_CREATE),
    Route("GET", "/v1/transfers", transfers.listed, _listing(transfer_group=filled, destination=filled)),
    Route("GET", "/v1/transfers/{id}", transfers.retrieve, EXPAND),
    Route("POST", "/v1/transfers/{id}", transfers.update, {**METADATA, "description": text}),
    Route("POST", "/v1/transfers/{id}/reversals", transfers.reverse, REVERSAL_CREATE),
    Route("GET", "/v1/transfers/{id}/reversals", transfers.reversals, PAGE),
    Route("GET", "/v1/transfers/{id}/reversals/{reversal_id}", transfers.reversal, EXPAND),
    Route("POST", "/v1/payouts", payouts.create, PAYOUT_CREATE),
    Route(
        "GET",
        "/v1/payouts",
        payouts.listed,
        _listing(status=filled, destination=filled, arrival_date=time_range),
    ),
    Route("GET", "/v1/payouts/{id}", payouts.retrieve, EXPAND),
    Route("POST", "/v1/payouts/{id}", payouts.update, METADATA),
    Route("POST", "/v1/payouts/{id}/cancel", payouts.cancel, EXPAND),
    Route("GET", "/v1/balance", reading.balance, EXPAND),
    Route(
        "GET",
        "/v1/balance_transactions",
        reading.balance_transactions,
        _listing(currency=currency, payout=filled, source=filled, type=filled),
    ),
    Route("GET", "/v1/balance_transactions/{id}", reading.balance_transaction, EXPAND),
    Route("GET", "/v1/disputes", disputes.listed, _listing(charge=filled, payment_intent=filled)),
    Route("GET", "/v1/disputes/{id}", disputes.retrieve, EXPAND),
    Route("POST", "/v1/disputes/{id}", disputes.update, DISPUTE_UPDATE),
    Route("POST", "/v1/disputes/{id}/close", disputes.close, EXPAND),
    Route(
        "GET",
        "/v1/radar/early_fraud_warnings",
        fraud.listed,
        _listing(charge=filled, payment_intent=filled),
    ),
    Route("GET", "/v1/radar/early_fraud_warnings/{id}", fraud.retrieve, EXPAND),
    Route(
        "GET",
        "/v1/events",
        reading.events,
        _listing(type=filled, types=list_of(filled), delivery_success=boolean),
    ),
    Route("GET", "/v1/events/{id}", reading.event, EXPAND),
    Route("POST", "/v1/webhook_endpoints", endpoints.create, ENDPOINT_CREATE),
    Route("GET", "/v1/webhook_endpoints", endpoints.listed, PAGE),
    Route("GET", "/v1/webhook_endpoints/{id}", endpoints.retrieve, EXPAND),
    Route("POST", "/v1/webhook_endpoints/{id}", endpoints.update, ENDPOINT_UPDATE),
    Route("DELETE", "/v1/webhook_endpoints/{id}", endpoints.delete, {}),
)
_BY_SHAPE = [(route.verb, route.pattern, route) for route in ROUTES]


def match(verb: str, path: str) -> tuple[Route, dict[str, str]] | None:
    for known, pattern, route in _BY_SHAPE:
        if known == verb and (found := pattern.fullmatch(path)):
            return route, found.groupdict()
    return None


def call(tx: Tx, route: Route, params: JsonDict, ids: dict[str, str]) -> JsonDict:
    return route.handler(tx, params, *ids.values())
