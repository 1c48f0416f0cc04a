from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.matching.diversity import at_most_three_of_ten
from marketplace.matching.models import Lane
from marketplace.matching.scoring import CompanionPart, Parts, TagPart, lift_ppm, score

NOTHING = Parts(
    members=0, brand_contacts=0, product_tags=0, tags=(), community_buyers=0, bought_here=0, all_buyers=0,
    bought_anywhere=0, companions=(), commission_ppm=0,
)  # fmt: skip


def test_no_evidence_scores_nothing() -> None:
    assert score(NOTHING).total_ppm == 0


def test_a_tag_counts_by_smoothed_share_times_lift() -> None:
    parts = replace(
        NOTHING, members=90, brand_contacts=1000, product_tags=1, tags=(TagPart("pets", 50, 100, False),)
    )
    # base share 10 %; smoothed (50 + 10·0.1) / (90 + 10) = 51 %; lift 5.1, capped at 5; 0.51 × 5 = 2.55
    assert lift_ppm(parts.tags[0], parts) == 5_000_000
    assert score(parts).tags_ppm == 2_550_000
    assert score(parts).total_ppm == 1_275_000


def test_a_tag_no_more_common_here_has_lift_one() -> None:
    parts = replace(
        NOTHING, members=90, brand_contacts=1000, product_tags=2, tags=(TagPart("pets", 9, 100, True),)
    )
    # (9 + 1) / 100 = 10 %, lift 1; declared adds 30 %; two product tags share it
    assert lift_ppm(parts.tags[0], parts) == 1_000_000
    assert score(parts).tags_ppm == (100_000 + 300_000) // 2


def test_buying_again_is_smoothed_with_popularity() -> None:
    parts = replace(
        NOTHING, members=90, bought_here=23, all_buyers=200, bought_anywhere=50, community_buyers=40
    )
    # (23 + 10 · 0.25) / (90 + 10) = 25.5 %
    assert score(parts).again_ppm == 255_000
    assert score(parts).lane is Lane.REPEAT


def test_companions_count_by_shrunken_cosine() -> None:
    parts = replace(NOTHING, community_buyers=40, companions=(CompanionPart("prd_x", 20, 30, 100, 36),))
    # cosine 30 / √3600 = 0.5; × 30/40 = 0.375; × 20/40 = 0.1875
    assert score(parts).together_ppm == 187_500
    assert score(parts).lane is Lane.DISCOVER


def test_parts_survive_their_stored_form() -> None:
    parts = replace(
        NOTHING, tags=(TagPart("护肤", 1, 2, True),), companions=(CompanionPart("prd_x", 1, 2, 3, 4),)
    )
    assert Parts.from_json(parts.to_json()) == parts


def test_parts_of_another_rule_are_not_scored() -> None:
    with pytest.raises(ValueError):
        score(replace(NOTHING, rule_version="matching-0"))


def test_no_brand_fills_a_list_that_others_could_fill() -> None:
    ranked = [*("A" * 8), *("B" * 4), *("C" * 4), *("D" * 4)]
    chosen = at_most_three_of_ten(ranked, 10, lambda brand: brand)
    assert chosen == ["A", "A", "A", "B", "B", "B", "C", "C", "C", "D"]


def test_a_single_brand_may_fill_its_own_list() -> None:
    assert at_most_three_of_ten(["A"] * 8, 5, lambda brand: brand) == ["A"] * 5
    assert at_most_three_of_ten(["A"], 10, lambda brand: brand) == ["A"]
