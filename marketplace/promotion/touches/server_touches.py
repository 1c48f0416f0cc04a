"""Touches that a brand's own server tells of: up to 1,000 at once, each counted once, each judged by itself.

For what the edge never sees: a click inside a mini-program, a scan of a till, a contact who was added, a group that
was joined. Both sides of a link may tell. An event id of the brand counts once: told again it gives the same touch,
told with other facts it is refused. A lead binds its contact for the days of the agreement version in force at that
moment; while it binds, another lead of the same contact under the same agreement is a repeat and extends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.canonical import canonical_json
from core.clock import Clock
from core.errors import LianyuError
from core.ids import AgreementId, BrandId, ContactId, LinkId, TouchId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from infra.db.session import driver_connection
from infra.db.text import storable
from marketplace.audiences import queries as audiences
from marketplace.audiences.errors import ContactNotFound
from marketplace.promotion import queries
from marketplace.promotion.errors import BadTouch, BatchTooLarge, LinkNotFound, RowError, TouchEventReused
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.queries import VersionRow
from marketplace.promotion.reach_models import LeadKind, TouchEvent
from marketplace.promotion.touches.bots import is_bot
from marketplace.promotion.touches.clicks import Click, insert_clicks
from marketplace.promotion.touches.touch_token import TouchSigner

LARGEST_BATCH = 1000
OLDEST = timedelta(hours=72)
"""A touch told later than this cannot be told from one that was made up after the order."""
CLOCK_SKEW = timedelta(seconds=60)
REPEAT_WITHIN = timedelta(seconds=30)
_LONGEST_ID, _LONGEST_AGENT = 128, 1_000
_TOLD = frozenset({TouchKind.CLICK, TouchKind.SCAN, TouchKind.LEAD})
_EVENTS = table_of(TouchEvent)

# Two batches of one brand take turns: an event id counts once, and a contact is bound once.
_ONE_TELLER = text("SELECT pg_advisory_xact_lock(hashtextextended(:brand, 19))")
_KNOWN = text(
    "SELECT e.event_id, e.body_hash, e.touch_id, e.link_id, e.at, e.lead, e.binds_until, t.duplicate_of"
    " FROM touch_events e LEFT JOIN touches t ON t.id = e.touch_id"
    " WHERE e.brand_id = :brand AND e.event_id = ANY(:events)"
)
_LINKS = text(
    "SELECT id, code, agreement_id, advertiser_id, promoter_brand_id, created_at FROM tracked_links"
    " WHERE (code = ANY(:codes) OR id = ANY(:ids)) AND (promoter_brand_id = :brand OR advertiser_id = :brand)"
)
_BOUND = text(
    "SELECT e.contact_id, l.agreement_id, e.touch_id, e.at, e.binds_until FROM touch_events e"
    " JOIN tracked_links l ON l.id = e.link_id JOIN touches t ON t.id = e.touch_id AND t.duplicate_of IS NULL"
    " WHERE e.brand_id = :brand AND e.lead IS NOT NULL AND e.contact_id = ANY(:contacts) AND e.binds_until > :since"
)
_RECENT = text(
    "SELECT id, link_id, session_key, at FROM touches WHERE session_key = ANY(:sessions) AND duplicate_of IS NULL"
    " AND at BETWEEN :since AND :until ORDER BY at"
)


@dataclass(frozen=True, slots=True)
class ToldTouch:
    """One touch as a server tells it. The link by its code or its id. ``session`` is the server's own name for a
    visit, so that a repeat is known; ``contact_id`` a contact of the telling brand."""

    event_id: str
    kind: TouchKind
    at: datetime
    link_code: str | None = None
    link_id: LinkId | None = None
    lead: LeadKind | None = None
    contact_id: ContactId | None = None
    session: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedTouch:
    """``token`` is the signed touch to pass on at checkout (none for a lead). ``replayed``: it was told before."""

    row: int
    event_id: str
    touch_id: TouchId
    token: str | None
    replayed: bool
    repeat: bool
    binds_until: datetime | None


@dataclass(frozen=True, slots=True)
class Recorded:
    touches: tuple[RecordedTouch, ...]
    errors: tuple[RowError, ...]


@dataclass(frozen=True, slots=True)
class _Link:
    id: LinkId
    agreement_id: AgreementId | None
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    created_at: datetime


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the rows of one batch name, as far as the telling brand may name it."""

    brand_id: BrandId
    now: datetime
    by_code: Mapping[str, _Link]
    by_id: Mapping[LinkId, _Link]
    contacts: frozenset[ContactId]
    versions: Mapping[AgreementId, Sequence[VersionRow]]


