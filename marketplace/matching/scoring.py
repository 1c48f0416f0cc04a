"""From evidence to a score, in integers: whoever holds the parts computes the same number.

Three parts, each in ppm:

- *tags*: for each of the product's tags the share of members who carry it (Beta-smoothed with the brand's
  share, prior 10) times its lift over the brand's whole audience (capped at 5), and a fixed amount for a tag
  the community declares of itself; averaged over the product's tags.
- *again*: the share of members who bought this product, smoothed with its popularity (prior 10).
- *together*: over the products this community buys, the shrunken cosine of being bought by the same people
  (shrink 10) weighted by how many of its buyers bought that product; at most three.

Plus a little for the commission on offer, so that of two equal fits the better paid comes first. An amount a piece
is compared by what it comes to at the product's price, ceiling included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any, Final

from core.money import PPM, Money
from marketplace.matching.models import Lane

RULE_VERSION: Final = "matching-1"
PRIOR = 10
SHRINK = 10
HIGHEST_LIFT_PPM = 5 * PPM
DECLARED_PPM = 300_000
MOST_COMPANIONS = 3

WEIGHT_TAGS_PPM = 500_000
WEIGHT_AGAIN_PPM = 200_000
WEIGHT_TOGETHER_PPM = 250_000
WEIGHT_COMMISSION_PPM = 50_000


@dataclass(frozen=True, slots=True)
class TagPart:
    """One tag of the product: members with it here, contacts of the brand with it, declared or not."""

    tag: str
    members_with: int
    contacts_with: int
    declared: bool


@dataclass(frozen=True, slots=True)
class CompanionPart:
    """A product this community bought, and how often its buyers, anywhere, bought the proposed one too."""

    product_id: str
    community_buyers: int
    bought_both: int
    bought_companion: int
    bought_proposed: int


@dataclass(frozen=True, slots=True)
class Parts:
    """All that a score is made of; stored with the proposal and shown as its reason."""

    members: int
    brand_contacts: int
    product_tags: int
    tags: tuple[TagPart, ...]
    community_buyers: int
    bought_here: int
    all_buyers: int
    bought_anywhere: int
    companions: tuple[CompanionPart, ...]
    commission_ppm: int
    """Of a price; of an amount a piece what it comes to at the price it is best for."""
    rule_version: str = RULE_VERSION
    commission_fixed: Money | None = None
    """The amount a piece that ``commission_ppm`` is of."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Parts:
        return cls(
            **{
                **stored,
                "tags": tuple(TagPart(**part) for part in stored["tags"]),
                "companions": tuple(CompanionPart(**part) for part in stored["companions"]),
                "commission_fixed": Money(**fixed) if (fixed := stored.get("commission_fixed")) else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Score:
    tags_ppm: int
    again_ppm: int
    together_ppm: int
    total_ppm: int
    lane: Lane


def score(parts: Parts) -> Score:
    """Raises ``ValueError`` for parts of another rule version."""
    if parts.rule_version != RULE_VERSION:
        raise ValueError(f"these parts are of {parts.rule_version}, this release scores {RULE_VERSION}")
    tags = sum(_tag_ppm(part, parts) for part in parts.tags) // max(parts.product_tags, 1)
    again = _again_ppm(parts)
    together = sum(_companion_ppm(part, parts) for part in parts.companions)
    total = (
        WEIGHT_TAGS_PPM * tags
        + WEIGHT_AGAIN_PPM * again
        + WEIGHT_TOGETHER_PPM * together
        + WEIGHT_COMMISSION_PPM * parts.commission_ppm
    ) // PPM
    return Score(tags, again, together, total, Lane.REPEAT if parts.bought_here else Lane.DISCOVER)


def lift_ppm(part: TagPart, parts: Parts) -> int:
    """How much more often the tag is met here than in the brand's whole audience; 1_000_000 is no more."""
    if not part.contacts_with:
        return 0
    smoothed = part.members_with * parts.brand_contacts + PRIOR * part.contacts_with
    lift = smoothed * PPM // ((parts.members + PRIOR) * part.contacts_with)
    return min(lift, HIGHEST_LIFT_PPM)


def _tag_ppm(part: TagPart, parts: Parts) -> int:
    declared = DECLARED_PPM if part.declared else 0
    if not part.contacts_with or not parts.brand_contacts:
        return declared
    smoothed = part.members_with * parts.brand_contacts + PRIOR * part.contacts_with
    share = smoothed * PPM // ((parts.members + PRIOR) * parts.brand_contacts)
    return declared + share * lift_ppm(part, parts) // PPM


def _again_ppm(parts: Parts) -> int:
    """0 for what nobody here bought yet: popularity elsewhere only steadies small numbers."""
    if not parts.bought_here:
        return 0
    popularity = parts.bought_anywhere * PPM // max(parts.all_buyers, 1)
    people = max(parts.members, parts.community_buyers)
    return (parts.bought_here * PPM + PRIOR * popularity) // (people + PRIOR)


def _companion_ppm(part: CompanionPart, parts: Parts) -> int:
    product = part.bought_companion * part.bought_proposed
    if not product or not parts.community_buyers:
        return 0
    cosine = part.bought_both * PPM * PPM // isqrt(product * PPM * PPM)
    shrunk = cosine * part.bought_both // (part.bought_both + SHRINK)
    return shrunk * part.community_buyers // parts.community_buyers
