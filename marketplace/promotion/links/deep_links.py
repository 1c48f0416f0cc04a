"""How a link opens a mini-program inside WeChat: templates that a brand keeps for its storefront.

``query`` carries the touch (``{touch}``, once) and may carry ``{product}`` and ``{code}``; ``path`` may carry the
latter two. Both go, percent-encoded, into ``url`` at ``{path}`` and ``{query}``, the app's id at ``{app_id}``. A
link takes what the templates give when it is made, and keeps it: what a redirect needs never changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import BrandId, ProductId, StorefrontId
from infra.db.base import table_of
from marketplace.brands import queries as brands
from marketplace.promotion.errors import BadDeepLink, BadDestination, DeepLinkNotFound
from marketplace.promotion.links.deep_link_mark import TOUCH
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.reach_models import DeepLink

WECHAT_SCHEME: Final = "weixin://dl/business/"
USUAL_URL: Final = "weixin://dl/business/?appid={app_id}&path={path}&query={query}"
_LONGEST = 1_024
_LONGEST_FILLED = 2_000
_APP_ID = re.compile(r"wx[0-9a-f]{16}")
_PLACEHOLDER = re.compile(r"\{([a-z_]*)\}")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_DEEP_LINKS = table_of(DeepLink)
_D = _DEEP_LINKS.c


@dataclass(frozen=True, slots=True)
class Templates:
    app_id: str
    path: str
    query: str
    url: str = USUAL_URL


@dataclass(frozen=True, slots=True)
class DeepLinkRow:
    storefront_id: StorefrontId
    brand_id: BrandId
    templates: Templates


def checked(templates: Templates, policy: DestinationPolicy) -> Templates:
    """Raises ``BadDeepLink`` naming the field."""
    _require(bool(_APP_ID.fullmatch(templates.app_id)), "appId", "wx and 16 hexadecimal digits")
    _only(templates.path, "path", {"product", "code"})
    _only(templates.query, "query", {"touch", "product", "code"})
    _only(templates.url, "url", {"app_id", "path", "query"})
    _require(templates.query.count(TOUCH) == 1, "query", f"{TOUCH} once: the order is credited by it")
    _require(templates.url.count("{query}") == 1, "url", "{query} once: it carries the touch")
    # The fragment of an https address never reaches WeChat's server, which opens the mini-program.
    _require("#" not in templates.url, "url", "no fragment")
    if not templates.url.startswith(WECHAT_SCHEME):
        try:
            policy.checked(_PLACEHOLDER.sub("x", templates.url))
        except BadDestination as error:
            raise BadDeepLink(
                f"url: begins with {WECHAT_SCHEME} or is a public https address", field="url"
            ) from error
    return templates


def filled(templates: Templates, *, code: str, product_id: ProductId | None) -> str:
    """The address for one link, with ``{touch}`` where its token goes. Raises ``BadDeepLink`` when too long."""
    named = {"product": "" if product_id is None else str(product_id), "code": code, "touch": TOUCH}
    path = _PLACEHOLDER.sub(lambda found: named[found[1]], templates.path)
    query = _PLACEHOLDER.sub(lambda found: named[found[1]], templates.query)
    before, after = (quote(part, safe="") for part in query.split(TOUCH))
    parts = {"app_id": templates.app_id, "path": quote(path, safe=""), "query": f"{before}{TOUCH}{after}"}
    address = _PLACEHOLDER.sub(lambda found: parts[found[1]], templates.url)
    _require(len(address) <= _LONGEST_FILLED, "url", f"at most {_LONGEST_FILLED} letters when filled in")
    return address


async def set_deep_link(
    session: AsyncSession,
    actor: Actor,
    storefront_id: StorefrontId,
    templates: Templates,
    *,
    policy: DestinationPolicy,
    clock: Clock,
) -> DeepLinkRow:
    """For links made from now on. Raises ``StorefrontNotFound``, ``BadDeepLink``."""
    storefront = await brands.storefront(session, _writing_brand(actor), storefront_id)
    templates = checked(templates, policy)
    row = {
        "storefront_id": storefront_id, "brand_id": storefront.brand_id, "app_id": templates.app_id,
        "url": templates.url, "path": templates.path, "query": templates.query, "updated_at": clock.now(),
    }  # fmt: skip
    keeping = upsert(_DEEP_LINKS).values(row)
    changed = {name: keeping.excluded[name] for name in ("app_id", "url", "path", "query", "updated_at")}
    await session.execute(keeping.on_conflict_do_update(index_elements=["storefront_id"], set_=changed))
    return DeepLinkRow(storefront_id, storefront.brand_id, templates)


async def remove_deep_link(session: AsyncSession, actor: Actor, storefront_id: StorefrontId) -> None:
    """Links made before keep theirs. Raises ``DeepLinkNotFound``."""
    _writing_brand(actor)
    mine = (_D.storefront_id == storefront_id) & (_D.brand_id == actor.brand_id)
    if (await session.execute(delete(_DEEP_LINKS).where(mine).returning(_D.brand_id))).first() is None:
        raise DeepLinkNotFound("this storefront opens no mini-program", field="storefrontId")


async def deep_links_of(
    session: AsyncSession, storefront_ids: Sequence[StorefrontId]
) -> dict[StorefrontId, DeepLinkRow]:
    """Those the session's tenant may see: its own and its partners' (row-level security)."""
    wanted = select(_D.storefront_id, _D.brand_id, _D.app_id, _D.path, _D.query, _D.url)
    rows = await session.execute(wanted.where(_D.storefront_id.in_(storefront_ids)))
    return {
        row.storefront_id: DeepLinkRow(
            row.storefront_id, row.brand_id, Templates(row.app_id, row.path, row.query, row.url)
        )
        for row in rows
    }


def _writing_brand(actor: Actor) -> Actor:
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    return actor


def _only(template: str, field: str, allowed: set[str]) -> None:
    fits = 1 <= len(template) <= _LONGEST and _PRINTABLE.fullmatch(template) is not None
    _require(fits, field, f"1 to {_LONGEST} printable ASCII letters without spaces")
    bare = _PLACEHOLDER.sub("", template)
    known = set(_PLACEHOLDER.findall(template)) <= allowed and not {"{", "}"} & set(bare)
    _require(known, field, f"of placeholders only {', '.join(f'{{{name}}}' for name in sorted(allowed))}")


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadDeepLink(f"{field}: {allowed}", field=field)
