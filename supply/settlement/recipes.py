"""What each kind of journal is, in a sentence a party can read; the names are those of docs/rules/money.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supply.settlement.kinds import Kind


@dataclass(frozen=True, slots=True)
class Recipe:
    """``code`` names the rule, ``text`` says what happened to whose money, and when it goes on."""

    code: str
    text: str


RECIPES: Final[Mapping[str, Recipe]] = {
    Kind.CAPTURE: Recipe(
        "R1",
        "The customer paid. Everybody's part of the order is theirs from here on, and pending until it is due.",
    ),
    Kind.PROVIDER_FEE: Recipe("R2", "What the payment provider kept of the charge."),
    Kind.FEE_RECHARGE: Recipe("R2b", "The merchant bears the provider's fee, as agreed with the platform."),
    Kind.FUNDS_AVAILABLE: Recipe("R3", "The provider made the charge's money available."),
    Kind.RELEASE: Recipe("R4", "The return window is over: what was pending on this line can be paid out."),
    Kind.RELEASE_UNDONE: Recipe(
        "R4b", "A commission that was released is held: as far as it was still here, it is pending again."
    ),
    Kind.REFUND_RESERVED: Recipe(
        "R5a",
        "A refund takes from everybody what they earned of what comes back, before the provider is asked.",
    ),
    Kind.REFUND_SETTLED: Recipe("R5b", "The provider has sent the refund to the customer."),
    Kind.REFUND_VOIDED: Recipe("R5c", "The refund failed: everybody has back what it took."),
    Kind.REVERSAL: Recipe("R7a", "Part of an earlier payout was taken back for what the party owed."),
    Kind.NETTING: Recipe("R7b", "What the party owed was set off against what it has earned since."),
    Kind.WRITE_OFF: Recipe("R7c", "The platform gave up what the party owed."),
    Kind.COMMISSION_DENIED: Recipe(
        "R6d",
        "A commission, or a part of it, was found not earned before it was paid: the merchant has it back.",
    ),
    Kind.COMMISSION_RESTORED: Recipe(
        "R6e", "A commission that had been denied was earned after all: the merchant pays it."
    ),
    Kind.ADJUSTED: Recipe(
        "R7", "Corrected by an operator, for the reason given and approved by the name beside it."
    ),
    Kind.PAYOUT_RESERVED: Recipe("R8a", "Set aside for a payout; its outcome is not known yet."),
    Kind.PAYOUT_SETTLED: Recipe("R8b", "Paid out: the money is the party's own at the provider."),
    Kind.PAYOUT_VOIDED: Recipe("R8c", "The provider refused the payout; the money is available again."),
    Kind.DISPUTE_WITHDRAWN: Recipe(
        "R9a", "The customer's bank took the payment back until the dispute is decided."
    ),
    Kind.DISPUTE_FEE: Recipe("R9a", "What the provider charges for a dispute."),
    Kind.DISPUTE_FROZEN: Recipe(
        "R9b", "Parts of the disputed order that were still here are kept until it is decided."
    ),
    Kind.DISPUTE_LOST: Recipe(
        "R9c", "The dispute was lost: the kept parts are gone, and what was paid out before is owed."
    ),
    Kind.DISPUTE_WON: Recipe("R9d", "The dispute was won: the bank gave the payment back."),
    Kind.DISPUTE_UNFROZEN: Recipe("R9d", "The kept parts are the parties' again."),
    Kind.DISPUTE_ABSORBED: Recipe("R9e", "The platform bears what the party would owe for the dispute."),
    Kind.CONVERSION: Recipe("R10", "The provider settled the payment in another currency."),
    Kind.CONVERSION_REALISED: Recipe("R10c", "The difference that the exchange rates made."),
    Kind.PLATFORM_PAYOUT: Recipe("R11", "The platform's own payout left the provider."),
    Kind.PLATFORM_PAYOUT_ARRIVED: Recipe("R11", "The platform's own payout reached its bank."),
    Kind.PLATFORM_PAYOUT_RETURNED: Recipe("R11", "The platform's own payout came back."),
    Kind.SUSPENSE: Recipe("R12", "Money the provider moved that nothing here explains yet."),
    Kind.ROW_SUSPENDED: Recipe("R12", "Money the provider moved that nothing here explains yet."),
    Kind.ROW_EXPLAINED: Recipe("R12", "What was unexplained has found its reason."),
    Kind.OPENING: Recipe(
        "R12a", "What the provider's account held before it came into these books; it is the platform's own."
    ),
    Kind.ROUNDING: Recipe("R13", "The provider rounded the last unit the other way."),
    Kind.PROVIDER_CHARGE: Recipe("R2", "A fee of the provider that belongs to no single payment."),
    Kind.PROVIDER_RESERVE: Recipe("R3", "The provider holds money back, or lets it go again."),
    Kind.REROUTE: Recipe(
        "R14",
        "Another supplier delivers: its price is paid to it, the merchant bears or keeps the difference.",
    ),
    Kind.REFUND_AT_SOURCE: Recipe(
        "R15b",
        "A brand with a checkout of its own refunded its customer: the commission of what came back is taken"
        " back from everybody who had it.",
    ),
    Kind.COMMISSION_DUE: Recipe(
        "R15c", "The return window is over: commission of a sale whose money the brand has is due."
    ),
    Kind.DEBT_PAID: Recipe(
        "R15d", "The party paid what it owed; what was more than that is available to it."
    ),
    Kind.DEBT_OWED_AGAIN: Recipe(
        "R15e",
        "What the party had paid of its debt went back to it, by its bank or by a refund: it is owed again, and the"
        " provider's fee with it.",
    ),
    Kind.DEBT_PAID_AGAIN: Recipe(
        "R15f",
        "The payment of the debt came again after all: it counts again, and what is more than the party owes"
        " by now is available to it.",
    ),
    Kind.GOODWILL: Recipe(
        "R6c", "The platform pays the customer, first what is owed to it already; no party gives anything."
    ),
    Kind.GOODWILL_VOIDED: Recipe("R5c", "The platform's goodwill payment failed and was taken back."),
}


def recipe_of(kind: str) -> Recipe:
    """Kinds written by a newer release are told by their name alone."""
    return RECIPES.get(kind) or Recipe("", kind.replace("_", " "))
