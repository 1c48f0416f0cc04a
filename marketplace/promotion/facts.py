"""What an attribution decision is made of, and the one text both brands hash.

A decision's inputs are three kinds of fact: the order, its touches, the agreement versions these name. Their
canonical text is ``[rule version, order, touches by time and id, agreements by id and version]``: each fact
the array of its fields in the sequence of its class, instants in whole microseconds since 1970 UTC, sets
sorted, rules by id. It is stored with the decision and can be read back.

Orders, lines and touches are held as they are written, so that neither writing nor reading them converts
anything: instants as ``_us``, microseconds since 1970 UTC, and sets as ``Keys``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final, NamedTuple

import orjson

from core.canonical import from_micros, plain, to_micros

RULE_VERSION: Final = "attribution-1"
"""Part of every input hash; changes with any change of meaning of a fact or a rule."""


Keys = tuple[str, ...]
"""A set of texts, ascending: what ``keys_of`` makes."""


def keys_of(texts: Iterable[str]) -> Keys:
    return tuple(sorted(set(texts)))


class TouchKind(StrEnum):
    CLICK = "click"
    SCAN = "scan"
    COUPON = "coupon"
    LEAD = "lead"


class TouchChannel(StrEnum):
    """How the touch came to this order, from the strongest evidence to the weakest."""

    SIGNED = "signed"
    """The storefront passed the touch id under our signature (a session's own click)."""
    PERSON = "person"
    COOKIE = "cookie"
    CODE = "code"
    """The buyer entered a promoter's code. Exclusive, it goes before all others; otherwise anybody may know it."""


class AttributionModel(StrEnum):
    LAST_TOUCH = "LAST_TOUCH"
    FIRST_TOUCH = "FIRST_TOUCH"
    LINEAR = "LINEAR"
    POSITION_40_20_40 = "POSITION_40_20_40"


class ScopeKind(StrEnum):
    SKU = "sku"
    PRODUCT = "product"
    CATEGORY = "category"
    CAMPAIGN = "campaign"


@dataclass(frozen=True, slots=True)
class OfferRule:
    """One rate of an agreement version and where it holds. ``scope_id`` is empty for ``CAMPAIGN``.

    ``fixed_minor`` (per unit, in the order's currency) takes the place of the rates when set.
    """

    id: str
    scope: ScopeKind
    scope_id: str
    effective_at: datetime
    rate_ppm: int
    rate_new_ppm: int | None = None
    """For new customers; ``None`` when they earn the same."""
    priority: int = 0
    """Of two rules of one depth the higher wins."""
    fixed_minor: int | None = None


class Rate(NamedTuple):
    """What one rule of an agreement version gives."""

    agreement_id: str
    agreement_version: int
    rule_id: str
    rate_ppm: int
    fixed_minor: int | None


class RateTable(NamedTuple):
    """The rate that wins in each scope: higher priority, then later ``effective_at``, then lower rule id."""

    by_sku: dict[str, Rate]
    by_product: dict[str, Rate]
    by_category: dict[str, Rate]
    for_campaign: Rate | None


@dataclass(frozen=True, slots=True)
class AgreementTerms:
    """The signed snapshot one agreement version holds."""

    agreement_id: str
    version: int
    advertiser_id: str
    promoter_brand_id: str
    window_s: int
    rules: tuple[OfferRule, ...]
    model: AttributionModel = AttributionModel.LAST_TOUCH
    lead_binding_days: int = 0
    allow_self_purchase: bool = False
    checkout_touch_earns: bool = False
    """A checkout touch with no earlier qualifying touch earns; off unless both brands signed it."""
    canonical: orjson.Fragment = field(init=False, repr=False, compare=False)
    """This version's part of the input text, written once: one version decides many orders."""
    all_rates: tuple[RateTable, RateTable] = field(init=False, repr=False, compare=False)
    """Under all rules: of returning customers, of new ones."""
    complete_from_us: int = field(init=False, repr=False, compare=False)
    """The instant from which all rules are in force."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "canonical", orjson.Fragment(_canonical(_terms_row(self))))
        both = tuple([_rate_table(self, self.rules, new_customer=new) for new in (False, True)])
        object.__setattr__(self, "all_rates", both)
        complete_from = max([to_micros(rule.effective_at) for rule in self.rules], default=0)
        object.__setattr__(self, "complete_from_us", complete_from)

    def rates(self, new_customer: bool, at_us: int | None = None) -> RateTable:
        """Under the rules in force at one instant; under all where none is named."""
        if at_us is None:
            return self.all_rates[new_customer]
        rules = [rule for rule in self.rules if to_micros(rule.effective_at) <= at_us]
        return _rate_table(self, rules, new_customer=new_customer)


def _rate_table(terms: AgreementTerms, rules: Sequence[OfferRule], *, new_customer: bool) -> RateTable:
    best: dict[ScopeKind, dict[str, Rate]] = {scope: {} for scope in ScopeKind}
    for rule in sorted(rules, key=_by_merit):
        own = rule.rate_new_ppm if new_customer else None
        rate_ppm = rule.rate_ppm if own is None else own
        rate = Rate(terms.agreement_id, terms.version, rule.id, rate_ppm, rule.fixed_minor)
        best[rule.scope].setdefault("" if rule.scope is ScopeKind.CAMPAIGN else rule.scope_id, rate)
    return RateTable(
        best[ScopeKind.SKU],
        best[ScopeKind.PRODUCT],
        best[ScopeKind.CATEGORY],
        best[ScopeKind.CAMPAIGN].get(""),
    )


class TouchFact(NamedTuple):
    """A click, scan, coupon entry or lead as recorded, with what was true at its moment. Ids in outer form.

    ``agreement_version`` is the version in force at ``touch_at_us``. Keys and hashes are salted digests; the
    promoter's are compared with the buyer's and never read otherwise.
    """

    id: str
    agreement_id: str
    agreement_version: int
    promoter_brand_id: str
    placement_id: str
    touch_at_us: int
    promoter_id: str | None = None
    kind: TouchKind = TouchKind.CLICK
    channel: TouchChannel = TouchChannel.SIGNED
    is_bot: bool = False
    duplicate_of: str | None = None
    link_active: bool = True
    agreement_active: bool = True
    landing_view: bool = True
    coupon_exclusive: bool = False
    coupon_leaked: bool = False
    promoter_keys: Keys = ()
    promoter_payout_hash: str | None = None
    promoter_instrument_hashes: Keys = ()
    promoter_address_hashes: Keys = ()
    campaign_running: bool = True
    """Its agreement's campaign was active and within its dates; an agreement without one always runs."""
    excluded: bool = False
    """A fraud rule found that it was no visit."""

    @property
    def touch_at(self) -> datetime:
        return from_micros(self.touch_at_us)


class LineFact(NamedTuple):
    """``category_path`` runs from the root to the leaf."""

    id: str
    sku: str
    product_id: str
    category_path: tuple[str, ...] = ()


class OrderFact(NamedTuple):
    """One merchant brand's order at the moment its payment was captured."""

    id: str
    advertiser_id: str
    created_at_us: int
    lines: tuple[LineFact, ...]
    checkout_started_at_us: int | None = None
    paid_at_us: int | None = None
    is_new_customer: bool = False
    buyer_keys: Keys = ()
    buyer_staff_of: Keys = ()
    """Brands whose staff the buyer belongs to."""
    buyer_payout_hash: str | None = None
    payment_instrument_hash: str | None = None
    address_hash: str | None = None

    @property
    def created_at(self) -> datetime:
        return from_micros(self.created_at_us)

    @property
    def paid_at(self) -> datetime | None:
        return None if self.paid_at_us is None else from_micros(self.paid_at_us)


in_time = attrgetter("touch_at_us", "id")
_by_id = attrgetter("id")
_by_version = attrgetter("agreement_id", "version")


def _by_merit(rule: OfferRule) -> tuple[int, int, str]:
    """Rules of one scope: higher priority, then later ``effective_at``, then lower id."""
    return -rule.priority, -to_micros(rule.effective_at), rule.id


def canonical_inputs(
    order: OrderFact, touches: Iterable[TouchFact], agreements: Sequence[AgreementTerms]
) -> str:
    """The text that a decision's ``input_hash`` is the SHA-256 of."""
    return _inputs_in_time(order, sorted(touches, key=in_time), agreements).decode()


def hash_of_inputs(order: OrderFact, touches: list[TouchFact], agreements: Sequence[AgreementTerms]) -> str:
    """The SHA-256 of ``canonical_inputs``, 64 hex digits; ``touches`` are sorted by time and id."""
    return sha256(_inputs_in_time(order, touches, agreements)).hexdigest()


def _inputs_in_time(
    order: OrderFact, touches: list[TouchFact], agreements: Sequence[AgreementTerms]
) -> bytes:
    versions = [terms.canonical for terms in sorted(agreements, key=_by_version)]
    return _canonical((RULE_VERSION, _order_row(order), [_touch_row(touch) for touch in touches], versions))


_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def canonical_text(value: Any) -> str:
    """``core.canonical.canonical_json``: the same text in a fraction of the time. Integers of 64 bits at most."""
    return _canonical(value).decode()


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, default=_of_a_class, option=_CANONICAL)


