"""Parameters as Stripe refuses them: unknown, missing, mistyped, out of range, outside an enum.

A shape is a dict from parameter name to a rule; a rule turns the wire's text into a value or raises.
Refusals here come before the endpoint begins, so they are never stored under an idempotency key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.paysim.wire import ApiError, JsonDict

Rule = Callable[[Any, str], Any]
MAX_AMOUNT = 99_999_999_999
"""Stripe's largest amount: eleven digits, wide enough for IDR."""
MAX_TEXT = 5_000
MAX_EVIDENCE = 20_000
MAX_METADATA_KEYS, MAX_METADATA_KEY, MAX_METADATA_VALUE = 50, 40, 500

CURRENCIES = frozenset(
    [
        "aed",
        "ars",
        "aud",
        "bhd",
        "brl",
        "cad",
        "chf",
        "clp",
        "cny",
        "cop",
        "czk",
        "dkk",
        "egp",
        "eur",
        "gbp",
        "hkd",
        "huf",
        "idr",
        "ils",
        "inr",
        "jod",
        "jpy",
        "kes",
        "krw",
        "kwd",
        "mop",
        "mxn",
        "myr",
        "ngn",
        "nok",
        "nzd",
        "omr",
        "pen",
        "php",
        "pkr",
        "pln",
        "qar",
        "ron",
        "rub",
        "sar",
        "sek",
        "sgd",
        "thb",
        "tnd",
        "try",
        "twd",
        "uah",
        "usd",
        "vnd",
        "zar",
    ]
)


@dataclass(frozen=True, slots=True)
class Required:
    rule: Rule


Shape = Mapping[str, Rule | Required]


def checked(given: JsonDict, shape: Shape, *, under: str = "") -> JsonDict:
    """The parameters as values. Raises the first refusal, unknown names before missing ones."""
    named = (lambda name: f"{under}[{name}]") if under else (lambda name: name)
    unknown = [name for name in given if name not in shape]
    if unknown:
        listed = ", ".join(named(name) for name in unknown)
        plural = "s" if len(unknown) > 1 else ""
        raise _refusal(
            f"Received unknown parameter{plural}: {listed}", "parameter_unknown", named(unknown[0])
        )
    values: JsonDict = {}
    for name, entry in shape.items():
        rule = entry.rule if isinstance(entry, Required) else entry
        if name in given:
            values[name] = rule(given[name], named(name))
        elif isinstance(entry, Required):
            raise _refusal(f"Missing required param: {named(name)}.", "parameter_missing", named(name))
    return values


def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _refusal("Invalid string: a string is expected", "parameter_invalid_string", name)
    if len(value) > MAX_TEXT:
        message = f"Invalid string: {value[:20]}...; must be at most {MAX_TEXT} characters"
        raise _refusal(message, "parameter_invalid_string", name)
    return value


def filled(value: Any, name: str) -> str:
    found = text(value, name)
    if not found:
        message = (
            f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
            f"parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or "
            "supply a non-empty value."
        )
        raise _refusal(message, "parameter_invalid_empty", name)
    return found


def integer(value: Any, name: str) -> int:
    found = filled(value, name)
    if not re.fullmatch(r"[+-]?\d{1,18}", found):
        raise _refusal(f"Invalid integer: {found[:64]}", "parameter_invalid_integer", name)
    return int(found)


def amount(value: Any, name: str) -> int:
    """A positive number of minor units."""
    found = integer(value, name)
    if found < 1:
        message = "This value must be greater than or equal to 1."
        raise _refusal(message, "parameter_invalid_integer", name)
    if found > MAX_AMOUNT:
        message = f"{name.capitalize()} must be no more than {MAX_AMOUNT}."
        raise _refusal(message, "amount_too_large", name)
    return found


def at_least(low: int, high: int | None = None) -> Rule:
    def rule(value: Any, name: str) -> int:
        found = integer(value, name)
        if found < low:
            raise _refusal(
                f"This value must be greater than or equal to {low}.", "parameter_invalid_integer", name
            )
        if high is not None and found > high:
            raise _refusal(
                f"This value must be less than or equal to {high}.", "parameter_invalid_integer", name
            )
        return found

    return rule


