"""Seeding, how brands find each other and people: the directory, promoters' codes, printed cards."""

from __future__ import annotations

from services.demo.http_clients import GraphQL, Refused
from services.demo.market import Brand, Community
from services.demo.reach import codes_of, prints_of
from services.demo.seed_brands import Seeder

_PUBLISH = """
mutation publish($input: PartnerProfileUpsertInput!) {
  partnerProfileUpsert(input: $input) { profile { version } userErrors { code message field } }
}
"""
_SEARCH = """
query partners($filter: PartnerFilterInput!) { partners(filter: $filter, first: 10) { nodes { id name } } }
"""
_COUPON = """
mutation coupon($input: CouponCreateInput!) {
  couponCreate(input: $input) { coupon { id } userErrors { code message field } }
}
"""
_PRINT = """
mutation print($input: QrBatchCreateInput!) {
  qrBatchCreate(input: $input) { batch { id assets { arm code } } userErrors { code message field } }
}
"""
_BATCHES = "query batches { qrBatches(first: 100) { nodes { name assets { arm code } } } }"
_BANDS = ((1_000_000, "FROM_1M"), (100_000, "FROM_100K"), (10_000, "FROM_10K"), (1_000, "FROM_1K"))


async def seed_profile(seeder: Seeder, brand: Brand) -> None:
    """What the brand says of itself; the same said again is no new version."""
    if f"profile:{brand.key}" in seeder.notes:
        return
    market = seeder.market
    people = sum(len(each.members) for each in market.communities if each.brand == brand.key)
    rates = [each.rate_ppm for each in market.agreements if each.advertiser == brand.key]
    partners = {each.advertiser for each in market.agreements if each.promoter == brand.key}
    profile = {
        "headline": f"{brand.zh}找搭档 · {brand.en} looks for partners",
        "offers": brand.about,
        "roles": ["ADVERTISER", "PROMOTER"] if people else ["ADVERTISER"],
        "categories": _categories(brand),
        "soughtCategories": sorted({c for key in partners for c in _categories(market.by_brand[key])}),
        "regions": ["CN", "DE"] if len(brand.storefronts) > 1 else ["CN"],
        "audienceBand": next((band for least, band in _BANDS if people >= least), "UNDER_1K"),
        "rateMinPpm": min(rates, default=None), "rateMaxPpm": max(rates, default=None),
    }  # fmt: skip
    await seeder.of(brand.key).mutate(_PUBLISH, input=profile)
    seeder.notes.update({f"profile:{brand.key}": True})


def _categories(brand: Brand) -> list[str]:
    return sorted({product.category.split("/")[0] for product in brand.products})


async def found_partner(api: GraphQL, brand: Brand) -> str:
    """The id of a promoter brand, as an advertiser finds it in the directory by what it is looking for."""
    wanted = {"text": brand.en, "role": "PROMOTER", "region": "CN"}
    for node in (await api(_SEARCH, filter=wanted))["partners"]["nodes"]:
        if node["name"] == brand.name:
            return str(node["id"])
    raise Refused("partners", ["NOT_FOUND"], f"{brand.name} is not in the directory")


async def seed_codes(seeder: Seeder, brand: Brand) -> None:
    """The exclusive codes this brand gives to its partners' promoters. The same key makes the same code."""
    links = seeder.market.links
    for code in codes_of(seeder.market):
        if links[code.link].advertiser != brand.key or f"code:{code.text}" in seeder.notes:
            continue
        given = {
            "idempotencyKey": f"demo-{code.text}", "code": code.text, "currencyCode": "CNY",
            "ratePpm": code.rate_ppm, "maxUses": code.max_uses, "linkId": seeder.notes[f"linkid:{code.link}"],
        }  # fmt: skip
        made = await seeder.of(brand.key).mutate(_COUPON, input=given)
        seeder.notes.update({f"code:{code.text}": made["coupon"]["id"]})


async def seed_prints(seeder: Seeder, community: Community) -> None:
    """Its parcel cards: every arm is a link of its own, so that what it brings is counted by itself."""
    notes = seeder.notes
    for run in prints_of(seeder.market):
        link = seeder.market.links[run.link]
        if link.community != community.key or f"arms:{run.link}" in notes:
            continue
        api, name = seeder.of(link.promoter), f"{community.name} {link.product}"
        known = {batch["name"]: batch for batch in (await api(_BATCHES))["qrBatches"]["nodes"]}
        batch = known.get(name)
        if batch is None:
            given = {
                "name": name, "kind": "PARCEL_CARD", "sku": run.sku, "warehouse": run.warehouse,
                "arms": [{"arm": arm, "quantity": run.quantity} for arm in run.arms],
                "link": {
                    "agreementId": notes[f"agreement:{link.advertiser}:{link.promoter}"],
                    "placementId": notes[f"placement:{link.community}:{link.placement}"],
                    "productId": notes[f"product:{link.product}"],
                    "promoterId": None if link.person is None else notes[f"promoter:{link.promoter}:{link.person}"],
                    "destination": f"https://{link.advertiser}.example.com/{link.product}",
                },
            }  # fmt: skip
            batch = (await api.mutate(_PRINT, input=given))["batch"]
        notes.update({f"arms:{run.link}": [asset["code"] for asset in batch["assets"]]})
