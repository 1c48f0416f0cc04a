"""Notices of results, through the same durable queue as the other rail's webhooks, switches included."""

from __future__ import annotations

from services.paysim.events import queue
from services.paysim.sharing.wire import rfc3339
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import JsonDict


def tell(tx: Tx, type: str, subject: JsonDict, url: str | None) -> None:
    """``type``: TRANSACTION.SUCCESS, SHARING.FINISHED, SHARING.RETURNED, SHARING.UNFROZEN or REFUND.SUCCESS.

    Nobody is told where the caller left no address: results can be asked for.
    """
    notice: JsonDict = {
        "id": new_id("ntc"),
        "object": "share_notice",
        "type": type,
        "created_at": rfc3339(tx.now),
        "resource": subject,
        "created": tx.now,
    }
    tx.insert(notice, account=tx.platform)
    if url:
        queue(tx, notice, url, tx.config.sharing_secret)


def body_of(notice: JsonDict) -> JsonDict:
    return {name: notice[name] for name in ("id", "type", "created_at", "resource")}
