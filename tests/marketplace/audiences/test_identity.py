from __future__ import annotations

import pytest

from core.ids import BrandId
from marketplace.audiences.errors import MalformedIdentifier
from marketplace.audiences.identity import IdentityVault, normalise, subject_key
from marketplace.audiences.models import IdentifierKind

SECRET = "a secret that is long enough to be one"


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("13800138000", "+8613800138000"),
        ("+86 138-0013-8000", "+8613800138000"),
        ("0086 138 0013 8000", "+8613800138000"),
        ("１３８００１３８０００", "+8613800138000"),
        ("+1 (415) 555-0100", "+14155550100"),
    ],
)
def test_one_phone_has_one_spelling(written: str, normal: str) -> None:
    assert normalise(IdentifierKind.PHONE, written) == normal


def test_mail_is_lower_case_and_composed() -> None:
    assert normalise(IdentifierKind.EMAIL, " Mei.Lin＠Example.COM ") == "mei.lin@example.com"


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (IdentifierKind.PHONE, "12345"),
        (IdentifierKind.PHONE, "+0123456789"),
        (IdentifierKind.PHONE, "+86 138 0013 8000 ext 5"),
        (IdentifierKind.EMAIL, "no-at-sign"),
        (IdentifierKind.EMAIL, "two@@example.com"),
        (IdentifierKind.EMAIL, "a@nodot"),
        (IdentifierKind.WECHAT_UNIONID, "has space"),
        (IdentifierKind.CUSTOMER, ""),
        (IdentifierKind.CUSTOMER, "x" * 300),
    ],
)
def test_what_cannot_be_an_identifier_is_refused_without_repeating_it(
    kind: IdentifierKind, written: str
) -> None:
    with pytest.raises(MalformedIdentifier) as refused:
        normalise(kind, written)
    assert not written or written not in str(refused.value)


def test_two_brands_cannot_compare_their_subject_keys() -> None:
    one, other = BrandId.new(), BrandId.new()
    keys = {subject_key(SECRET, brand, IdentifierKind.PHONE, "+8613800138000") for brand in (one, other)}
    keys.add(subject_key(SECRET, one, IdentifierKind.CUSTOMER, "+8613800138000"))
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}


def test_a_sealed_identifier_opens_for_its_own_brand_and_kind_alone() -> None:
    vault, brand = IdentityVault(SECRET), BrandId.new()
    sealed = vault.seal(brand, IdentifierKind.EMAIL, "mei@example.com")
    assert vault.open(brand, IdentifierKind.EMAIL, sealed) == "mei@example.com"
    assert sealed != vault.seal(brand, IdentifierKind.EMAIL, "mei@example.com")
    for wrong in (
        (BrandId.new(), IdentifierKind.EMAIL, sealed),
        (brand, IdentifierKind.PHONE, sealed),
        (brand, IdentifierKind.EMAIL, sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(ValueError):
            vault.open(*wrong)
    with pytest.raises(ValueError):
        IdentityVault(SECRET + "!").open(brand, IdentifierKind.EMAIL, sealed)
