"""The folder `graphql/` must never become a package: it would shadow graphql-core (decision 0001)."""

from __future__ import annotations

from pathlib import Path

import graphql

ROOT = Path(__file__).parents[2]


def test_graphql_is_the_library_and_not_our_folder() -> None:
    assert graphql.__file__ is not None
    assert "site-packages" in graphql.__file__
    assert not (ROOT / "graphql" / "__init__.py").exists()
    assert not (ROOT / "tests" / "graphql").exists()
