from __future__ import annotations

from core.ids import TypedId


class QrBatchId(TypedId):
    """One printing of QR codes."""

    prefix = "qrb"


class QrAssetId(TypedId):
    """One code of a batch: a link, and the arm of the test it is printed for."""

    prefix = "qra"
