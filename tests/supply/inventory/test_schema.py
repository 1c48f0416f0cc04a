from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def test_ledgers_cannot_be_rewritten_by_the_application(session: AsyncSession) -> None:
    rows = await session.execute(
        text(
            "SELECT t, has_table_privilege(t, 'UPDATE'), has_table_privilege(t, 'DELETE') FROM unnest("
            "ARRAY['stock_movements', 'reservation_entries', 'offer_price_changes', 'fo_events',"
            " 'tracking_events']) t"
        )
    )
    assert {tuple(row[1:]) for row in rows} == {(False, False)}
