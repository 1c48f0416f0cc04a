from __future__ import annotations

from core.errors import Conflict, Invalid, LianyuError, NotFound


class BadTerms(Invalid):
    """A rate, window, split or scope that no agreement may have; ``field`` says which."""

    code = "BAD_TERMS"


class InvitationNotFound(NotFound):
    code = "INVITATION_NOT_FOUND"


class AgreementNotFound(NotFound):
    code = "AGREEMENT_NOT_FOUND"


class PromoterNotFound(NotFound):
    code = "PROMOTER_NOT_FOUND"


class LinkNotFound(NotFound):
    code = "LINK_NOT_FOUND"


class DecisionNotFound(NotFound):
    code = "DECISION_NOT_FOUND"


class CampaignNotFound(NotFound):
    code = "CAMPAIGN_NOT_FOUND"


class CampaignEnded(Conflict):
    """An ended campaign takes no agreements and does not begin again."""

    code = "CAMPAIGN_ENDED"


class BadExplanation(Invalid):
    """Not what ``explainAttribution`` answers, or too little of it to verify."""

    code = "BAD_EXPLANATION"


class NotAParty(Invalid):
    """The actor's brand must be one of the two brands, and they must differ."""

    code = "NOT_A_PARTY"


class InvitationNotOpen(Conflict):
    code = "INVITATION_NOT_OPEN"

    def __init__(self, invitation_id: object, status: str) -> None:
        super().__init__(f"this invitation is {status}")
        self.invitation_id, self.current = str(invitation_id), status


class NotYoursToAnswer(Conflict):
    """The sender waits for the other brand; it can only withdraw."""

    code = "NOT_YOURS_TO_ANSWER"


class AgreementInAnotherState(Conflict):
    code = "AGREEMENT_IN_ANOTHER_STATE"

    def __init__(self, agreement_id: object, status: str, wanted: str) -> None:
        super().__init__(f"this agreement is {status}; it cannot become {wanted}")
        self.agreement_id, self.current, self.wanted = str(agreement_id), status, wanted


class AgreementNotActive(Conflict):
    code = "AGREEMENT_NOT_ACTIVE"

    def __init__(self, agreement_id: object, status: str) -> None:
        super().__init__(f"this agreement is {status}")
        self.agreement_id, self.current = str(agreement_id), status


class PausedByTheOther(Conflict):
    code = "PAUSED_BY_THE_OTHER"


class ContentHashMismatch(Conflict):
    """What is being signed is not what is stored: read the version again before signing."""

    code = "CONTENT_HASH_MISMATCH"

    def __init__(self, expected: str) -> None:
        super().__init__("the content hash is not that of this version")
        self.expected = expected


class AlreadySigned(Conflict):
    code = "ALREADY_SIGNED"


class NothingToSign(Conflict):
    code = "NOTHING_TO_SIGN"


class NoticeTooShort(Invalid):
    code = "NOTICE_TOO_SHORT"

    def __init__(self, earliest: object) -> None:
        super().__init__(f"a new version takes effect at the earliest at {earliest}", field="effectiveAt")
        self.earliest = str(earliest)


class NotInScope(Invalid):
    """The agreement does not cover this product."""

    code = "NOT_IN_SCOPE"


class BadDestination(Invalid):
    code = "BAD_DESTINATION"


class BadPromoter(Invalid):
    code = "BAD_PROMOTER"


class InvalidTouchToken(Invalid):
    """Not signed by this platform, or cut short."""

    code = "INVALID_TOUCH_TOKEN"


class CouponNotFound(NotFound):
    code = "COUPON_NOT_FOUND"


class CouponCodeTaken(Conflict):
    """The owner has another coupon with this code."""

    code = "COUPON_CODE_TAKEN"


class BadCoupon(Invalid):
    """A worth, period or code that no coupon may have; ``field`` says which."""

    code = "BAD_COUPON"


class CouponNotUsable(Conflict):
    """``reason``: unknown, stopped, not_started, ended, used_up, minimum, other_currency or other_goods."""

    code = "COUPON_NOT_USABLE"

    def __init__(self, coupon_code: str, reason: str, *, minimum_minor: int | None = None) -> None:
        super().__init__(f"the coupon {coupon_code[:32]!r} cannot be used: {reason.replace('_', ' ')}")
        self.coupon_code, self.reason, self.minimum_minor = coupon_code[:32], reason, minimum_minor


class CommissionLineNotFound(NotFound):
    code = "COMMISSION_LINE_NOT_FOUND"


class CommissionNotPending(Conflict):
    """Only a pending commission can be found invalid; later a refund or a dispute takes it back."""

    code = "COMMISSION_NOT_PENDING"


class BadDeepLink(Invalid):
    """A template that opens no mini-program, or would lose the touch; ``field`` says which."""

    code = "BAD_DEEP_LINK"


class DeepLinkNotFound(NotFound):
    """This storefront has no mini-program to open, or it is neither yours nor your partner's."""

    code = "DEEP_LINK_NOT_FOUND"


class BatchTooLarge(Invalid):
    code = "BATCH_TOO_LARGE"

    def __init__(self, most: int, given: int, *, field: str) -> None:
        super().__init__(f"1 to {most} rows, not {given}", field=field)
        self.most, self.given = most, given


class RowsRejected(Invalid):
    """Some rows cannot be taken, and the caller asked for all or none."""

    code = "ROWS_REJECTED"

    def __init__(self, failed: int) -> None:
        super().__init__(f"{failed} rows cannot be taken, so none was")
        self.failed = failed


class BadQrBatch(Invalid):
    code = "BAD_QR_BATCH"


class QrBatchNotFound(NotFound):
    code = "QR_BATCH_NOT_FOUND"


class QrAssetNotFound(NotFound):
    code = "QR_ASSET_NOT_FOUND"


class BadTouch(Invalid):
    """A touch that cannot have happened as told; ``field`` says which part."""

    code = "BAD_TOUCH"


class TouchEventReused(Invalid):
    """The event id was used for another touch."""

    code = "TOUCH_EVENT_REUSED"


class RowError:
    """What is wrong with one row of a list; ``row`` counts from 1."""

    __slots__ = ("error", "row")

    def __init__(self, row: int, error: LianyuError) -> None:
        self.row, self.error = row, error
