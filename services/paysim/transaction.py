"""What a handler works with: the objects, the clock's reading, scheduled work, all inside one commit."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from services.paysim.config import PaysimConfig
from services.paysim.wire import ApiError, JsonDict, no_such

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# The fields a list can be filtered by, in the order of the columns f1 to f4. A name that is private to
# paysim is stored with an underscore and never leaves the process.
FILTERS: dict[str, tuple[str, ...]] = {
    "account": (),
    "balance_transaction": ("source", "type", "_payout", "currency"),
    "charge": ("payment_intent", "transfer_group", "customer"),
    "dispute": ("charge", "payment_intent"),
    "event": ("type",),
    "payment_intent": ("customer", "transfer_group"),
    "payment_method": (),
    "payout": ("status", "destination"),
    "radar.early_fraud_warning": ("charge", "payment_intent"),
    "refund": ("charge", "payment_intent"),
    "share_merchant": (),
    "share_movement": ("merchant_id",),
    "share_notice": ("type",),
    "share_order": ("payment",),
    "share_payment": ("merchant_id",),
    "share_receiver": (),
    "share_refund": ("payment",),
    "share_return": ("payment",),
    "share_trade": (),
    "transfer": ("transfer_group", "destination", "source_transaction"),
    "transfer_reversal": ("transfer",),
    "webhook_endpoint": (),
}


_draw: Callable[[int], bytes] = secrets.token_bytes


def new_id(prefix: str, length: int = 24) -> str:
    return f"{prefix}_" + "".join(ALPHABET[byte % 62] for byte in _draw(length))


@contextmanager
def ids_drawn_from(draw: Callable[[int], bytes]) -> Iterator[None]:
    """Ids of this process come from ``draw`` inside the block: a simulation must repeat itself."""
    global _draw
    before, _draw = _draw, draw
    try:
        yield
    finally:
        _draw = before


def public(doc: JsonDict) -> JsonDict:
    """The object without paysim's private fields."""
    return {name: value for name, value in doc.items() if not name.startswith("_")}


@dataclass(slots=True)
class Caller:
    """Who asks, and under which request: copied into events."""

    request_id: str | None = None
    idempotency_key: str | None = None
    account: str | None = None
    """The connected account acted for; None is the platform itself."""
    key: str = ""


