"""Writes the SDL of both schemas, or with ``--check`` fails when the committed files are stale.

`python -m graph.export [--check]`
"""

from __future__ import annotations

import sys
from pathlib import Path

from graph import brand, storefront

FOLDER = Path(__file__).resolve().parents[1]
_SCHEMAS = {"brand.graphql": brand.schema, "storefront.graphql": storefront.schema}


def main(arguments: list[str]) -> int:
    stale = []
    for name, schema in _SCHEMAS.items():
        path, sdl = FOLDER / name, schema.as_str() + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == sdl:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(sdl, encoding="utf-8")
    if "--check" in arguments and stale:
        print(f"stale: {', '.join(stale)}; run `python -m graph.export`", file=sys.stderr)
        return 1
    print(f"{'written' if stale else 'fresh'}: {', '.join(stale or _SCHEMAS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
