"""How deep a document may go and how many aliases it may have, told in one pass over it.

A fragment is measured once, however often it is spread: walking through every spread, as the usual rules do,
takes 2^n steps for n fragments that each spread the next one twice.
"""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)

MAX_DEPTH = 12
MAX_ALIASES = 30
_INTROSPECTION = "__"


class DocumentLimits(ValidationRule):
    """Reports DOCUMENT_TOO_DEEP and TOO_MANY_ALIASES; introspection counts for neither."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._fragments = {
            node.name.value: node
            for node in context.document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._measured: dict[str, tuple[int, int]] = {}
        operations = [
            self._of(node.selection_set)
            for node in context.document.definitions
            if isinstance(node, OperationDefinitionNode)
        ]
        deepest = max((depth for depth, _ in operations), default=0) - 1
        aliases = sum(count for _, count in operations)
        if deepest > MAX_DEPTH:
            self._refuse("DOCUMENT_TOO_DEEP", f"{deepest} levels found. Allowed: {MAX_DEPTH}")
        if aliases > MAX_ALIASES:
            self._refuse("TOO_MANY_ALIASES", f"{aliases} aliases found. Allowed: {MAX_ALIASES}")

    def _refuse(self, code: str, message: str) -> None:
        self.report_error(GraphQLError(message, extensions={"code": code}))

    def _of(self, selections: SelectionSetNode | None) -> tuple[int, int]:
        """Levels below this brace and aliases behind it; a field without a selection is one level."""
        depth = aliases = 0
        for node in selections.selections if selections else ():
            if isinstance(node, FragmentSpreadNode):
                inner = self._of_fragment(node.name.value)
            elif isinstance(node, FieldNode):
                if node.name.value.startswith(_INTROSPECTION):
                    aliases += node.alias is not None
                    continue
                below, behind = self._of(node.selection_set)
                inner = below + 1, behind + (node.alias is not None)
            else:
                inner = self._of(_selections(node))
            depth, aliases = max(depth, inner[0]), aliases + inner[1]
        return depth, aliases

    def _of_fragment(self, name: str) -> tuple[int, int]:
        if name not in self._measured:
            self._measured[name] = (0, 0)  # a cycle is another rule's to refuse
            fragment = self._fragments.get(name)
            self._measured[name] = self._of(fragment.selection_set) if fragment else (0, 0)
        return self._measured[name]


def _selections(node: Any) -> SelectionSetNode | None:
    found: SelectionSetNode | None = node.selection_set
    return found
