"""Reading a file of products, one variant a row: CSV with a header, or JSON lines with the same names.

Columns: ``handle sku title_zh title_en description_zh description_en category tags media gtin variant_title
weight_g status``, ``price:CNY`` and ``compare_at:CNY`` for every currency, ``option:colour`` for every option and
``attribute:origin`` for every attribute. ``tags`` and ``media`` are separated by ``|``. Rows with one handle are
one product; without a handle, the SKU's product, or a new one named after the SKU. An empty cell changes nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from core.errors import LianyuError
from core.money import EXPONENTS, Money, UnknownCurrency
from infra.db.text import shown, storable
from marketplace.catalog import checks
from marketplace.catalog.errors import InvalidStatus, InvalidWeight, UnreadableFile
from marketplace.catalog.models import ImportFormat, ProductStatus

PLAIN = (
    "handle", "sku", "title_zh", "title_en", "description_zh", "description_en", "category", "tags", "media",
    "gtin", "variant_title", "weight_g", "status",
)  # fmt: skip
FAMILIES = ("price", "compare_at", "option", "attribute")
_LONGEST_CELL = 131_072
_STATUSES = (ProductStatus.DRAFT, ProductStatus.PUBLISHED)


@dataclass(frozen=True, slots=True)
class Complaint:
    """``fatal``: the row means nothing without this field."""

    row: int
    sku: str
    field: str
    code: str
    message: str
    fatal: bool = False


def complaint(row: int, sku: str, field: str, code: str, message: str, *, fatal: bool = False) -> Complaint:
    """Of what a file says, only what can be shown and stored."""
    return Complaint(row, shown(sku, 64), shown(field, 60), code, shown(message, 300), fatal)


@dataclass(slots=True)
class ImportedRow:
    """One row in its stored form; what is ``None`` was not given. ``prices``: currency to amount, compare-at."""

    number: int
    sku: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    prices: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)

    def complain(self, name: str, error: LianyuError, *, fatal: bool = False) -> None:
        self.complaints.append(complaint(self.number, self.sku, name, error.code, error.message, fatal=fatal))


def rows_of(content: str | bytes, format: ImportFormat) -> Iterator[ImportedRow]:
    """Every row, checked, one at a time. Raises ``UnreadableFile`` when the file as a whole means nothing."""
    text = decoded(content) if isinstance(content, bytes) else content.removeprefix("\ufeff")
    if not storable(text):
        raise UnreadableFile("the file has characters that are no text", field="content")
    lines = _csv(text) if format is ImportFormat.CSV else _jsonl(text)
    for number, cells in lines:
        if isinstance(cells, Complaint):
            yield ImportedRow(number, complaints=[cells])
        else:
            yield _checked(number, cells)


def decoded(content: bytes) -> str:
    """UTF-8, or what a spreadsheet in China saves (GB 18030)."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UnreadableFile("the file is neither UTF-8 nor GB 18030", field="content")


Cells = dict[str, Any]


