from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import MessageId
from infra.db.base import Row, id_field, utc_field


class OutboxMessage(Row, table=True):
    """An event on its way out. ``published_at``: the broker has it. ``handled_at``: every handler is done with it."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_unpublished", "available_at", "id", postgresql_where=text("published_at IS NULL")),
        Index(
            "ix_outbox_unhandled",
            "published_at",
            postgresql_where=text("published_at IS NOT NULL AND handled_at IS NULL"),
        ),
    )

    id: MessageId = id_field(MessageId, primary_key=True)
    name: str
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    request_id: str = ""
    recorded_at: datetime = utc_field()
    available_at: datetime = utc_field()
    published_at: datetime | None = utc_field(default=None, nullable=True)
    attempts: int = 0
    handled_at: datetime | None = utc_field(default=None, nullable=True)


class HandledMessage(Row, table=True):
    """The inbox: this handler has done this message. Written in the handler's own transaction."""

    __tablename__ = "handled_messages"

    message_id: MessageId = id_field(MessageId, primary_key=True)
    handler: str = Field(primary_key=True)
    handled_at: datetime = utc_field()


class FailedMessage(Row, table=True):
    """A message a handler gave up on; an operator looks and replays it."""

    __tablename__ = "failed_messages"

    message_id: MessageId = id_field(MessageId, primary_key=True)
    handler: str = Field(primary_key=True)
    error: str
    failed_at: datetime = utc_field()
    attempts: int = 1
