"""Importing members: which rows are one person, who is new, what changed. Set-based, at most 1,000 rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.errors import Invalid
from core.ids import BrandId, CommunityId, ContactId
from infra.db.base import table_of
from marketplace.audiences import checks, queries
from marketplace.audiences.errors import BadAudienceField, BatchTooLarge, IdentifiersDisagree, NoIdentifier
from marketplace.audiences.identity import IdentityVault, normalise
from marketplace.audiences.models import (
    Contact,
    ContactIdentifier,
    ContactTag,
    IdentifierKind,
    TagSource,
)

LARGEST_BATCH = 1000
MOST_IDENTIFIERS = 10
_MOST_POINTS = 10**12
_LONGEST_TIER = 32
WHOLE_CONFIDENCE_PPM = 1_000_000

# Two imports of one brand that bring the same new person would make two contacts: they take turns.
_ONE_IMPORT = text("SELECT pg_advisory_xact_lock(hashtextextended(:brand, 5))")
_KNOWN = text(
    "SELECT i.kind, i.subject_key, i.contact_id FROM contact_identifiers i"
    " JOIN unnest(CAST(:kinds AS text[]), CAST(:keys AS bytea[])) AS wanted(kind, subject_key)"
    " ON i.kind = wanted.kind AND i.subject_key = wanted.subject_key WHERE i.brand_id = :brand"
)
_NEW_CONTACTS = insert(table_of(Contact))
_NEW_IDENTIFIERS = insert(table_of(ContactIdentifier)).on_conflict_do_nothing()
_NEW_TAGS = insert(table_of(ContactTag)).on_conflict_do_nothing()
_JOIN = text(
    "INSERT INTO community_members (community_id, contact_id, brand_id, tier, points, joined_at)"
    " SELECT :community, contact, :brand, tier, points, :now"
    " FROM unnest(CAST(:contacts AS uuid[]), CAST(:tiers AS text[]), CAST(:points AS bigint[]))"
    " AS joining(contact, tier, points) ON CONFLICT DO NOTHING RETURNING contact_id"
)


@dataclass(frozen=True, slots=True)
class NewMember:
    """A person as imported. ``identifiers`` are (kind, as written); at least one."""

    identifiers: Sequence[tuple[IdentifierKind, str]]
    tags: Sequence[str] = ()
    locale: str | None = None
    country: str | None = None
    currency: str | None = None
    tier: str = ""
    points: int = 0


@dataclass(frozen=True, slots=True)
class RowError:
    """``row`` counts from 1, as the caller's list or file does."""

    row: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class MembersAdded:
    """``added`` joined now, ``already`` were members before; ``new_contacts`` were unknown to the brand."""

    added: int
    already: int
    new_contacts: int
    errors: tuple[RowError, ...] = ()
    contact_ids: tuple[ContactId | None, ...] = ()
    """By row; ``None`` where the row failed."""


@dataclass(slots=True)
class _Row:
    number: int
    member: NewMember
    tags: list[str]
    keys: dict[tuple[IdentifierKind, bytes], str]
    contact_id: ContactId | None = None


@dataclass(slots=True)
class _Plan:
    rows: list[_Row] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    new: dict[ContactId, _Row] = field(default_factory=dict)


async def add_members(
    session: AsyncSession,
    actor: Actor,
    community_id: CommunityId,
    members: Sequence[NewMember],
    *,
    vault: IdentityVault,
    clock: Clock,
) -> MembersAdded:
    """Add people to a community of the actor's brand. Importing the same rows again changes nothing.

    A bad row is reported with its number and code and the others go in. Raises ``BatchTooLarge``,
    ``CommunityNotFound``.
    """
    actor.require("audiences:write")
    if len(members) > LARGEST_BATCH:
        raise BatchTooLarge(LARGEST_BATCH, len(members))
    community = await queries.community(session, actor, community_id)
    brand_id, now = community.brand_id, clock.now()
    plan = _checked(brand_id, members, vault)
    await session.execute(_ONE_IMPORT, {"brand": str(brand_id)})
    _resolve(plan, await _known(session, brand_id, plan.rows))
    await _insert_people(session, brand_id, plan, vault, default_locale=community.locale, now=now)
    joining = list({row.contact_id: row for row in plan.rows if row.contact_id is not None}.values())
    added = await _join(session, brand_id, community_id, joining, now)
    by_number = {row.number: row.contact_id for row in plan.rows}
    return MembersAdded(
        added=added,
        already=len(joining) - added,
        new_contacts=len(plan.new),
        errors=tuple(sorted(plan.errors, key=lambda error: error.row)),
        contact_ids=tuple(by_number.get(number) for number in range(1, len(members) + 1)),
    )


