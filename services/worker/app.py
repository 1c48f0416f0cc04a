"""The Celery application: one task that handles messages, one per sweep. `celery -A services.worker.app`."""

from __future__ import annotations

import functools
from typing import Any

import structlog
from celery.signals import worker_process_init, worker_process_shutdown

from graph.context import Gateways
from infra.messaging.celery_app import make_celery
from infra.messaging.run import close, run
from infra.observability.context import bind_request_id
from services.wiring import make_gateways, read_settings
from services.worker import schedule
from services.worker.dispatch import Delivery, handle, sweep

HANDLE = "lianyu.handle"
SWEEP = "lianyu.sweep"

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


@worker_process_init.connect
def _start(**_: Any) -> None:
    gateways.cache_clear()


@worker_process_shutdown.connect
def _stop(**_: Any) -> None:
    close()


@app.task(name=HANDLE)  # type: ignore[untyped-decorator,unused-ignore]
def handle_messages(deliveries: list[dict[str, Any]]) -> None:
    """Handle a batch of outbox messages. Each handler has its own transaction and inbox row."""
    for delivery in deliveries:
        bind_request_id(delivery.get("request_id", ""))
        run(handle(gateways(), Delivery.of(delivery)))


@app.task(name=SWEEP)  # type: ignore[untyped-decorator,unused-ignore]
def run_sweep(name: str) -> None:
    bind_request_id("")
    run(sweep(gateways(), name))
