from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.clock import FixedClock
from core.ids import LocationId
from infra.db.session import Database
from tests.factories import brands, catalog
from tests.factories.catalog import priced
from tests.services.fulfillment.conftest import Api, Shelf


async def test_a_first_call_makes_the_supplier_and_its_profile_can_change(api: Api) -> None:
    profile = (await api("GET", "/profile")).json()
    assert (profile["name"], profile["accept_mode"]) == ("Ningbo Works", "manual")
    changed = await api("PATCH", "/profile", {"accept_mode": "auto", "accept_sla_min": 30})
    assert (changed.json()["accept_mode"], changed.json()["accept_sla_min"]) == ("auto", 30)


async def test_a_cost_that_changes_is_a_new_version_and_one_that_does_not_is_none(
    api: Api, shelf: Shelf
) -> None:
    body = {"location_id": shelf.location_id, "unit_cost": {"currency": "CNY", "amount": "40.00"}}
    same = (await api("PUT", f"/offers/{shelf.sku}", body)).json()
    assert (same["price_version"], same["version"]) == (1, 2)
    body["unit_cost"] = {"currency": "CNY", "amount": "41.50"}
    dearer = (await api("PUT", f"/offers/{shelf.sku}", body)).json()
    assert (dearer["price_version"], dearer["unit_cost"]["amount_minor"]) == (2, 4150)
    stale = await api("PUT", f"/offers/{shelf.sku}", body, if_match='"2"')
    assert (stale.status_code, stale.json()["code"]) == (412, "VERSION_CONFLICT")


async def test_a_future_price_waits_for_its_day(api: Api, shelf: Shelf, clock: FixedClock) -> None:
    tomorrow = clock.now() + timedelta(days=1)
    price = {
        "sku": shelf.sku, "location_id": shelf.location_id, "effective_at": tomorrow.isoformat(),
        "unit_cost": {"currency": "CNY", "amount_minor": 3900},
    }  # fmt: skip
    assert (await api("PATCH", "/prices", {"prices": [price]})).json()["items"][0]["price_version"] == 2
    assert (await api("GET", "/offers")).json()["items"][0]["unit_cost"]["amount_minor"] == 4000
    clock.advance(timedelta(days=1))
    assert (await api("GET", "/offers")).json()["items"][0]["unit_cost"]["amount_minor"] == 3900


async def test_a_feed_names_its_bad_rows_and_applies_the_good_ones(
    api: Api, shelf: Shelf, clock: FixedClock
) -> None:
    clock.advance(timedelta(minutes=1))
    here: dict[str, Any] = {"location_id": shelf.location_id, "sku": shelf.sku}
    rows = [
        {**here, "on_hand": -1},
        {**here, "on_hand": 10**12},
        {**here, "sku": "NOBODY", "on_hand": 1},
        {**here, "location_id": str(LocationId.new()), "on_hand": 1},
        {**here, "on_hand": 12, "safety": 2},
        {**here, "delta": -1, "event_id": "e1"},
        {**here, "delta": -1, "event_id": "e1"},
    ]
    answer = (await api("PATCH", "/stock", {"rows": rows})).json()
    assert (answer["applied"], answer["unchanged"], answer["rejected"]) == (2, 1, 4)
    assert [(r["row"], r["code"]) for r in answer["rows"]] == [
        (0, "QUANTITY_OUT_OF_RANGE"), (1, "QUANTITY_OUT_OF_RANGE"), (2, "SKU_UNKNOWN"), (3, "SKU_UNKNOWN"),
        (4, None), (5, None), (6, "EVENT_SEEN"),
    ]  # fmt: skip
    level = (await api("GET", f"/stock?location_id={shelf.location_id}")).json()["items"][0]
    assert (level["sku"], level["on_hand"], level["available"]) == (shelf.sku, 11, 9)


async def test_more_than_a_thousand_rows_are_refused(api: Api, shelf: Shelf) -> None:
    row = {"location_id": shelf.location_id, "sku": shelf.sku, "on_hand": 1}
    answer = await api("PATCH", "/stock", {"rows": [row] * 1_001})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")


async def test_a_sku_of_two_brands_needs_its_brand(
    api: Api, shelf: Shelf, db: Database, clock: FixedClock
) -> None:
    other, _ = await brands.committed_brand(db, clock)
    async with db.unit_of_work(other) as session:
        await catalog.product(session, other, clock, variants=[priced(shelf.sku, "90.00")])
    body: dict[str, Any] = {
        "location_id": shelf.location_id,
        "unit_cost": {"currency": "CNY", "amount": "1.00"},
    }
    unclear = await api("PUT", f"/offers/{shelf.sku}", body)
    assert (unclear.status_code, unclear.json()["code"]) == (409, "SKU_AMBIGUOUS")
    clear = await api("PUT", f"/offers/{shelf.sku}", {**body, "brand_id": str(other.brand_id)})
    assert clear.json()["brand_id"] == str(other.brand_id)


async def test_offers_are_checked(api: Api, shelf: Shelf) -> None:
    good: dict[str, Any] = {
        "location_id": shelf.location_id,
        "unit_cost": {"currency": "CNY", "amount": "1.00"},
    }
    for change, status, code in (
        ({"unit_cost": {"currency": "USD", "amount": "1.00"}}, 422, "CURRENCY_MISMATCH"),
        ({"unit_cost": {"currency": "XXX", "amount": "1.00"}}, 422, "UNKNOWN_CURRENCY"),
        ({"unit_cost": {"currency": "CNY", "amount": "1.001"}}, 422, "MALFORMED_AMOUNT"),
        ({"unit_cost": {"currency": "CNY", "amount_minor": -1}}, 422, "INVALID_REQUEST"),
        ({"unit_cost": {"currency": "CNY"}}, 422, "INVALID_REQUEST"),
        ({"moq": 0}, 422, "INVALID_REQUEST"),
        ({"moq": 1_000_001}, 422, "INVALID_REQUEST"),
        ({"location_id": str(LocationId.new())}, 404, "LOCATION_NOT_FOUND"),
        ({"brand_id": "brd_01m81g6qsrex79bnhpzsqk5awv"}, 404, "SKU_UNKNOWN"),
    ):
        answer = await api("PUT", f"/offers/{shelf.sku}", {**good, **change})
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_location_code_is_taken_once_and_can_pause(api: Api, shelf: Shelf) -> None:
    body = {"code": "nb", "name": "Again", "country": "CN", "handling": {"currency": "CNY", "amount": "0"}}
    taken = await api("POST", "/locations", body)
    assert (taken.status_code, taken.json()["code"]) == (409, "LOCATION_CODE_TAKEN")
    paused = await api("PATCH", f"/locations/{shelf.location_id}", {"status": "paused"})
    assert paused.json()["status"] == "paused"
    assert [each["code"] for each in (await api("GET", "/locations")).json()["items"]] == ["nb"]


async def test_many_offers_at_once_or_none(api: Api, shelf: Shelf) -> None:
    cost = {"currency": "CNY", "amount": "38.00"}
    offer = {"sku": shelf.sku, "location_id": shelf.location_id, "unit_cost": cost}
    refused = await api("PUT", "/offers", {"offers": [offer, {**offer, "sku": "NOBODY"}]})
    assert (refused.status_code, refused.json()["code"]) == (404, "SKU_UNKNOWN")
    assert (await api("GET", "/offers")).json()["items"][0]["unit_cost"]["amount"] == "40.00"
    done = await api("PUT", "/offers", {"offers": [offer]})
    assert done.json()["items"][0]["price_version"] == 2
