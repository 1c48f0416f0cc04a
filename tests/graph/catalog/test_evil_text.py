"""Texts that JSON can say and a database cannot hold, and others that break careless code: never a bug's answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.actor import Actor
from core.clock import FixedClock
from core.ids import BrandId
from graph.brand import schema as brand_api
from graph.storefront import schema as storefront_api
from infra.db.session import Database
from marketplace.brands.queries import StorefrontFacts
from tests.factories.brands import committed_brand, committed_storefront
from tests.fixtures.asking import ask

EVIL = [
    "\x00", "a\x00b", "\ud800", "\udfff\ud800", "\ufffe", "\u202e\u200b", "'; DROP TABLE products; --", "%", "\\",
    "{{7*7}}", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "é" * 300, "𠮷" * 50, "\r\n\t", " ", "null",
    "9" * 400, "-0", "NaN", "../../etc/passwd", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
]  # fmt: skip

BRAND_DOCUMENTS = (
    "query ($t: String!) { products(filter: {text: $t, category: $t, tags: [$t]}) { nodes { id } totalCount } }",
    "query ($t: String!) { brands(category: $t, region: $t) { nodes { id } } }",
    "query ($t: ID!) { product(id: $t) { id } brand(id: $t) { id } catalogImport(id: $t) { id } }",
    """mutation ($t: String!, $j: JSON) { productCreate(input: {titleZh: $t, titleEn: $t, descriptionEn: $t,
       category: $t, tags: [$t], handle: $t, attributes: $j, media: [{url: $t, alt: $t}]}) {
       userErrors { code message facts } } }""",
    """mutation ($t: String!, $j: JSON) { productCreate(input: {titleEn: "x", attributes: $j,
       media: [{url: "https://a.example", alt: $t}], variants: [{sku: $t, title: $t, gtin: $t, options: $j,
       prices: [{amount: {amount: $t, currencyCode: $t}}]}]}) { userErrors { code message facts } } }""",
    """mutation ($t: String!, $j: JSON) { productCreate(input: {titleEn: "x", attributes: $j}) {
       userErrors { code message } } }""",
    """mutation ($t: String!) { brandProfileUpdate(input: {nameZh: $t, description: $t, categories: [$t]}) {
       userErrors { code message } } }""",
    """mutation ($t: String!) { brandProfileUpdate(input: {description: $t}) { userErrors { code message } } }""",
    "mutation ($t: String!) { apiTokenCreate(input: {name: $t, scopes: [$t]}) { userErrors { code message facts } } }",
    """mutation ($t: String!) { storefrontCreate(input: {name: $t, channel: WEB, currency: $t, country: $t,
       locale: $t}) { userErrors { code message facts } } }""",
    """mutation ($t: String!) { signUp(input: {kind: BRAND, name: $t, email: $t, country: $t, currency: $t}) {
       userErrors { code message facts } } }""",
    """mutation ($t: String!) { productsImport(input: {content: $t, policy: REJECT_FAILED_ROWS}) {
       catalogImport { errors { message } errorFile } userErrors { code message } } }""",
)
STOREFRONT_DOCUMENTS = (
    "query ($t: String!) { products(text: $t) { nodes { id } totalCount facets(names: [TAG]) { name } } }",
    "query ($t: String!) { products(filter: {tags: [$t], categories: [$t]}) { nodes { id } } }",
    "query ($t: ID!) { products(filter: {brandIds: [$t]}) { nodes { id } } }",
    "query ($t: String!) { products(filter: {priceMin: $t}) { nodes { id } } }",
    "query ($t: String!) { products(after: $t) { nodes { id } } }",
    "query ($t: String!) { suggest(prefix: $t) { text } }",
    "query ($t: ID!) { product(id: $t) { id } }",
)


def internal(answer: dict[str, Any]) -> list[Any]:
    return [
        e
        for e in answer.get("errors", [])
        if e["code"] in (None, "INTERNAL") and "unexpected" in e["message"]
    ]


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
async def test_no_text_of_a_brand_is_a_bug(db: Database, clock: FixedClock, text: str) -> None:
    brand, _ = await committed_brand(db, clock)
    owner = Actor(brand.kind, brand.tenant_id, scopes=brand.scopes)
    line = json.dumps(
        {"sku": text, "title_en": text, "options": {text: text}, text: 1, "prices": {text: text}}
    )
    csv = f"sku,title_en,price:CNY,option:x\n{text},{text},{text},{text}\n"
    for document in BRAND_DOCUMENTS:
        variables: dict[str, Any] = {"t": text}
        if "$j" in document:
            variables["j"] = {text: text, "k": [text], "n": text}
        answer = await ask(brand_api, db, clock, owner, document, variables)
        assert not internal(answer), (document, answer)
    document = BRAND_DOCUMENTS[-1].replace("policy:", "format: JSONL, policy:")
    assert not internal(await ask(brand_api, db, clock, owner, document, {"t": line}))
    known = line.replace(f"{json.dumps(text)}: 1,", "")
    assert not internal(await ask(brand_api, db, clock, owner, document, {"t": known}))
    assert not internal(await ask(brand_api, db, clock, owner, BRAND_DOCUMENTS[-1], {"t": csv}))


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
async def test_no_text_of_a_shopper_is_a_bug(db: Database, clock: FixedClock, text: str) -> None:
    brand, _ = await committed_brand(db, clock)
    made = await committed_storefront(db, clock, brand)
    facts = StorefrontFacts(made.id, BrandId.of(brand.brand_id), "CNY", "CN", "zh-CN", "web")
    for document in STOREFRONT_DOCUMENTS:
        answer = await ask(storefront_api, db, clock, made.actor, document, {"t": text}, storefront=facts)
        assert not internal(answer), (document, answer)
