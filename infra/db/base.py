"""The one metadata, and columns for the house's own types."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar, cast

from pydantic import ConfigDict
from sqlalchemy import BigInteger, CheckConstraint, DateTime, Dialect, Table, Uuid
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import CHAR, TypeDecorator, UserDefinedType
from sqlmodel import Field, SQLModel

from core.ids import TypedId

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = SQLModel.metadata
metadata.naming_convention = NAMING

Id = TypeVar("Id", bound=TypedId)


class IdColumn(TypeDecorator[TypedId]):
    """A ``uuid`` column that binds and returns one typed id."""

    impl = Uuid
    cache_ok = True

    def __init__(self, kind: type[TypedId]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> TypedId | None:
        return None if value is None else self.kind.of(value)


class UtcDateTime(TypeDecorator[datetime]):
    """``timestamptz``; refuses naive datetimes, returns UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive datetime has no place in the database")
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)


class Xid8(UserDefinedType[int]):
    """A transaction id of the cluster, 64 bits, never reused."""

    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "xid8"


ischema_names["xid8"] = Xid8


class Row(SQLModel):
    """Base of every table. Table models validate nothing: values are checked before they get here."""

    model_config = ConfigDict(arbitrary_types_allowed=True)  # type: ignore[assignment]


def id_field(kind: type[Id], *, primary_key: bool = False, **column: Any) -> Any:
    """A typed-id column. A primary key makes its own id."""
    default: dict[str, Any] = {"default_factory": cast("Callable[[], Any]", kind.new)} if primary_key else {}
    return Field(sa_type=IdColumn(kind), primary_key=primary_key, **default, **column)


def minor_field(**column: Any) -> Any:
    """An amount in minor units (BIGINT)."""
    return Field(sa_type=BigInteger, **column)


def currency_field(**column: Any) -> Any:
    return Field(sa_type=CHAR(3), **column)


def utc_field(**column: Any) -> Any:
    return Field(sa_type=UtcDateTime, **column)


def table_of(model: type[SQLModel]) -> Table:
    """The Core table of a model, for column-only reads and set-based writes."""
    return cast("Table", model.__table__)  # type: ignore[attr-defined]


def one_of(column: str, values: type[StrEnum], *, name: str | None = None) -> CheckConstraint:
    """The column holds one of an enum's values; called after the column unless given a ``name``."""
    listed = ", ".join(f"'{value.value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name or column)
