from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class ProposalNotFound(NotFound):
    code = "PROPOSAL_NOT_FOUND"


class BadProposalRequest(Invalid):
    code = "BAD_PROPOSAL_REQUEST"


class WrongCommunity(Invalid):
    """The placement is not in the community the proposal was made for."""

    code = "WRONG_COMMUNITY"


class BadHoldout(Invalid):
    code = "BAD_HOLDOUT"


class HoldoutNotFound(NotFound):
    code = "HOLDOUT_NOT_FOUND"


class HoldoutRunning(Conflict):
    code = "HOLDOUT_RUNNING"
