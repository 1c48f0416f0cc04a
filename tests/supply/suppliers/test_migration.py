from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

import supply.fulfillment.models
import supply.inventory.models
import supply.routing.models
import supply.suppliers.models
from infra.db.base import metadata
from infra.db.session import async_url

MODULES = (supply.suppliers.models, supply.inventory.models, supply.routing.models, supply.fulfillment.models)
OURS = {
    model.__table__.name
    for module in MODULES
    for model in vars(module).values()
    if getattr(model, "__module__", None) == module.__name__ and hasattr(model, "__table__")
}


@pytest.fixture
async def differences(owner_url: str) -> list[str]:
    def compare(connection: object) -> list[str]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})  # type: ignore[arg-type]
        return [str(each) for each in compare_metadata(context, metadata)]

    engine = create_async_engine(async_url(owner_url))
    async with engine.connect() as connection:
        found: list[str] = await connection.run_sync(compare)
    await engine.dispose()
    return found


async def test_tables_are_what_the_models_say(differences: list[str]) -> None:
    assert len(OURS) == 22
    assert [each for each in differences if any(f"'{name}'" in each for name in OURS)] == []
