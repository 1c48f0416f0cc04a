"""Who is no person: programs that look at links, by the agent they name."""

from __future__ import annotations

import re

_BOTS = re.compile(
    rb"bot\b|bot/|crawl|spider|slurp|preview|scanner|monitor|headless|phantom|curl/|wget/|python-|aiohttp|httpx"
    rb"|go-http|java/|okhttp|libwww|facebookexternalhit|whatsapp|telegram|skypeuri|lighthouse|pingdom|uptime",
    re.IGNORECASE,
)


def is_bot(agent: bytes) -> bool:
    """No browser comes without an agent."""
    return not agent or _BOTS.search(agent) is not None
