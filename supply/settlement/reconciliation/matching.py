"""Matching on (type, source): what agrees is set aside in one statement, what does not is looked at one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from supply.settlement.reconciliation.findings import (
    Finding,
    PostingFact,
    RowFact,
    judge,
    sides,
)
from supply.settlement.reconciliation.models import Role
from supply.settlement.reconciliation.report import Difference

ON_THE_WAY = timedelta(hours=1)
"""A row this young may still get its journal, and a journal its row: notices are chased after ten minutes."""
_GROUPS = (
    "WITH refs AS (SELECT ref, inward FROM psp_txn WHERE provider = :provider AND state <> 'matched'"
    " UNION SELECT ref, inward FROM psp_postings WHERE provider = :provider AND state <> 'matched')"
)
_MATCH = text(
    f"{_GROUPS}, listed AS (SELECT ref, inward, currency, sum(amount_minor) AS amount, sum(fee_minor) AS fee,"
    "  sum(net_minor) AS net FROM psp_txn JOIN refs USING (ref, inward) WHERE provider = :provider GROUP BY 1, 2, 3),"
    " booked AS (SELECT ref, inward, currency, coalesce(sum(amount_minor) FILTER (WHERE role <> 'fee'), 0) AS amount,"
    "  -coalesce(sum(amount_minor) FILTER (WHERE role = 'fee'), 0) AS fee"
    "  FROM psp_postings JOIN refs USING (ref, inward) WHERE provider = :provider GROUP BY 1, 2, 3),"
    " agreeing AS (SELECT ref, inward FROM listed l FULL JOIN booked b USING (ref, inward, currency)"
    "  GROUP BY ref, inward HAVING bool_and("
    "   (coalesce(b.amount, 0) = coalesce(l.amount, 0) AND coalesce(b.fee, 0) = coalesce(l.fee, 0))"
    "   OR coalesce(b.amount = coalesce(l.net, 0) AND b.fee = 0, false))),"
    " ours AS (UPDATE psp_postings p SET state = 'matched', finding = NULL FROM agreeing a"
    "  WHERE p.provider = :provider AND p.ref = a.ref AND p.inward = a.inward AND p.state <> 'matched')"
    " UPDATE psp_txn t SET state = 'matched', finding = NULL, matched_at = :now FROM agreeing a"
    " WHERE t.provider = :provider AND t.ref = a.ref AND t.inward = a.inward AND t.state <> 'matched' RETURNING t.id"
)
_ROWS = text(
    f"{_GROUPS} SELECT t.* FROM psp_txn t JOIN refs USING (ref, inward) WHERE t.provider = :provider"
    " ORDER BY t.created_at, t.id"
)
_POSTINGS = text(
    f"{_GROUPS} SELECT p.* FROM psp_postings p JOIN refs USING (ref, inward) WHERE p.provider = :provider"
    " ORDER BY p.posted_at, p.key"
)
_NOTE_ROWS = text(
    "UPDATE psp_txn t SET finding = n.finding FROM unnest(CAST(:ids AS text[]), CAST(:findings AS text[]))"
    " AS n (id, finding) WHERE t.provider = :provider AND t.id = n.id AND t.state <> 'matched'"
)
_NOTE_POSTINGS = text(
    "UPDATE psp_postings p SET finding = n.finding FROM unnest(CAST(:ids AS text[]), CAST(:findings AS text[]))"
    " AS n (key, finding) WHERE p.provider = :provider AND p.key = n.key AND p.state <> 'matched'"
)


@dataclass(frozen=True, slots=True)
class Group:
    """Everything about one thing at the provider, in one direction, that does not agree."""

    ref: str
    inward: bool
    rows: Sequence[RowFact]
    postings: Sequence[PostingFact]
    open_rows: Mapping[str, int]
    """Rows that are not matched → what of them lies in suspense."""
    open_postings: frozenset[str]
    finding: Finding

    @property
    def since(self) -> datetime:
        """When the oldest of what is not matched happened."""
        times = [row.created_at for row in self.rows if row.id in self.open_rows]
        times += [posting.posted_at for posting in self.postings if posting.key in self.open_postings]
        return min(times)

    def unbooked(self) -> dict[str, int]:
        """What the rows say beyond what was booked, by currency, suspense left out."""
        found = sides(self.rows, self.postings)
        return {
            currency: side.net_minor - side.booked_minor + side.booked_fee_minor
            for currency, side in found.items()
        }

    def waits(self, now: datetime) -> bool:
        """Whether its other half may still be on the way."""
        lonely = self.finding in (Finding.NO_JOURNAL, Finding.NO_ROW)
        return lonely and now - self.since < ON_THE_WAY and not any(self.open_rows.values())

    def differences(self, now: datetime) -> list[Difference]:
        """One for each currency that disagrees."""
        return [
            Difference(
                finding=self.finding,
                reference=self.ref,
                type=", ".join(
                    dict.fromkeys([row.type for row in self.rows] or [p.kind for p in self.postings])
                ),
                currency=currency,
                expected_minor=side.fee_minor if self.finding is Finding.FEE_DIFFERS else side.amount_minor,
                booked_minor=side.booked_fee_minor
                if self.finding is Finding.FEE_DIFFERS
                else side.booked_minor,
                since=self.since,
                rows=tuple(row.id for row in self.rows),
                journals=tuple(dict.fromkeys(posting.key for posting in self.postings)),
                waiting=self.waits(now),
                suspended=any(self.open_rows.values()),
            )
            for currency, side in sides(self.rows, self.postings).items()
            if not side.matches
        ]


async def match(session: AsyncSession, provider: str, *, now: datetime) -> list[str]:
    """Set aside every group that agrees. The rows matched by this."""
    return list((await session.execute(_MATCH, {"provider": provider, "now": now})).scalars())


async def disagreeing(session: AsyncSession, provider: str) -> list[Group]:
    """Every group with something unmatched in it, judged; call after ``match``. Oldest first."""
    where = {"provider": provider}
    rows: dict[tuple[str, bool], list[Any]] = {}
    for row in await session.execute(_ROWS, where):
        rows.setdefault((row.ref, row.inward), []).append(row)
    postings: dict[tuple[str, bool], list[Any]] = {}
    for posting in await session.execute(_POSTINGS, where):
        postings.setdefault((posting.ref, posting.inward), []).append(posting)
    groups = []
    for ref, inward in dict.fromkeys((*rows, *postings)):
        group = _group(ref, inward, rows.get((ref, inward), []), postings.get((ref, inward), []))
        if group is not None:
            groups.append(group)
    return sorted(groups, key=lambda group: (group.since, group.ref))


async def note(session: AsyncSession, provider: str, groups: Sequence[Group]) -> None:
    """Write what is wrong beside every row and posting that is not matched."""
    rows = [(row_id, group.finding.value) for group in groups for row_id in group.open_rows]
    postings = [(key, group.finding.value) for group in groups for key in group.open_postings]
    for statement, noted in ((_NOTE_ROWS, rows), (_NOTE_POSTINGS, postings)):
        if noted:
            values = {"ids": [each for each, _ in noted], "findings": [finding for _, finding in noted]}
            await session.execute(statement, {"provider": provider, **values})


def _group(ref: str, inward: bool, rows: Sequence[Any], postings: Sequence[Any]) -> Group | None:
    facts = [
        RowFact(
            row.id, row.type, row.currency, row.amount_minor, row.fee_minor, row.net_minor, row.created_at,
            row.available_on,
        )
        for row in rows
    ]  # fmt: skip
    booked = [
        PostingFact(p.key, p.kind, Role(p.role), p.currency, p.amount_minor, p.posted_at) for p in postings
    ]
    finding = judge(facts, booked)
    if finding is None:
        return None
    return Group(
        ref, inward, facts, booked, {row.id: row.suspended_minor for row in rows if row.state != "matched"},
        frozenset(p.key for p in postings if p.state != "matched"), finding,
    )  # fmt: skip
