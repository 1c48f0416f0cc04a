"""Accounts that no public interface gives: the operator's, and a token that was lost with a killed seeding."""

from __future__ import annotations

from sqlalchemy import text

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import Clock
from core.ids import TenantId, UserId
from infra.db.session import Database
from marketplace.brands import service
from marketplace.brands.errors import EmailTaken
from marketplace.brands.models import TenantKind
from marketplace.brands.roles import Role, scopes_of

_ACCOUNT = text(
    "SELECT u.id AS user_id, t.id AS tenant_id, t.kind FROM users u JOIN memberships m ON m.user_id = u.id"
    " JOIN tenants t ON t.id = m.tenant_id WHERE u.email = :email"
)


async def operator(db: Database, *, email: str, clock: Clock) -> str:
    """A token of the platform's operator: a new one, or a further one for who is already there."""
    try:
        async with db.unit_of_work(SYSTEM) as session:
            made = await service.sign_up(
                session,
                kind=TenantKind.PLATFORM,
                name="Lianyu Operations",
                email=email,
                country="CN",
                currency="CNY",
                clock=clock,
            )
            return made.token
    except EmailTaken:
        return (await further_token(db, email=email, clock=clock))[1]


async def further_token(db: Database, *, email: str, clock: Clock) -> tuple[TenantId, str]:
    """Whose account ``email`` owns, and a new token for it with the owner's rights."""
    async with db.unit_of_work(SYSTEM) as session:
        found = (await session.execute(_ACCOUNT, {"email": email})).one()
        kind = TenantKind(found.kind)
        scopes = scopes_of(Role.OWNER, kind)
        owner = Actor(
            ActorKind(kind.value),
            tenant_id=TenantId.of(found.tenant_id),
            user_id=UserId.of(found.user_id),
            scopes=scopes,
        )
        issued = await service.issue_token(
            session, owner, name="demo market", scopes=scopes, expires_at=None, clock=clock
        )
    return TenantId.of(found.tenant_id), issued.token
