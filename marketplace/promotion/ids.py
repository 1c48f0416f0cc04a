from __future__ import annotations

from core.ids import TypedId


class QrBatchId(TypedId):
    """One printing of QR codes."""

    prefix = "qrb"


class QrAssetId(TypedId):
    """One code of a batch: a link, and the arm of the test it is printed for."""

    prefix = "qra"


class CampaignId(TypedId):
    prefix = "cmp"


class CampaignOfferId(TypedId):
    """What an advertiser offers to promoters in a campaign; a supplier's offer of a SKU is ``core.ids.OfferId``."""

    prefix = "off"
