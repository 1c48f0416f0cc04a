"""What happens in the virtual fortnight: who visits which shop when, buys what, and sends what back. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.demo.market import Agreement, Community, Link, Market, Member, Person
from services.demo.reach import code_for

STEPS = 28
"""Half days."""
LATE_SUPPLIER = "SZ"
"""Answers nothing for a while: its orders time out and go elsewhere."""
LATE_STEPS = range(8, 12)
SLOW_SUPPLIER = "BJ"
"""Ships two days after its promise."""
_DECLINES = ("pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds")
_CARDS = ("pm_card_visa", "pm_card_mastercard", "pm_card_unionpay")
_HOMES = (
    ("上海", "SH"), ("杭州", "ZJ"), ("南京", "JS"), ("广州", "GD"), ("厦门", "FJ"),
    ("北京", "BJ"), ("天津", "TJ"), ("成都", "SC"), ("武汉", "HB"), ("西安", "SN"),
)  # fmt: skip
_HOMES_ABROAD = (("Hamburg", "DE", "HH"), ("Utrecht", "NL", ""), ("Lyon", "FR", ""))


@dataclass(frozen=True, slots=True)
class Line:
    brand: str
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Return:
    """Part of the first line comes back: ``quantity`` units, before or after the merchant was paid out."""

    quantity: int
    after_payout: bool


@dataclass(frozen=True, slots=True)
class Visit:
    """One shopper's way from a community to a paid basket. No ``cards``: they leave without paying."""

    number: int
    step: int
    person: Person
    clicks: tuple[int, ...]
    """Indices into the market's links, oldest first; the last one led here."""
    storefront: tuple[str, int]
    """Brand and which of its storefronts."""
    currency: str
    lines: tuple[Line, ...]
    city: str
    country: str
    region: str
    cards: tuple[str, ...]
    sent_back: Return | None
    code: int | None = None
    """A promoter's code they enter at the checkout (its place in ``reach.codes_of``)."""


def fortnight(market: Market, *, orders: int, euro_share: float = 0.08) -> tuple[Visit, ...]:
    """At least ``orders`` paid orders' worth of visits, evenly over the steps; the same for the same market."""
    draw = random.Random(f"{market.seed}:fortnight")
    planner = _Planner(market, draw)
    visits: list[Visit] = []
    paid = 0
    while paid < orders + orders // 40:  # somebody may be turned away
        visit = planner.visit(len(visits), abroad=draw.random() < euro_share)
        visits.append(visit)
        if visit.cards:
            paid += len({line.brand for line in visit.lines})
    visits.append(planner.lonely(len(visits)))
    return tuple(_spread(_with_codes(market, visits)))


def _with_codes(market: Market, visits: Sequence[Visit]) -> list[Visit]:
    """Some who came by a link with a promoter's code enter it; a few of them remember the code and not the link."""
    draw, codes = random.Random(f"{market.seed}:codes"), code_for(market)
    found = []
    for visit in visits:
        last = market.links[visit.clicks[-1]] if visit.clicks else None
        code = codes.get((last.community, last.advertiser)) if last else None
        fate = draw.random()
        if code is None or visit.currency != "CNY" or fate > 0.4:
            found.append(visit)
        else:
            found.append(replace(visit, code=code, clicks=() if fate < 0.1 else visit.clicks))
    return found


