"""One id from the client's header to the log of the last handler, and into every answer that went wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import MessageId
from infra.db.session import Database
from services.worker.dispatch import Delivery, handle
from tests.factories.brands import committed_brand
from tests.factories.catalog import committed_product
from tests.fixtures.http import Served, serving

ASKED = "client-chose-this-1"
RENAME = 'mutation ($id: ID!) { productUpdate(input: {id: $id, titleEn: "New"}) { userErrors { code } } }'


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


async def test_the_clients_request_id_is_on_the_outbox_row_and_in_the_handlers_log(
    served: Served, db: Database, clock: FixedClock
) -> None:
    actor, token = await committed_brand(db, clock)
    made = await committed_product(db, clock, actor)

    answer = await served.brand(RENAME, {"id": str(made.id)}, token=token, x_request_id=ASKED)
    assert answer["data"]["productUpdate"]["userErrors"] == []

    async with db.reading(SYSTEM) as session:
        rows = (
            await session.execute(
                text("SELECT id, name, body, request_id FROM outbox WHERE request_id = :id"), {"id": ASKED}
            )
        ).all()
    assert [row.name for row in rows] == ["catalog.product_changed"]
    # A message that no handler can take is logged: with the id of the call that caused it.
    with structlog.testing.capture_logs(processors=[_with_request_id()]) as logs:
        message = Delivery(MessageId.of(rows[0].id), "catalog.product_renamed_twice", {}, rows[0].request_id)
        await handle(served.gateways, message)
    assert [entry["request_id"] for entry in logs] == [ASKED]


def _with_request_id() -> Any:
    from infra.observability import logs

    return logs._with_request_id


@pytest.mark.parametrize("bad", ["short", "x" * 65, "new\tline-12345", "'; DROP TABLE outbox; --"])
async def test_an_id_that_would_spoil_a_log_is_replaced(served: Served, bad: str) -> None:
    answer = await served.api.post(
        "/graphql", json={"query": "{ __typename }"}, headers={"x-request-id": bad}
    )
    made = answer.headers["x-request-id"]
    assert made != bad
    assert len(made) == 32


async def test_every_surface_answers_with_the_id_it_was_given(served: Served) -> None:
    headers = {"x-request-id": ASKED}
    refused = await served.api.post(
        "/graphql", json={"query": "{ me { id } }"}, headers=headers | {"authorization": "Bearer lyb_live_x"}
    )
    assert (refused.status_code, refused.headers["x-request-id"]) == (401, ASKED)
    assert refused.json()["errors"][0]["extensions"] == {"code": "INVALID_TOKEN", "requestId": ASKED}

    problem = await served.suppliers.get("/fulfillment/v1/stock", headers=headers)
    assert (problem.status_code, problem.headers["x-request-id"]) == (401, ASKED)
    assert problem.json()["request_id"] == ASKED