@dataclass(slots=True)
class _Seen:
    """First touches that a later one may repeat; grows as the batch is gone through."""

    bound: dict[tuple[ContactId, AgreementId], tuple[TouchId, datetime, datetime]] = field(
        default_factory=dict
    )
    visits: dict[tuple[bytes, LinkId], tuple[TouchId, datetime]] = field(default_factory=dict)


async def record_touches(
    session: AsyncSession,
    actor: Actor,
    touches: Sequence[ToldTouch],
    *,
    all_or_none: bool = False,
    signer: TouchSigner,
    clock: Clock,
) -> Recorded:
    """Store what is new; nine statements for any number of rows. Raises ``BatchTooLarge``.

    A bad row is named in ``errors`` and the others are taken; with ``all_or_none`` none is then.
    """
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    if not 1 <= len(touches) <= LARGEST_BATCH:
        raise BatchTooLarge(LARGEST_BATCH, len(touches), field="touches")
    brand_id, now = actor.brand_id, clock.now()
    errors: dict[int, LianyuError] = {}
    rows = _well_formed(touches, now, errors)
    await session.execute(_ONE_TELLER, {"brand": str(brand_id)})
    known = await _known(session, brand_id, rows.values())
    fresh = {n: told for n, told in rows.items() if told.event_id not in known}
    facts = await _facts(session, actor, list(fresh.values()), now)
    seen = await _seen(session, actor, list(fresh.values()), facts, signer)
    clicks: list[Click] = []
    events: list[dict[str, Any]] = []
    done: list[RecordedTouch] = []
    for number, told in rows.items():
        try:
            before = known.get(told.event_id)
            if before is None:
                click, event = _new(told, facts, seen, signer)
                clicks.append(click)
                events.append(event)
                known[told.event_id] = {**event, "duplicate_of": click.duplicate_of}
                done.append(_recorded(number, told, known[told.event_id], signer, replayed=False))
            elif bytes(before["body_hash"]) != _hash(told):
                raise TouchEventReused("this event id was used for another touch", field="eventId")
            else:
                done.append(_recorded(number, told, before, signer, replayed=True))
        except LianyuError as error:
            errors[number] = error
    failed = tuple(RowError(number, errors[number]) for number in sorted(errors))
    if failed and all_or_none:
        return Recorded((), failed)
    await insert_clicks(await driver_connection(session), clicks)
    await insert_rows(session, _EVENTS, events)
    return Recorded(tuple(done), failed)


def _well_formed(
    touches: Sequence[ToldTouch], now: datetime, errors: dict[int, LianyuError]
) -> dict[int, ToldTouch]:
    rows = {}
    for number, told in enumerate(touches, start=1):
        try:
            _check(told, now)
        except LianyuError as error:
            errors[number] = error
        else:
            rows[number] = told
    return rows


