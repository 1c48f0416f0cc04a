"""Notices of a sharing rail: only signed ones are believed, and they only hasten a look-up."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from core.clock import FixedClock
from infra.db.session import Database
from infra.payments.profit_sharing import ProfitSharing
from services.api.webhooks import payment_webhooks
from supply.settlement.rails.ids import RailRequestId
from tests.fixtures.asking import gateways

KEY = "key-of-the-rail"


def notice(number: str, type: str = "SHARING.FINISHED") -> bytes:
    resource = {"merchant_id": "mch_1", "transaction_id": "trx_1", "out_order_no": number}
    return json.dumps({"id": "ntc_1", "type": type, "created_at": "", "resource": resource}).encode()


def signed(raw: bytes, clock: FixedClock, *, late_s: int = 0, key: str = KEY) -> dict[str, str]:
    stamp = str(int(clock.now().timestamp()) - late_s)
    mac = hmac.new(key.encode(), f"{stamp}\nn1\n{raw.decode()}\n".encode(), hashlib.sha256).hexdigest()
    return {"sharing-timestamp": stamp, "sharing-nonce": "n1", "sharing-signature": mac}


@pytest.fixture
async def told(db: Database, clock: FixedClock) -> Any:
    rail = ProfitSharing(base="http://127.0.0.1:9", key=KEY, clock=clock)
    app = FastAPI()
    app.include_router(payment_webhooks(replace(gateways(db, clock), rails={"profit_sharing": rail})))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lianyu.test") as client:

        async def tell(raw: bytes, headers: dict[str, str], name: str = "profit_sharing") -> int:
            answer = await client.post(f"/webhooks/sharing/{name}", content=raw, headers=headers)
            return answer.status_code

        yield tell
    await rail.close()


async def test_signed_notices_are_taken_whatever_they_are_about(told: Any, clock: FixedClock) -> None:
    for raw in (
        notice(str(RailRequestId.new())),
        notice("made by hand"),
        notice("x", "TRANSACTION.SUCCESS"),
    ):
        assert await told(raw, signed(raw, clock)) == 200


async def test_forged_old_foreign_and_broken_ones_are_not(told: Any, clock: FixedClock) -> None:
    raw = notice(str(RailRequestId.new()))
    good = signed(raw, clock)
    assert await told(raw.replace(b"mch_1", b"mch_2"), good) == 400
    assert await told(raw, {}) == 400
    assert await told(raw, signed(raw, clock, late_s=301)) == 400
    assert await told(raw, signed(raw, clock, key="another")) == 400
    assert await told(b"{}", signed(b"{}", clock)) == 400
    assert await told(raw, good, name="other") == 404
    large = b"x" * (512 * 1024 + 1)
    assert await told(large, signed(large, clock)) == 413
