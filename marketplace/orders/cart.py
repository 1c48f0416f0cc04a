"""Carts: what a shopper means to buy. Nothing is reserved and no price is promised, only quoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import BrandId, CartId, CartLineId, StorefrontId, VariantId
from core.money import Money
from infra.db.base import table_of
from marketplace.brands.queries import StorefrontFacts
from marketplace.catalog import queries as catalog
from marketplace.catalog.queries import VariantForSale
from marketplace.orders import selling
from marketplace.orders.errors import (
    CartAlreadyOrdered,
    CartNotFound,
    InvalidQuantity,
    NoPriceInCurrency,
    NotSellableHere,
    TooManyLines,
)
from marketplace.orders.models import Cart, CartStatus
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.errors import CouponNotUsable

MOST_LINES = 100
MOST_OF_ONE = 9_999
MOST_TOUCHES = 20
_LONGEST_TOKEN = 512

_INSERT = insert(table_of(Cart))
_SELECT = (
    "SELECT id, storefront_id, brand_id, currency, country, touch_tokens, session_key, status, version,"
    " coupon_code FROM carts WHERE id = :id AND storefront_id = :storefront"
)
_LOAD, _LOCK = text(_SELECT), text(f"{_SELECT} FOR UPDATE")
_LINES = text(
    "SELECT id, variant_id, quantity, quoted_minor FROM cart_lines WHERE cart_id = :id ORDER BY added_at, id"
)
_PUT_LINE = text(
    "INSERT INTO cart_lines (id, cart_id, brand_id, variant_id, quantity, quoted_minor, added_at)"
    " VALUES (:id, :cart_id, :brand_id, :variant_id, :quantity, :quoted_minor, :now)"
    " ON CONFLICT (cart_id, variant_id) DO UPDATE SET quantity = excluded.quantity,"
    " quoted_minor = excluded.quoted_minor"
)
_DROP_LINES = text("DELETE FROM cart_lines WHERE cart_id = :id AND variant_id = ANY(:variants)")
_TOUCH = text(
    "UPDATE carts SET touch_tokens = :tokens, version = version + 1, updated_at = :now WHERE id = :id"
)
_SET_COUPON = text(
    "UPDATE carts SET coupon_code = :code, version = version + 1, updated_at = :now WHERE id = :id"
)


@dataclass(frozen=True, slots=True)
class CartLineView:
    id: CartLineId
    variant_id: VariantId
    quantity: int
    quoted: Money


@dataclass(frozen=True, slots=True)
class CartView:
    id: CartId
    storefront_id: StorefrontId
    brand_id: BrandId
    currency: str
    country: str
    touch_tokens: tuple[str, ...]
    session_key: str
    status: CartStatus
    version: int
    lines: tuple[CartLineView, ...]
    coupon_code: str | None = None


async def create(
    session: AsyncSession,
    actor: Actor,
    storefront: StorefrontFacts,
    *,
    quantities: Mapping[VariantId, int],
    touch_tokens: Sequence[str] = (),
    session_key: str = "",
    clock: Clock,
) -> CartId:
    """A new cart of this storefront. Raises ``NotSellableHere``, ``NoPriceInCurrency``,
    ``InvalidQuantity``.
    """
    cart_id, now = CartId.new(), clock.now()
    row = {
        "id": cart_id, "storefront_id": storefront.id, "brand_id": storefront.brand_id,
        "currency": storefront.currency, "country": storefront.country,
        "touch_tokens": _newest(touch_tokens), "session_key": session_key[:_LONGEST_TOKEN],
        "status": CartStatus.OPEN.value, "version": 1, "created_at": now, "updated_at": now,
    }  # fmt: skip
    await session.execute(_INSERT, row)
    if quantities:
        await _put(session, storefront.brand_id, cart_id, storefront.currency, quantities, clock=clock)
    return cart_id


async def set_quantities(
    session: AsyncSession,
    actor: Actor,
    cart_id: CartId,
    *,
    storefront: StorefrontFacts,
    quantities: Mapping[VariantId, int],
    touch_tokens: Sequence[str] = (),
    clock: Clock,
) -> None:
    """Set lines to absolute quantities, 0 removes; every line named is quoted anew at today's price."""
    cart = await _open_for_update(session, cart_id, storefront.id)
    gone = [variant for variant, quantity in quantities.items() if quantity == 0]
    kept = {variant: quantity for variant, quantity in quantities.items() if quantity}
    if gone:
        await session.execute(_DROP_LINES, {"id": cart_id, "variants": gone})
    if kept:
        await _put(session, cart.brand_id, cart_id, cart.currency, kept, clock=clock)
        if len(await _lines(session, cart)) > MOST_LINES:
            raise TooManyLines(MOST_LINES)
    tokens = _newest([*cart.touch_tokens, *touch_tokens])
    await session.execute(_TOUCH, {"id": cart_id, "tokens": tokens, "now": clock.now()})


