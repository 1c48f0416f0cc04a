"""What the broker lost goes out again: the outbox is the truth, the broker only carries.

A worker that is killed between taking a message off the broker's list and noting that it has it takes the
message along. So a message that some handler neither did nor gave up long after it was published is published
once more; the inbox makes a repeat harmless.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Patience doubles with every publication: two minutes, four, eight, at most an hour.
_LOOK = text("""
WITH due AS (
    SELECT o.id, w.handlers, o.attempts FROM outbox o
    JOIN unnest(CAST(:names AS text[]), CAST(:handlers AS int[])) AS w (name, handlers) ON w.name = o.name
    WHERE o.published_at IS NOT NULL AND o.handled_at IS NULL
      AND o.published_at < now() - least(make_interval(secs => :patience_s * 2 ^ (o.attempts - 1)), interval '1 hour')
    ORDER BY o.published_at LIMIT :batch FOR UPDATE OF o SKIP LOCKED
), counted AS (
    SELECT d.id, (
        SELECT count(*) FROM (
            SELECT handler FROM handled_messages h WHERE h.message_id = d.id
            UNION SELECT handler FROM failed_messages f WHERE f.message_id = d.id
        ) done
    ) >= d.handlers AS done
    FROM due d
), moved AS (
    UPDATE outbox o SET handled_at = CASE WHEN c.done THEN now() END,
        published_at = CASE WHEN c.done THEN o.published_at END
    FROM counted c WHERE o.id = c.id RETURNING c.done
)
SELECT count(*) FILTER (WHERE done) AS handled, count(*) FILTER (WHERE NOT done) AS again FROM moved
""")
_FORGET = text("""
WITH old AS (
    SELECT id FROM outbox o WHERE handled_at < now() - make_interval(days => :days)
      AND NOT EXISTS (SELECT FROM failed_messages f WHERE f.message_id = o.id)
    LIMIT :batch FOR UPDATE SKIP LOCKED
), inbox AS (
    DELETE FROM handled_messages h USING old WHERE h.message_id = old.id
)
DELETE FROM outbox o USING old WHERE o.id = old.id
""")


async def republish(
    session: AsyncSession, handlers: Mapping[str, int], *, patience_s: float = 120, batch: int = 500
) -> tuple[int, int]:
    """Close what every handler is done with, hand the rest back to the relay. Returns how many of each.

    ``handlers``: by event name, how many handlers it has. Names this release does not know are left alone.
    Real time, as the relay's. Needs a SYSTEM session.
    """
    values = {
        "names": list(handlers), "handlers": list(handlers.values()), "patience_s": patience_s, "batch": batch,
    }  # fmt: skip
    row = (await session.execute(_LOOK, values)).one()
    return row.handled, row.again


async def forget(session: AsyncSession, *, days: int = 7, batch: int = 5_000) -> int:
    """Delete messages that were done with so long ago, and their inbox rows. Returns how many."""
    result = await session.execute(_FORGET, {"days": days, "batch": batch})
    return int(result.rowcount)  # type: ignore[attr-defined]