def boolean(value: Any, name: str) -> bool:
    found = text(value, name)
    if found not in {"true", "false", "1", "0"}:
        raise _refusal(f"Invalid boolean: {found[:64]}", None, name)
    return found in {"true", "1"}


def currency(value: Any, name: str) -> str:
    found = filled(value, name).lower()
    if found not in CURRENCIES:
        message = f"Invalid currency: {found[:16]}. Stripe currently supports these currencies: "
        raise _refusal(message + ", ".join(sorted(CURRENCIES)), None, name)
    return found


def one_of(*choices: str) -> Rule:
    def rule(value: Any, name: str) -> str:
        found = text(value, name)
        if found not in choices:
            *most, last = choices
            listed = f"{', '.join(most)}, or {last}" if most else last
            raise _refusal(f"Invalid {name}: must be one of {listed}", None, name)
        return found

    return rule


def metadata(value: Any, name: str) -> dict[str, str]:
    """Keys to values; an empty value unsets its key, an empty string all of them."""
    if value == "":
        return {}
    if not isinstance(value, dict):
        raise _refusal("Invalid object", "parameter_invalid_object", name)
    if len(value) > MAX_METADATA_KEYS:
        raise _refusal(f"Metadata is limited to {MAX_METADATA_KEYS} keys", None, name)
    for key, held in value.items():
        if not isinstance(held, str):
            message = "Metadata values must be strings, but for key '{}' you passed in a value of type hash"
            raise _refusal(message.format(key), None, name)
        if len(key) > MAX_METADATA_KEY or len(held) > MAX_METADATA_VALUE:
            message = (
                f"Metadata keys can have up to {MAX_METADATA_KEY} characters, values up to "
                f"{MAX_METADATA_VALUE}"
            )
            raise _refusal(message, None, f"{name}[{key}]")
    return dict(value)


def object_of(shape: Shape) -> Rule:
    def rule(value: Any, name: str) -> JsonDict | None:
        if value == "":
            return None
        if not isinstance(value, dict):
            raise _refusal("Invalid object", "parameter_invalid_object", name)
        return checked(value, shape, under=name)

    return rule


def opaque(value: Any, name: str) -> Any:
    """Accepted as it is: settings that have no effect here."""
    return value


def hash_of(rule: Rule) -> Rule:
    """A hash with any keys, every value by the rule; an empty string unsets it."""

    def whole(value: Any, name: str) -> JsonDict:
        if value == "":
            return {}
        if not isinstance(value, dict):
            raise _refusal("Invalid object", "parameter_invalid_object", name)
        return {key: rule(held, f"{name}[{key}]") for key, held in value.items()}

    return whole


def list_of(rule: Rule) -> Rule:
    def whole(value: Any, name: str) -> list[Any]:
        if value == "":
            return []
        if not isinstance(value, list):
            raise _refusal("Invalid array", "parameter_invalid_array", name)
        return [rule(item, f"{name}[{index}]") for index, item in enumerate(value)]

    return whole


def time_range(value: Any, name: str) -> JsonDict:
    """``created=T`` or ``created[gte]=T``: always returned as bounds."""
    if isinstance(value, dict):
        bounds: Shape = dict.fromkeys(("gt", "gte", "lt", "lte"), integer)
        return checked(value, bounds, under=name)
    exact = integer(value, name)
    return {"gte": exact, "lte": exact}


def long_text(value: Any, name: str) -> str:
    """Evidence may be longer than other texts."""
    if isinstance(value, str) and len(value) > MAX_EVIDENCE:
        message = f"Invalid string: {value[:20]}...; must be at most {MAX_EVIDENCE} characters"
        raise _refusal(message, "parameter_invalid_string", name)
    return value if isinstance(value, str) else text(value, name)


LONG_TEXT: Rule = long_text
EXPAND: Shape = {"expand": list_of(filled)}
PAGE: Shape = {
    **EXPAND,
    "limit": at_least(1, 100),
    "starting_after": filled,
    "ending_before": filled,
}


def _refusal(message: str, code: str | None, param: str) -> ApiError:
    return ApiError(400, message, code=code, param=param, began=False)
