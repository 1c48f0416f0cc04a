"""The Celery application: one task that handles messages, one per sweep. `celery -A services.worker.app`."""

from __future__ import annotations

import functools
import time
from typing import Any

import structlog
from celery.exceptions import Reject
from celery.signals import worker_init, worker_process_init, worker_process_shutdown

from infra.gateways import Gateways
from infra.messaging.celery_app import make_celery, take_back_unacknowledged
from infra.messaging.run import close, run
from infra.observability.context import bind_request_id
from services.wiring import make_gateways, read_settings
from services.worker import schedule
from services.worker.dispatch import Delivery, handle, sweep

HANDLE = "lianyu.handle"
SWEEP = "lianyu.sweep"
_PAUSE_BEFORE_RETURN_S = 1.0

settings = read_settings()
app = make_celery(settings.broker_url)
app.conf.beat_schedule = {
    name: {"task": SWEEP, "schedule": every_s, "args": [name], "options": {"expires": max(every_s * 2, 5)}}
    for name, every_s in schedule.INTERVALS_S.items()
}
app.conf.beat_schedule_filename = str(settings.data_dir / "beat.db")
log = structlog.get_logger("worker")


@functools.cache
def gateways() -> Gateways:
    return make_gateways(settings)


@worker_init.connect
def _take_over(**_: Any) -> None:
    """What the worker before this one held when it was killed."""
    if taken := take_back_unacknowledged(app):
        log.warning("took back what was never acknowledged", messages=taken)


@worker_process_init.connect
def _start(**_: Any) -> None:
    gateways.cache_clear()


@worker_process_shutdown.connect
def _stop(**_: Any) -> None:
    close()


@app.task(name=HANDLE)  # type: ignore[untyped-decorator,unused-ignore]
def handle_messages(deliveries: list[dict[str, Any]]) -> None:
    """Handle a batch of outbox messages. Each handler has its own transaction and inbox row."""
    try:
        for delivery in deliveries:
            run(handle(gateways(), Delivery.of(delivery)))
    except Exception as error:
        # The database is away: a failing handler is parked there. A task that fails is acknowledged and gone,
        # so the batch goes back to the broker; what was handled is in the inbox and is not done again.
        log.error("batch goes back to the broker", messages=len(deliveries), error=type(error).__name__)
        time.sleep(_PAUSE_BEFORE_RETURN_S)
        raise Reject(type(error).__name__, requeue=True) from error


@app.task(name=SWEEP)  # type: ignore[untyped-decorator,unused-ignore]
def run_sweep(name: str) -> None:
    bind_request_id("")
    run(sweep(gateways(), name))
