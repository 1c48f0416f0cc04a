"""Where a touch's token goes in an address that opens a mini-program. Alone, so that the edge loads nothing more."""

from __future__ import annotations

from typing import Final

TOUCH: Final = "{touch}"