def _csv(text: str) -> Iterator[tuple[int, Cells | Complaint]]:
    """Rows as a spreadsheet counts them: the header is row 1."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
    except csv.Error as error:
        raise UnreadableFile(f"the header cannot be read: {error}", field="content") from error
    names = [_column(name) for name in header]
    if "sku" not in names:
        raise UnreadableFile("the header has no column sku", field="content")
    if len(set(names)) != len(names):
        raise UnreadableFile("the header names a column twice", field="content")
    number = 1
    while True:
        number += 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # Nothing behind a broken quote can be trusted to be a row.
            yield (
                number,
                complaint(number, "", "", "MALFORMED_ROW", f"{error}; reading ends here", fatal=True),
            )
            return
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            message = f"{len(cells)} cells under {len(names)} columns"
            yield number, complaint(number, "", "", "MALFORMED_ROW", message, fatal=True)
            continue
        yield number, {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}


def _column(name: str) -> str:
    family, colon, member = name.partition(":")
    if colon and family in FAMILIES and member.strip():
        return f"{family}:{member.strip()}"
    if name in PLAIN:
        return name
    raise UnreadableFile(f"there is no column {name[:60]!r}", field="content")


def _jsonl(text: str) -> Iterator[tuple[int, Cells | Complaint]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, complaint(number, "", "", "MALFORMED_ROW", str(error), fatal=True)
            continue
        if not isinstance(value, dict):
            yield number, complaint(number, "", "", "MALFORMED_ROW", "a line is one JSON object", fatal=True)
            continue
        cells, unknown = _flat(value)
        if unknown:
            message, sku = f"there is no field {unknown[0]}", str(value.get("sku", ""))
            yield number, complaint(number, sku, unknown[0], "UNKNOWN_FIELD", message, fatal=True)
            continue
        yield number, cells


def _flat(value: Mapping[str, Any]) -> tuple[Cells, list[str]]:
    """``{"prices": {"CNY": "1.00"}}`` as ``{"price:cny": "1.00"}``; and the names nobody knows."""
    plural = {"prices": "price", "compare_at": "compare_at", "options": "option", "attributes": "attribute"}
    cells: Cells = {}
    unknown: list[str] = []
    for name, content in value.items():
        if name in plural and isinstance(content, dict):
            cells |= {f"{plural[name]}:{member}": v for member, v in content.items() if v is not None}
        elif name in PLAIN:
            if content is not None and content != "":
                cells[name] = content
        else:
            unknown.append(name)
    return cells, unknown


def _checked(number: int, cells: Cells) -> ImportedRow:
    row = ImportedRow(number)
    try:
        row.sku = checks.sku(_text(cells.pop("sku", "")))
    except LianyuError as error:
        row.complain("sku", error, fatal=True)
        return row
    if "handle" in cells:
        try:
            row.values["handle"] = checks.handle(_text(cells.pop("handle")).lower())
        except LianyuError as error:
            row.complain("handle", error, fatal=True)
            return row
    for name, check in _CHECKS.items():
        if name in cells:
            _take(row, name, check, cells.pop(name))
    _take_families(row, cells)
    return row


def _take(row: ImportedRow, name: str, check: Callable[[Any], Any], cell: Any) -> None:
    try:
        row.values[name] = check(cell)
    except LianyuError as error:
        row.complain(name, error)


def _take_families(row: ImportedRow, cells: Cells) -> None:
    members: dict[str, dict[str, Any]] = {family: {} for family in FAMILIES}
    for name, cell in cells.items():
        family, _, member = name.partition(":")
        members[family][member] = cell
    if members["option"]:
        _take(row, "options", checks.options, {k: _text(v) for k, v in members["option"].items()})
    if members["attribute"]:
        _take(row, "attributes", checks.attributes, members["attribute"])
    compare = {currency.upper(): cell for currency, cell in members["compare_at"].items()}
    for currency, cell in members["price"].items():
        currency = currency.upper()
        try:
            row.prices[currency] = _price(currency, cell, compare.pop(currency, None))
        except LianyuError as error:
            row.complain(f"price:{currency}", error)
    for currency in compare:
        row.complain(f"compare_at:{currency}", UnknownCurrency(f"{currency} without a price"))


def _price(currency: str, cell: Any, compare_at: Any) -> tuple[int, int | None]:
    if currency not in EXPONENTS:
        raise UnknownCurrency(currency)
    amount = Money.parse(_text(cell), currency)
    struck = None if compare_at in (None, "") else Money.parse(_text(compare_at), currency)
    checks.price(amount, struck)
    return amount.amount_minor, struck.amount_minor if struck else None


def _text(cell: Any) -> str:
    if isinstance(cell, bool | float | dict | list) or cell is None:
        return "\x00"  # no text, whole number or decimal string: no check takes it
    return str(cell)


def _parts(cell: Any) -> list[str]:
    if isinstance(cell, list):
        return [_text(part) for part in cell]
    return [part.strip() for part in _text(cell).split("|") if part.strip()]


def _media(cell: Any) -> list[dict[str, str]]:
    items: Iterable[Any] = cell if isinstance(cell, list) else _parts(cell)
    return checks.media([item if isinstance(item, dict) else {"url": _text(item)} for item in items])


def _weight(cell: Any) -> int:
    text = _text(cell)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidWeight("whole grams", field="weight_g")
    return checks.weight_g(int(text))


def _status(cell: Any) -> str:
    status = _text(cell).lower()
    if status not in _STATUSES:
        raise InvalidStatus("draft or published", field="status")
    return status


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "title_zh": lambda cell: checks.title(_text(cell), field="title_zh"),
    "title_en": lambda cell: checks.title(_text(cell), field="title_en"),
    "description_zh": lambda cell: checks.description(_text(cell), field="description_zh"),
    "description_en": lambda cell: checks.description(_text(cell), field="description_en"),
    "category": lambda cell: checks.category(_text(cell)),
    "tags": lambda cell: checks.tags(_parts(cell)),
    "media": _media,
    "gtin": lambda cell: checks.gtin(_text(cell)),
    "variant_title": lambda cell: checks.title(_text(cell), field="variant_title"),
    "weight_g": _weight,
    "status": _status,
}
