"""What a fraud rule says: which rule, of which version, over what threshold, with the figures it saw.

A signal is evidence, not a verdict: it holds commission until a person or the calendar decides, and the promoter
sees it (CPS contract, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

RULE_VERSION: Final = "fraud-1"
"""Part of every signal; changes with any change of meaning of a rule or threshold."""


class Rule(StrEnum):
    SELF_REFERRAL = "SELF_REFERRAL"
    CLICK_FLOOD = "CLICK_FLOOD"
    TIME_TO_ORDER_SHORT = "TIME_TO_ORDER_SHORT"
    TIME_TO_ORDER_FLAT = "TIME_TO_ORDER_FLAT"
    DEVICE_REUSE = "DEVICE_REUSE"
    COUPON_LEAK = "COUPON_LEAK"
    REFUND_RING = "REFUND_RING"
    VELOCITY = "VELOCITY"
    BANNED_SOURCE = "BANNED_SOURCE"


class Action(StrEnum):
    """What follows a signal, besides that it is kept and shown."""

    INVALIDATE = "invalidate"
    """The commission is invalid at once; the promoter may dispute it."""
    HOLD = "hold"
    EXCLUDE_CLICKS = "exclude_clicks"
    """Hold, and the clicks named in the evidence count for nothing."""
    DENY_NEW_RATE = "deny_new_rate"
    """Hold, and the rate for new customers does not apply."""
    LOWER_COUPON = "lower_coupon"
    """The code loses its precedence."""
    LENGTHEN_WINDOW = "lengthen_window"
    """Hold, and the return window of what comes is longer."""


# Of a forbidden source the agreement says what follows, a hold where it says nothing else.
ACTION_OF: Final[Mapping[Rule, Action]] = {
    Rule.SELF_REFERRAL: Action.INVALIDATE,
    Rule.CLICK_FLOOD: Action.EXCLUDE_CLICKS,
    Rule.TIME_TO_ORDER_SHORT: Action.HOLD,
    Rule.TIME_TO_ORDER_FLAT: Action.HOLD,
    Rule.DEVICE_REUSE: Action.DENY_NEW_RATE,
    Rule.COUPON_LEAK: Action.LOWER_COUPON,
    Rule.REFUND_RING: Action.LENGTHEN_WINDOW,
    Rule.VELOCITY: Action.HOLD,
    Rule.BANNED_SOURCE: Action.HOLD,
}


@dataclass(frozen=True, slots=True)
class Signal:
    """``evidence`` and ``threshold`` hold what a reader needs to check the rule by hand: names, counts, rates in
    ppm, seconds; never a person's data, only digests and ids."""

    rule: Rule
    evidence: Mapping[str, object]
    threshold: Mapping[str, object]
    touch_ids: tuple[str, ...] = ()
    order_ids: tuple[str, ...] = ()
    version: str = field(default=RULE_VERSION)

    @property
    def action(self) -> Action:
        return ACTION_OF[self.rule]
