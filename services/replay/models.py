"""How far a replay has come, and what it read."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field

from infra.db.base import Row, minor_field, utc_field


class ReplayProgress(Row, table=True):
    """``position`` counts what of ``stage`` is done; ``digest`` names the files it counts in."""

    __tablename__ = "replay_progress"

    source: str = Field(primary_key=True)
    digest: str
    stage: str
    position: int
    clock_at: datetime | None = utc_field(default=None, nullable=True)
    elapsed_ms: int = minor_field()


class ReplayFile(Row, table=True):
    __tablename__ = "replay_files"

    source: str = Field(primary_key=True)
    file: str = Field(primary_key=True)
    rows: int
