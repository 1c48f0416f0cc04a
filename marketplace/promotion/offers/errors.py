from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class BadCampaign(Invalid):
    """A name, period or budget that no campaign may have; ``field`` says which."""

    code = "BAD_CAMPAIGN"


class CampaignInAnotherState(Conflict):
    code = "CAMPAIGN_IN_ANOTHER_STATE"

    def __init__(self, campaign_id: object, status: str, wanted: str) -> None:
        super().__init__(f"this campaign is {status}; it cannot become {wanted}")
        self.campaign_id, self.current, self.wanted = str(campaign_id), status, wanted


class BudgetBelowCommitted(Conflict):
    """Sales have earned more than that already."""

    code = "BUDGET_BELOW_COMMITTED"

    def __init__(self, committed_minor: int) -> None:
        super().__init__("the budget cannot be below what sales have earned of it", field="budget")
        self.committed_minor = committed_minor


class BadOffer(Invalid):
    """A name, summary or set of terms that no offer may have; ``field`` says which."""

    code = "BAD_OFFER"


class OfferNotFound(NotFound):
    code = "OFFER_NOT_FOUND"


class OfferInAnotherState(Conflict):
    code = "OFFER_IN_ANOTHER_STATE"

    def __init__(self, offer_id: object, status: str) -> None:
        super().__init__(f"this offer is {status}")
        self.offer_id, self.current = str(offer_id), status


class NothingToPublish(Conflict):
    """The offer has no draft."""

    code = "NOTHING_TO_PUBLISH"


class DraftChanged(Conflict):
    """The draft is not the one that was read: read it again before publishing."""

    code = "OFFER_DRAFT_CHANGED"


class OfferNotOpen(Conflict):
    """Nobody can apply: it is by invitation, or its campaign does not run."""

    code = "OFFER_NOT_OPEN"


class NotInDirectory(Conflict):
    """Whoever applies lets itself be seen: enter the directory first."""

    code = "NOT_IN_DIRECTORY"


class AlreadyApplied(Conflict):
    """The two brands talk about this offer already, or have agreed on it."""

    code = "ALREADY_APPLIED"

    def __init__(self, *, invitation_id: object = None, agreement_id: object = None) -> None:
        super().__init__("there is an open invitation or an agreement of this offer between the two brands")
        self.invitation_id = None if invitation_id is None else str(invitation_id)
        self.agreement_id = None if agreement_id is None else str(agreement_id)