class Tx:
    """One at a time, on the engine's thread only."""

    def __init__(self, db: sqlite3.Connection, config: PaysimConfig) -> None:
        self.db, self.config = db, config
        self.now, self.next_due = 0, self._earliest()
        self.caller = Caller()
        self.freed: set[str] = set()
        """Accounts whose pending money became available in this commit."""
        self._queued = False
        self._fired: list[int] = []
        self._faults: list[JsonDict] | None = None
        self.platform = self._platform_id()

    @property
    def account(self) -> str:
        return self.caller.account or self.platform

    def begin(self, at: datetime) -> None:
        # A clock file may be frozen or jump, but recorded time never runs backwards.
        self.now = max(self.now, int(at.timestamp()))
        self._queued = False
        self._fired.clear()
        self.db.execute("BEGIN IMMEDIATE")

    def commit(self) -> bool:
        """Whether webhooks were queued."""
        self.db.execute("COMMIT")
        return self._queued

    def abandon(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self._forget()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undoes what was done inside when it raises, except errors that keep their effects."""
        self.db.execute("SAVEPOINT step")
        fired_before = len(self._fired)
        try:
            yield
        except BaseException as error:
            if not (isinstance(error, ApiError) and error.keeps_effects):
                self.db.execute("ROLLBACK TO step")
                # A switch that made the step fail has fired all the same.
                self._count_down(self._fired[fired_before:])
                self._forget()
            self.db.execute("RELEASE step")
            raise
        self.db.execute("RELEASE step")

    # objects

    def insert(self, doc: JsonDict, *, account: str | None = None) -> JsonDict:
        columns = (doc["id"], doc["object"], account or self.account, doc.get("created", self.now))
        self.db.execute(
            "INSERT INTO object (id, kind, account, created, f1, f2, f3, f4, doc) VALUES (?,?,?,?,?,?,?,?,?)",
            (*columns, *_filters(doc), orjson.dumps(doc)),
        )
        return doc

    def put(self, doc: JsonDict) -> JsonDict:
        self.db.execute(
            "UPDATE object SET f1 = ?, f2 = ?, f3 = ?, f4 = ?, doc = ? WHERE id = ?",
            (*_filters(doc), orjson.dumps(doc), doc["id"]),
        )
        return doc

    def find(self, id: str, kind: str | None = None, *, account: str | None = None) -> JsonDict | None:
        """The object whoever owns it, or None; narrowed by ``kind`` and ``account`` when given."""
        row = self.db.execute("SELECT doc, kind, account FROM object WHERE id = ?", (id,)).fetchone()
        if row is None or (kind and row[1] != kind) or (account and row[2] != account):
            return None
        found: JsonDict = orjson.loads(row[0])
        return found

    def need(self, kind: str, id: str, *, param: str | None = None, account: str | None = None) -> JsonDict:
        """The caller's object. Raises 404 for the path's object, 400 when ``param`` names it."""
        found = self.find(id, kind, account=account or self.account)
        if found is None:
            raise no_such(kind, id, param=param or _path_param(kind), status=400 if param else 404)
        return found

    @staticmethod
    def read(doc: bytes) -> JsonDict:
        found: JsonDict = orjson.loads(doc)
        return found

    def owner(self, id: str) -> str:
        return str(self.db.execute("SELECT account FROM object WHERE id = ?", (id,)).fetchone()[0])

    def all(self, kind: str, **equals: str) -> list[JsonDict]:
        """Every object of a kind with these filter fields, oldest first, whoever owns it."""
        where, values = _conditions(kind, equals)
        rows = self.db.execute(f"SELECT doc FROM object WHERE {where} ORDER BY created, seq", values)
        return [orjson.loads(doc) for (doc,) in rows]

    def page(self, kind: str, params: JsonDict, *, account: str | None = None, **equals: str) -> JsonDict:
        """A list object, newest first; ``params`` holds limit, cursors and ``created`` bounds."""
        limit = params.get("limit", 10)
        where, values = _conditions(kind, equals)
        where, values = f"{where} AND account = ?", [*values, account or self.account]
        for name, bound in (params.get("created") or {}).items():
            where, values = f"{where} AND created {_COMPARE[name]} ?", [*values, bound]
        backwards = "ending_before" in params
        if cursor := params.get("ending_before") or params.get("starting_after"):
            place = self._place(kind, cursor, "ending_before" if backwards else "starting_after")
            where = f"{where} AND (created, seq) {'>' if backwards else '<'} (?, ?)"
            values = [*values, *place]
        order = "created, seq" if backwards else "created DESC, seq DESC"
        rows = self.db.execute(
            f"SELECT doc FROM object WHERE {where} ORDER BY {order} LIMIT ?", [*values, limit + 1]
        ).fetchall()
        found = [orjson.loads(doc) for (doc,) in rows[:limit]]
        if backwards:
            found.reverse()
        return {"object": "list", "data": found, "has_more": len(rows) > limit}

    def _place(self, kind: str, id: str, param: str) -> tuple[int, int]:
        row: tuple[int, int] | None = self.db.execute(
            "SELECT created, seq FROM object WHERE id = ? AND kind = ? AND account = ?",
            (id, kind, self.account),
        ).fetchone()
        if row is None:
            raise no_such(kind, id, param=param, status=400)
        return row

    # scheduled work and settings

    def schedule(self, at: int, kind: str, id: str) -> None:
        self.db.execute("INSERT INTO due (at, kind, id) VALUES (?,?,?)", (at, kind, id))
        self.next_due = at if self.next_due is None else min(self.next_due, at)

    def take_due(self) -> list[tuple[str, str]]:
        rows = self.db.execute(
            "SELECT seq, kind, id FROM due WHERE at <= ? ORDER BY at, seq LIMIT 5000", (self.now,)
        ).fetchall()
        self.db.executemany("DELETE FROM due WHERE seq = ?", [(seq,) for seq, _, _ in rows])
        self.next_due = self._earliest()
        return [(kind, id) for _, kind, id in rows]

    def setting(self, name: str, default: Any = None) -> Any:
        row = self.db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return orjson.loads(row[0]) if row else default

    def set(self, name: str, value: Any) -> None:
        self.db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, orjson.dumps(value).decode()))

    def webhooks_queued(self) -> None:
        self._queued = True

    # fault switches, kept in memory because every request asks for them

    def faults(self) -> list[JsonDict]:
        if self._faults is None:
            rows = self.db.execute("SELECT id, kind, remaining, fired, match, options FROM fault ORDER BY id")
            self._faults = [
                {
                    "id": id,
                    "kind": kind,
                    "remaining": remaining,
                    "fired": fired,
                    "match": orjson.loads(match),
                    "options": orjson.loads(options),
                }
                for id, kind, remaining, fired, match, options in rows
            ]
        return self._faults

    def fault_fired(self, id: int) -> None:
        self._fired.append(id)
        self._count_down([id])
        self.faults_changed()

    def _count_down(self, ids: list[int]) -> None:
        self.db.executemany(
            "UPDATE fault SET remaining = remaining - 1, fired = fired + 1 WHERE id = ?",
            [(id,) for id in ids],
        )

    def faults_changed(self) -> None:
        self._faults = None

    def _forget(self) -> None:
        self._faults, self.next_due = None, self._earliest()

    def _earliest(self) -> int | None:
        row = self.db.execute("SELECT min(at) FROM due").fetchone()
        return None if row[0] is None else int(row[0])

    def _platform_id(self) -> str:
        known = self.setting("platform")
        if known is None:
            known = new_id("acct", 16)
            self.set("platform", known)
        return str(known)


_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _filters(doc: JsonDict) -> list[str | None]:
    values = [doc.get(name) for name in FILTERS[doc["object"]]]
    return [*values, *[None] * (4 - len(values))]


def _conditions(kind: str, equals: dict[str, str]) -> tuple[str, list[Any]]:
    where, values = "kind = ?", [kind]
    for name, value in equals.items():
        where += f" AND f{FILTERS[kind].index(name) + 1} = ?"
        values.append(value)
    return where, values


def _path_param(kind: str) -> str:
    return {"payment_intent": "intent", "transfer": "transfer", "account": "account"}.get(kind, "id")
