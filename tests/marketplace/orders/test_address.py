from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.orders.address import Address, address_key, buyer_key, checked_email
from marketplace.orders.errors import InvalidAddress

HOME = Address(name="王小明", line1="人民路 1 号", city="上海", country="CN", region="SH")


def test_the_zone_is_country_and_region() -> None:
    assert HOME.zone == "CN-SH"
    assert replace(HOME, region="").zone == "CN"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "  "}, "address.name"),
        ({"line1": ""}, "address.line1"),
        ({"country": "China"}, "address.country"),
        ({"country": "cn"}, "address.country"),
        ({"region": "Shanghai"}, "address.region"),
        ({"line2": "x" * 201}, "address.line2"),
        ({"phone": "1\n2"}, "address.phone"),
    ],
)
def test_a_bad_address_names_its_field(change: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        replace(HOME, **change)

    assert refused.value.field == field
    assert refused.value.code == "INVALID_ADDRESS"


def test_one_household_has_one_key_however_it_is_typed() -> None:
    other = replace(HOME, name="李雷", line1=" 人民路  1 号 ", phone="13800000000")

    assert address_key("s", HOME) == address_key("s", other)
    assert address_key("s", HOME) != address_key("t", HOME)
    assert address_key("s", HOME) != address_key("s", replace(HOME, line1="人民路 2 号"))


def test_a_buyer_is_the_same_in_capitals_and_full_width() -> None:
    assert checked_email(" Ａnna@Example.com ") == "anna@example.com"
    assert buyer_key("s", checked_email("ANNA@example.com")) == buyer_key("s", "anna@example.com")
    for wrong in ("", "anna", "a@b", "a b@example.com", "@example.com"):
        with pytest.raises(InvalidAddress):
            checked_email(wrong)
