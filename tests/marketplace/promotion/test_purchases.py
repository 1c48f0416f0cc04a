"""What matching learns of a credited order."""

from __future__ import annotations

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.orders.own_checkout.told import LineTold
from marketplace.promotion import queries
from tests.factories import own_checkout


async def test_goods_that_no_catalog_knows_are_no_purchase_and_the_others_are(
    db: Database, clock: FixedClock
) -> None:
    shop = await own_checkout.own_shop(db, clock)
    token = await own_checkout.clicked(db, clock, shop)
    lines = [
        LineTold("L1", 1, 5_000, sku=shop.product.skus[0]),
        LineTold("L2", 3, 4_000, title="a gift card"),
    ]
    told = own_checkout.worked(
        shop, clock, token, total_minor=17_000, lines=lines, discounts=[], shipping_minor=0
    )
    order_id = await own_checkout.told_and_done(
        db, clock, shop, own_checkout.with_events(told, own_checkout.paid(clock))
    )

    async with db.reading(SYSTEM) as session:
        (bought,) = await queries.purchases_of(session, order_id)
    assert (bought.product_id, bought.quantity) == (shop.product.id, 1)
