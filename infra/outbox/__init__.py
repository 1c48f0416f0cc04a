"""Events leave a transaction together with the rows they tell of, or not at all."""

from infra.outbox.failures import Failure, failures, replay
from infra.outbox.inbox import first_time
from infra.outbox.outbox import CHANNEL, Message, claim, mark_published, oldest_age_s, record
from infra.outbox.recovery import forget, republish

__all__ = [
    "CHANNEL",
    "Failure",
    "Message",
    "claim",
    "failures",
    "first_time",
    "forget",
    "mark_published",
    "oldest_age_s",
    "record",
    "replay",
    "republish",
]
