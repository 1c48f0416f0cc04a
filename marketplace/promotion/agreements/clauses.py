"""What an agreement says beside its rates: where traffic may come from, and how a refusal is disputed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from marketplace.promotion.errors import BadTerms

MOST_HOSTS = 200
SHORTEST_DISPUTE_DAYS, LONGEST_DISPUTE_DAYS = 30, 90
SHORTEST_ANSWER_DAYS, LONGEST_ANSWER_DAYS = 5, 15
_HOST = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


class SourceBreach(StrEnum):
    """What becomes of a sale whose click came from where it must not (cps.md §5, BANNED_SOURCE)."""

    HOLD = "HOLD"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class SourceTerms:
    """``banned_hosts`` are referrers, each with its sub-domains; ``paid_allowed``: whether a click may be bought."""

    paid_allowed: bool = True
    banned_hosts: tuple[str, ...] = ()
    on_breach: SourceBreach = SourceBreach.HOLD

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SourceTerms:
        hosts = tuple(stored["banned_hosts"])
        return cls(stored["paid_allowed"], hosts, SourceBreach(stored["on_breach"]))


@dataclass(frozen=True, slots=True)
class DisputeTerms:
    """``open_days`` after the statement was closed a line may be disputed; ``answer_days`` are working days a step.

    Brands may give each other more time than cps.md §2 does, never less.
    """

    open_days: int = SHORTEST_DISPUTE_DAYS
    answer_days: int = SHORTEST_ANSWER_DAYS


def checked_clauses(sources: SourceTerms, disputes: DisputeTerms) -> None:
    """Raises ``BadTerms`` naming the field that is out of bounds."""
    hosts = sources.banned_hosts
    _require(len(hosts) <= MOST_HOSTS, "bannedHosts", f"at most {MOST_HOSTS}")
    _require(
        all(_HOST.fullmatch(host) for host in hosts), "bannedHosts", "host names such as ads.example.com"
    )
    _require(list(hosts) == sorted(set(hosts)), "bannedHosts", "sorted, each once")
    _require(
        SHORTEST_DISPUTE_DAYS <= disputes.open_days <= LONGEST_DISPUTE_DAYS,
        "openDays",
        f"{SHORTEST_DISPUTE_DAYS} to {LONGEST_DISPUTE_DAYS}",
    )
    _require(
        SHORTEST_ANSWER_DAYS <= disputes.answer_days <= LONGEST_ANSWER_DAYS,
        "answerDays",
        f"{SHORTEST_ANSWER_DAYS} to {LONGEST_ANSWER_DAYS} working days",
    )


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadTerms(f"{field}: {allowed}", field=field)
