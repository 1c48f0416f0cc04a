"""Drafts of invitations, and which step leads from which state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, InvitationId
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.promotion import queries, service
from marketplace.promotion.agreements.inviting import INVITATION_LIFE
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import BadTerms, InvitationNotFound, InvitationNotOpen
from marketplace.promotion.models import InvitationStatus
from tests.factories import promotion as make
from tests.factories.brands import brand_actor

MERCHANT, PROMOTER = (brand_actor(BrandId.new()) for _ in range(2))
DRAFT, SENT, ACCEPTED, DECLINED, EXPIRED, WITHDRAWN = InvitationStatus
BETTER = Terms.flat(150_000)


async def drafted(session: AsyncSession, clock: FixedClock) -> InvitationId:
    await make.known(session, clock, MERCHANT, PROMOTER)
    return await service.draft_invitation(
        session, MERCHANT, advertiser_id=MERCHANT.brand_id, promoter_brand_id=PROMOTER.brand_id,
        terms=make.TEN_PERCENT,
    )  # fmt: skip


async def test_a_draft_is_edited_and_sent_and_its_time_runs_from_then(
    session: AsyncSession, clock: FixedClock
) -> None:
    id = await drafted(session, clock)
    clock.advance(timedelta(days=40))
    await service.revise_invitation(session, MERCHANT, id, terms=BETTER, message="let us talk")
    with pytest.raises(BadTerms):
        await service.revise_invitation(session, MERCHANT, id, terms=Terms(()))
    unsent = await queries.invitation(session, MERCHANT, id, at=clock.now())
    assert (unsent.status, unsent.sent_at, unsent.expires_at, unsent.terms) == (DRAFT, None, None, BETTER)

    await service.send_invitation(session, MERCHANT, id, clock=clock)

    seen = await queries.invitation(session, PROMOTER, id, at=clock.now())
    assert (seen.status, seen.sent_at, seen.expires_at, seen.message) == (
        SENT, clock.now(), clock.now() + INVITATION_LIFE, "let us talk",
    )  # fmt: skip


Step = Callable[..., Awaitable[Any]]
STEPS: dict[str, tuple[Any, Step, dict[str, Any]]] = {
    "revise": (MERCHANT, service.revise_invitation, {"terms": BETTER}),
    "send": (MERCHANT, service.send_invitation, {"clock": True}),
    "withdraw": (MERCHANT, service.withdraw, {"clock": True}),
    "accept": (PROMOTER, service.accept, {"clock": True}),
    "decline": (PROMOTER, service.decline, {"clock": True}),
    "counter": (PROMOTER, service.counter, {"terms": BETTER, "clock": True}),
}
MACHINE = {
    (DRAFT, "revise"): DRAFT, (DRAFT, "send"): SENT, (DRAFT, "withdraw"): WITHDRAWN,
    (SENT, "withdraw"): WITHDRAWN, (SENT, "accept"): ACCEPTED, (SENT, "decline"): DECLINED,
    (SENT, "counter"): DECLINED,
}  # fmt: skip
PATHS: dict[InvitationStatus, list[str]] = {
    DRAFT: [], SENT: ["send"], ACCEPTED: ["send", "accept"], DECLINED: ["send", "decline"],
    EXPIRED: ["send", "expire"], WITHDRAWN: ["send", "withdraw"],
}  # fmt: skip


async def _take(session: AsyncSession, clock: FixedClock, id: InvitationId, name: str) -> None:
    if name == "expire":
        clock.advance(INVITATION_LIFE)
        return
    actor, step, given = STEPS[name]
    await step(session, actor, id, **{**given, **({"clock": clock} if "clock" in given else {})})


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("source", PATHS)
async def test_states_change_only_along_the_machine(
    session: AsyncSession, clock: FixedClock, source: InvitationStatus, step: str
) -> None:
    id = await drafted(session, clock)
    for name in PATHS[source]:
        await _take(session, clock, id, name)
    target = MACHINE.get((source, step))
    if target is None:
        with pytest.raises((InvitationNotOpen, InvitationNotFound)):
            await _take(session, clock, id, step)
        target = source
    else:
        await _take(session, clock, id, step)
    assert (await queries.invitation(session, MERCHANT, id, at=clock.now())).status is target


async def test_a_draft_is_its_authors_alone_discarded_or_not(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        kept, discarded = await drafted(session, clock), await drafted(session, clock)
    async with db.unit_of_work(MERCHANT) as session:
        await service.withdraw(session, MERCHANT, discarded, clock=clock)
    for actor, seen in ((MERCHANT, 2), (PROMOTER, 0)):
        async with db.reading(actor) as session:
            page = await queries.invitations_page(session, actor, PageRequest(), at=clock.now())
            assert len(page.items) == seen
            assert await session.scalar(text("SELECT count(*) FROM invitations")) == seen
    async with db.unit_of_work(PROMOTER) as session:
        for verb in (service.accept, service.decline, service.send_invitation, service.withdraw):
            with pytest.raises(InvitationNotFound):
                await verb(session, PROMOTER, kept, clock=clock)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invitations SET status = 'SENT'",
        "UPDATE invitations SET sent_at = now(), expires_at = now()",
        "UPDATE invitations SET offer_version = 1",
    ],
)
async def test_the_database_knows_a_draft_from_what_was_sent(
    session: AsyncSession, clock: FixedClock, statement: str
) -> None:
    await drafted(session, clock)
    with pytest.raises(DBAPIError):
        async with session.begin_nested():
            await session.execute(text(statement))
