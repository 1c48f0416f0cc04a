"""Idempotency keys: one effect per key, the stored answer afterwards, for 24 hours of paysim's clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

from services.paysim.engine import IDEMPOTENCY_TTL_S
from services.paysim.transaction import Tx
from services.paysim.wire import ApiError, JsonDict

MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]
    drop: bool = False
    """Executed, but the connection is closed before the answer (a fault switch)."""
    delay_s: float = 0.0
    kept: bool = True
    """Whether it is stored under the idempotency key."""


def fingerprint(params: JsonDict) -> str:
    return hashlib.sha256(orjson.dumps(params, option=orjson.OPT_SORT_KEYS)).hexdigest()


def stored(tx: Tx, key: str, path: str, print_of_body: str) -> Answer | None:
    """The answer given before. Raises the 400 of a key used with another endpoint or body."""
    row = tx.db.execute(
        "SELECT path, fingerprint, status, headers, body, created FROM idempotency WHERE account = ? AND "
        "key = ?",
        (tx.account, key),
    ).fetchone()
    if row is None:
        return None
    known_path, known_print, status, headers, body, created = row
    if created <= tx.now - IDEMPOTENCY_TTL_S:
        tx.db.execute("DELETE FROM idempotency WHERE account = ? AND key = ?", (tx.account, key))
        return None
    if (known_path, known_print) != (path, print_of_body):
        raise _mismatch(key, known_path, path)
    first = orjson.loads(headers)
    replayed = {**first, "idempotent-replayed": "true", "original-request": first["request-id"]}
    return Answer(status, body, replayed)


def store(tx: Tx, key: str, path: str, print_of_body: str, answer: Answer) -> None:
    tx.db.execute(
        "INSERT INTO idempotency VALUES (?,?,?,?,?,?,?,?)",
        (
            tx.account,
            key,
            path,
            print_of_body,
            answer.status,
            orjson.dumps(answer.headers),
            answer.body,
            tx.now,
        ),
    )


def in_use(key: str) -> ApiError:
    message = (
        "There is currently another in-progress request using this Idempotent Key (that probably means you "
        "submitted "
        f"twice, and the other request is still going through): {key}. Please try again later."
    )
    return ApiError(409, message, type="idempotency_error", code="idempotency_key_in_use", began=False)


def _mismatch(key: str, known_path: str, path: str) -> ApiError:
    what = "for the same endpoint" if known_path != path else "with the same parameters"
    message = (
        f"Keys for idempotent requests can only be used {what} they were first used with. Try using a key "
        f"other than "
        f"'{key}' if you meant to execute a different request."
    )
    if known_path != path:
        message = (
            f"Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{path}' "
            f"vs '{known_path}'). Try using a key other than '{key}' if you meant to execute a different "
            f"request."
        )
    return ApiError(400, message, type="idempotency_error", began=False)