def _checked(brand_id: BrandId, members: Sequence[NewMember], vault: IdentityVault) -> _Plan:
    plan = _Plan()
    for number, member in enumerate(members, start=1):
        try:
            plan.rows.append(_checked_row(brand_id, number, member, vault))
        except Invalid as error:
            plan.errors.append(RowError(number, error.code, error.message))
    return plan


def _checked_row(brand_id: BrandId, number: int, member: NewMember, vault: IdentityVault) -> _Row:
    if not 1 <= len(member.identifiers) <= MOST_IDENTIFIERS:
        raise NoIdentifier(f"a member needs 1 to {MOST_IDENTIFIERS} identifiers", field="identifiers")
    keys = {}
    for kind, value in member.identifiers:
        plain = normalise(kind, value)
        keys[kind, vault.key(brand_id, kind, plain)] = plain
    if member.locale is not None:
        checks.checked_locale(member.locale)
    if member.country is not None:
        checks.checked_region(member.country, field="country")
    checks.checked_currency(member.currency)
    if len(member.tier) > _LONGEST_TIER or not 0 <= member.points <= _MOST_POINTS:
        raise BadAudienceField("tier or points out of range", field="tier")
    return _Row(number, member, checks.checked_tags(member.tags), keys)


async def _known(
    session: AsyncSession, brand_id: BrandId, rows: Sequence[_Row]
) -> dict[tuple[IdentifierKind, bytes], ContactId]:
    wanted = list({key for row in rows for key in row.keys})
    if not wanted:
        return {}
    found = await session.execute(
        _KNOWN,
        {"brand": brand_id, "kinds": [kind.value for kind, _ in wanted], "keys": [key for _, key in wanted]},
    )
    return {(IdentifierKind(row.kind), bytes(row.subject_key)): ContactId.of(row.contact_id) for row in found}


def _resolve(plan: _Plan, known: dict[tuple[IdentifierKind, bytes], ContactId]) -> None:
    """Give every row its contact; rows of one batch that share an identifier are one person."""
    kept = []
    for row in plan.rows:
        owners = {known[key] for key in row.keys if key in known}
        if len(owners) > 1:
            error = IdentifiersDisagree("these identifiers belong to two different contacts")
            plan.errors.append(RowError(row.number, error.code, error.message))
            continue
        row.contact_id = owners.pop() if owners else ContactId.new()
        if not any(key in known for key in row.keys):
            plan.new[row.contact_id] = row
        known.update(dict.fromkeys(row.keys, row.contact_id))
        kept.append(row)
    plan.rows = kept


async def _insert_people(
    session: AsyncSession,
    brand_id: BrandId,
    plan: _Plan,
    vault: IdentityVault,
    *,
    default_locale: str,
    now: datetime,
) -> None:
    contacts = [
        {
            "id": contact_id, "brand_id": brand_id, "locale": row.member.locale or default_locale,
            "country": row.member.country, "currency": row.member.currency, "created_at": now,
        }
        for contact_id, row in plan.new.items()
    ]  # fmt: skip
    identifiers: list[dict[str, Any]] = [
        {
            "brand_id": brand_id, "kind": kind, "subject_key": key,
            "ciphertext": vault.seal(brand_id, kind, plain), "contact_id": row.contact_id,
        }
        for row in plan.rows
        for (kind, key), plain in row.keys.items()
    ]  # fmt: skip
    tags = [
        {
            "contact_id": row.contact_id, "tag": tag, "brand_id": brand_id, "source": TagSource.IMPORTED,
            "confidence_ppm": WHOLE_CONFIDENCE_PPM, "tagged_at": now,
        }
        for row in plan.rows
        for tag in row.tags
    ]  # fmt: skip
    for statement, rows in ((_NEW_CONTACTS, contacts), (_NEW_IDENTIFIERS, identifiers), (_NEW_TAGS, tags)):
        if rows:
            await session.execute(statement, rows)


async def _join(
    session: AsyncSession,
    brand_id: BrandId,
    community_id: CommunityId,
    rows: Sequence[_Row],
    now: datetime,
) -> int:
    if not rows:
        return 0
    joined = await session.execute(
        _JOIN,
        {
            "community": community_id, "brand": brand_id, "now": now,
            "contacts": [row.contact_id for row in rows],
            "tiers": [row.member.tier for row in rows],
            "points": [row.member.points for row in rows],
        },
    )  # fmt: skip
    return len(joined.all())
