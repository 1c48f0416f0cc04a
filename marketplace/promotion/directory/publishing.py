"""Entering the directory, changing what it says, leaving it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import BrandId
from core.money import PPM
from infra.db.base import table_of
from marketplace.brands import queries as brands
from marketplace.promotion.directory import profile as profiles
from marketplace.promotion.directory.errors import PartnerNotFound, PartnerProfileChanged
from marketplace.promotion.directory.models import (
    PartnerListing,
    PartnerProfileVersion,
    PartnerRecord,
    PartnerRole,
    ProfileStatus,
)
from marketplace.promotion.directory.profile import PartnerProfile
from marketplace.promotion.directory.track_record import Counts, TrackRecord, shown

_PROFILES, _LISTINGS, _RECORDS = (
    table_of(PartnerProfileVersion), table_of(PartnerListing), table_of(PartnerRecord),
)  # fmt: skip
UNRANKED = -1
"""The rank of a brand without the figure that a list is sorted by: it comes last."""

_ONE_WRITER = text("SELECT pg_advisory_xact_lock(hashtextextended(:brand, 18))")
_COUNTS = (
    "clicks", "orders", "refunded_orders", "disputed_orders", "commissions_due", "commissions_in_time",
    "partners", "members",
)  # fmt: skip


async def publish(
    session: AsyncSession,
    actor: Actor,
    profile: PartnerProfile,
    *,
    expected_version: int | None = None,
    clock: Clock,
) -> int:
    """List the actor's brand with this profile. Returns its version; the same profile again keeps the version.

    Raises ``BadPartnerProfile``, and ``PartnerProfileChanged`` when ``expected_version`` is not the latest.
    """
    brand_id, now = _writing_brand(actor), clock.now()
    profile = profiles.checked(profile)
    latest = await _latest(session, brand_id, expected_version)
    if latest is not None and _says_the_same(latest, profile):
        return int(latest.version)
    version = 1 if latest is None else latest.version + 1
    await _append(session, actor, brand_id, version, ProfileStatus.LISTED, profile.to_json(), now)
    names = await brands.tenant_names(session, [brand_id])
    record = await _shown_record(session, brand_id)
    row = _listing_row(brand_id, version, names[brand_id].name, profile, record, now)
    listing = upsert(_LISTINGS).values(row)
    kept = ("brand_id", "listed_at", "brand_active")
    await session.execute(
        listing.on_conflict_do_update(
            index_elements=["brand_id"],
            set_={name: listing.excluded[name] for name in row if name not in kept},
        )
    )
    return version


async def withdraw(
    session: AsyncSession, actor: Actor, *, expected_version: int | None = None, clock: Clock
) -> int:
    """Leave the directory at once. Doing it again changes nothing. Returns the version.

    Raises ``PartnerNotFound`` for a brand that never was in it, ``PartnerProfileChanged``.
    """
    brand_id = _writing_brand(actor)
    latest = await _latest(session, brand_id, expected_version)
    if latest is None:
        raise PartnerNotFound("this brand has no profile")
    if latest.status == ProfileStatus.WITHDRAWN:
        return int(latest.version)
    version = int(latest.version) + 1
    await _append(session, actor, brand_id, version, ProfileStatus.WITHDRAWN, latest.profile, clock.now())
    await session.execute(delete(_LISTINGS).where(_LISTINGS.c.brand_id == brand_id))
    return version


def _writing_brand(actor: Actor) -> BrandId:
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    return actor.brand_id


async def _latest(session: AsyncSession, brand_id: BrandId, expected_version: int | None) -> Any:
    await session.execute(_ONE_WRITER, {"brand": str(brand_id)})
    c = _PROFILES.c
    wanted = select(c.version, c.status, c.profile).where(c.brand_id == brand_id)
    found = (await session.execute(wanted.order_by(c.version.desc()).limit(1))).first()
    current = 0 if found is None else found.version
    if expected_version is not None and expected_version != current:
        raise PartnerProfileChanged(expected_version, current)
    return found


def _says_the_same(latest: Any, profile: PartnerProfile) -> bool:
    return latest.status == ProfileStatus.LISTED and PartnerProfile.from_json(latest.profile) == profile


async def _append(
    session: AsyncSession,
    actor: Actor,
    brand_id: BrandId,
    version: int,
    status: ProfileStatus,
    profile: dict[str, Any],
    now: datetime,
) -> None:
    row = {
        "brand_id": brand_id, "version": version, "status": status, "profile": profile, "published_at": now,
        "published_by": str(actor),
    }  # fmt: skip
    await session.execute(insert(_PROFILES), [row])


async def _shown_record(session: AsyncSession, brand_id: BrandId) -> dict[PartnerRole, TrackRecord]:
    """What the last sweep found, so that a brand that comes back does not begin anew."""
    c = _RECORDS.c
    wanted = select(c.role, *(c[name] for name in _COUNTS)).where(c.brand_id == brand_id)
    return {PartnerRole(row[0]): shown(Counts(*row[1:])) for row in await session.execute(wanted)}


def listing_record(records: dict[PartnerRole, TrackRecord]) -> dict[str, Any]:
    """The columns of a listing that tell of its track record. A brand is ranked by the side that pays, or, where
    nothing of that may be shown, by the other."""
    both = [records[role] for role in PartnerRole if role in records]

    def first(figure: str) -> int | None:
        return next((value for each in both if (value := getattr(each, figure)) is not None), None)

    conversion, refunds, punctual = first("conversion_ppm"), first("refund_ppm"), first("punctual_ppm")
    return {
        "record": {role.value: record.to_json() for role, record in records.items()},
        "conversion_rank": UNRANKED if conversion is None else conversion,
        "refund_rank": UNRANKED if refunds is None else PPM - refunds,
        "punctuality_rank": UNRANKED if punctual is None else punctual,
    }


def _listing_row(
    brand_id: BrandId,
    version: int,
    name: str,
    profile: PartnerProfile,
    records: dict[PartnerRole, TrackRecord],
    now: datetime,
) -> dict[str, Any]:
    said = profile.to_json() | {"roles": [role.value for role in profile.roles]}
    return said | listing_record(records) | {
        "brand_id": brand_id, "version": version, "name": name,
        "categories": list(profile.categories), "sought_categories": list(profile.sought_categories),
        "regions": list(profile.regions), "category_paths": profiles.category_paths(profile),
        "region_paths": profiles.region_paths(profile), "tokens": profiles.tokens(profile, name),
        "brand_active": True, "listed_at": now, "updated_at": now,
    }  # fmt: skip
