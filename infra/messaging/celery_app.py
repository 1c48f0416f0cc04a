"""Celery as a thin shell: it carries message ids to workers; the outbox table is the truth."""

from __future__ import annotations

from typing import Any

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


def take_back_unacknowledged(app: Celery) -> int:
    """Put what was delivered and never acknowledged back into the queue; how many messages.

    A worker that was killed leaves them with a Redis-like broker until the visibility timeout, ten minutes.
    Called when a worker starts, it may also take back what another worker is busy with: a second delivery does
    nothing that is in the inbox. Other brokers notice the dead by themselves.
    """
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        qos: Any = getattr(channel, "qos", None)
        if not hasattr(qos, "restore_by_tag"):
            return 0
        tags = channel.client.zrange(qos.unacked_index_key, 0, -1)
        for tag in tags:
            qos.restore_by_tag(tag)
        return len(tags)
