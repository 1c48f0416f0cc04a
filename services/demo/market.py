"""The demo market, drawn from one seed: the same seed gives the same market on every machine.

Nothing in it is real. E-mail addresses lie in the domains that RFC 2606 reserves, telephone numbers among the
555-01xx ones that are given to nobody, names are put together here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from services.demo.goods import CIRCLES, HOUSES, STYLES, Circle, House, Kind, Style

SEED = 20261122
REGIONS = ("east", "south", "north", "europe")
_MAIL_DOMAINS = ("example.com", "example.net", "example.org")
_FIRST_AREA = 201
_SURNAMES = "李王张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_GIVEN = ("晓彤", "子墨", "语晨", "嘉宁", "若溪", "安之", "一诺", "知夏", "沐阳", "清和")
_PROMOTER_NAMES = ("小禾", "阿岚", "Mira", "老白", "青柠", "Juno", "半夏", "Theo")


@dataclass(frozen=True, slots=True)
class Variant:
    """``prices`` are minor units by currency, with the taxes of the country inside."""

    sku: str
    option: str
    value: str
    weight_g: int
    prices: MappingProxyType[str, int]


@dataclass(frozen=True, slots=True)
class Product:
    handle: str
    title_zh: str
    title_en: str
    category: str
    tags: tuple[str, ...]
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Storefront:
    name: str
    channel: str
    currency: str
    country: str
    locale: str


@dataclass(frozen=True, slots=True)
class Promoter:
    name: str
    kind: str
    email: str


@dataclass(frozen=True, slots=True)
class Brand:
    key: str
    zh: str
    en: str
    about: str
    email: str
    storefronts: tuple[Storefront, ...]
    products: tuple[Product, ...]
    promoters: tuple[Promoter, ...]

    @property
    def name(self) -> str:
        return f"{self.zh} {self.en}"


@dataclass(frozen=True, slots=True)
class Person:
    """A shopper; ``email`` is also what they give at checkout."""

    name: str
    email: str
    phone: str
    customer: str


@dataclass(frozen=True, slots=True)
class Member:
    person: Person
    tags: tuple[str, ...]
    tier: str
    points: int


@dataclass(frozen=True, slots=True)
class Community:
    key: str
    brand: str
    name: str
    channel: str
    locale: str
    region: str
    tags: tuple[str, ...]
    members: tuple[Member, ...]
    placements: tuple[tuple[str, str], ...]
    """(kind, name)"""


@dataclass(frozen=True, slots=True)
class Rate:
    """Freight to a zone; amounts in minor units of the location's currency, transit in hours."""

    zone: str
    base_minor: int
    per_kg_minor: int
    per_item_minor: int
    transit_p50_h: int
    transit_p90_h: int


@dataclass(frozen=True, slots=True)
class Offer:
    brand: str
    sku: str
    cost_minor: int
    lead_time_hours: int
    on_hand: int
    priority: int


@dataclass(frozen=True, slots=True)
class Supplier:
    """One location each: ``code`` names both."""

    code: str
    name: str
    email: str
    market_region: str
    country: str
    region: str
    currency: str
    handling_minor: int
    accept_mode: str
    rates: tuple[Rate, ...]
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """``advertiser`` pays ``promoter`` ``rate_ppm`` of what is sold and kept."""

    advertiser: str
    promoter: str
    rate_ppm: int
    category: str
    individual_ppm: int
    window_days: int
    return_window_days: int


@dataclass(frozen=True, slots=True)
class Link:
    """In the first or second placement of a community; ``product`` empty: the whole shop."""

    advertiser: str
    promoter: str
    community: str
    placement: int
    product: str
    person: int | None
    """Index into the promoter brand's promoters."""


@dataclass(frozen=True, slots=True)
class Market:
    seed: int
    brands: tuple[Brand, ...]
    communities: tuple[Community, ...]
    suppliers: tuple[Supplier, ...]
    agreements: tuple[Agreement, ...]
    links: tuple[Link, ...]
    lonely_sku: str
    """Offered by one supplier only: when that one refuses, nobody can deliver it."""
    by_brand: MappingProxyType[str, Brand] = field(repr=False)

    @property
    def members(self) -> int:
        return sum(len(community.members) for community in self.communities)


