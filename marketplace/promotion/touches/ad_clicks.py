"""Whether a click was bought: advertising networks add a parameter to the addresses they send visitors to.

Only the parameters' names are kept. Their values name a visitor, and nobody here needs them.
"""

from __future__ import annotations

from typing import Final

AD_CLICK_PARAMETERS: Final = frozenset(
    {
        "gclid", "wbraid", "gbraid", "dclid", "msclkid", "fbclid", "ttclid", "twclid", "li_fat_id", "yclid",
        "bd_vid", "qz_gdt", "gdt_vid", "qhclickid", "sogouclickid", "clickid_ocean", "ks_click",
    }
)  # fmt: skip
_NAMES: Final = {name.encode(): name for name in AD_CLICK_PARAMETERS}


def ad_parameters(*queries: bytes) -> str | None:
    """The names of such parameters in query strings, sorted, with commas; None without any."""
    found = {
        _NAMES[name]
        for query in queries
        if query
        for pair in query.split(b"&")
        if (name := pair.partition(b"=")[0]) in _NAMES
    }
    return ",".join(sorted(found)) if found else None
