from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class ProductNotFound(NotFound):
    code = "PRODUCT_NOT_FOUND"


class VariantNotFound(NotFound):
    code = "VARIANT_NOT_FOUND"


class ImportNotFound(NotFound):
    code = "IMPORT_NOT_FOUND"


class HandleTaken(Conflict):
    code = "HANDLE_TAKEN"


class SkuTaken(Conflict):
    code = "SKU_TAKEN"

    def __init__(self, skus: list[str]) -> None:
        super().__init__(f"already used by this brand: {', '.join(skus)[:200]}", field="sku")
        self.skus = skus


class VersionChanged(Conflict):
    """Someone else changed the product since it was read."""

    code = "VERSION_CHANGED"

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"read at version {expected}, now at {current}", field="version")
        self.expected, self.current = expected, current


class ProductArchived(Conflict):
    code = "PRODUCT_ARCHIVED"


class NothingToSell(Conflict):
    """A published product has at least one variant with at least one price."""

    code = "NOTHING_TO_SELL"


class TitleMissing(Invalid):
    code = "TITLE_MISSING"


class InvalidHandle(Invalid):
    code = "INVALID_HANDLE"


class InvalidSku(Invalid):
    code = "INVALID_SKU"


class InvalidGtin(Invalid):
    code = "INVALID_GTIN"


class InvalidCategory(Invalid):
    code = "INVALID_CATEGORY"


class InvalidTag(Invalid):
    code = "INVALID_TAG"


class InvalidMedia(Invalid):
    code = "INVALID_MEDIA"


class InvalidAttributes(Invalid):
    code = "INVALID_ATTRIBUTES"


class InvalidWeight(Invalid):
    code = "INVALID_WEIGHT"


class InvalidPrice(Invalid):
    code = "INVALID_PRICE"


class InvalidProductText(Invalid):
    code = "INVALID_PRODUCT_TEXT"


class InvalidStatus(Invalid):
    code = "INVALID_STATUS"


class TooMany(Invalid):
    code = "TOO_MANY"


class UnreadableFile(Invalid):
    """The file as a whole cannot be read: its encoding, its header or its size."""

    code = "UNREADABLE_FILE"