def _check(told: ToldTouch, now: datetime) -> None:
    _require(_is_id(told.event_id), "eventId", f"1 to {_LONGEST_ID} printable ASCII letters without spaces")
    _require(told.kind in _TOLD, "kind", "a click, a scan or a lead; a coupon is entered at the checkout")
    _require(now - OLDEST <= told.at <= now + CLOCK_SKEW, "at", "within the last 72 hours, and not to come")
    _require((told.link_code is None) != (told.link_id is None), "linkCode", "the link's code or its id")
    _require(told.link_code is None or _is_id(told.link_code), "linkCode", "the code of a link")
    _require((told.kind is TouchKind.LEAD) == (told.lead is not None), "lead", "for a lead, and only for one")
    _require(told.lead is None or told.contact_id is not None, "contactId", "a lead is somebody's")
    _require(told.session is None or _is_id(told.session), "session", f"1 to {_LONGEST_ID} ASCII letters")
    agent = told.user_agent
    fits = agent is None or (len(agent) <= _LONGEST_AGENT and storable(agent))
    _require(fits, "userAgent", f"at most {_LONGEST_AGENT} characters")


async def _known(
    session: AsyncSession, brand_id: BrandId, rows: Iterable[ToldTouch]
) -> dict[str, Mapping[str, Any]]:
    wanted = {"brand": brand_id, "events": [told.event_id for told in rows]}
    found = await session.execute(_KNOWN, wanted)
    return {row.event_id: dict(row._mapping) for row in found}


async def _facts(session: AsyncSession, actor: Actor, rows: Sequence[ToldTouch], now: datetime) -> _Facts:
    wanted = {
        "codes": list({told.link_code for told in rows if told.link_code is not None}),
        "ids": list({told.link_id for told in rows if told.link_id is not None}), "brand": actor.brand_id,
    }  # fmt: skip
    found = (await session.execute(_LINKS, wanted)).all() if rows else []
    by_code = {row.code: _link(row) for row in found}
    by_id = {link.id: link for link in by_code.values()}
    named = {told.contact_id for told in rows if told.contact_id is not None}
    contacts = await audiences.own_contacts(session, actor, list(named)) if named else set()
    leads = [told for told in rows if told.lead is not None]
    agreements = {link.agreement_id for link in by_id.values() if link.agreement_id is not None}
    versions = await queries.versions_of(session, list(agreements)) if leads and agreements else {}
    return _Facts(actor.brand_id, now, by_code, by_id, frozenset(contacts), versions)


def _link(row: Row[Any]) -> _Link:
    agreement = None if row.agreement_id is None else AgreementId.of(row.agreement_id)
    parties = BrandId.of(row.advertiser_id), BrandId.of(row.promoter_brand_id)
    return _Link(LinkId.of(row.id), agreement, *parties, row.created_at)


async def _seen(
    session: AsyncSession, actor: Actor, rows: Sequence[ToldTouch], facts: _Facts, signer: TouchSigner
) -> _Seen:
    """What these rows may repeat, of before this batch."""
    seen = _Seen()
    bound = [told.contact_id for told in rows if told.lead is not None and told.contact_id in facts.contacts]
    if bound:
        wanted = {"brand": actor.brand_id, "contacts": bound, "since": facts.now - OLDEST}
        for row in await session.execute(_BOUND, wanted):
            if row.agreement_id is not None:
                key = (ContactId.of(row.contact_id), AgreementId.of(row.agreement_id))
                seen.bound[key] = (TouchId.of(row.touch_id), row.at, row.binds_until)
    visits = [told for told in rows if told.session is not None]
    if visits:
        keys = {_session_key(told, actor.brand_id, signer) for told in visits}
        first, last = min(told.at for told in visits), max(told.at for told in visits)
        period = {"sessions": list(keys), "since": first - REPEAT_WITHIN, "until": last}
        for row in await session.execute(_RECENT, period):
            seen.visits[bytes(row.session_key), LinkId.of(row.link_id)] = (TouchId.of(row.id), row.at)
    return seen


