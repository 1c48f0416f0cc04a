"""Stripe's v1 wire: nested form parameters in, error envelopes out."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

JsonDict = dict[str, Any]

API_VERSION = "2026-10-28.endive"
MAX_BODY_BYTES = 1 << 20
MAX_PARAMETERS = 2_000


class ApiError(Exception):
    """An answer that is not 200, in Stripe's envelope.

    ``began`` says whether the endpoint started to execute: only then is the answer kept under the
    idempotency key. ``keeps_effects`` commits what the handler did before raising (a declined card
    leaves a failed charge behind); otherwise everything is rolled back.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        began: bool = True,
        keeps_effects: bool = False,
        headers: dict[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.began, self.keeps_effects = status, began, keeps_effects
        self.headers = headers or {}
        named = {"code": code, "param": param, **details}
        self.error: JsonDict = {"message": message, "type": type}
        self.error.update({name: value for name, value in named.items() if value is not None})

    def body(self) -> JsonDict:
        return {"error": self.error}


def no_such(kind: str, id: str, *, param: str = "id", status: int = 404) -> ApiError:
    """404 for the object of the path; 400 when a parameter names something absent."""
    words = {"payment_intent": "payment_intent", "balance_transaction": "balance transaction"}
    return ApiError(status, f"No such {words.get(kind, kind)}: '{id}'", code="resource_missing", param=param)


def parse_form(raw: bytes | str) -> JsonDict:
    """``a[b]=1&c[0]=x&d[]=y`` into nested dicts and lists; every leaf stays text."""
    text = raw.decode("utf-8", "strict") if isinstance(raw, bytes) else raw
    tree: JsonDict = {}
    for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS):
        _place(tree, _path(name), value)
    return {name: _lists(node) for name, node in tree.items()}


def _path(name: str) -> list[str]:
    head, bracket, rest = name.partition("[")
    return [head, *rest.removesuffix("]").split("][")] if bracket and rest.endswith("]") else [name]


def _place(tree: JsonDict, path: list[str], value: str) -> None:
    node = tree
    for depth, step in enumerate(path):
        key = f"#{len(node)}" if step == "" and depth else step
        if depth == len(path) - 1:
            node[key] = value
            return
        below = node.get(key)
        if not isinstance(below, dict):
            below = node[key] = {}
        node = below


def _lists(node: Any) -> Any:
    """Dicts whose keys are all indexes (``0`` or an anonymous ``[]``) become lists."""
    if not isinstance(node, dict):
        return node
    if node and all(key.lstrip("#").isdigit() for key in node):
        ordered = sorted(node.items(), key=lambda item: int(item[0].lstrip("#")))
        return [_lists(value) for _, value in ordered]
    return {key: _lists(value) for key, value in node.items()}
