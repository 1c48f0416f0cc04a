"""A promoter's codes over HTTP: made by the side that pays, seen and ended by both, by nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from tests.factories import promotion as make
from tests.factories.brands import committed_brand
from tests.fixtures.http import Served, codes_of, serving

CREATE = """mutation ($input: CouponCreateInput!) { couponCreate(input: $input) {
  coupon { id code funder linkId exclusive leakedSince maxUses status } userErrors { code field } } }"""
LIST = """query ($link: ID) { coupons(linkId: $link, first: 10) { nodes { code linkId status } } }"""
STOP = """mutation ($input: CouponStopInput!) { couponStop(input: $input) {
  coupon { status } userErrors { code } } }"""


@dataclass(frozen=True, slots=True)
class Asking:
    served: Served
    link: str
    tokens: dict[str, str]

    async def create(self, who: str, code: str, **more: Any) -> dict[str, Any]:
        given = {
            "idempotencyKey": f"{who}-{code}", "code": code, "currencyCode": "CNY", "ratePpm": 100_000,
            "linkId": self.link, **more,
        }  # fmt: skip
        answer = await self.served.brand(CREATE, {"input": given}, token=self.tokens[who])
        assert "errors" not in answer, answer
        return dict(answer["data"]["couponCreate"])

    async def listed(self, who: str, link: str | None = None) -> list[str]:
        answer = await self.served.brand(LIST, {"link": link}, token=self.tokens[who])
        return [node["code"] for node in answer["data"]["coupons"]["nodes"]]

    async def stop(self, who: str, coupon: str) -> dict[str, Any]:
        return await self.served.brand(STOP, {"input": {"id": coupon}}, token=self.tokens[who])


@pytest.fixture
async def asking(db: Database, clock: FixedClock) -> AsyncIterator[Asking]:
    made = [await committed_brand(db, clock, name=name) for name in ("Orchid", "Club", "Stranger")]
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, made[0][0], made[1][0], clock)
        link = await make.link(session, market, clock)
    names = ("merchant", "promoter", "stranger")
    async with serving(db, clock) as served:
        yield Asking(served, str(link.id), dict(zip(names, (token for _, token in made), strict=True)))


async def test_both_sides_see_and_may_end_what_the_paying_side_made(asking: Asking) -> None:
    given = await asking.create("merchant", "mei-10", maxUses=500)
    own = await asking.create("promoter", "club-5", funder="PROMOTER", exclusive=False)
    plain = await asking.create("merchant", "spring", linkId=None)

    expected = {
        "code": "MEI-10", "funder": "ADVERTISER", "linkId": asking.link, "exclusive": True,
        "leakedSince": None, "maxUses": 500, "status": "ACTIVE",
    }  # fmt: skip
    assert {**given["coupon"], "id": None} == {**expected, "id": None}
    assert (own["coupon"]["exclusive"], plain["coupon"]["exclusive"]) == (False, False)
    assert await asking.listed("merchant") == ["SPRING", "CLUB-5", "MEI-10"]
    assert await asking.listed("promoter") == ["CLUB-5", "MEI-10"]
    assert await asking.listed("merchant", asking.link) == ["CLUB-5", "MEI-10"]
    assert await asking.listed("stranger") == []

    assert codes_of(await asking.stop("stranger", given["coupon"]["id"])) == ["COUPON_NOT_FOUND"]
    assert codes_of(await asking.stop("promoter", plain["coupon"]["id"])) == ["COUPON_NOT_FOUND"]
    for who in ("promoter", "merchant"):
        stopped = await asking.stop(who, given["coupon"]["id"])
        assert stopped["data"]["couponStop"] == {"coupon": {"status": "STOPPED"}, "userErrors": []}


@pytest.mark.parametrize(
    ("who", "given", "refusal"),
    [
        ("promoter", {}, ("LINK_NOT_FOUND", ["linkId"])),
        ("stranger", {}, ("LINK_NOT_FOUND", ["linkId"])),
        ("merchant", {"code": "x"}, ("BAD_COUPON", ["code"])),
        ("merchant", {"funder": "PLATFORM"}, ("MISSING_SCOPE", None)),
    ],
)
async def test_who_cannot_make_a_code_is_told_why(
    asking: Asking, who: str, given: dict[str, Any], refusal: tuple[str, list[str] | None]
) -> None:
    answer = await asking.create(who, given.pop("code", "MEI-10"), **given)
    assert answer["coupon"] is None
    assert [(e["code"], e["field"]) for e in answer["userErrors"]] == [refusal]
