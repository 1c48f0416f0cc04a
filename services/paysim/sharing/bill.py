"""The daily bill: everything that moved on the rail on one day (UTC+8), as a file with its hash."""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import UTC, datetime, timedelta, timezone

from services.paysim.sharing.wire import SharingRefused, invalid, rfc3339
from services.paysim.transaction import Tx
from services.paysim.wire import JsonDict

BILL_TIME = timezone(timedelta(hours=8))
COLUMNS = (
    "time",
    "merchant_id",
    "transaction_id",
    "kind",
    "number",
    "receiver_type",
    "account",
    "amount",
    "result",
    "reason",
)


def announced(tx: Tx, given: JsonDict) -> JsonDict:
    """Where the file is and what its SHA-256 must be. A day that is not over has none."""
    content = file(tx, given)
    day = str(given["date"])
    return {
        "date": day,
        "hash_type": "SHA256",
        "hash": hashlib.sha256(content.encode()).hexdigest(),
        "download_url": f"{tx.config.base_url}/sharing/v1/bills/{day}/file",
    }


def file(tx: Tx, given: JsonDict) -> str:
    start, end = _bounds(str(given["date"]))
    if end > tx.now:
        raise SharingRefused(400, "BILL_NOT_READY", "The bill is made when the day is over.")
    rows = tx.db.execute(
        "SELECT doc FROM object WHERE kind = 'share_movement' AND account = ? AND created >= ? AND created < ?"
        " ORDER BY created, seq",
        (tx.platform, start, end),
    )
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for (doc,) in rows:
        row = tx.read(doc)
        writer.writerow([rfc3339(row["created"]), *(row[name] for name in COLUMNS[1:])])
    return text.getvalue()


def _bounds(day: str) -> tuple[int, int]:
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=BILL_TIME).astimezone(UTC)
    except ValueError:
        raise invalid("date", "YYYY-MM-DD") from None
    return int(start.timestamp()), int((start + timedelta(days=1)).timestamp())
