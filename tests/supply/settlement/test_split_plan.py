"""What a rail can pay and when; or why it cannot. Figures are O1 of money.md §2 and arithmetic on paper."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.payments.gateway import Capabilities
from infra.payments.profit_sharing import CAPABILITIES as SHARING
from infra.payments.stripe_gateway import CAPABILITIES as STRIPE
from supply.settlement.obstacles import (
    CapExceeded,
    ClawbackNeeded,
    CurrencyNotCarried,
    FreezeEndsFirst,
    MerchantShort,
    Obstacle,
    PoolingForbidden,
    PromisedTooEarly,
    TooManyReceivers,
)
from supply.settlement.split_plan import (
    MARGIN,
    AgreementTerms,
    PayeeKind,
    Sale,
    Share,
    SplitPlan,
    Unpayable,
    explain_agreement,
    plan_split,
)

PAID = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DELIVERED = PAID + timedelta(days=4)
RETURNS_END = DELIVERED + timedelta(days=15)
RAISED = replace(SHARING, max_outward_ppm=700_000)
"""A merchant that was allowed 70 %."""


def o1(*, returns_until: datetime = RETURNS_END, supplier_due: datetime = DELIVERED) -> Sale:
    """10,388 paid: supplier 4,800, promoter brand 900, individual 450, platform 450, merchant and tax the rest."""
    return Sale(
        ("brd_m",),
        "CNY",
        10_388,
        PAID,
        returns_until,
        (
            Share("sup_s", PayeeKind.BUSINESS, 4_800, supplier_due),
            Share("brd_p", PayeeKind.BUSINESS, 900, returns_until),
            Share("pro_i", PayeeKind.INDIVIDUAL, 450, DELIVERED),
            Share("platform", PayeeKind.PLATFORM, 450, returns_until),
        ),
        fee_minor=62,
    )


def planned(sale: Sale, rail: Capabilities) -> SplitPlan:
    plan = plan_split(sale, rail)
    assert isinstance(plan, SplitPlan), plan
    return plan


def reasons(sale: Sale, rail: Capabilities) -> tuple[Obstacle, ...]:
    plan = plan_split(sale, rail)
    assert isinstance(plan, Unpayable), plan
    return plan.reasons


def test_o1_leaves_more_than_thirty_per_cent_to_others() -> None:
    # 4,800 + 900 + 450 + 450 = 6,600; 30 % of 10,388 is 3,116.4.
    (reason,) = reasons(o1(), SHARING)
    assert reason == CapExceeded(10_388, 6_600, 3_116)
    assert isinstance(reason, CapExceeded)
    assert reason.excess_minor == 3_484
    assert "63.5 %" in reason.explain()


def test_o1_with_a_larger_cap_pays_the_individual_only_after_returns() -> None:
    plan = planned(o1(), RAISED)
    sent = [
        (request.send_at, {(each.payee_id, each.amount_minor) for each in request.instructions})
        for request in plan.requests
    ]
    assert sent == [
        (DELIVERED, {("sup_s", 4_800)}),
        (RETURNS_END, {("brd_p", 900), ("pro_i", 450), ("platform", 450)}),
        (RETURNS_END + timedelta(days=1), set()),
    ]
    assert [request.finish for request in plan.requests] == [False, False, True]
    # 10,388 - 62 of the rail - 6,600.
    assert plan.merchant_minor == 3_726
    assert {request.send_before for request in plan.requests} == {PAID + timedelta(days=180) - MARGIN}


def test_where_the_platform_holds_the_money_everybody_is_transferred_to_and_it_keeps_its_own() -> None:
    plan = planned(o1(), STRIPE)
    paid = {each.payee_id: each.amount_minor for each in plan.instructions}
    assert paid == {"sup_s": 4_800, "brd_p": 900, "pro_i": 450, "brd_m": 3_726}
    assert not any(request.finish for request in plan.requests)
    at = {each.payee_id: request.send_at for request in plan.requests for each in request.instructions}
    # Stripe takes back from an individual: its own terms decide.
    assert at["pro_i"] == DELIVERED


def test_an_individual_promised_before_returns_end_could_need_a_clawback() -> None:
    sale = o1()
    promised = PAID + timedelta(days=7)
    shares = [replace(s, pay_by=promised) if s.payee_id == "pro_i" else s for s in sale.shares]
    (reason,) = reasons(replace(sale, shares=shares), RAISED)
    assert reason == ClawbackNeeded("pro_i", True, 450, promised, RETURNS_END)
    planned(replace(sale, shares=shares), STRIPE)


def test_a_promise_before_the_due_date_is_no_clawback_but_cannot_be_kept() -> None:
    promised = DELIVERED - timedelta(days=1)
    shares = [replace(s, pay_by=promised) if s.payee_id == "sup_s" else s for s in o1().shares]
    (reason,) = reasons(replace(o1(), shares=shares), RAISED)
    assert reason == PromisedTooEarly("sup_s", promised, DELIVERED)


def test_returns_that_last_longer_than_the_freeze_cannot_wait() -> None:
    late = PAID + timedelta(days=178)
    found = reasons(o1(returns_until=late), RAISED)
    assert {(type(each), getattr(each, "payee_id", "")) for each in found} == {
        (FreezeEndsFirst, payee) for payee in ("brd_p", "pro_i", "platform")
    }
    planned(o1(returns_until=PAID + timedelta(days=176)), RAISED)


def test_a_business_is_paid_no_earlier_than_it_can_still_give_back() -> None:
    # Returns end on day 100, a share can be taken back for 30 days: not before day 70.
    short = replace(RAISED, clawback_days=30)
    plan = planned(o1(returns_until=PAID + timedelta(days=100)), short)
    assert plan.requests[0].send_at == PAID + timedelta(days=70)
    never = replace(RAISED, claws_back_from_businesses=False)
    plan = planned(o1(returns_until=PAID + timedelta(days=100)), never)
    assert plan.requests[0].send_at == PAID + timedelta(days=100)


def many(count: int, *, apart: timedelta = timedelta(0), amount: int = 1) -> Sale:
    shares = [Share(f"pro_{n}", PayeeKind.INDIVIDUAL, amount, RETURNS_END + n * apart) for n in range(count)]
    return Sale(("brd_m",), "CNY", 1_000_000, PAID, RETURNS_END, shares)


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (50, [50]), (51, [50, 1]), (120, [50, 50, 20]), (1_250, [50] * 25)]
)
def test_no_request_names_more_than_fifty(count: int, sizes: list[int]) -> None:
    plan = planned(many(count), SHARING)
    assert [len(request.instructions) for request in plan.requests] == [*sizes, 0]
    assert [request.number for request in plan.requests] == list(range(1, len(sizes) + 2))


def test_more_payees_than_the_requests_of_a_payment_take_are_too_many() -> None:
    # 50 requests of 50; half of them are kept for repeats.
    assert reasons(many(1_251), SHARING) == (TooManyReceivers(1_251, 1_250),)


def test_payees_of_too_many_moments_wait_for_the_last_one() -> None:
    plan = planned(many(40, apart=timedelta(hours=1)), SHARING)
    assert [len(request.instructions) for request in plan.requests] == [40, 0]
    assert plan.requests[0].send_at == RETURNS_END + timedelta(hours=39)


def test_one_payee_with_several_shares_is_paid_once_when_the_last_is_due() -> None:
    shares = [
        Share("sup_s", PayeeKind.BUSINESS, 100, DELIVERED),
        Share("sup_s", PayeeKind.BUSINESS, 50, RETURNS_END),
    ]
    plan = planned(replace(o1(), shares=shares), SHARING)
    assert [(each.payee_id, each.amount_minor) for each in plan.instructions] == [("sup_s", 150)]
    assert plan.requests[0].send_at == RETURNS_END


def test_every_reason_is_told_at_once() -> None:
    sale = replace(
        o1(returns_until=PAID + timedelta(days=179)), merchant_ids=("brd_a", "brd_b"), currency="EUR"
    )
    found = reasons(sale, SHARING)
    assert {type(each) for each in found} == {
        CapExceeded,
        PoolingForbidden,
        CurrencyNotCarried,
        FreezeEndsFirst,
    }
    text = Unpayable(found).explain()
    assert "EUR" in text
    assert "2 merchants" in text


def test_shares_beyond_what_is_left_after_the_rails_fee_are_refused() -> None:
    shares = [Share("sup_s", PayeeKind.BUSINESS, 10_327, DELIVERED)]
    free = replace(SHARING, max_outward_ppm=None)
    assert reasons(replace(o1(), shares=shares), free) == (MerchantShort(10_327, 10_326),)


def test_an_agreement_is_explained_before_anybody_signs() -> None:
    cps = AgreementTerms("CNY", promoter_brand_ppm=100_000, individual_ppm=50_000, platform_ppm=50_000)
    assert explain_agreement(cps, SHARING) == ()

    drop_shipped = replace(cps, suppliers_ppm=500_000)
    (cap,) = explain_agreement(drop_shipped, SHARING)
    assert isinstance(cap, CapExceeded)
    assert "70.0 %" in cap.explain()
    assert "30.0 %" in cap.explain()
    assert explain_agreement(drop_shipped, STRIPE) == ()

    (early,) = explain_agreement(replace(cps, individual_paid_after_days=7), SHARING)
    assert isinstance(early, ClawbackNeeded)
    slow = explain_agreement(replace(cps, return_window_days=140), SHARING)
    assert {type(each) for each in slow} == {FreezeEndsFirst}
    assert isinstance(explain_agreement(replace(cps, merchants_per_payment=2), SHARING)[0], PoolingForbidden)
    assert explain_agreement(replace(cps, individuals=2_000), SHARING) == (TooManyReceivers(2_002, 1_250),)


moments = st.integers(0, 200).map(lambda days: PAID + timedelta(days=days))
rails = st.builds(
    Capabilities,
    name=st.just("any"),
    pools_funds=st.booleans(),
    claws_back_from_individuals=st.booleans(),
    claws_back_from_businesses=st.booleans(),
    transfers_before_funds=st.booleans(),
    asynchronous_transfers=st.booleans(),
    max_receivers=st.none() | st.integers(1, 5),
    max_outward_ppm=st.none() | st.integers(0, 1_000_000),
    freeze_days=st.none() | st.integers(10, 200),
    idempotency_hours=st.just(24),
    max_requests=st.none() | st.integers(2, 8),
    clawback_days=st.none() | st.integers(1, 100),
)
shares = st.builds(
    Share,
    payee_id=st.sampled_from(["a", "b", "c", "d", "e", "f", "g"]),
    kind=st.sampled_from([PayeeKind.BUSINESS, PayeeKind.INDIVIDUAL]),
    amount_minor=st.integers(0, 300),
    due_at=moments,
    pay_by=st.none() | moments,
)


@given(st.lists(shares, max_size=12), rails, moments, st.integers(1, 2_000), st.integers(0, 20))
def test_a_plan_pays_everybody_once_exactly_in_time_and_within_every_limit(
    wanted: list[Share], rail: Capabilities, returns_until: datetime, paid: int, fee: int
) -> None:
    kinds: dict[str, PayeeKind] = {}
    wanted = [replace(each, kind=kinds.setdefault(each.payee_id, each.kind)) for each in wanted]
    sale = Sale(("m",), "CNY", paid, PAID, returns_until, wanted, fee_minor=min(fee, paid))
    plan = plan_split(sale, rail)
    if isinstance(plan, Unpayable):
        assert plan.reasons
        assert plan.explain()
        return
    told = list(plan.instructions)
    outward = [each for each in told if each.kind is not PayeeKind.MERCHANT]
    assert len({each.payee_id for each in told}) == len(told)
    for payee in {each.payee_id for each in wanted}:
        owed = sum(each.amount_minor for each in wanted if each.payee_id == payee)
        assert sum(each.amount_minor for each in told if each.payee_id == payee) == owed
    assert sum(each.amount_minor for each in outward) + plan.merchant_minor + sale.fee_minor == paid
    assert plan.merchant_minor >= 0
    if rail.max_outward_ppm is not None:
        assert sum(each.amount_minor for each in outward) * 1_000_000 <= paid * rail.max_outward_ppm
    if rail.max_requests is not None:
        assert len([r for r in plan.requests if r.instructions]) <= max(rail.max_requests // 2, 1)
    for request in plan.requests:
        assert rail.max_receivers is None or len(request.instructions) <= rail.max_receivers
        if rail.freeze_days is not None:
            assert request.send_at <= PAID + timedelta(days=rail.freeze_days) - MARGIN
        for each in request.instructions:
            terms = [share for share in wanted if share.payee_id == each.payee_id]
            assert all(request.send_at >= share.due_at for share in terms)
            assert all(share.pay_by is None or share.pay_by >= request.send_at for share in terms)
            if each.kind is PayeeKind.INDIVIDUAL and not rail.claws_back_from_individuals:
                assert request.send_at >= returns_until