async def apply_coupon(
    session: AsyncSession, cart_id: CartId, *, storefront: StorefrontFacts, code: str, clock: Clock
) -> None:
    """Remember the code; what it takes off is in the checkout's quote. ``session`` acts as SYSTEM, ``storefront``
    is the object check. Raises ``CartNotFound``, ``CartAlreadyOrdered`` and ``CouponNotUsable``.
    """
    cart = await _open_for_update(session, cart_id, storefront.id, with_lines=True)
    wanted = [line.variant_id for line in cart.lines]
    variants = await catalog.variants_for_sale(session, wanted, currency=cart.currency) if wanted else {}
    owners = {cart.brand_id, *(variant.brand_id for variant in variants.values())}
    found = await coupons.coupons_named(session, code, owners)
    obstacles = [each.obstacle(currency=cart.currency, at=clock.now()) for each in found]
    if not found or all(obstacles):
        raise CouponNotUsable(coupons.normal(code), next(filter(None, obstacles), "unknown"))
    values = {"id": cart_id, "code": coupons.normal(code), "now": clock.now()}
    await session.execute(_SET_COUPON, values)


async def remove_coupon(
    session: AsyncSession, cart_id: CartId, *, storefront: StorefrontFacts, clock: Clock
) -> None:
    await _open_for_update(session, cart_id, storefront.id)
    await session.execute(_SET_COUPON, {"id": cart_id, "code": None, "now": clock.now()})


async def load(session: AsyncSession, cart_id: CartId, storefront_id: StorefrontId) -> CartView:
    """Two statements. Raises ``CartNotFound``."""
    row = (await session.execute(_LOAD, {"id": cart_id, "storefront": storefront_id})).first()
    if row is None:
        raise CartNotFound(cart_id)
    return await _view(session, row)


async def lock_open(session: AsyncSession, cart_id: CartId, storefront_id: StorefrontId) -> CartView:
    """The cart with its row locked. Raises ``CartNotFound`` and ``CartAlreadyOrdered``."""
    return await _open_for_update(session, cart_id, storefront_id, with_lines=True)


async def _open_for_update(
    session: AsyncSession, cart_id: CartId, storefront_id: StorefrontId, *, with_lines: bool = False
) -> CartView:
    row = (await session.execute(_LOCK, {"id": cart_id, "storefront": storefront_id})).first()
    if row is None:
        raise CartNotFound(cart_id)
    if row.status != CartStatus.OPEN:
        raise CartAlreadyOrdered(cart_id)
    return await _view(session, row, with_lines=with_lines)


async def _view(session: AsyncSession, row: Row[Any], *, with_lines: bool = True) -> CartView:
    cart = CartView(
        id=CartId.of(row.id),
        storefront_id=StorefrontId.of(row.storefront_id),
        brand_id=BrandId.of(row.brand_id),
        currency=row.currency,
        country=row.country,
        touch_tokens=tuple(row.touch_tokens),
        session_key=row.session_key,
        status=CartStatus(row.status),
        version=row.version,
        lines=(),
        coupon_code=row.coupon_code,
    )
    return replace(cart, lines=await _lines(session, cart)) if with_lines else cart


async def _lines(session: AsyncSession, cart: CartView) -> tuple[CartLineView, ...]:
    rows = await session.execute(_LINES, {"id": cart.id})
    return tuple(
        CartLineView(
            CartLineId.of(r.id), VariantId.of(r.variant_id), r.quantity, Money(r.quoted_minor, cart.currency)
        )
        for r in rows
    )


async def _put(
    session: AsyncSession,
    brand_id: BrandId,
    cart_id: CartId,
    currency: str,
    quantities: Mapping[VariantId, int],
    *,
    clock: Clock,
) -> None:
    for quantity in quantities.values():
        if not 1 <= quantity <= MOST_OF_ONE:
            raise InvalidQuantity(quantity, least=1, most=MOST_OF_ONE)
    if len(quantities) > MOST_LINES:
        raise TooManyLines(MOST_LINES)
    variants = await catalog.variants_for_sale(session, list(quantities), currency=currency)
    allowed = await selling.sellable(session, brand_id, at=clock.now())
    rows = []
    for variant_id, quantity in quantities.items():
        variant = variants.get(variant_id)
        if variant is None or not allowed.covers(variant):
            raise NotSellableHere(variant_id)
        rows.append(
            {
                "id": CartLineId.new(), "cart_id": cart_id, "brand_id": brand_id, "variant_id": variant_id,
                "quantity": quantity, "quoted_minor": price_of(variant, currency).amount_minor,
                "now": clock.now(),
            }
        )  # fmt: skip
    await session.execute(_PUT_LINE, rows)


def price_of(variant: VariantForSale, currency: str) -> Money:
    """Raises ``NoPriceInCurrency``: prices are set, never converted behind the shopper's back."""
    if variant.price is None:
        raise NoPriceInCurrency(variant.variant_id, currency)
    return variant.price


def _newest(tokens: Sequence[str]) -> list[str]:
    """The last distinct tokens, bounded: a shopper who clicked a hundred links needs no hundred."""
    distinct = list(dict.fromkeys(t for t in tokens if 0 < len(t) <= _LONGEST_TOKEN))
    return distinct[-MOST_TOUCHES:]
