"""What an order earns as a whole: the rules of attribution and of commission together."""

from __future__ import annotations

from datetime import UTC, datetime

from core.canonical import to_micros
from marketplace.promotion.agreements.limits import Limit
from marketplace.promotion.attribution.crediting import Amounts, LineMoney, SplitRule, credit
from marketplace.promotion.commission.rules import TierMode
from marketplace.promotion.facts import AgreementTerms, LineFact, OfferRule, OrderFact, ScopeKind, TouchFact

DAY_US = 86_400_000_000
AT = datetime(2026, 3, 16, tzinfo=UTC)
AT_US = to_micros(AT)
DAY_S = 86_400


def of_sku(version: int, sku: str) -> AgreementTerms:
    rule = OfferRule("r000", ScopeKind.SKU, sku, datetime(2026, 1, 1, tzinfo=UTC), 50_000)
    return AgreementTerms("agr", version, "brd_merchant", "brd_promoter", 15 * DAY_S, (rule,))


def test_an_agreement_that_wins_with_two_versions_owes_what_a_reached_tier_adds_once() -> None:
    order = OrderFact(
        "ord", "brd_merchant", AT_US, (LineFact("l1", "sku_1", "prd_1"), LineFact("l2", "sku_2", "prd_2"))
    )
    touches = [
        TouchFact("t1", "agr", 1, "brd_promoter", "plc", AT_US - 2 * DAY_US),
        TouchFact("t2", "agr", 2, "brd_promoter", "plc", AT_US - DAY_US),
    ]
    reached = Limit(
        "agr",
        1,
        tiers=((0, 50_000), (10_000, 100_000)),
        tier_mode=TierMode.RETROACTIVE,
        prior_basis_minor=8_000,
    )
    amounts = Amounts(
        "CNY",
        (LineMoney("l1", 1, 5_000, 0, 0), LineMoney("l2", 1, 5_000, 0, 0)),
        (),
        (SplitRule("agr", 1, 0, 0, 15), SplitRule("agr", 2, 0, 0, 15)),
        (reached,),
    )

    earned = credit(order, touches, [of_sku(1, "sku_1"), of_sku(2, "sku_2")], amounts)

    assert [line.agreement_version for line in earned.lines] == [1, 2]
    # 18,000 is past 10,000: 10 % of the order's 10,000, and 5 % more of the 8,000 before it.
    assert [line.commission_minor for line in earned.lines] == [500, 500]
    (owed,) = earned.adjustments
    assert (owed.agreement_version, owed.amount_minor) == (1, 400)
    assert [share.amount_minor for share in owed.shares] == [400, 0]


def test_a_line_that_nobody_sold_takes_no_unit_of_the_others_rounding() -> None:
    order = OrderFact(
        "ord", "brd_merchant", AT_US, (LineFact("l1", "other", "prd_1"), LineFact("l2", "sku_2", "prd_2"))
    )
    touches = [TouchFact("t1", "agr", 1, "brd_promoter", "plc", AT_US - DAY_US)]
    money = (LineMoney("l1", 1, 990, 0, 0), LineMoney("l2", 1, 990, 0, 0))
    amounts = Amounts("CNY", money, (), (SplitRule("agr", 1, 0, 0, 15),))

    earned = credit(order, touches, [of_sku(1, "sku_2")], amounts)

    # 5 % of 990 is 49.5, rounded up; all of it the second line's.
    assert [(line.order_line_id, line.commission_minor) for line in earned.lines] == [("l2", 50)]
