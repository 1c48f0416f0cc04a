"""Connected accounts, transfers to them and back, payouts of theirs and ours."""

from __future__ import annotations

import asyncio
from typing import Any

import stripe


async def test_accounts_are_created_changed_listed_and_linked(both: Any) -> None:
    accounts = both.v1.accounts
    account = await accounts.create_async(
        {
            "country": "US",
            "business_type": "individual",
            "controller": {
                "stripe_dashboard": {"type": "express"},
                "fees": {"payer": "application"},
                "losses": {"payments": "application"},
            },
            "capabilities": {"transfers": {"requested": True}},
            "settings": {"payouts": {"schedule": {"interval": "manual"}}},
            "metadata": {"party": "P1"},
        }
    )
    assert account.settings.payouts.schedule.interval == "manual"
    changed = await accounts.update_async(account.id, {"metadata": {"party": "", "role": "supplier"}})
    assert changed.metadata.to_dict() == {"role": "supplier"}
    assert (await accounts.retrieve_async(account.id)).id == account.id
    assert account.id in [each.id for each in (await accounts.list_async({"limit": 5})).data]
    link = await both.v1.account_links.create_async(
        {
            "account": account.id,
            "type": "account_onboarding",
            "refresh_url": "https://example.com/again",
            "return_url": "https://example.com/done",
        }
    )
    assert link.url.startswith("http")
    assert link.expires_at > link.created
    capabilities = await both.v1.accounts.capabilities.list_async(account.id)
    assert [each.id for each in capabilities.data] == ["transfers"]
    one = await both.v1.accounts.capabilities.retrieve_async(account.id, "transfers")
    assert (one.account, one.requested) == (account.id, True)
    assert (await accounts.delete_async(account.id)).deleted


async def test_what_accounts_and_links_need_is_said(both: Any) -> None:
    create = both.v1.accounts.create_async
    for wrong, param in (({"country": "XX"}, "country"), ({"type": "odd"}, "type"), ({"x": "y"}, "x")):
        error = await both.refused(create(wrong))
        assert (error.http_status, error.param) == (400, param)
    stranger = await both.refused(both.v1.accounts.retrieve_async("acct_absent"))
    assert isinstance(stranger, stripe.PermissionError)
    assert stranger.http_status == 403
    link = both.v1.account_links.create_async({"account": "acct_absent"})
    assert (await both.refused(link)).http_status == 400


async def test_a_transfer_arrives_and_is_taken_back_in_parts(both: Any) -> None:
    payee, group = await both.payee(), both.fresh()
    await both.funded(50_000)
    transfers = both.v1.transfers
    transfer = await transfers.create_async(
        {"amount": 1_731, "currency": "usd", "destination": payee, "transfer_group": group}
    )
    found = await transfers.list_async({"transfer_group": group, "expand": ["data.balance_transaction"]})
    assert [(each.id, each.balance_transaction.net) for each in found.data] == [(transfer.id, -1_731)]
    changed = await transfers.update_async(transfer.id, {"metadata": {"batch": "B1"}})
    assert changed.metadata.to_dict() == {"batch": "B1"}

    back = await transfers.reversals.create_async(transfer.id, {"amount": 308})
    assert (back.amount, back.transfer) == (308, transfer.id)
    over = await both.refused(transfers.reversals.create_async(transfer.id, {"amount": 1_424}))
    assert (over.http_status, over.param) == (400, "amount")
    rest = await transfers.reversals.create_async(transfer.id)
    assert rest.amount == 1_423
    now = await transfers.retrieve_async(transfer.id)
    assert (now.amount_reversed, now.reversed) == (1_731, True)
    listed = await transfers.reversals.list_async(transfer.id)
    assert [each.id for each in listed.data] == [rest.id, back.id]
    assert (await both.refused(transfers.reversals.create_async(transfer.id))).http_status == 400


async def test_a_transfer_is_refused_beyond_the_balance_the_source_and_for_unknown_accounts(
    both: Any,
) -> None:
    payee = await both.payee()
    create = both.v1.transfers.create_async
    short = await both.refused(create({"amount": 99_999_999_999, "currency": "usd", "destination": payee}))
    assert (short.http_status, short.code) == (400, "balance_insufficient")
    absent = await both.refused(create({"amount": 5, "currency": "usd", "destination": "acct_absent"}))
    assert (absent.http_status, absent.code, absent.param) == (400, "resource_missing", "destination")
    for wrong in ({"amount": -1}, {"amount": 0}, {"amount": "x"}):
        error = await both.refused(create({"currency": "usd", "destination": payee, **wrong}))
        assert (error.http_status, error.param) == (400, "amount")

    charge = (await both.paid(10_388)).latest_charge
    source = {"currency": "usd", "destination": payee, "source_transaction": charge}
    first = await create({"amount": 10_000, **source})
    assert first.source_transaction == charge
    beyond = await both.refused(create({"amount": 389, **source}))
    assert beyond.http_status == 400
    assert (await create({"amount": 388, **source})).transfer_group == first.transfer_group


async def test_twelve_equal_transfers_at_once_move_the_money_once(both: Any) -> None:
    payee, key, group = await both.payee(), both.fresh(), both.fresh()
    await both.funded(50_000)
    params = {"amount": 900, "currency": "usd", "destination": payee, "transfer_group": group}
    answers = await asyncio.gather(
        *(both.v1.transfers.create_async(params, {"idempotency_key": key}) for _ in range(12)),
        return_exceptions=True,
    )
    assert any(not isinstance(each, BaseException) for each in answers)
    found = await both.v1.transfers.list_async({"transfer_group": group})
    assert [each.amount for each in found.data] == [900]


async def test_payouts_of_ours_and_of_a_connected_account(both: Any) -> None:
    payee = await both.payee()
    await both.funded(50_000)
    await both.v1.transfers.create_async({"amount": 4_500, "currency": "usd", "destination": payee})
    theirs = {"stripe_account": payee}
    payout = await both.v1.payouts.create_async({"amount": 4_500, "currency": "usd"}, theirs)
    assert (payout.status, payout.automatic, payout.reconciliation_status) == (
        "pending",
        False,
        "not_applicable",
    )
    hidden = await both.refused(both.v1.payouts.retrieve_async(payout.id))
    assert (hidden.http_status, hidden.code) == (404, "resource_missing")
    more = await both.refused(both.v1.payouts.create_async({"amount": 99_999_999, "currency": "usd"}, theirs))
    assert (more.http_status, more.code) == (400, "balance_insufficient")

    own = await both.v1.payouts.create_async({"amount": 1_000, "currency": "usd", "metadata": {"po": "1"}})
    assert own.id in [each.id for each in (await both.v1.payouts.list_async({"limit": 5})).data]
    row = await both.v1.balance_transactions.retrieve_async(own.balance_transaction)
    assert (row.type, row.net, row.source) == ("payout", -1_000, own.id)
    gone = await both.v1.payouts.cancel_async(own.id)
    assert gone.status == "canceled"
    assert (await both.refused(both.v1.payouts.cancel_async(own.id))).http_status == 400
    # Rows can be listed by payout only where the provider made it up itself.
    by_payout = both.v1.balance_transactions.list_async({"payout": own.id})
    assert (await both.refused(by_payout)).http_status == 400
