"""Permission classes check the scope of the token; services check the object."""

from __future__ import annotations

from typing import Any

from strawberry.permission import BasePermission

from core.errors import LianyuError
from graph.context import Info


class Scope(BasePermission):
    """``permission_classes=[scope("orders:read")]``: the field needs this scope."""

    scope_name = ""

    def has_permission(self, source: Any, info: Info, **kwargs: Any) -> bool:
        try:
            info.context.actor.require(self.scope_name)
        except LianyuError as error:
            self.message = error.message
            self.error_extensions = {"code": error.code}
            return False
        return True


_known: dict[str, type[Scope]] = {}


def scope(name: str) -> type[BasePermission]:
    """The permission class of one scope."""
    if name not in _known:
        _known[name] = type(f"Needs{name.title().replace(':', '')}", (Scope,), {"scope_name": name})
    return _known[name]
