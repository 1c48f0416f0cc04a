"""What a redirect knows of a link, and how it is read. Needs nothing but the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from core.ids import AgreementId, BrandId, LinkId

_TARGET = "SELECT id, code, agreement_id, advertiser_id, promoter_brand_id, destination, revision, in_app_destination"
LINKS_SINCE = f"{_TARGET} FROM tracked_links WHERE revision > $1 ORDER BY revision"
LINK_BY_CODE = f"{_TARGET} FROM tracked_links WHERE code = $1"


class LinkTarget(NamedTuple):
    """What a redirect needs of a link. It never changes after the link was made; whether it still qualifies
    is judged from the link's own row by the time of the touch."""

    id: LinkId
    code: str
    agreement_id: AgreementId | None
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    destination: str
    revision: int
    in_app_destination: str | None = None
    """Where WeChat goes instead, with ``{touch}`` where the token goes."""

    @classmethod
    def of(cls, row: Sequence[Any]) -> LinkTarget:
        agreement = AgreementId.of(row[2]) if isinstance(row[2], UUID) else None
        return cls(
            LinkId.of(row[0]),
            row[1],
            agreement,
            BrandId.of(row[3]),
            BrandId.of(row[4]),
            row[5],
            row[6],
            row[7],
        )
