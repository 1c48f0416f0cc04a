"""kill -9 at any moment: what was acknowledged is there, once, and its webhooks come."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.patience import PATIENCE_S


@pytest.mark.parametrize("seconds", [0.4, 0.9])
def test_kill_9_under_load_loses_nothing_acknowledged(
    provider: Any, tmp_path: Path, receiver: Any, seconds: float
) -> None:
    paysim = type(provider)(tmp_path, receiver.url)
    acknowledged: dict[str, dict[str, Any]] = {}
    stop = threading.Event()

    def buy(buyer: int) -> None:
        for n in range(10_000):
            key = f"{buyer}-{n}"
            try:
                answer = paysim.post(
                    "/v1/payment_intents",
                    key=key,
                    amount=1_000 + n,
                    currency="usd",
                    confirm="true",
                    payment_method="pm_card_visa",
                )
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                acknowledged[key] = answer.json()
            if stop.is_set():
                return

    buyers = [threading.Thread(target=buy, args=(buyer,)) for buyer in range(4)]
    for thread in buyers:
        thread.start()
    while not acknowledged and any(thread.is_alive() for thread in buyers):
        time.sleep(0.01)  # a busy machine takes its time with the first answer
    time.sleep(seconds)
    paysim.kill()
    stop.set()
    for thread in buyers:
        thread.join()
    assert acknowledged

    paysim.start()
    try:
        for key, intent in acknowledged.items():
            kept = paysim.get(f"/v1/payment_intents/{intent['id']}").json()
            assert (kept["status"], kept["amount"]) == ("succeeded", intent["amount"])
            replay = paysim.post(
                "/v1/payment_intents",
                key=key,
                amount=intent["amount"],
                currency="usd",
                confirm="true",
                payment_method="pm_card_visa",
            )
            assert replay.json()["id"] == intent["id"]
        paysim.books()
        wanted = {intent["id"] for intent in acknowledged.values()}
        deadline = time.monotonic() + PATIENCE_S
        arrived: set[str] = set()
        while not wanted <= arrived and time.monotonic() < deadline:
            time.sleep(0.1)
            arrived = {event["data"]["object"]["id"] for event in receiver.events("payment_intent.succeeded")}
        assert wanted <= arrived
    finally:
        paysim.stop()


def test_a_second_process_on_the_same_data_says_so(provider: Any, receiver: Any) -> None:
    with pytest.raises(AssertionError, match="in use by another paysim"):
        type(provider)(provider.data_dir, receiver.url)
