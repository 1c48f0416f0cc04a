"""Event → handlers, one table: read it to learn what the product does when something has happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from core.events import Event

Handler = Callable[..., Awaitable[Any]]

SUBSCRIPTIONS: dict[type[Event], tuple[Handler, ...]] = {}
