"""Balance, its rows, events and webhook endpoints."""

from __future__ import annotations

from typing import Any


async def test_rows_of_the_balance_are_found_by_source_type_currency_and_time(both: Any) -> None:
    paid = await both.paid(10_388)
    rows = both.v1.balance_transactions
    (row,) = (await rows.list_async({"source": paid.latest_charge})).data
    assert (row.type, row.reporting_category, row.amount, row.net) == (
        "charge",
        "charge",
        10_388,
        10_388 - row.fee,
    )
    assert sum(each.amount for each in row.fee_details) == row.fee
    assert (await rows.retrieve_async(row.id)).id == row.id
    same = await rows.list_async({"type": "charge", "currency": "usd", "created": {"gte": row.created}})
    assert row.id in [each.id for each in same.data]
    assert not (await rows.list_async({"source": paid.latest_charge, "type": "refund"})).data
    assert not (
        await rows.list_async({"source": paid.latest_charge, "created": {"lt": row.created - 86_400}})
    ).data
    for wrong in ({"payout": "po_absent"}, {"created": {"about": 5}}):
        assert (await both.refused(rows.list_async(wrong))).http_status == 400
    absent = await both.refused(rows.retrieve_async("txn_absent"))
    assert (absent.http_status, absent.code) == (404, "resource_missing")


async def test_the_balance_has_available_and_pending_by_currency(both: Any) -> None:
    await both.paid()
    balance = await both.v1.balance.retrieve_async()
    for bucket in (balance.available, balance.pending):
        assert {each.currency for each in bucket} >= {"usd"}
        assert all(isinstance(each.amount, int) for each in bucket)


async def test_events_tell_what_happened_with_the_object_as_it_was(both: Any) -> None:
    intent = await both.opened()
    await both.v1.payment_intents.cancel_async(intent.id, {})
    wanted = ["payment_intent.canceled", "payment_intent.created"]
    listed = await both.v1.events.list_async({"types": wanted, "created": {"gte": intent.created}})
    mine = [each for each in listed.data if each.data.object["id"] == intent.id]
    assert [each.type for each in mine] == wanted
    assert [each.data.object["status"] for each in mine] == ["canceled", "requires_payment_method"]
    assert (await both.v1.events.retrieve_async(mine[0].id)).type == wanted[0]
    group = await both.v1.events.list_async({"type": "payment_intent.*", "limit": 1})
    assert group.data[0].type.startswith("payment_intent.")
    absent = await both.refused(both.v1.events.retrieve_async("evt_absent"))
    assert (absent.http_status, absent.code) == (404, "resource_missing")
    both_ways = both.v1.events.list_async({"type": "payout.paid", "types": ["payout.paid"]})
    assert (await both.refused(both_ways)).http_status == 400


async def test_webhook_endpoints_show_their_secret_once(both: Any) -> None:
    endpoints = both.v1.webhook_endpoints
    made = await endpoints.create_async(
        {"url": "https://example.com/hooks", "enabled_events": ["payout.paid"], "metadata": {"a": "b"}}
    )
    assert made.secret.startswith("whsec_")
    again = await endpoints.retrieve_async(made.id)
    assert getattr(again, "secret", None) is None
    off = await endpoints.update_async(made.id, {"disabled": True, "enabled_events": ["charge.failed"]})
    assert (off.status, off.enabled_events) == ("disabled", ["charge.failed"])
    assert made.id in [each.id for each in (await endpoints.list_async()).data]
    assert (await endpoints.delete_async(made.id)).deleted
    assert (await both.refused(endpoints.retrieve_async(made.id))).http_status == 404
    wrong = endpoints.create_async({"url": "not a url", "enabled_events": ["*"]})
    assert (await both.refused(wrong)).http_status == 400