def _new(told: ToldTouch, facts: _Facts, seen: _Seen, signer: TouchSigner) -> tuple[Click, dict[str, Any]]:
    """A touch and its event, from a row that was not told before."""
    link = facts.by_code.get(told.link_code) if told.link_code is not None else None
    if told.link_id is not None:
        link = facts.by_id.get(told.link_id)
    if link is None:
        raise LinkNotFound("no such link", field="linkCode" if told.link_id is None else "linkId")
    if told.contact_id is not None and told.contact_id not in facts.contacts:
        raise ContactNotFound("this contact is not yours", field="contactId")
    at = min(told.at, facts.now)
    if at < link.created_at:
        raise BadTouch("at: the link was made later", field="at")
    touch_id = TouchId.new()
    binds_until = _binds_until(link, at, facts) if told.lead is not None else None
    if told.lead is not None:
        repeats = _repeated_lead(told, link, at, touch_id, binds_until, seen)
        binds_until = None if repeats else binds_until
    else:
        repeats = _repeated_visit(told, link, at, touch_id, facts.brand_id, seen, signer)
    agent = told.user_agent.encode() if told.user_agent is not None else None
    click = Click(
        touch_id,
        link.id,
        link.agreement_id,
        link.advertiser_id,
        link.promoter_brand_id,
        at,
        told.kind,
        None if told.session is None else _session_key(told, facts.brand_id, signer),
        told.contact_id,
        agent is not None and is_bot(agent),
        repeats,
        None,
        None if not agent else signer.trace(agent),
    )
    event = {
        "brand_id": facts.brand_id, "event_id": told.event_id, "body_hash": _hash(told), "touch_id": touch_id,
        "link_id": link.id, "at": at, "lead": told.lead, "contact_id": told.contact_id,
        "binds_until": binds_until, "received_at": facts.now,
    }  # fmt: skip
    return click, event


def _binds_until(link: _Link, at: datetime, facts: _Facts) -> datetime | None:
    """How long a lead of this moment binds, by the version in force then; ``None`` when it binds nobody."""
    if link.agreement_id is None:
        return None
    reached = [
        version
        for version in facts.versions.get(link.agreement_id, ())
        if version.in_force_from is not None and version.in_force_from <= at
    ]
    days = reached[-1].terms.lead_binding_days if reached else 0
    return at + timedelta(days=days) if days else None


def _repeated_lead(
    told: ToldTouch, link: _Link, at: datetime, touch_id: TouchId, binds_until: datetime | None, seen: _Seen
) -> TouchId | None:
    if told.contact_id is None or link.agreement_id is None:
        return None
    key = (told.contact_id, link.agreement_id)
    first = seen.bound.get(key)
    if first is not None and first[1] <= at < first[2]:
        return first[0]
    if binds_until is not None:
        seen.bound[key] = (touch_id, at, binds_until)
    return None


def _repeated_visit(
    told: ToldTouch,
    link: _Link,
    at: datetime,
    touch_id: TouchId,
    brand_id: BrandId,
    seen: _Seen,
    signer: TouchSigner,
) -> TouchId | None:
    if told.session is None:
        return None
    key = (_session_key(told, brand_id, signer), link.id)
    first = seen.visits.get(key)
    if first is not None and timedelta(0) <= at - first[1] <= REPEAT_WITHIN:
        return first[0]
    seen.visits[key] = (touch_id, at)
    return None


def _recorded(
    number: int, told: ToldTouch, event: Mapping[str, Any], signer: TouchSigner, *, replayed: bool
) -> RecordedTouch:
    touch_id, link_id = TouchId.of(event["touch_id"]), LinkId.of(event["link_id"])
    token = None if event["lead"] else signer.token(touch_id, link_id, event["at"])
    repeat = event["duplicate_of"] is not None
    return RecordedTouch(number, told.event_id, touch_id, token, replayed, repeat, event["binds_until"])


def _session_key(told: ToldTouch, brand_id: BrandId, signer: TouchSigner) -> bytes:
    """A visit by the server's own name for it, apart from every cookie and every other brand's names."""
    return signer.trace(b"server\0" + brand_id.bytes + (told.session or "").encode())


def _hash(told: ToldTouch) -> bytes:
    return hashlib.sha256(canonical_json(told).encode()).digest()


def _is_id(value: str) -> bool:
    return 1 <= len(value) <= _LONGEST_ID and value.isascii() and value.isprintable() and " " not in value


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadTouch(f"{field}: {allowed}", field=field)
