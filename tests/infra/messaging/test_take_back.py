"""A message that was delivered to a worker which is then killed comes back when the next one starts."""

from __future__ import annotations

from typing import Any

import redis

from infra.messaging.celery_app import QUEUE, make_celery, take_back_unacknowledged


def test_what_a_killed_worker_held_is_queued_again(broker: str) -> None:
    app = make_celery(broker)
    waiting = redis.Redis.from_url(broker)
    app.send_task("lianyu.handle", args=[[]])
    killed: Any = app.connection_for_read()
    message = killed.default_channel.basic_get(QUEUE, no_ack=False)
    assert message is not None
    assert (waiting.llen(QUEUE), waiting.hlen("unacked")) == (0, 1)

    assert take_back_unacknowledged(app) == 1

    assert (waiting.llen(QUEUE), waiting.hlen("unacked")) == (1, 0)
    assert take_back_unacknowledged(app) == 0
    message.channel.qos._delivered.clear()  # a killed worker puts nothing back at its exit
    killed.release()
