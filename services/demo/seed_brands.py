"""Seeding, the selling side: brands with storefronts, catalogues and payout accounts."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from core.clock import Clock
from core.ids import BrandId, SupplierId, TenantId
from core.money import Money
from infra.config import Settings
from infra.db.session import Database
from services.demo import accounts
from services.demo.http_clients import Edge, GraphQL, Patience, Refused, Rest
from services.demo.market import Brand, Market, Product
from services.demo.notebook import Notebook

_SIGN_UP = """
mutation signUp($input: SignUpInput!) { signUp(input: $input) { id token userErrors { code message field } } }
"""
_PROFILE = """
mutation profile($input: BrandProfileUpdateInput!) {
  brandProfileUpdate(input: $input) { userErrors { code message field } }
}
"""
_STOREFRONTS = "query storefronts { storefronts { id name publishableKey } }"
_NEW_STOREFRONT = """
mutation storefront($input: StorefrontCreateInput!) {
  storefrontCreate(input: $input) { storefront { id name publishableKey } userErrors { code message field } }
}
"""
_IMPORT = """
mutation import($input: ProductsImportInput!) {
  productsImport(input: $input) {
    catalogImport { status rowsRead rowsFailed errors(first: 5) { row code message } }
    userErrors { code message field }
  }
}
"""
_PRODUCTS = """
query products($after: String) {
  products(first: 100, after: $after) {
    nodes { id handle variants { id sku } } pageInfo { hasNextPage endCursor }
  }
}
"""
_PAYOUT_ACCOUNT = """
mutation account($input: PayoutAccountCreateInput!) {
  payoutAccountCreate(input: $input) { payee { id } userErrors { code message field } }
}
"""


@dataclass(slots=True)
class Seeder:
    """What every part of the seeding needs."""

    settings: Settings
    market: Market
    notes: Notebook
    db: Database
    clock: Clock
    http: Any
    patience: Patience

    def brand_api(self, token: str | None = None) -> GraphQL:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return GraphQL(self.http, self.settings.brand_url, headers, self.patience)

    def of(self, name: str) -> GraphQL:
        """The brand API as a brand or supplier of the market."""
        return self.brand_api(self.notes[f"token:{name}"])

    def supplier_api(self, code: str) -> Rest:
        return Rest(self.http, self.settings.fulfillment_url, self.notes[f"token:{code}"], self.patience)

    def edge(self) -> Edge:
        return Edge(self.http, self.settings.edge_url, self.patience)


async def sign_up(
    seeder: Seeder, key: str, *, kind: str, name: str, email: str, country: str, currency: str
) -> None:
    """A tenant with its token in the notebook; one whose token was lost with a killed seeding gets another."""
    if f"token:{key}" in seeder.notes:
        return
    given = {"kind": kind, "name": name, "email": email, "country": country, "currency": currency}
    try:
        made = await seeder.brand_api().mutate(_SIGN_UP, input=given)
        tenant, token = made["id"], made["token"]
    except Refused as refusal:
        if refusal.codes != ["EMAIL_TAKEN"]:
            raise
        tenant_id, token = await accounts.further_token(seeder.db, email=email, clock=seeder.clock)
        tenant = _outer(kind, tenant_id)
    seeder.notes.update({f"id:{key}": tenant, f"token:{key}": token})


def _outer(kind: str, tenant_id: TenantId) -> str:
    return str(BrandId.of(tenant_id) if kind == "BRAND" else SupplierId.of(tenant_id))


async def seed_brand(seeder: Seeder, brand: Brand) -> None:
    await sign_up(
        seeder, brand.key, kind="BRAND", name=brand.name, email=brand.email, country="CN", currency="CNY"
    )
    if f"brand:{brand.key}" in seeder.notes:
        return
    api = seeder.of(brand.key)
    profile = {
        "nameZh": brand.zh, "nameEn": brand.en, "description": brand.about, "discoverable": True,
        "categories": sorted({product.category.split("/")[0] for product in brand.products}),
        "regions": ["CN", "DE"] if len(brand.storefronts) > 1 else ["CN"],
    }  # fmt: skip
    await api.mutate(_PROFILE, input=profile)
    await _storefronts(seeder, brand, api)
    await _catalogue(seeder, brand, api)
    for currency in sorted({front.currency for front in brand.storefronts}):
        await payout_account(api, f"{brand.key}:{currency}", currency)
    seeder.notes.update({f"brand:{brand.key}": True})


async def payout_account(api: GraphQL, key: str, currency: str, promoter: str | None = None) -> None:
    given = {"idempotencyKey": f"demo-{key}", "currencyCode": currency, "promoterId": promoter}
    await api.mutate(_PAYOUT_ACCOUNT, input=given)


async def _storefronts(seeder: Seeder, brand: Brand, api: GraphQL) -> None:
    known = {front["name"]: front for front in (await api(_STOREFRONTS))["storefronts"]}
    for index, front in enumerate(brand.storefronts):
        made = known.get(front.name)
        if made is None:
            given = {
                "name": front.name, "channel": front.channel.upper(), "currency": front.currency,
                "country": front.country, "locale": front.locale,
            }  # fmt: skip
            made = (await api.mutate(_NEW_STOREFRONT, input=given))["storefront"]
        seeder.notes.update({f"storefront:{brand.key}:{index}": made["publishableKey"]})


async def _catalogue(seeder: Seeder, brand: Brand, api: GraphQL) -> None:
    """One file for everything: importing it twice changes nothing."""
    given = {"content": csv_of(brand.products), "format": "CSV", "policy": "REJECT_EVERYTHING"}
    done = (await api.mutate(_IMPORT, input=given))["catalogImport"]
    if done["rowsFailed"]:
        raise Refused("productsImport", [e["code"] for e in done["errors"]], str(done["errors"]))
    ids: dict[str, str] = {}
    after, more = None, True
    while more:
        page = (await api(_PRODUCTS, after=after))["products"]
        for product in page["nodes"]:
            ids[f"product:{product['handle']}"] = product["id"]
            ids |= {f"variant:{variant['sku']}": variant["id"] for variant in product["variants"]}
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    seeder.notes.update(ids)


def csv_of(products: tuple[Product, ...]) -> str:
    """The brand's import file: one variant a row."""
    currencies = sorted({c for product in products for v in product.variants for c in v.prices})
    options = sorted({v.option for product in products for v in product.variants})
    columns = [
        "handle", "sku", "title_zh", "title_en", "category", "tags", "media", "variant_title", "weight_g", "status",
        *(f"price:{currency}" for currency in currencies), *(f"option:{option}" for option in options),
    ]  # fmt: skip
    file = io.StringIO()
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    for product in products:
        for variant in product.variants:
            writer.writerow(
                {
                    "handle": product.handle, "sku": variant.sku, "title_zh": product.title_zh,
                    "title_en": product.title_en, "category": product.category, "tags": "|".join(product.tags),
                    "media": f"https://media.example.com/{product.handle}.jpg", "variant_title": variant.value,
                    "weight_g": variant.weight_g, "status": "published",
                    f"option:{variant.option}": variant.value,
                    **{f"price:{c}": Money(amount, c).decimal for c, amount in variant.prices.items()},
                }
            )  # fmt: skip
    return file.getvalue()
