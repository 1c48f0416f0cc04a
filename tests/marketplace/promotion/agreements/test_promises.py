"""What terms promise before a sale: figures from paper, and never more than the engine pays."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.canonical import to_micros
from core.ids import AgreementId, BrandId, OrderLineId, ProductId
from core.money import Money
from marketplace.promotion.agreements.limits import TierTerms
from marketplace.promotion.agreements.promises import promise, rule_that_holds
from marketplace.promotion.agreements.terms import Rule, Terms, category_path, terms_in_force
from marketplace.promotion.attribution.crediting import Amounts, LineMoney, SplitRule, credit
from marketplace.promotion.attribution.decision import decide
from marketplace.promotion.commission.rules import Tier, TierMode
from marketplace.promotion.facts import LineFact, OrderFact, ScopeKind, TouchFact
from marketplace.promotion.models import ShareRole

AT = datetime(2026, 3, 2, tzinfo=UTC)
CREAM, OTHER = ProductId.new(), ProductId.new()
SIX_YUAN = Terms((Rule(80_000, fixed=Money(600, "CNY")),))


@pytest.mark.parametrize(
    ("price", "ppm"),
    [
        (10_000, 60_000),  # 6 of 100
        (2_000, 300_000),  # 6 of 20: just the ceiling
        (1_999, 300_000),  # more than 30 %
        (9_999, 60_006),  # 60,006.0006
        (0, 0),
    ],
)
def test_an_amount_a_piece_is_compared_by_what_it_is_of_the_price(price: int, ppm: int) -> None:
    found = promise(SIX_YUAN, CREAM, "beauty", "a", currency="CNY")
    assert found is not None
    assert found.part_of_price(price) == ppm


def test_in_another_currency_the_rate_is_promised() -> None:
    for currency in ("EUR", None):
        found = promise(SIX_YUAN, CREAM, "beauty", "a", currency=currency)
        assert found is not None
        assert found.part_of_price(10_000) == 80_000


def test_of_tiers_the_lowest_rate_is_sure() -> None:
    tiers = TierTerms(
        (Tier(0, 50_000), Tier(1_000, 20_000), Tier(5_000, 90_000)), "CNY", TierMode.WHOLE_ORDER
    )
    found = promise(Terms((Rule(80_000),), tiers=tiers), CREAM, "beauty", "a", currency="CNY")
    assert found is not None
    assert found.part_of_price(10_000) == 20_000


def test_what_is_out_of_scope_is_promised_nothing() -> None:
    terms = Terms((Rule(80_000, ScopeKind.PRODUCT, str(CREAM)),))
    assert promise(terms, OTHER, "beauty", "a") is None


scopes = st.one_of(
    st.just((ScopeKind.CAMPAIGN, "")),
    st.tuples(st.just(ScopeKind.SKU), st.sampled_from("ab")),
    st.tuples(st.just(ScopeKind.PRODUCT), st.sampled_from([str(CREAM), str(OTHER)])),
    st.tuples(
        st.just(ScopeKind.CATEGORY), st.sampled_from(["beauty", "beauty/skin", "beauty/skin/cream", "toys"])
    ),
)
rules = st.builds(
    lambda scope, rate, priority, fixed: Rule(
        rate, scope[0], scope[1], priority=priority, fixed=Money(fixed, "CNY") if fixed else None
    ),
    scopes,
    st.integers(0, 900_000),
    st.integers(-2, 2),
    st.one_of(st.none(), st.integers(1, 5_000)),
)
terms_of_rules = st.builds(
    lambda found, fee, individual, ceiling: Terms(
        tuple(found), fee_ppm=fee, individual_ppm=individual, fixed_cap_ppm=ceiling
    ),
    st.lists(rules, min_size=1, max_size=6),
    st.integers(50_000, 500_000),
    st.integers(0, 1_000_000),
    st.integers(1, 900_000),
)
bought = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 20_000)), min_size=1, max_size=4
)


@given(terms_of_rules, bought)
def test_the_rule_and_the_least_that_is_earned_are_the_engines(
    terms: Terms, lines: list[tuple[str, int, int]]
) -> None:
    agreement, merchant, promoter = AgreementId.new(), BrandId.new(), BrandId.new()
    ids = [str(OrderLineId.new()) for _ in lines]
    path = category_path("beauty/skin")
    order = OrderFact(
        "o", str(merchant), to_micros(AT),
        tuple(LineFact(id, sku, str(CREAM), path) for id, (sku, _, _) in zip(ids, lines, strict=True)),
    )  # fmt: skip
    touch = TouchFact("t", str(agreement), 1, str(promoter), "p", to_micros(AT), "person")
    engine = terms_in_force(
        agreement, 1, advertiser_id=merchant, promoter_brand_id=promoter, in_force_from=AT, terms=terms,
        currency="CNY",
    )  # fmt: skip
    amounts = Amounts(
        "CNY", tuple(LineMoney(id, q, gross, 0, 0) for id, (_, q, gross) in zip(ids, lines, strict=True)), (),
        (SplitRule(str(agreement), 1, terms.fee_ppm, terms.individual_ppm, 15, terms.fixed_cap_ppm),),
    )  # fmt: skip
    decided = decide(order, [touch], [engine]).lines
    earned = {
        line.order_line_id: sum(s.amount_minor for s in line.shares if s.role is ShareRole.PROMOTER_BRAND)
        for line in credit(order, [touch], [engine], amounts).lines
    }
    for (line_id, rate), (sku, quantity, gross) in zip(decided.items(), lines, strict=True):
        holds = rule_that_holds(terms, CREAM, "beauty/skin", sku)
        found = promise(terms, CREAM, "beauty/skin", sku, currency="CNY")
        if rate is None:
            assert holds is None
            assert found is None
            continue
        assert holds == terms.rules[int(rate.rule_id[1:])]
        assert found is not None
        sure = found.sure_for_brand(gross, quantity)
        assert 0 <= earned[line_id] - sure <= 2
