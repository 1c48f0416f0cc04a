"""Profile, locations, offers, freight, stock and prices of the calling supplier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from core.actor import Actor
from core.errors import Conflict, NotFound
from core.ids import BrandId, LocationId, VariantId
from core.pagination import PageRequest
from marketplace.brands import queries as tenants
from marketplace.catalog import queries as catalog
from services.fulfillment import schemas
from services.fulfillment.requests import Caller, IfMatch, Key, Services, answer, services_of, write_once
from supply.fulfillment.views import money_json
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from supply.inventory.queries import MovementView, StockView
from supply.inventory.service import FeedResult, StockRow, StockRowResult
from supply.suppliers import queries, service
from supply.suppliers.errors import LocationNotFound
from supply.suppliers.models import AcceptMode
from supply.suppliers.queries import LocationView, OfferView, StockedSku
from supply.suppliers.service import NewLocation, OfferTerms, PriceChange, RateToZone

router = APIRouter(tags=["goods"])


class SkuUnknown(NotFound):
    code = "SKU_UNKNOWN"


class SkuAmbiguous(Conflict):
    """Several brands sell this SKU: say which with ``brand_id``."""

    code = "SKU_AMBIGUOUS"


@router.get("/profile")
async def get_profile(request: Request, actor: Caller) -> Response:
    async with services_of(request).db.unit_of_work(actor) as session:
        await _registered(session, actor, services_of(request))
        return answer(await _profile(session, actor))


@router.patch("/profile")
async def patch_profile(request: Request, actor: Caller, key: Key, body: schemas.Profile) -> Response:
    async def run(session: AsyncSession) -> dict[str, Any]:
        await _registered(session, actor, services_of(request))
        await service.update_profile(
            session, actor, actor.supplier_id,
            accept_mode=AcceptMode(body.accept_mode) if body.accept_mode else None,
            accept_sla_min=body.accept_sla_min, ship_sla_hours=body.ship_sla_hours,
            feed_stale_after_min=body.feed_stale_after_min,
        )  # fmt: skip
        return await _profile(session, actor)

    return await write_once(request, actor, key, body, run)


@router.get("/locations")
async def list_locations(request: Request, actor: Caller) -> Response:
    async with services_of(request).db.reading(actor) as session:
        found = await queries.locations(session, actor.supplier_id)
    return answer({"items": [_location(each) for each in found]})


@router.post("/locations")
async def create_location(request: Request, actor: Caller, key: Key, body: schemas.LocationIn) -> Response:
    clock = services_of(request).clock

    async def run(session: AsyncSession) -> dict[str, Any]:
        await _registered(session, actor, services_of(request))
        new = NewLocation(
            body.code, body.name, body.country, body.handling.money(), body.region, body.handling_hours,
            body.daily_capacity, body.accepts_returns,
        )  # fmt: skip
        location_id = await service.create_location(session, actor, new, clock=clock)
        return await _one_location(session, actor, location_id)

    return await write_once(request, actor, key, body, run, status=201)


@router.patch("/locations/{location_id}")
async def patch_location(
    request: Request, actor: Caller, location_id: str, key: Key, body: schemas.LocationPatch
) -> Response:
    async def run(session: AsyncSession) -> dict[str, Any]:
        id = LocationId.parse(location_id)
        await service.set_location_status(session, actor, id, active=body.status == "active")
        return await _one_location(session, actor, id)

    return await write_once(request, actor, key, body, run)


@router.put("/locations/{location_id}/zone-rates")
async def put_zone_rates(
    request: Request, actor: Caller, location_id: str, key: Key, body: schemas.ZoneRatesIn
) -> Response:
    """The location's complete price list."""
    clock = services_of(request).clock

    async def run(session: AsyncSession) -> dict[str, Any]:
        id = LocationId.parse(location_id)
        rates = [
            RateToZone(
                rate.dest_zone, rate.base.money(), rate.per_kg_minor, rate.per_item_minor, rate.transit_p50_h,
                rate.transit_p90_h, rate.max_weight_g, rate.service,
            )
            for rate in body.rates
        ]  # fmt: skip
        await service.set_zone_rates(session, actor, id, rates, clock=clock)
        return {"location_id": str(id), "rates": await queries.zone_rates(session, id)}

    return await write_once(request, actor, key, body, run)


