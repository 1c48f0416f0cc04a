"""How fast stored decisions are decided again: read from the database with their commission, recomputed, compared.

    .venv/bin/python -m benchmarks.verifying [--orders 2000] [--seconds 4]

The orders (three lines, one to three clicks, a person and a brand who share) are attributed by the handler's own
code into an embedded PostgreSQL, then verified over and over as `lianyu verify attribution` does, page by page.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from datetime import timedelta

import psutil  # type: ignore[import-untyped, unused-ignore]

from benchmarks.frame import Beside, Goal, Measured, Options, lines_of
from benchmarks.rules import yardstick
from benchmarks.servers import Platform, database_only
from core.actor import SYSTEM, Actor, ActorKind
from core.clock import SystemClock
from core.ids import DecisionId, OrderId, OrderLineId, ProductId, TouchId
from infra.db.session import Database, make_engine
from marketplace.audiences import service as audiences
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import CommunityChannel, PlacementKind
from marketplace.brands import onboarding
from marketplace.brands.models import TenantKind
from marketplace.brands.roles import BRAND_SCOPES
from marketplace.promotion import queries
from marketplace.promotion import service as promotion
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.decisions.verifying import PAGE, stored_decisions, verify
from marketplace.promotion.facts import ScopeKind
from marketplace.promotion.link_target import LinkTarget
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.models import PromoterKind
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from marketplace.promotion.touches.clicks import Click
from marketplace.promotion.touches.touch_token import TouchSigner

TARGET = 5_000
_SECRET = "a secret of the benchmarks, long enough to be one"
_TERMS = Terms(
    (Rule(50_000), Rule(80_000, ScopeKind.CATEGORY, "beauty/skin"), Rule(150_000, ScopeKind.SKU, "sku-7")),
    individual_ppm=600_000,
)
_AT_ONCE = 100


async def fill(db: Database, orders: int) -> None:
    """So many attributed orders of one agreement."""
    clock, signer, draw = SystemClock(), TouchSigner(_SECRET), random.Random(7)
    async with db.unit_of_work(SYSTEM) as session:
        merchant, promoter = [
            Actor(
                ActorKind.BRAND,
                (
                    await onboarding.onboard(
                        session, kind=TenantKind.BRAND, name=name, email=f"{name}@example.com", country="CN",
                        currency="CNY", clock=clock,
                    )
                ).tenant_id,
                scopes=BRAND_SCOPES,
            )
            for name in ("merchant", "promoter")
        ]  # fmt: skip
        invitation = await promotion.invite(
            session, merchant, advertiser_id=merchant.brand_id, promoter_brand_id=promoter.brand_id,
            terms=_TERMS, clock=clock,
        )  # fmt: skip
        opened = await promotion.accept(session, promoter, invitation, clock=clock)
        for side in (merchant, promoter):
            await promotion.sign_agreement(
                session, side, opened.agreement_id, content_hash=opened.content_hash, clock=clock
            )
        community = await audiences.create_community(
            session, promoter, name="Readers", channel=CommunityChannel.WECOM_GROUP, clock=clock
        )
        slot = await audiences.create_placement(
            session, promoter, community_id=community, kind=PlacementKind.POST, name="post", clock=clock
        )
        person = await promotion.create_promoter(
            session, promoter, name="Mei", kind=PromoterKind.KOC, vault=IdentityVault(_SECRET), clock=clock
        )
        made = await promotion.create_link(
            session, promoter, agreement_id=opened.agreement_id, placement_id=slot, promoter_id=person,
            destination="https://shop.example.com/", policy=DestinationPolicy(), clock=clock,
        )  # fmt: skip
        link = await queries.link_by_code(session, made.code)
    assert link is not None
    for start in range(0, orders, _AT_ONCE):
        async with db.unit_of_work(SYSTEM) as session:
            for _ in range(min(_AT_ONCE, orders - start)):
                tokens = []
                for ago in range(draw.randrange(1, 4)):
                    click = _click(link, clock, timedelta(milliseconds=ago))
                    await promotion.record_clicks(session, [click])
                    tokens.append(signer.token(click.id, click.link_id, click.at))
                await promotion.attribute(
                    session, _order(link, tokens, clock, draw), signer=signer, clock=clock
                )


def _click(link: LinkTarget, clock: SystemClock, ago: timedelta) -> Click:
    at = clock.now() - ago
    return Click(TouchId.new(), link.id, link.agreement_id, link.advertiser_id, link.promoter_brand_id, at)


def _order(
    link: LinkTarget, tokens: Sequence[str], clock: SystemClock, draw: random.Random
) -> OrderForAttribution:
    lines = [
        LineForAttribution(
            OrderLineId.new(), ProductId.new(), f"sku-{draw.randrange(20)}", draw.choice(("beauty/skin", "tea")),
            quantity=1, gross_minor=draw.randrange(100, 50_000), tax_ppm=130_000,
        )
        for _ in range(3)
    ]  # fmt: skip
    now = clock.now()
    return OrderForAttribution(
        OrderId.new(), link.advertiser_id, "CNY", now, lines, touch_tokens=tokens, paid_at=now,
        buyer_keys=frozenset({OrderId.new().hex * 2}),
    )  # fmt: skip


async def verify_pages(db: Database) -> int:
    """All of them, as the command does; how many. Raises ``SystemExit`` when one differs."""
    after, checked = DecisionId(int=0), 0
    while True:
        async with db.reading(SYSTEM) as session:
            page = await stored_decisions(session, after=after)
        for stored in page:
            if found := verify(stored).differences:
                raise SystemExit(f"{stored.order_id}: {found}")
        checked += len(page)
        if len(page) < PAGE:
            return checked
        after = DecisionId.parse(page[-1].decision_id)


async def _measured(servers: Platform, orders: int, seconds: float) -> Measured:
    db = Database(make_engine(servers.application_url()))
    rates, steps, cpu = list[float](), list[float](), list[float]()
    try:
        await fill(db, orders)
        began = time.monotonic()
        while time.monotonic() - began < seconds or not rates:
            wall, spent = time.perf_counter(), time.process_time()
            checked = await verify_pages(db)
            rates.append(checked / (time.perf_counter() - wall))
            cpu.append(1000 * (time.process_time() - spent) / checked)
            steps.append(yardstick())
    finally:
        await db.close()
    return Measured(
        "verifying",
        "stored decisions of three lines, read, decided again and compared",
        1,
        orders * len(rates),
        statistics.median(rates),
        cpu_ms={"verifier": statistics.median(cpu)},
        memory_mib=psutil.Process().memory_info().rss / 2**20,
        beside=[
            Beside(f"the target of {TARGET:,}/s", TARGET, [rate / TARGET for rate in rates], Goal(1.0)),
            Beside(
                "a million steps of an empty loop",
                statistics.median(steps),
                [rate / step for rate, step in zip(rates, steps, strict=True)],
                unit=" M/s",
            ),
        ],
    )


def verifying(options: Options, *, orders: int = 2_000) -> list[Measured]:
    with database_only() as servers:
        return [asyncio.run(_measured(servers, orders, options.seconds))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--orders", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    print("\n".join(lines_of(verifying(Options(given.seconds), orders=given.orders))))


if __name__ == "__main__":
    main()
