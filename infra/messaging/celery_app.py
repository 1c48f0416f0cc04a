"""Celery as a thin shell: it carries message ids to workers; the outbox table is the truth."""

from __future__ import annotations

from celery import Celery

LONGEST_TASK_S = 300
QUEUE = "lianyu"


def make_celery(broker_url: str) -> Celery:
    """A Celery that redelivers what a killed worker held, within seconds on Redis-like brokers."""
    app = Celery("lianyu", broker=broker_url)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=True,
        task_acks_on_timeout=False,  # what took too long is not done
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_time_limit=LONGEST_TASK_S,
        task_soft_time_limit=LONGEST_TASK_S - 30,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        task_serializer="json",
        accept_content=["json"],
        timezone="UTC",
    )
    if broker_url.startswith(("redis", "valkey")):
        # Without the two restore settings a killed worker's task comes back only after about 100 s.
        app.conf.broker_transport_options = {
            "visibility_timeout": LONGEST_TASK_S * 2,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
        }
    return app
