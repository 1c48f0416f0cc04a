"""Whose lead may bind a buyer: the contact that a promoter brand has of the same person.

A brand knows its contacts under keys of its own, so that nobody else can compare them. The platform can, and does it
here for one question: did a lead of an agreement bind this buyer? Asked are only brands whose agreement with the
advertiser lets leads bind; the answer goes into the decision as the lead's touch, and nothing else of the contact does.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, ContactId
from marketplace.audiences import queries as audiences
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import IdentifierKind

Identifier = tuple[IdentifierKind, str]
"""Normalised."""
K = TypeVar("K", bound=Hashable)
_PARTNERS = text(
    "SELECT DISTINCT a.advertiser_id, a.promoter_brand_id FROM agreements a WHERE a.advertiser_id = ANY(:advertisers)"
    " AND EXISTS (SELECT FROM agreement_versions v WHERE v.agreement_id = a.id AND v.in_force_from IS NOT NULL"
    "  AND (v.terms ->> 'lead_binding_days')::int > 0)"
)


async def lead_contacts(
    session: AsyncSession,
    buyers: Mapping[K, tuple[BrandId, Sequence[Identifier]]],
    *,
    vault: IdentityVault,
) -> dict[K, list[ContactId]]:
    """For each (advertiser, the buyer's identifiers), the contacts that the advertiser's partners have of the buyer.

    One statement where no agreement lets leads bind, two otherwise, for any number. Needs a SYSTEM session.
    """
    advertisers = {advertiser for advertiser, identifiers in buyers.values() if identifiers}
    if not advertisers:
        return {}
    partners: dict[BrandId, list[BrandId]] = {}
    for row in await session.execute(_PARTNERS, {"advertisers": sorted(advertisers)}):
        partners.setdefault(BrandId.of(row.advertiser_id), []).append(BrandId.of(row.promoter_brand_id))
    asked = {
        key: [(brand, *each) for brand in partners.get(advertiser, ()) for each in identifiers]
        for key, (advertiser, identifiers) in buyers.items()
    }
    people = list(dict.fromkeys(each for wanted in asked.values() for each in wanted))
    found = await audiences.contacts_of_people(session, people, vault=vault)
    matched = {
        key: list(dict.fromkeys(found[each] for each in wanted if each in found))
        for key, wanted in asked.items()
    }
    return {key: contacts for key, contacts in matched.items() if contacts}
