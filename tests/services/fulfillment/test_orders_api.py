from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from core.clock import FixedClock
from core.ids import FulfillmentOrderId
from infra.db.session import Database
from tests.services.fulfillment.conftest import Api, Shelf, sign_up


async def look(api: Api, order: str) -> dict[str, Any]:
    answer = await api("GET", f"/fulfillment-orders/{order}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_an_order_from_list_to_delivery(api: Api, order: str, clock: FixedClock) -> None:
    listed = (await api("GET", "/fulfillment-orders?status=OPEN&limit=1")).json()
    (item,) = listed["items"]
    assert (item["id"], item["request_status"], item["allowed_actions"]) == (
        order, "SUBMITTED", ["accept", "accept_partial", "reject"],
    )  # fmt: skip
    assert item["ship_to"]["city"] == "Shanghai"
    assert item["freight"] == {"amount": "10.00", "amount_minor": 1000, "currency": "CNY"}
    line = item["lines"][0]
    assert line["unit_cost"]["amount"] == "40.00"

    accepted = await api("POST", f"/fulfillment-orders/{order}/accept", if_match='"2"')
    assert (accepted.status_code, accepted.json()["status"]) == (200, "IN_PROGRESS")
    assert accepted.headers["etag"] == f'"{accepted.json()["version"]}"'

    parcel = {
        "carrier": "sf-express",
        "tracking_no": "SF1",
        "lines": [{"line_id": line["id"], "quantity": 2}],
    }
    assert (await api("POST", f"/fulfillment-orders/{order}/ship", parcel)).json()[
        "status"
    ] == "PARTIALLY_SHIPPED"
    rest = {"carrier": "zto", "tracking_no": "Z1"}
    shipped = (await api("POST", f"/fulfillment-orders/{order}/ship", rest)).json()
    assert (shipped["status"], len(shipped["shipments"])) == ("SHIPPED", 2)

    scan = {"event_id": "s1", "status": "IN_TRANSIT", "at": (clock.now() + timedelta(hours=1)).isoformat()}
    first = shipped["shipments"][0]["id"]
    scanned = await api("POST", f"/shipments/{first}/tracking-events", {"events": [scan]})
    assert scanned.json()["shipments"][0]["status"] == "IN_TRANSIT"
    delivered = (await api("POST", f"/fulfillment-orders/{order}/deliver", {})).json()
    assert (delivered["status"], delivered["allowed_actions"]) == ("DELIVERED", [])
    assert delivered["lines"][0]["delivered"] == 5


async def test_the_same_key_gives_the_same_answer_and_another_body_is_refused(api: Api, order: str) -> None:
    path = f"/fulfillment-orders/{order}/reject"
    first = await api("POST", path, {"reason": "CAPACITY"}, key="k1")
    again = await api("POST", path, {"reason": "CAPACITY"}, key="k1")
    other = await api("POST", path, {"reason": "PRICE"}, key="k1")
    fresh = await api("POST", path, {"reason": "CAPACITY"}, key="k2")

    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert (fresh.status_code, fresh.json()["code"]) == (409, "FULFILLMENT_ACTION_NOT_ALLOWED")
    assert fresh.json()["allowed_actions"] == []


async def test_a_partial_acceptance_splits_the_order(api: Api, order: str) -> None:
    line = (await look(api, order))["lines"][0]
    body = {"lines": [{"line_id": line["id"], "quantity": 3}], "reason": "DAMAGED"}
    kept = (await api("POST", f"/fulfillment-orders/{order}/accept-partial", body)).json()
    assert (kept["lines"][0]["accepted"], kept["lines"][0]["rejected"]) == (3, 2)
    stock = (await api("GET", "/stock")).json()["items"][0]
    assert (stock["on_hand"], stock["reserved"], stock["available"]) == (18, 3, 15)


async def test_many_are_answered_at_once_each_by_itself(api: Api, order: str) -> None:
    missing = str(FulfillmentOrderId.new())
    items = [{"fulfillment_order_id": missing}, {"fulfillment_order_id": order}]
    results = (await api("POST", "/fulfillment-orders/batch-ack", {"items": items})).json()["results"]
    assert [(r["ok"], r.get("code")) for r in results] == [
        (False, "FULFILLMENT_ORDER_NOT_FOUND"),
        (True, None),
    ]
    assert (await look(api, order))["status"] == "IN_PROGRESS"


async def test_a_poller_goes_on_from_its_cursor(
    api: Api, shelf: Shelf, db: Database, clock: FixedClock
) -> None:
    from core.actor import SYSTEM
    from tests.factories import supply

    ids = []
    for _ in range(3):
        clock.advance(timedelta(minutes=1))
        async with db.unit_of_work(SYSTEM) as session:
            variant = shelf.product.variants[0]
            _, (fo,) = await supply.routed_order(session, clock, shelf.brand.brand_id, {variant: 1})
            ids.append(str(fo))

    first = (await api("GET", "/fulfillment-orders?limit=2")).json()
    second = (await api("GET", f"/fulfillment-orders?limit=2&cursor={first['next_cursor']}")).json()
    assert [each["id"] for each in first["items"] + second["items"]] == ids
    assert second["next_cursor"] is None
    since = clock.now().isoformat().replace("+", "%2B")
    assert len((await api("GET", f"/fulfillment-orders?updated_since={since}")).json()["items"]) == 1


async def test_another_supplier_cannot_tell_it_from_nothing(
    http: httpx.AsyncClient, db: Database, clock: FixedClock, api: Api, order: str
) -> None:
    stranger = await sign_up(http, db, clock)
    assert (await stranger("GET", "/fulfillment-orders")).json()["items"] == []
    for verb, path, body in (
        ("GET", "", None), ("POST", "/accept", {}), ("POST", "/reject", {"reason": "OTHER"}),
        ("POST", "/cannot-complete", {"reason": "OTHER"}), ("POST", "/deliver", {}),
        ("POST", "/ship", {"carrier": "zto", "tracking_no": "1"}), ("POST", "/accept-cancel", {}),
        ("POST", "/reject-cancel", {}), ("POST", "/lost", {}),
    ):  # fmt: skip
        answer = await stranger(verb, f"/fulfillment-orders/{order}{path}", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "FULFILLMENT_ORDER_NOT_FOUND")
    assert (await look(api, order))["status"] == "OPEN"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/ship", {"carrier": "pigeon", "tracking_no": "1"}, 422, "UNKNOWN_CARRIER"),
        ("/ship", {"carrier": "zto", "tracking_no": "1"}, 409, "FULFILLMENT_ACTION_NOT_ALLOWED"),
        ("/ship", {"carrier": "zto", "tracking_no": "1\u0000"}, 422, "INVALID_REQUEST"),
        ("/ship", {"carrier": "zto", "tracking_no": "1", "lines": [{"line_id": "x", "quantity": 1}]}, 422,
         "INVALID_REQUEST"),
        ("/ship", {"carrier": "zto", "tracking_no": "1", "lines": [{"line_id": "fln_0", "quantity": -1}]}, 422,
         "INVALID_REQUEST"),
        ("/accept", {"surprise": 1}, 422, "INVALID_REQUEST"),
        ("/reject", {"reason": "MOOD"}, 422, "INVALID_REQUEST"),
        ("/accept-partial", {"lines": [{"line_id": "fln_01m81g6qsrex79bnhpzsqk5awv", "quantity": 1}]}, 404,
         "FULFILLMENT_LINE_NOT_FOUND"),
    ],
)  # fmt: skip
async def test_bad_input_is_a_problem_with_a_code(
    api: Api, order: str, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await api("POST", f"/fulfillment-orders/{order}{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert (await look(api, order))["version"] == 2


async def test_who_calls_and_how_is_checked_first(
    http: httpx.AsyncClient, db: Database, clock: FixedClock, api: Api, order: str
) -> None:
    from tests.factories import brands

    path = f"/fulfillment/v1/fulfillment-orders/{order}"
    assert (await http.get(path)).json()["code"] == "UNAUTHENTICATED"
    wrong = await http.get(path, headers={"authorization": "Bearer lys_live_nonsense"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "INVALID_TOKEN")
    _, token = await brands.committed_brand(db, clock)
    brand = await http.get(path, headers={"authorization": f"Bearer {token}"})
    assert (brand.status_code, brand.json()["code"]) == (403, "WRONG_TENANT")
    bearer = {"authorization": f"Bearer {api.token}"}
    unkeyed = await http.post(f"{path}/accept", json={}, headers=bearer)
    assert (unkeyed.status_code, unkeyed.json()["code"]) == (422, "IDEMPOTENCY_KEY_MISSING")
    stale = await api("POST", f"/fulfillment-orders/{order}/accept", {}, if_match='"1"')
    assert (stale.status_code, stale.json()["code"], stale.json()["current"]) == (412, "VERSION_CONFLICT", 2)
    nonsense = await api("POST", f"/fulfillment-orders/{order}/accept", {}, if_match="yesterday")
    assert (nonsense.status_code, nonsense.json()["code"]) == (400, "BAD_IF_MATCH")
    malformed = await http.post(
        f"{path}/accept",
        content=b"{",
        headers={**bearer, "idempotency-key": "k", "content-type": "application/json"},
    )
    assert (malformed.status_code, malformed.json()["code"]) == (400, "MALFORMED_JSON")
    large = await http.post(f"{path}/accept", content=b" " * 5_000_000, headers=bearer)
    assert (large.status_code, large.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert (await http.get("/fulfillment/v1/nowhere", headers=bearer)).json()["code"] == "NOT_FOUND"
    odd = await api("GET", "/fulfillment-orders/ord_01m81g6qsrex79bnhpzsqk5awv")
    assert (odd.status_code, odd.json()["code"]) == (422, "MALFORMED_ID")
    for list_ in ("fulfillment-orders", "stock", "offers"):
        assert (await api("GET", f"/{list_}?cursor=%21%21")).json()["code"] == "BAD_PAGE"


async def test_health_needs_no_token_and_the_schema_is_openapi_3_1(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ok"}
    schema = (await http.get("/fulfillment/v1/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    assert "/fulfillment/v1/fulfillment-orders/{order_id}/ship" in schema["paths"]
