"""`lianyu verify attribution`: over the database, and over what a brand was told, without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import text
from typer.testing import CliRunner

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId
from infra.db.session import Database
from services.cli import build
from tests.conftest import TestDatabase
from tests.factories import orders, promotion
from tests.factories.filled_market import token_of
from tests.fixtures.http import serving

EXPLAIN = """query ($id: ID!) { explainAttribution(orderId: $id) { orderId decisionId input inputHash amounts
  amountsHash resultHash verified lines { orderLineId agreementId agreementVersion ruleId ratePpm basis { minorUnits }
  commission { minorUnits } returnWindowDays shares { role payee earned { minorUnits } } } } }"""

_COPIES = text(
    "INSERT INTO attribution_decisions SELECT uuidv7(), uuidv7(), advertiser_id, promoter_brand_ids, rule_version,"
    " input, input_hash, amounts, amounts_hash, result, result_hash, decided_at"
    " FROM attribution_decisions, generate_series(1, 1500)"
)


@dataclass(frozen=True, slots=True)
class Sold:
    """An order, and what its advertiser, its promoter and somebody else were told of it."""

    order_id: OrderId
    advertiser: dict[str, Any]
    promoter: dict[str, Any]
    stranger: dict[str, Any]


@pytest.fixture
async def sold(db: Database, clock: FixedClock) -> Sold:
    shop, other = await orders.open_shop(db, clock), await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.promotion, clock)
        token = await promotion.click(session, link, clock.now())
    clock.advance(timedelta(minutes=5))
    order_id = await orders.paid_order(db, shop, clock, quantity=2, tokens=[token])
    sides = (shop.promotion.merchant, shop.promotion.promoter, other.promotion.merchant)
    async with serving(db, clock) as served:
        told = [
            await served.brand(EXPLAIN, {"id": str(order_id)}, token=await token_of(db, clock, side))
            for side in sides
        ]
    return Sold(order_id, *told)


@pytest.fixture
def lianyu(postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    async def run(*arguments: str, database: bool = True) -> Result:
        monkeypatch.setenv(
            "APP_DATABASE_URL", postgres.url() if database else "postgresql://127.0.0.1:9/none"
        )
        return await asyncio.to_thread(CliRunner().invoke, build(), ["verify", "attribution", *arguments])

    return run


def saved(tmp_path: Path, answer: Any) -> str:
    file = tmp_path / "explained.json"
    file.write_text(json.dumps(answer), encoding="utf-8")
    return str(file)


async def test_either_brand_verifies_without_the_platform_and_finds_the_same_hashes(
    sold: Sold, lianyu: Callable[..., Any], tmp_path: Path
) -> None:
    reports = []
    for answer in (sold.advertiser, sold.promoter):
        told = await lianyu("--file", saved(tmp_path, answer), "--json", database=False)
        assert told.exit_code == 0, told.output
        reports.append(json.loads(told.stdout))
    mine, theirs = [{k: v for k, v in report.items() if k != "seconds"} for report in reports]
    assert mine == theirs
    assert (mine["verified"], mine["checked"], mine["lines"], mine["differences"]) == (True, 1, 1, [])
    stored = sold.advertiser["data"]["explainAttribution"]
    for name in ("orderId", "inputHash", "amountsHash", "resultHash"):
        assert mine[name] == stored[name]
    assert sold.stranger["errors"][0]["extensions"]["code"] == "DECISION_NOT_FOUND"


async def test_what_a_brand_was_told_wrongly_is_named(
    sold: Sold, lianyu: Callable[..., Any], tmp_path: Path
) -> None:
    line = sold.promoter["data"]["explainAttribution"]["lines"][0]
    line["commission"]["minorUnits"] = "1"
    told = await lianyu("--file", saved(tmp_path, [sold.promoter]), database=False)
    assert told.exit_code == 1
    assert "1 differ" in told.output
    earned = 1_770  # 10 % of 2 × ¥100.00 without the 13 % of tax inside: 20,000 − 2,301 = 17,699
    told_of = f"{line['orderLineId']}: commission_minor: 1 is stored, its inputs give {earned}"
    assert told_of in told.output


@pytest.mark.parametrize(
    "content", ["[]", "no json", '{"data": {"explainAttribution": null}}', '{"orderId": "x"}']
)
async def test_a_file_that_tells_too_little_is_refused(
    lianyu: Callable[..., Any], tmp_path: Path, content: str
) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    told = await lianyu("--file", str(file), database=False)
    assert (told.exit_code, "BAD_EXPLANATION" in told.output) == (2, True)


async def test_the_database_is_verified_as_a_whole_from_a_day_on_or_by_order(
    db: Database, sold: Sold, lianyu: Callable[..., Any]
) -> None:
    whole = await lianyu("--json")
    assert (whole.exit_code, json.loads(whole.stdout)["checked"]) == (0, 1)
    later = await lianyu("--since", "2027-01-01")
    assert (later.exit_code, "0 decisions" in later.output) == (0, True)
    one = await lianyu("--order", str(sold.order_id))
    assert (one.exit_code, sold.advertiser["data"]["explainAttribution"]["resultHash"] in one.output) == (
        0,
        True,
    )
    for unknown in (str(OrderId.new()), "nonsense"):
        assert (await lianyu("--order", unknown)).exit_code == 2

    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(text("UPDATE commission_shares SET earned_minor = earned_minor - 1"))
    spoiled = await lianyu("--json")
    report = json.loads(spoiled.stdout)
    assert (spoiled.exit_code, report["verified"], report["different"]) == (1, False, 1)
    assert [each["order_id"] for each in report["differences"]] == [str(sold.order_id)]


async def test_thousands_of_spoiled_decisions_are_all_counted_and_some_are_told(
    db: Database, sold: Sold, lianyu: Callable[..., Any]
) -> None:
    """Copies under other orders' names, more than one page of them: each lacks its commission line, too."""
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_COPIES)
    told = await lianyu("--json")
    report = json.loads(told.stdout)
    assert (told.exit_code, report["checked"], report["different"]) == (1, 1_501, 1_500)
    assert {each["what"].rpartition(" ")[2] for each in report["differences"]} == {"order", "commission"}
    assert len(report["differences"]) == 200