def generate(seed: int = SEED) -> Market:
    """The whole market. Independent parts have generators of their own, so that one can grow alone."""
    brands = tuple(_brand(house, _random(seed, "brand", house.key)) for house in HOUSES)
    by_brand = {brand.key: brand for brand in brands}
    communities = _communities(seed)
    agreements = _agreements(_random(seed, "agreements"))
    lonely = brands[-1].products[7].variants[0].sku
    return Market(
        seed=seed,
        brands=brands,
        communities=communities,
        suppliers=_suppliers(seed, brands, lonely),
        agreements=agreements,
        links=_links(_random(seed, "links"), agreements, communities, by_brand),
        lonely_sku=lonely,
        by_brand=MappingProxyType(by_brand),
    )


def _random(seed: int, *what: str) -> random.Random:
    return random.Random(":".join((str(seed), *what)))


# --- brands and their goods ---


def _brand(house: House, draw: random.Random) -> Brand:
    products: list[Product] = []
    for kind in house.kinds:
        for style in STYLES:
            products.append(_product(house, kind, style, len(products), draw))
    fronts = [Storefront(f"{house.zh}小程序", "mini_program", "CNY", "CN", "zh-CN")]
    if house.world:
        fronts.append(Storefront(f"{house.en} Europe", "web", "EUR", "DE", "en"))
    promoters = tuple(
        Promoter(name, kind, f"{house.key}.promoter{number}@{draw.choice(_MAIL_DOMAINS)}")
        for number, (name, kind) in enumerate(
            zip(draw.sample(_PROMOTER_NAMES, 2), ("koc", "kol"), strict=True), start=1
        )
    )
    return Brand(
        key=house.key,
        zh=house.zh,
        en=house.en,
        about=house.about,
        email=f"owner@{house.key}.example.com",
        storefronts=tuple(fronts),
        products=tuple(products),
        promoters=promoters,
    )


