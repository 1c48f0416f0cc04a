"""Money back to the payer: asked for by us, or taken by the bank."""

from __future__ import annotations

from typing import Any


async def test_refunds_in_slices_stop_at_the_amount_paid(both: Any) -> None:
    paid, refunds = await both.paid(), both.v1.refunds
    first = await refunds.create_async(
        {
            "payment_intent": paid.id,
            "amount": 4_770,
            "reason": "requested_by_customer",
            "metadata": {"n": "1"},
        }
    )
    assert (first.amount, first.currency, first.status) == (4_770, "usd", "succeeded")
    over = await both.refused(refunds.create_async({"payment_intent": paid.id, "amount": 5_619}))
    assert (over.http_status, over.param) == (400, "amount")
    rest = await refunds.create_async({"charge": paid.latest_charge})
    assert rest.amount == 5_618
    empty = await both.refused(refunds.create_async({"payment_intent": paid.id}))
    assert (empty.http_status, empty.code) == (400, "charge_already_refunded")

    listed = await refunds.list_async({"payment_intent": paid.id})
    assert [each.id for each in listed.data] == [rest.id, first.id]
    changed = await refunds.update_async(first.id, {"metadata": {"n": "", "m": "2"}})
    assert changed.metadata.to_dict() == {"m": "2"}
    assert (await refunds.retrieve_async(first.id, {"expand": ["charge"]})).charge.refunded
    late = await both.refused(refunds.cancel_async(first.id))
    assert late.http_status == 400


async def test_refunds_need_a_payment_that_happened(both: Any) -> None:
    refunds = both.v1.refunds
    opened = await both.opened()
    assert (await both.refused(refunds.create_async({"payment_intent": opened.id}))).http_status == 400
    absent = await both.refused(refunds.create_async({"charge": "ch_absent"}))
    assert (absent.code, absent.param) == ("resource_missing", "charge")
    paid = await both.paid()
    for wrong, param in (
        ({"amount": -1}, "amount"),
        ({"amount": 0}, "amount"),
        ({"reason": "mood"}, "reason"),
    ):
        error = await both.refused(refunds.create_async({"payment_intent": paid.id, **wrong}))
        assert (error.http_status, error.param) == (400, param)
    assert (await both.refused(refunds.create_async({"amount": 5}))).http_status == 400


async def test_a_refund_is_a_row_of_the_balance_and_the_fee_is_kept(both: Any) -> None:
    paid = await both.paid()
    refund = await both.v1.refunds.create_async(
        {"payment_intent": paid.id, "amount": 4_770, "expand": ["balance_transaction"]}
    )
    row = refund.balance_transaction
    assert (row.type, row.reporting_category, row.amount, row.fee, row.net) == (
        "refund",
        "refund",
        -4_770,
        0,
        -4_770,
    )
    found = await both.v1.balance_transactions.list_async({"source": refund.id, "type": "refund"})
    assert [each.id for each in found.data] == [row.id]


async def _dispute(both: Any) -> Any:
    paid = await both.paid(card="pm_card_createDispute")
    for _ in range(20):
        found = await both.v1.disputes.list_async({"payment_intent": paid.id})
        if found.data:
            return found.data[0]
    raise AssertionError("no dispute was opened")


async def test_a_dispute_takes_the_money_and_winning_evidence_brings_it_back(both: Any) -> None:
    dispute = await _dispute(both)
    assert (dispute.status, dispute.amount, dispute.is_charge_refundable) == ("needs_response", 10_388, False)
    assert dispute.balance_transactions[0].amount == -10_388
    assert dispute.balance_transactions[0].reporting_category == "dispute"
    blocked = await both.refused(both.v1.refunds.create_async({"charge": dispute.charge}))
    assert (blocked.http_status, blocked.code) == (400, "charge_disputed")

    stored = await both.v1.disputes.update_async(
        dispute.id, {"evidence": {"customer_name": "Li Lei"}, "submit": False, "metadata": {"case": "7"}}
    )
    assert (stored.evidence.customer_name, stored.evidence_details.submission_count) == ("Li Lei", 0)
    sent = await both.v1.disputes.update_async(
        dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}, "submit": True}
    )
    assert sent.evidence_details.submission_count == 1
    now = await both.v1.disputes.retrieve_async(dispute.id, {"expand": ["charge"]})
    assert now.status in {"under_review", "won"}
    assert now.charge.disputed


async def test_closing_a_dispute_accepts_the_loss_for_good(both: Any) -> None:
    dispute = await _dispute(both)
    assert (await both.v1.disputes.close_async(dispute.id)).status == "lost"
    assert (await both.refused(both.v1.disputes.close_async(dispute.id))).http_status == 400
    late = {"evidence": {"customer_name": "x"}}
    assert (await both.refused(both.v1.disputes.update_async(dispute.id, late))).http_status == 400
    absent = await both.refused(both.v1.disputes.retrieve_async("du_absent"))
    assert (absent.http_status, absent.code) == (404, "resource_missing")
