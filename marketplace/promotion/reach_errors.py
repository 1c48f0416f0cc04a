from __future__ import annotations

from core.errors import Invalid, LianyuError, NotFound


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
