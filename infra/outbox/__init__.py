"""Events leave a transaction together with the rows they tell of, or not at all."""

from infra.outbox.inbox import first_time
from infra.outbox.outbox import record

__all__ = ["first_time", "record"]