def _product(house: House, kind: Kind, style: Style, index: int, draw: random.Random) -> Product:
    factor = draw.uniform(0.7, 1.6)
    variants = []
    # Two and three by turns: 2.5 a product.
    for number, value in enumerate(kind.values[: 2 + index % 2]):
        yuan = max(int(kind.price_minor * factor * (1 + 0.25 * number)) // 1000, 2)
        prices = {"CNY": yuan * 1000 - 10}
        if house.world:
            prices["EUR"] = max(round(yuan * 10 / 6.2), 3) * 100 - 1
            prices["USD"] = max(round(yuan * 10 / 5.8), 3) * 100 - 1
        variants.append(
            Variant(
                sku=f"{house.code}-{index:03d}-{number + 1}",
                option=kind.option,
                value=value,
                weight_g=int(kind.weight_g * (1 + 0.3 * number)),
                prices=MappingProxyType(prices),
            )
        )
    return Product(
        handle=f"{house.key}-{_slug(style.en)}-{_slug(kind.en)}",
        title_zh=f"{style.zh}{kind.zh}",
        title_en=f"{style.en} {kind.en}",
        category=kind.category,
        tags=(*kind.tags, style.tag),
        variants=tuple(variants),
    )


def _slug(words: str) -> str:
    return words.lower().replace(" ", "-")


# --- audiences ---


def _communities(seed: int) -> tuple[Community, ...]:
    circles = []
    shared: list[Person] = []
    before = 0
    for number, circle in enumerate(CIRCLES, start=1):
        draw = _random(seed, "community", circle.en)
        key = f"c{number:02d}"
        members = _members(circle, key, before, shared, draw)
        before += circle.size
        own = [member.person for member in members if member.person not in shared]
        shared.extend(draw.sample(own, circle.size // 10))
        circles.append(_community(circle, key, members))
    return tuple(circles)


def _community(circle: Circle, key: str, members: Sequence[Member]) -> Community:
    abroad = circle.channel == "mailing_list"
    return Community(
        key=key,
        brand=circle.house,
        name=f"{circle.zh} {circle.en}",
        channel=circle.channel,
        locale="en" if abroad else "zh-CN",
        region="DE" if abroad else "CN",
        tags=circle.interests,
        members=tuple(members),
        placements=(("post", f"{circle.zh}每周好物"), ("parcel_card", f"{circle.zh}包裹卡")),
    )


def _members(
    circle: Circle, key: str, before: int, shared: Sequence[Person], draw: random.Random
) -> list[Member]:
    """One in twelve is also in a community before this one, as people are."""
    others = sorted({tag for other in CIRCLES for tag in other.interests} - set(circle.interests))
    old_friends = draw.sample(list(shared), min(len(shared), circle.size // 12))
    members = []
    for number in range(circle.size):
        is_known = number < len(old_friends)
        person = old_friends[number] if is_known else _person(key, number, before + number, draw)
        tags = [tag for tag in circle.interests if draw.random() < 0.65] or [circle.interests[0]]
        tags += draw.sample(others, draw.choice((0, 0, 1, 2)))
        points = draw.randrange(0, 5000)
        tier = "gold" if points > 4200 else "silver" if points > 2500 else "member"
        members.append(Member(person, tuple(tags), tier, points))
    return members


def _person(key: str, number: int, overall: int, draw: random.Random) -> Person:
    area, line = divmod(overall, 100)
    return Person(
        name=draw.choice(_SURNAMES) + draw.choice(_GIVEN),
        email=f"{key}.m{number:04d}@{draw.choice(_MAIL_DOMAINS)}",
        phone=f"+1{_FIRST_AREA + area}55501{line:02d}",
        customer=f"{key}-{number:04d}",
    )


# --- supply ---

_EUROPE = ("DE", "NL", "FR", "AT", "BE")
# code, name, market region, country, region, acceptance, level of cost
_HOUSES_OF_GOODS = (
    ("HZ", "杭州云仓 Hangzhou Cloud Store", "east", "CN", "ZJ", "manual", 1.00),
    ("SH", "上海美制 Shanghai Meizhi Works", "east", "CN", "SH", "manual", 1.06),
    ("SU", "苏州织造 Suzhou Loom", "east", "CN", "JS", "auto", 0.97),
    ("GZ", "广州百汇 Guangzhou Baihui", "south", "CN", "GD", "manual", 0.94),
    ("SZ", "深圳速仓 Shenzhen Swift", "south", "CN", "GD", "manual", 1.03),
    ("XM", "厦门茶港 Xiamen Tea Harbour", "south", "CN", "FJ", "manual", 0.98),
    ("TJ", "天津港仓 Tianjin Port Store", "north", "CN", "TJ", "auto", 0.99),
    ("BJ", "北京京选 Beijing Choice", "north", "CN", "BJ", "manual", 1.05),
    ("HAM", "Elbe Fulfilment 易北仓", "europe", "DE", "HH", "manual", 1.00),
    ("RTM", "Maas Handel 马斯商行", "europe", "NL", "ZH", "manual", 0.96),
)
_NEAR = {
    "east": ("CN-ZJ", "CN-SH", "CN-JS", "CN-AH"),
    "south": ("CN-GD", "CN-FJ", "CN-GX", "CN-HN"),
    "north": ("CN-BJ", "CN-TJ", "CN-HE", "CN-SD"),
    "europe": ("DE", "NL"),
}


def _suppliers(seed: int, brands: Sequence[Brand], lonely: str) -> tuple[Supplier, ...]:
    offers: dict[str, list[Offer]] = {row[0]: [] for row in _HOUSES_OF_GOODS}
    levels = {row[0]: row[6] for row in _HOUSES_OF_GOODS}
    for brand, house in zip(brands, HOUSES, strict=True):
        draw = _random(seed, "offers", brand.key)
        for product in brand.products:
            for variant in product.variants:
                for code, offer in _offers(brand, house, variant, lonely, levels, draw):
                    offers[code].append(offer)
    return tuple(_supplier(row, offers[row[0]], _random(seed, "rates", row[0])) for row in _HOUSES_OF_GOODS)


def _offers(
    brand: Brand,
    house: House,
    variant: Variant,
    lonely: str,
    levels: dict[str, float],
    draw: random.Random,
) -> list[tuple[str, Offer]]:
    """Two or three of the brand's suppliers in China (a single one for 1 in 20), and both in Europe."""
    how_many = 1 if variant.sku == lonely or draw.random() < 0.05 else draw.choice((2, 2, 3))
    chosen = [(code, "CNY", 0.40) for code in draw.sample(house.suppliers, how_many)]
    if "EUR" in variant.prices and variant.sku != lonely:
        chosen += [("HAM", "EUR", 0.38), ("RTM", "EUR", 0.38)]
    made = []
    for code, currency, share in chosen:
        cost = int(variant.prices[currency] * share * levels[code] * draw.uniform(0.94, 1.06))
        made.append(
            (
                code,
                Offer(
                    brand=brand.key,
                    sku=variant.sku,
                    cost_minor=cost,
                    lead_time_hours=draw.choice((12, 24, 36, 48)),
                    on_hand=draw.randrange(120, 400) if draw.random() < 0.95 else draw.randrange(3, 9),
                    priority=draw.randrange(0, 10),
                ),
            )
        )
    return made


def _supplier(
    row: tuple[str, str, str, str, str, str, float], offers: Sequence[Offer], draw: random.Random
) -> Supplier:
    code, name, market_region, country, region, accept_mode, _ = row
    euro = market_region == "europe"
    near = _NEAR[market_region]
    base = draw.randrange(350, 600) if euro else draw.randrange(500, 800)
    wide = _EUROPE if euro else ("CN",)
    rates = [Rate(zone, base, 60 if euro else 150, 0, 24, 48) for zone in near]
    rates += [Rate(zone, base * 2, 140 if euro else 300, 20, 60, 110) for zone in wide if zone not in near]
    return Supplier(
        code=code,
        name=name,
        email=f"orders@{code.lower()}.example.net",
        market_region=market_region,
        country=country,
        region=region,
        currency="EUR" if euro else "CNY",
        handling_minor=draw.randrange(50, 90) if euro else draw.randrange(120, 260),
        accept_mode=accept_mode,
        rates=tuple(rates),
        offers=tuple(offers),
    )


# --- promotion ---


def _agreements(draw: random.Random) -> tuple[Agreement, ...]:
    """Every brand promotes up to three others: those whose goods its communities care about most."""
    made = []
    for promoter in HOUSES:
        for advertiser in _best_partners(promoter)[:3]:
            narrow = draw.random() < 0.2
            made.append(
                Agreement(
                    advertiser=advertiser.key,
                    promoter=promoter.key,
                    rate_ppm=draw.choice((80_000, 100_000, 120_000, 150_000, 180_000)),
                    category=advertiser.kinds[0].category.split("/")[0] if narrow else "",
                    individual_ppm=draw.choice((0, 200_000, 333_333)),
                    window_days=draw.choice((7, 15, 30)),
                    return_window_days=draw.choice((7, 7, 15)),
                )
            )
    return tuple(made)


def _best_partners(promoter: House) -> list[House]:
    interests = [tag for circle in CIRCLES if circle.house == promoter.key for tag in circle.interests]

    def common(house: House) -> int:
        return sum(interests.count(tag) for kind in house.kinds for tag in kind.tags)

    others = [house for house in HOUSES if house.key != promoter.key and common(house)]
    return sorted(others, key=lambda house: (-common(house), house.key))


def _links(
    draw: random.Random,
    agreements: Sequence[Agreement],
    communities: Sequence[Community],
    brands: dict[str, Brand],
) -> tuple[Link, ...]:
    """For every agreement and community of its promoter: the shop, and the product that fits best."""
    made = []
    for agreement in agreements:
        products = [
            product
            for product in brands[agreement.advertiser].products
            if product.category.startswith(agreement.category)
        ]
        for community in (c for c in communities if c.brand == agreement.promoter):
            best = max(products, key=lambda p: (len(set(p.tags) & set(community.tags)), draw.random()))
            person = draw.randrange(2) if agreement.individual_ppm else None
            pair = (agreement.advertiser, agreement.promoter, community.key)
            made.append(Link(*pair, placement=0, product="", person=person))
            made.append(Link(*pair, placement=1, product=best.handle, person=person))
    return tuple(made)
