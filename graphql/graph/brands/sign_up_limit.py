"""Sign-up is open to everybody, so each address gets a bucket: many at once, few for long."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from core.errors import RateLimited

BURST = 60
EVERY_S = 10.0
_MOST_ADDRESSES = 10_000


class SignUpLimit:
    """``BURST`` sign-ups at once, then one per ``EVERY_S``; per address and process, forgotten with it."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Raises ``RateLimited`` when the address's bucket is empty."""
        now = self._now()
        left, at = self._buckets.get(address, (float(BURST), now))
        left = min(float(BURST), left + (now - at) / EVERY_S)
        if left < 1:
            wait = int((1 - left) * EVERY_S) + 1
            raise RateLimited("too many sign-ups from here; try again later", retry_after_s=wait)
        self._buckets[address] = (left - 1, now)
        self._buckets.move_to_end(address)
        while len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
