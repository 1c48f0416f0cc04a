"""`./dev bench [name…] [--json FILE]`: the benchmarks, all of them unless named. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import (
    attributable,
    checkout,
    clicks,
    closing,
    edge,
    floods,
    inventory,
    posting,
    rules,
    storefront,
    verifying,
)
from benchmarks.frame import Measured, Options, lines_of
from benchmarks.market import Market, fill
from benchmarks.servers import Platform, platform
from infra.db.session import Database, make_engine

ON_THE_MARKET: dict[str, Callable[[Platform, Market, Options], list[Measured]]] = {
    "storefront_list": storefront.storefront_list,
    "product_page": storefront.product_page,
    "checkout": checkout.checkout,
}

BY_THEMSELVES: dict[str, Callable[[Options], list[Measured]]] = {
    "redirect": lambda options: edge.redirect(options.seconds / 2, clients=32),
    "clicks": clicks.clicks,
    "attributable": attributable.attributable,
    "posting": posting.posting,
    "inventory": lambda options: inventory.reservations(
        writers=16, seconds=options.seconds, rounds=options.rounds
    ),
    "rules": lambda options: rules.rules(options.seconds),
    "verifying": verifying.verifying,
    "floods": floods.floods,
    "closing": closing.closing,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    names, usual = [*ON_THE_MARKET, *BY_THEMSELVES], Options()
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--clients", type=int, default=usual.clients, help="of the storefront")
    given = parser.parse_args(argv)
    if unknown := set(given.names) - set(names):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    options = Options(given.seconds, given.rounds, given.clients)
    measured = run(given.names or names, options)
    if given.json:
        given.json.write_text(json.dumps([each.as_json() for each in measured], indent=2, ensure_ascii=False))


def run(names: Sequence[str], options: Options) -> list[Measured]:
    """Those named, shown as they come; the market is made once for all that need it."""
    measured: list[Measured] = []
    wanted = [name for name in names if name in ON_THE_MARKET]
    if wanted:
        say("starting PostgreSQL and paysim, making a market")
        with platform() as servers:
            market = asyncio.run(_filled(servers))
            for name in wanted:
                measured += _shown(name, partial(ON_THE_MARKET[name], servers, market, options))
    for name in names:
        if name in BY_THEMSELVES:
            measured += _shown(name, partial(BY_THEMSELVES[name], options))
    return measured


def _shown(name: str, take: Callable[[], list[Measured]]) -> list[Measured]:
    say(f"measuring {name}")
    started = time.monotonic()
    measured = take()
    print("\n".join([*lines_of(measured), ""]), flush=True)
    say(f"{name} took {time.monotonic() - started:.0f} s")
    return measured


async def _filled(servers: Platform) -> Market:
    db = Database(make_engine(servers.application_url()))
    try:
        return await fill(db)
    finally:
        await db.close()
        servers.postgres.execute("VACUUM ANALYZE", database="lianyu")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