@router.get("/locations/{location_id}/zone-rates")
async def get_zone_rates(request: Request, actor: Caller, location_id: str) -> Response:
    id = LocationId.parse(location_id)
    async with services_of(request).db.reading(actor) as session:
        if id not in {each.id for each in await queries.locations(session, actor.supplier_id)}:
            raise LocationNotFound("no such location", field="location_id")
        return answer({"location_id": str(id), "rates": await queries.zone_rates(session, id)})


@router.get("/offers")
async def list_offers(
    request: Request,
    actor: Caller,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    services = services_of(request)
    async with services.db.reading(actor) as session:
        page = await queries.offers_page(session, actor, PageRequest(limit, cursor), now=services.clock.now())
    following = page.cursors[-1] if page.has_next else None
    return answer({"items": [_offer(each) for each in page.items], "next_cursor": following})


@router.put("/offers/{sku}")
async def put_offer(
    request: Request, actor: Caller, sku: str, key: Key, seen: IfMatch, body: schemas.OfferIn
) -> Response:
    async def run(session: AsyncSession) -> dict[str, Any]:
        named = schemas.OfferWithSku(sku=sku, **body.model_dump())
        (saved,) = await _put(session, actor, [named], services_of(request), seen)
        return saved

    return await write_once(request, actor, key, body, run)


@router.put("/offers")
async def put_offers(request: Request, actor: Caller, key: Key, body: schemas.OffersIn) -> Response:
    """Up to 1,000 offers, all or none."""

    async def run(session: AsyncSession) -> dict[str, Any]:
        return {"items": await _put(session, actor, body.offers, services_of(request), None)}

    return await write_once(request, actor, key, body, run)


@router.patch("/prices")
async def patch_prices(request: Request, actor: Caller, key: Key, body: schemas.PricesIn) -> Response:
    """Costs in force from ``effective_at`` (now when absent), all or none."""
    clock = services_of(request).clock

    async def run(session: AsyncSession) -> dict[str, Any]:
        own = await _stocked(session, actor, [price.sku for price in body.prices])
        changes = [
            PriceChange(
                _own_offer(own, price.sku, price.location_id, price.brand_id).offer_id,
                price.unit_cost.money(), price.effective_at or clock.now(),
            )
            for price in body.prices
        ]  # fmt: skip
        versions = await service.change_prices(session, actor, changes, clock=clock)
        return {"items": [{"offer_id": str(id), "price_version": v} for id, v in versions.items()]}

    return await write_once(request, actor, key, body, run)


@router.get("/stock")
async def get_stock(
    request: Request,
    actor: Caller,
    location_id: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    location = LocationId.parse(location_id) if location_id else None
    async with services_of(request).db.reading(actor) as session:
        page = await stock.stock_page(
            session, actor.supplier_id, PageRequest(limit, cursor), location_id=location
        )
        skus = await _skus_of(session, actor, page.items)
    following = page.cursors[-1] if page.has_next else None
    return answer({"items": [_level(each, skus) for each in page.items], "next_cursor": following})


@router.get("/stock/movements")
async def stock_movements(
    request: Request,
    actor: Caller,
    location_id: Annotated[str, Query(max_length=40)],
    variant_id: Annotated[str, Query(max_length=40)],
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """What came to and went from one shelf, newest first: counts, changes, shipments, returns."""
    location, variant = LocationId.parse(location_id), VariantId.parse(variant_id)
    async with services_of(request).db.reading(actor) as session:
        page = await stock.movements_page(
            session, actor.supplier_id, PageRequest(limit, cursor), location_id=location, variant_id=variant
        )
    following = page.cursors[-1] if page.has_next else None
    return answer({"items": [_movement(each) for each in page.items], "next_cursor": following})


@router.patch("/stock")
async def patch_stock(request: Request, actor: Caller, key: Key, body: schemas.StockIn) -> Response:
    """Up to 1,000 rows; a bad row is answered with its number and code, the others count."""
    clock = services_of(request).clock

    async def run(session: AsyncSession) -> dict[str, Any]:
        own = await _stocked(session, actor, [row.sku for row in body.rows])
        rows, numbers, results = [], [], {}
        for number, row in enumerate(body.rows):
            try:
                offer = _own_offer(own, row.sku, row.location_id, row.brand_id)
            except (SkuUnknown, SkuAmbiguous) as error:
                results[number] = _row_result(
                    StockRowResult(number, FeedResult.REJECTED, error.code), row.sku, number
                )
                continue
            numbers.append(number)
            rows.append(
                StockRow(
                    offer.location_id, offer.variant_id, offer.brand_id, row.on_hand, row.delta, row.as_of,
                    row.event_id, row.safety,
                )
            )  # fmt: skip
        applied = await inventory.apply_stock(session, actor.supplier_id, rows, clock=clock)
        for number, result in zip(numbers, applied, strict=True):
            results[number] = _row_result(result, body.rows[number].sku, number)
        ordered = [results[number] for number in range(len(body.rows))]
        counts = {kind.value: sum(r["result"] == kind for r in ordered) for kind in FeedResult}
        return {**counts, "rows": ordered}

    return await write_once(request, actor, key, body, run)


async def _registered(session: AsyncSession, actor: Actor, services: Services) -> None:
    """A supplier's first call makes its supplier record; signing up made only the tenant."""
    facts = await tenants.tenant(session, actor)
    await service.register(session, supplier_id=actor.supplier_id, name=facts.name, clock=services.clock)


async def _profile(session: AsyncSession, actor: Actor) -> dict[str, Any]:
    view = await queries.supplier(session, actor.supplier_id)
    return {
        "id": str(view.id), "code": view.code, "name": view.name, "kind": view.kind.value,
        "status": view.status.value, "accept_mode": view.accept_mode.value,
        "accept_sla_min": view.accept_sla_min, "ship_sla_hours": view.ship_sla_hours,
        "feed_stale_after_min": view.feed_stale_after_min, "settlement_days": view.settlement_days,
        "version": view.version,
    }  # fmt: skip


async def _one_location(session: AsyncSession, actor: Actor, id: LocationId) -> dict[str, Any]:
    (view,) = [each for each in await queries.locations(session, actor.supplier_id) if each.id == id]
    return _location(view)


async def _put(
    session: AsyncSession,
    actor: Actor,
    offers: Sequence[schemas.OfferWithSku],
    services: Services,
    seen: int | None,
) -> list[dict[str, Any]]:
    known = await catalog.resolve_skus(session, {offer.sku for offer in offers})
    brands: dict[str, list[BrandId]] = {}
    for brand_id, sku in known:
        brands.setdefault(sku, []).append(brand_id)
    terms = []
    for offer in offers:
        brand_id = _brand_of(offer, brands.get(offer.sku, []))
        terms.append(
            OfferTerms(
                LocationId.parse(offer.location_id), known[brand_id, offer.sku], brand_id, offer.sku,
                offer.unit_cost.money(), offer.supplier_sku, offer.moq, offer.order_multiple,
                offer.lead_time_hours, offer.priority, offer.valid_from, offer.valid_to, seen,
            )
        )  # fmt: skip
    saved = await service.put_offers(session, actor, terms, clock=services.clock)
    return [
        {
            "id": str(done.offer_id), "sku": term.sku, "brand_id": str(term.brand_id),
            "variant_id": str(term.variant_id), "location_id": str(term.location_id),
            "unit_cost": money_json(term.unit_cost), "price_version": done.price_version,
            "version": done.version,
        }
        for term, done in zip(terms, saved, strict=True)
    ]  # fmt: skip


def _brand_of(offer: schemas.OfferWithSku, selling: list[BrandId]) -> BrandId:
    if offer.brand_id is not None:
        wanted = BrandId.parse(offer.brand_id)
        selling = [brand_id for brand_id in selling if brand_id == wanted]
    if not selling:
        raise SkuUnknown(f"no published product has the SKU {offer.sku!r}", field="sku")
    if len(selling) > 1:
        raise SkuAmbiguous(f"several brands sell {offer.sku!r}; give brand_id", field="brand_id")
    return selling[0]


async def _stocked(
    session: AsyncSession, actor: Actor, skus: Sequence[str]
) -> dict[tuple[str, str], list[StockedSku]]:
    own: dict[tuple[str, str], list[StockedSku]] = {}
    for each in await queries.stocked_skus(session, actor.supplier_id, sorted(set(skus))):
        own.setdefault((each.sku, str(each.location_id)), []).append(each)
    return own


def _own_offer(
    own: dict[tuple[str, str], list[StockedSku]], sku: str, location_id: str, brand_id: str | None
) -> StockedSku:
    found = own.get((sku, location_id), [])
    if brand_id is not None:
        found = [each for each in found if str(each.brand_id) == brand_id]
    if not found:
        raise SkuUnknown(f"no offer of {sku!r} at this location", field="sku")
    if len(found) > 1:
        raise SkuAmbiguous(f"offers of several brands for {sku!r}; give brand_id", field="brand_id")
    return found[0]


async def _skus_of(session: AsyncSession, actor: Actor, levels: Sequence[StockView]) -> dict[Any, str]:
    variants = [level.variant_id for level in levels]
    return await queries.skus_of(session, actor.supplier_id, variants)


def _location(view: LocationView) -> dict[str, Any]:
    return {
        "id": str(view.id), "code": view.code, "name": view.name, "country": view.country,
        "region": view.region, "zone": view.zone, "status": view.status, "handling": money_json(view.handling),
        "handling_hours": view.handling_hours, "daily_capacity": view.daily_capacity,
        "accepts_returns": view.accepts_returns, "version": view.version,
    }  # fmt: skip


def _offer(view: OfferView) -> dict[str, Any]:
    return {
        "id": str(view.id), "sku": view.sku, "supplier_sku": view.supplier_sku, "brand_id": str(view.brand_id),
        "variant_id": str(view.variant_id), "location_id": str(view.location_id),
        "unit_cost": money_json(view.unit_cost) if view.unit_cost else None,
        "price_version": view.price_version, "moq": view.moq, "order_multiple": view.order_multiple,
        "lead_time_hours": view.lead_time_hours, "priority": view.priority, "status": view.status.value,
        "paused_until": view.paused_until, "valid_from": view.valid_from, "valid_to": view.valid_to,
        "version": view.version,
    }  # fmt: skip


def _level(view: StockView, skus: dict[Any, str]) -> dict[str, Any]:
    return {
        "location_id": str(view.location_id), "variant_id": str(view.variant_id),
        "sku": skus.get((view.location_id, view.variant_id)), "on_hand": view.on_hand,
        "reserved": view.reserved, "safety": view.safety, "short": view.short, "available": view.available,
        "as_of": view.as_of, "version": view.version,
    }  # fmt: skip


def _movement(view: MovementView) -> dict[str, Any]:
    return {
        "id": str(view.id), "kind": view.kind.value, "delta": view.delta, "source": view.source,
        "event_id": view.event_id, "as_of": view.as_of, "recorded_at": view.recorded_at,
    }  # fmt: skip


def _row_result(result: StockRowResult, sku: str, number: int) -> dict[str, Any]:
    return {
        "row": number, "sku": sku, "result": result.result.value, "code": result.code,
        "on_hand": result.on_hand, "available": result.available, "short": result.short,
    }  # fmt: skip
