"""A supplier's own coupons: made, listed and ended by it alone, at its cost."""

from __future__ import annotations

import httpx

from core.clock import FixedClock
from infra.db.session import Database
from tests.services.fulfillment.conftest import Api, sign_up

TWO_OFF = {"code": "spring", "currency": "CNY", "amount": {"currency": "CNY", "amount": "2.00"}}


async def test_a_supplier_makes_lists_and_ends_a_coupon(
    api: Api, http: httpx.AsyncClient, db: Database, clock: FixedClock
) -> None:
    made = await api("POST", "/coupons", TWO_OFF, key="once")
    again = await api("POST", "/coupons", TWO_OFF, key="once")
    rate = {
        "code": "TEN",
        "currency": "CNY",
        "rate_ppm": 100_000,
        "max_uses": 5,
        "ends_at": "2026-04-01T00:00:00Z",
    }
    await api("POST", "/coupons", rate)

    assert made.status_code == 201
    assert again.json() == made.json()
    coupon = made.json()
    assert (coupon["code"], coupon["amount"]["minorUnits"], coupon["status"]) == ("SPRING", "200", "active")
    first = (await api("GET", "/coupons?limit=1")).json()
    rest = (await api("GET", f"/coupons?limit=1&cursor={first['next_cursor']}")).json()
    assert [each["code"] for each in (*first["items"], *rest["items"])] == ["TEN", "SPRING"]
    assert (first["items"][0]["rate_ppm"], first["items"][0]["max_uses"], rest["next_cursor"]) == (
        100_000,
        5,
        None,
    )

    stranger = await sign_up(http, db, clock)
    assert (await stranger("GET", "/coupons")).json()["items"] == []
    refused = await stranger("POST", f"/coupons/{coupon['id']}/end")
    assert (refused.status_code, refused.json()["code"]) == (404, "COUPON_NOT_FOUND")
    for _ in range(2):
        ended = await api("POST", f"/coupons/{coupon['id']}/end")
        assert (ended.status_code, ended.json()["status"]) == (200, "stopped")


async def test_what_is_no_coupon_is_refused_and_its_code_is_taken_once(api: Api) -> None:
    assert (await api("POST", "/coupons", TWO_OFF)).status_code == 201
    taken = await api("POST", "/coupons", TWO_OFF)
    assert (taken.status_code, taken.json()["code"]) == (409, "COUPON_CODE_TAKEN")
    for wrong, status, code in (
        ({**TWO_OFF, "code": "x"}, 422, "BAD_COUPON"),
        ({**TWO_OFF, "code": "both", "rate_ppm": 1}, 422, "BAD_COUPON"),
        ({"code": "none", "currency": "CNY"}, 422, "BAD_COUPON"),
        ({**TWO_OFF, "code": "dollar", "currency": "USD"}, 422, "BAD_COUPON"),
        ({"code": "much", "currency": "CNY", "rate_ppm": 1_000_001}, 422, "INVALID_REQUEST"),
        ({**TWO_OFF, "code": "funder", "funder": "PLATFORM"}, 422, "INVALID_REQUEST"),
    ):
        answer = await api("POST", "/coupons", wrong)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