def _spread(visits: Sequence[Visit]) -> list[Visit]:
    return [replace(visit, step=index * STEPS // len(visits)) for index, visit in enumerate(visits)]


class _Planner:
    def __init__(self, market: Market, draw: random.Random) -> None:
        self._market, self._draw = market, draw
        self._agreements: dict[str, list[Agreement]] = {}
        for agreement in market.agreements:
            self._agreements.setdefault(agreement.promoter, []).append(agreement)
        self._links: dict[str, list[int]] = {}
        for index, link in enumerate(market.links):
            self._links.setdefault(link.community, []).append(index)

    def visit(self, number: int, *, abroad: bool) -> Visit:
        draw = self._draw
        communities = [c for c in self._market.communities if not abroad or self._sells_abroad(c.brand)]
        community = draw.choices(communities, weights=[len(c.members) for c in communities])[0]
        member = draw.choice(community.members)
        clicks = self._clicks(community)
        link = self._market.links[clicks[-1]] if clicks else None
        home = community.brand
        if link is not None and not abroad and draw.random() < 0.25:
            home = link.advertiser  # the link led to the advertiser's own shop
        currency = "EUR" if abroad else "CNY"
        lines = self._basket(home, member, link, currency)
        city, country, region = draw.choice(_HOMES_ABROAD) if abroad else _at_home(draw)
        return Visit(
            number=number,
            step=0,
            person=member.person,
            clicks=clicks,
            storefront=(home, 1 if abroad else 0),
            currency=currency,
            lines=lines,
            city=city,
            country=country,
            region=region,
            cards=self._cards(),
            sent_back=self._return(lines[0]),
        )

    def lonely(self, number: int) -> Visit:
        """Buys, from its own brand's shop, what only one supplier has, with something that many have."""
        brand = next(
            b for b in self._market.brands for p in b.products for v in p.variants
            if v.sku == self._market.lonely_sku
        )  # fmt: skip
        community = next(c for c in self._market.communities if c.brand == brand.key)
        other = brand.products[0].variants[0].sku
        city, country, region = _at_home(self._draw)
        return Visit(
            number=number,
            step=0,
            person=community.members[0].person,
            clicks=(),
            storefront=(brand.key, 0),
            currency="CNY",
            lines=(Line(brand.key, self._market.lonely_sku, 1), Line(brand.key, other, 1)),
            city=city,
            country=country,
            region=region,
            cards=(_CARDS[0],),
            sent_back=None,
        )

    def _sells_abroad(self, brand: str) -> bool:
        return len(self._market.by_brand[brand].storefronts) > 1

    def _clicks(self, community: Community) -> tuple[int, ...]:
        """Most come through a link, some through two, some by themselves."""
        links = self._links.get(community.key, [])
        how_many = self._draw.choices((0, 1, 2), weights=(15, 65, 20))[0]
        return tuple(self._draw.sample(links, min(how_many, len(links))))

    def _basket(self, home: str, member: Member, link: Link | None, currency: str) -> tuple[Line, ...]:
        """What the link showed, and more of what this person likes, out of all the shop may sell."""
        draw = self._draw
        sold = [(home, product) for product in self._market.by_brand[home].products]
        for agreement in self._agreements.get(home, []):
            sold += [
                (agreement.advertiser, product)
                for product in self._market.by_brand[agreement.advertiser].products
                if product.category.startswith(agreement.category)
            ]
        sold = [(brand, p) for brand, p in sold if currency in p.variants[0].prices]
        shown = [(b, p) for b, p in sold if link is not None and b == link.advertiser]
        wanted = [(b, p) for b, p in shown if link is not None and link.product in ("", p.handle)]
        chosen = [draw.choice(wanted)] if wanted else []
        more = draw.choices((0, 1, 2, 3), weights=(35, 35, 20, 10))[0] if chosen else draw.choice((1, 2, 3))
        weights = [1 + 6 * len(set(product.tags) & set(member.tags)) for _, product in sold]
        chosen += draw.choices(sold, weights=weights, k=more)
        lines = {}
        for brand, product in chosen:
            sku = draw.choice(product.variants).sku
            lines[sku] = Line(brand, sku, draw.choices((1, 2, 3), weights=(70, 22, 8))[0])
        return tuple(lines.values())

    def _cards(self) -> tuple[str, ...]:
        fate = self._draw.random()
        if fate < 0.02:
            return ()
        good = self._draw.choice(_CARDS)
        return (self._draw.choice(_DECLINES), good) if fate < 0.10 else (good,)

    def _return(self, line: Line) -> Return | None:
        fate = self._draw.random()
        if fate > 0.08:
            return None
        return Return(self._draw.randint(1, line.quantity), after_payout=fate < 0.03)


def _at_home(draw: random.Random) -> tuple[str, str, str]:
    city, region = draw.choice(_HOMES)
    return city, "CN", region


def refuses(seed: int, supplier: str, lines: Sequence[tuple[str, int]], lonely_sku: str) -> bool:
    """Whether a supplier turns a fulfilment order down: about one in sixteen, by what is in it."""
    if any(sku == lonely_sku for sku, _ in lines):
        return True
    return random.Random(f"{seed}:{supplier}:{sorted(lines)}").random() < 0.06
