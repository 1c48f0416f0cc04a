"""The admin API needs its own key and refuses nonsense."""

from __future__ import annotations

from typing import Any

import httpx


def test_only_the_admin_key_opens_it(paysim: Any) -> None:
    for key in ("", "sk_test_suite", "ak_other"):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        assert httpx.get(f"{paysim.url}/_paysim/state", headers=headers, trust_env=False).status_code == 401


def test_unknown_switches_and_bodies_are_refused(paysim: Any) -> None:
    headers = {"authorization": "Bearer ak_suite"}

    def send(content: str) -> int:
        url = f"{paysim.url}/_paysim/faults"
        return httpx.post(url, content=content, headers=headers, trust_env=False).status_code

    assert send('{"kind": "earthquake"}') == 400
    assert send("{}") == 400
    assert send("not json") == 400
    assert send('{"kind": "decline", "count": 0}') == 400


def test_a_switch_fires_as_often_as_it_was_told_and_where_it_fits(paysim: Any) -> None:
    paysim.fault("decline", count=2, match={"currency": "eur"}, code="lost_card")
    form = {"amount": 900, "confirm": "true", "payment_method": "pm_card_visa"}
    codes = [
        paysim.post("/v1/payment_intents", currency=c, **form).status_code
        for c in ("usd", "eur", "eur", "eur")
    ]

    assert codes == [200, 402, 402, 200]
    assert paysim.admin("GET", "/faults")[0]["fired"] == 2
