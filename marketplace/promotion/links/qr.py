"""QR codes of tracked links, as SVG and PNG."""

from __future__ import annotations

import io
from functools import lru_cache

import segno

SCAN = "k=qr"
"""Marks a touch as a scan; the link stays the same."""

_MARGIN = 4
_PNG_SCALE = 10


def scan_url(edge_url: str, code: str) -> str:
    return f"{edge_url.rstrip('/')}/l/{code}?{SCAN}"


@lru_cache(maxsize=1024)
def svg(url: str) -> bytes:
    """Scales to any size; four modules of quiet zone, error correction M."""
    return _rendered(url, "svg", 1)


@lru_cache(maxsize=256)
def png(url: str) -> bytes:
    """Ten pixels a module."""
    return _rendered(url, "png", _PNG_SCALE)


def _rendered(url: str, kind: str, scale: int) -> bytes:
    out = io.BytesIO()
    segno.make(url, error="m", micro=False).save(out, kind=kind, scale=scale, border=_MARGIN)
    return out.getvalue()
