"""Seeding, the delivering side: suppliers with a location, offers, freight rates and stock."""

from __future__ import annotations

from typing import Any

from services.demo.http_clients import Refused, Rest
from services.demo.market import Supplier
from services.demo.seed_brands import Seeder, payout_account, sign_up

_RULE = "mutation($input: SupplierRuleSetInput!) { supplierRuleSet(input: $input) { userErrors { code message } } }"


async def seed_supplier(seeder: Seeder, supplier: Supplier) -> None:
    await sign_up(
        seeder, supplier.code, kind="SUPPLIER", name=supplier.name, email=supplier.email,
        country=supplier.country, currency=supplier.currency,
    )  # fmt: skip
    if f"supplier:{supplier.code}" in seeder.notes:
        return
    api = seeder.supplier_api(supplier.code)
    await payout_account(seeder.of(supplier.code), f"{supplier.code}:{supplier.currency}", supplier.currency)
    await api("PATCH", "/profile", {"accept_mode": supplier.accept_mode}, key="demo-profile")
    location = await _location(api, supplier)
    rates = [
        {
            "dest_zone": rate.zone, "base": _money(rate.base_minor, supplier), "per_kg_minor": rate.per_kg_minor,
            "per_item_minor": rate.per_item_minor, "transit_p50_h": rate.transit_p50_h,
            "transit_p90_h": rate.transit_p90_h,
        }
        for rate in supplier.rates
    ]  # fmt: skip
    await api("PUT", f"/locations/{location}/zone-rates", {"rates": rates}, key="demo-rates")
    await api("PUT", "/offers", {"offers": _offers(seeder, supplier, location)}, key="demo-offers")
    await _authorise(seeder, supplier)
    await _stock(seeder, api, supplier, location)
    seeder.notes.update({f"supplier:{supplier.code}": location})


async def _authorise(seeder: Seeder, supplier: Supplier) -> None:
    """Each brand says that this supplier may deliver its goods: an offer alone is only an offer."""
    for brand in sorted({offer.brand for offer in supplier.offers}):
        rule = {"supplierId": seeder.notes[f"id:{supplier.code}"], "relation": "AUTHORISED"}
        await seeder.of(brand).mutate(_RULE, input=rule)


async def _location(api: Rest, supplier: Supplier) -> str:
    for known in (await api("GET", "/locations"))["items"]:
        if known["code"] == supplier.code:
            return str(known["id"])
    given = {
        "code": supplier.code, "name": supplier.name, "country": supplier.country, "region": supplier.region,
        "handling": _money(supplier.handling_minor, supplier), "handling_hours": 12,
    }  # fmt: skip
    made = await api("POST", "/locations", given, key=f"demo-location-{supplier.code}")
    return str(made["id"])


def _offers(seeder: Seeder, supplier: Supplier, location: str) -> list[dict[str, Any]]:
    return [
        {
            "sku": offer.sku, "brand_id": seeder.notes[f"id:{offer.brand}"], "location_id": location,
            "supplier_sku": f"{supplier.code}/{offer.sku}", "unit_cost": _money(offer.cost_minor, supplier),
            "lead_time_hours": offer.lead_time_hours, "priority": offer.priority,
        }
        for offer in supplier.offers
    ]  # fmt: skip


async def _stock(seeder: Seeder, api: Rest, supplier: Supplier, location: str) -> None:
    """A count of everything on the shelf. Counting the same again changes nothing."""
    rows = [
        {
            "location_id": location, "sku": offer.sku, "brand_id": seeder.notes[f"id:{offer.brand}"],
            "on_hand": offer.on_hand,
        }
        for offer in supplier.offers
    ]  # fmt: skip
    done = await api("PATCH", "/stock", {"rows": rows}, key="demo-stock")
    if done["rejected"]:
        wrong = [row for row in done["rows"] if row["result"] == "rejected"]
        raise Refused("PATCH /stock", [row["code"] for row in wrong], str(wrong[:3]))


def _money(amount_minor: int, supplier: Supplier) -> dict[str, Any]:
    return {"amount_minor": amount_minor, "currency": supplier.currency}
