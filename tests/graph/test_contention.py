"""A transaction that lost a race for locks has changed nothing: its caller is told to try again, by a stable code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, text

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database, make_engine
from tests.conftest import TestDatabase
from tests.factories.brands import committed_brand
from tests.factories.catalog import committed_product
from tests.fixtures.http import serving

RENAME = """mutation ($id: ID!) { productUpdate(input: {id: $id, titleEn: "New"}) {
  userErrors { code message } product { id } } }"""


@pytest.fixture
async def impatient(db: Database, postgres: TestDatabase) -> AsyncIterator[Database]:
    """Connections that wait for a lock a tenth of a second; nobody else's do, now or later."""
    short = Database(make_engine(postgres.url(), pool_size=2))

    def hurry(connection: Any, _record: Any) -> None:
        connection.cursor().execute("SET lock_timeout = '100ms'")
        connection.commit()

    event.listen(short.engine.sync_engine, "connect", hurry)
    yield short
    await short.close()


async def test_a_mutation_that_waits_in_vain_is_unavailable_and_changes_nothing(
    impatient: Database, db: Database, clock: FixedClock
) -> None:
    brand, token = await committed_brand(db, clock)
    product = await committed_product(db, clock, brand)
    async with db.unit_of_work(SYSTEM) as session, serving(impatient, clock) as served:
        await session.execute(text("SELECT FROM products WHERE id = :id FOR UPDATE"), {"id": product.id})
        answer = await served.brand(RENAME, {"id": str(product.id)}, token=token)

    assert "errors" not in answer
    found = answer["data"]["productUpdate"]
    assert [each["code"] for each in found["userErrors"]] == ["UNAVAILABLE"]
    assert "try again" in found["userErrors"][0]["message"]
    async with serving(db, clock) as served:  # and it works once nobody is in the way
        again = await served.brand(RENAME, {"id": str(product.id)}, token=token)
    assert again["data"]["productUpdate"]["userErrors"] == []
