"""The document of a statement: canonical JSON whose SHA-256 is its hash, and the same lines as CSV. Pure.

Canonical as in RFC 8785: UTF-8, no white space, keys sorted, integers only. Instants are RFC 3339 in UTC.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from core.ids import BrandId, SupplierId
from supply.settlement.statements.lines import ACCOUNTS, SECTIONS, Line, instant

FORMAT = "lianyu.statement.v1"
CSV_COLUMNS = (
    "section", "entry", "journal", "occurred_at", "posted_at", "event", "order_number", "order", "order_line",
    "sku", "shipping", "counterparty", "agreement", "rate_ppm", "share_ppm", "gross_minor", "tax_minor",
    "amount_minor", "account", "balance_after_minor", "reference", "memo",
)  # fmt: skip
_NAMES = tuple(ACCOUNTS.values())


@dataclass(frozen=True, slots=True)
class Header:
    """What a statement says before its lines."""

    payee_id: str
    currency: str
    number: int
    period_from: datetime
    period_to: datetime
    cycle: str
    time_zone: str
    legal_name: str
    tax_id: str
    opening_minor: int
    previous_hash: str
    cutoff: str
    generated_at: datetime


@dataclass(slots=True)
class Moved:
    """The lines of one statement as they come, and what they add up to."""

    sections: dict[str, list[Line]] = field(default_factory=dict)
    by_account: dict[str, int] = field(default_factory=dict)

    def add(self, section: str, line: Line) -> None:
        self.sections.setdefault(section, []).append(line)
        account, amount = line["account"], line["amount_minor"]
        self.by_account[account] = self.by_account.get(account, 0) + amount

    @property
    def total_minor(self) -> int:
        return sum(self.by_account.values())


@dataclass(frozen=True, slots=True)
class Document:
    text: str
    hash: str
    closing_minor: int
    split: Mapping[str, int]


def statement_number(payee_id: str, currency: str, number: int) -> str:
    return f"{payee_id}-{currency}-{number:05d}"


def role_of(payee_id: str) -> str:
    """What a party is by its id; a brand sells and promotes, its statement has both."""
    prefixes = {SupplierId.prefix: "supplier", BrandId.prefix: "brand"}
    return prefixes.get(payee_id.partition("_")[0], "individual")


def document_of(header: Header, opening: Mapping[str, int], moved: Moved) -> Document:
    """``opening`` is the closing split of the statement before."""
    split = {
        name: opening.get(name, 0) + moved.by_account.get(name, 0) * (-1 if name == "receivable" else 1)
        for name in _NAMES
    }
    closing = header.opening_minor + moved.total_minor
    body = {
        "format": FORMAT,
        "statement_no": statement_number(header.payee_id, header.currency, header.number),
        "number": header.number,
        "party": header.payee_id,
        "role": role_of(header.payee_id),
        "legal_name": header.legal_name,
        "tax_id": header.tax_id,
        "currency": header.currency,
        "period_from": instant(header.period_from),
        "period_to": instant(header.period_to),
        "cycle": header.cycle,
        "time_zone": header.time_zone,
        "opening_minor": header.opening_minor,
        "closing_minor": closing,
        # closing = pending + available + in payout + reserved - receivable
        "closing": split,
        "sections": _sections(moved.sections),
        "counterparties": _counterparties(moved.sections),
        "payout_references": _payout_references(moved.sections),
        "previous_hash": header.previous_hash,
        "cutoff": header.cutoff,
        "generated_at": instant(header.generated_at),
    }
    written = orjson.dumps(body, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    return Document(written.decode(), hashlib.sha256(written).hexdigest(), closing, split)


def _sections(sections: Mapping[str, Sequence[Line]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "total_minor": sum([line["amount_minor"] for line in sections[name]]),
            "lines": sections[name],
        }
        for name in SECTIONS
        if name in sections
    ]


def _counterparties(sections: Mapping[str, Sequence[Line]]) -> list[dict[str, Any]]:
    """Commission between this party and each other one, gross both ways and net: what is paid in one transfer."""
    gross: dict[str, list[int]] = {}
    for place, section in enumerate(("commission_earned", "commission_paid")):
        for line in sections.get(section, ()):
            gross.setdefault(line["counterparty"], [0, 0])[place] += line["amount_minor"]
    return [
        {"party": party, "earned_minor": earned, "paid_minor": -paid, "net_minor": earned + paid}
        for party, (earned, paid) in sorted(gross.items())
    ]


def _payout_references(sections: Mapping[str, Sequence[Line]]) -> list[str]:
    return sorted({line["reference"] for line in sections.get("payouts", ()) if line["reference"]})


def csv_of(document: str) -> str:
    """One row per line of a statement's document."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for section in orjson.loads(document)["sections"]:
        writer.writerows(
            [[section["name"], *(line[c] for c in CSV_COLUMNS[1:])] for line in section["lines"]]
        )
    return out.getvalue()