def _of_a_class(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else plain(value)


def read_inputs(text: str) -> tuple[OrderFact, list[TouchFact], list[AgreementTerms]]:
    """The facts back out of a stored text. Raises ``ValueError`` for the text of another rule version."""
    version, order, touches, agreements = orjson.loads(text)
    if version != RULE_VERSION:
        raise ValueError(f"these inputs are of {version}, this release decides {RULE_VERSION}")
    terms = [_terms_of(orjson.dumps(row)) for row in agreements]
    return _order_of(order), [_touch_of(row) for row in touches], terms


def _terms_row(terms: AgreementTerms) -> tuple[Any, ...]:
    rules = [
        (
            r.id,
            r.scope,
            r.scope_id,
            to_micros(r.effective_at),
            r.rate_ppm,
            r.rate_new_ppm,
            r.priority,
            r.fixed_minor,
        )
        for r in sorted(terms.rules, key=_by_id)
    ]
    return (
        terms.agreement_id, terms.version, terms.advertiser_id, terms.promoter_brand_id, terms.window_s,
        rules, terms.model, terms.lead_binding_days, terms.allow_self_purchase, terms.checkout_touch_earns,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _terms_of(text: bytes) -> AgreementTerms:
    """Orders are many and versions few: whoever reads back many texts builds each version once."""
    row = orjson.loads(text)
    row[5] = tuple([OfferRule(r[0], ScopeKind(r[1]), r[2], from_micros(r[3]), *r[4:]) for r in row[5]])
    row[6] = AttributionModel(row[6])
    return AgreementTerms(*row)


# A slice of a fact, or ``tuple`` of it, is a plain tuple: the writer would ask back for every other kind.
_ALWAYS_SAID = TouchFact._fields.index("campaign_running")
_LINES = OrderFact._fields.index("lines")


def _touch_row(touch: TouchFact) -> tuple[Any, ...]:
    # The last two are said only where they are not as always: other texts stay what they were.
    return touch[:_ALWAYS_SAID] if touch.campaign_running and not touch.excluded else touch[:]


# Read back for every touch: a dict answers in a tenth of the time of an enum's call.
_KIND_OF = {str(each): each for each in TouchKind}
_CHANNEL_OF = {str(each): each for each in TouchChannel}


def _touch_of(row: list[Any]) -> TouchFact:
    row[7], row[8] = _KIND_OF[row[7]], _CHANNEL_OF[row[8]]
    row[16], row[18], row[19] = tuple(row[16]), tuple(row[18]), tuple(row[19])
    return TouchFact(*row)


def _order_row(order: OrderFact) -> list[Any]:
    row: list[Any] = list(order)
    row[_LINES] = list(map(tuple, order.lines))
    return row


def _order_of(row: list[Any]) -> OrderFact:
    row[3] = tuple([LineFact(line_id, sku, product, tuple(path)) for line_id, sku, product, path in row[3]])
    row[7], row[8] = tuple(row[7]), tuple(row[8])
    return OrderFact(*row)
