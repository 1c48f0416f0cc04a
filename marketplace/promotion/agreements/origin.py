"""Where an agreement comes from: a campaign of the advertiser, and the published offer its terms were taken from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marketplace.promotion.ids import CampaignId, CampaignOfferId


@dataclass(frozen=True, slots=True)
class Origin:
    """No campaign: two brands agreed by themselves, without budget or dates."""

    campaign_id: CampaignId | None = None
    offer_id: CampaignOfferId | None = None
    offer_version: int | None = None

    def to_row(self) -> dict[str, Any]:
        return {
            "campaign_id": self.campaign_id, "offer_id": self.offer_id, "offer_version": self.offer_version,
        }  # fmt: skip


WITHOUT_ORIGIN = Origin()
