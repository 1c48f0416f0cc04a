"""What a newcomer copies from the README and the guides is understood by the schema it is meant for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from graphql import parse, validate

from graph.brand import schema

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [
    pytest.param(document, id=f"{page.relative_to(ROOT)} {place}")
    for page in PAGES
    for place, document in enumerate(
        [json.loads(body)["query"] for body in re.findall(r"-d '(\{\"query\".*?\})'", page.read_text())]
        + re.findall(r"```graphql\n(.*?)```", page.read_text(), re.DOTALL)
    )
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_it_is_valid(document: str) -> None:
    assert validate(schema._schema, parse(document)) == []


def test_the_readme_has_one() -> None:
    assert any("README" in str(each.id) for each in DOCUMENTS)
