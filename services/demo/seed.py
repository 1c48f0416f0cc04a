"""Fill an empty platform with the demo market, once, through its public interfaces.

What was done is written down as it is done (`market.json` of the data directory). Killed in the middle, the next
call goes on: it looks for what is there before it makes anything, and imports that are repeated change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from infra.config import Settings
from services.demo import accounts
from services.demo.http_clients import Patience, client, each
from services.demo.market import SEED, generate
from services.demo.notebook import FILE, Notebook
from services.demo.seed_brands import Seeder, seed_brand
from services.demo.seed_offers import seed_campaign
from services.demo.seed_promotion import seed_agreement, seed_community, seed_links, seed_promoters
from services.demo.seed_reach import seed_codes, seed_prints, seed_profile
from services.demo.seed_supply import seed_supplier
from services.wiring import make_clock, make_database

T = TypeVar("T")
OPERATOR = "operator@lianyu.example.com"
_AT_ONCE = 4


def ensure_seeded(settings: Settings) -> dict[str, str]:
    """One key of each kind: ``brand``, ``storefront``, ``supplier``, ``operator``, ``paysim``. Safe to repeat."""
    return asyncio.run(_ensure_seeded(settings))


async def _ensure_seeded(settings: Settings) -> dict[str, str]:
    notes = Notebook(settings.data_dir / FILE)
    market = generate(notes.get("seed") or SEED)
    if "done" not in notes:
        db, clock = make_database(settings), make_clock(settings)
        try:
            async with client() as http:
                await _seed(Seeder(settings, market, notes, db, clock, http, Patience(30.0)))
        finally:
            await db.close()
        notes.update({"seed": market.seed, "done": True})
    return {
        "brand": notes[f"token:{market.brands[0].key}"],
        "storefront": notes[f"storefront:{market.brands[0].key}:0"],
        "supplier": notes[f"token:{market.suppliers[0].code}"],
        "operator": notes["token:operator"],
        "paysim": settings.stripe_api_key.get_secret_value(),
    }


async def _seed(seeder: Seeder) -> None:
    """In stages: what needs nothing first. Within a stage, several at once."""
    market = seeder.market
    if "token:operator" not in seeder.notes:
        token = await accounts.operator(seeder.db, email=OPERATOR, clock=seeder.clock)
        seeder.notes.update({"token:operator": token})
    await _all(seeder, seed_brand, market.brands)
    await _all(seeder, seed_supplier, market.suppliers)
    await _all(seeder, seed_promoters, market.brands)
    await _all(seeder, seed_community, market.communities)
    await _all(seeder, seed_profile, market.brands)
    await _all(seeder, seed_campaign, market.brands)
    await _all(seeder, seed_agreement, market.agreements)
    await _all(seeder, seed_links, market.communities)
    await _all(seeder, seed_codes, market.brands)
    await _all(seeder, seed_prints, market.communities)


async def _all(seeder: Seeder, work: Callable[[Seeder, T], Awaitable[Any]], items: Sequence[T]) -> None:
    async def one(item: T) -> None:
        await work(seeder, item)

    await each(list(items), one, at_once=_AT_ONCE)
