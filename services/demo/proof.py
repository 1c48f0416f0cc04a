"""The proof between two brands: each decides the other's order again, from what it was told through its own token.

Nothing of the platform is trusted but the texts, and the texts are the same when their hashes are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.promotion.decisions.verifying import Verified, told_decision, verify
from services.demo.http_clients import GraphQL

_EXPLAIN = """
query explain($id: ID!) {
  explainAttribution(orderId: $id) {
    orderId decisionId input inputHash amounts amountsHash resultHash
    lines {
      orderLineId agreementId agreementVersion ruleId ratePpm returnWindowDays
      basis { minorUnits } commission { minorUnits } shares { role payee earned { minorUnits } }
    }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """One order of a pair of partners. ``hashes`` (inputs, amounts, result) are what both found, else empty."""

    order_id: str
    advertiser: str
    promoter: str
    hashes: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return bool(self.hashes) and not self.differences


async def prove(apis: Mapping[str, GraphQL], partners: Sequence[Mapping[str, str]]) -> list[Proof]:
    """``apis`` by brand id, each with that brand's token; ``partners``: an order of each pair of brands."""
    return [await _prove(apis, each) for each in partners]


async def _prove(apis: Mapping[str, GraphQL], pair: Mapping[str, str]) -> Proof:
    found = [await _verified(apis[pair[side]], pair["order_id"]) for side in ("advertiser", "promoter")]
    hashes = [(each.input_hash, each.amounts_hash, each.result_hash) for each in found]
    differences = [
        f"{d.what}: {d.stored} told, {d.recomputed} found" for each in found for d in each.differences
    ]
    same = len(set(hashes)) == 1
    if not same:
        differences.append("the two brands find different hashes")
    return Proof(
        pair["order_id"], pair["advertiser"], pair["promoter"], hashes[0] if same else (), tuple(differences)
    )


async def _verified(api: GraphQL, order_id: str) -> Verified:
    told: dict[str, Any] = (await api(_EXPLAIN, id=order_id))["explainAttribution"]
    return verify(told_decision(told))
