"""The table of failures in the rules names every case of the specification, and a test of this folder for each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RULES = HERE.parents[3] / "docs" / "rules" / "refunds-and-disputes.md"
CASES = 21


def table_below(document: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its own head."""
    _, _, below = document.read_text().partition(heading)
    rows = [line for line in below.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def defined_here() -> set[str]:
    trees = (ast.parse(path.read_text()) for path in HERE.glob("test_*.py"))
    return {
        node.name
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_case_of_the_rules_names_tests_that_are_here() -> None:
    known, rows = defined_here(), table_below(RULES, "## 6. What fails")
    assert len(rows) == CASES
    for case, _, tests in rows:
        named = tests.replace("`", "").split(", ")
        assert named != [""], case
        assert set(named) <= known, case


@pytest.mark.shared
def test_the_rules_list_every_case_of_the_specification(shared_data: Path) -> None:
    asked = [case for case, _ in table_below(shared_data / "spec" / "money.md", "## 6. Failure cases")]
    assert [case for case, _, _ in table_below(RULES, "## 6. What fails")] == asked
    assert len(asked) == CASES
