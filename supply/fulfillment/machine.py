"""The fulfilment order's life as a table: what is not listed here cannot happen.

Two axes: ``Status`` is where the goods are, ``RequestStatus`` what the supplier answered. A rule names an
event, who may cause it, the states it starts from and, by outcome, the state it leads to; quantities decide
between outcomes, never between rules. Source of the rules: docs of the fulfilment API, supply.md §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from core.errors import Conflict


class Status(StrEnum):
    SCHEDULED = "SCHEDULED"
    """Placed, not yet paid."""
    OPEN = "OPEN"
    IN_PROGRESS = "IN_PROGRESS"
    ON_HOLD = "ON_HOLD"
    PARTIALLY_SHIPPED = "PARTIALLY_SHIPPED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    INCOMPLETE = "INCOMPLETE"
    """Accepted, then given up by the supplier; what it still holds waits for another source."""
    EXCEPTION = "EXCEPTION"
    """Lost, or on its way back to the sender."""
    CANCELLED = "CANCELLED"
    CLOSED = "CLOSED"


class RequestStatus(StrEnum):
    UNSUBMITTED = "UNSUBMITTED"
    SUBMITTED = "SUBMITTED"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    CANCELLATION_REQUESTED = "CANCELLATION_REQUESTED"
    CANCELLED = "CANCELLED"
    CLOSED = "CLOSED"
    """The supplier did not answer in time."""


class FoEventKind(StrEnum):
    RELEASE_DUE = "release_due"
    SUBMIT = "submit"
    ACCEPT = "accept"
    ACCEPT_PARTIAL = "accept_partial"
    REJECT = "reject"
    ACK_TIMEOUT = "ack_timeout"
    HOLD = "hold"
    RELEASE_HOLD = "release_hold"
    MOVE = "move"
    UNSOURCED = "unsourced"
    SHIP = "ship"
    DELIVER = "deliver"
    DELIVER_TIMEOUT = "deliver_timeout"
    REQUEST_CANCEL = "request_cancel"
    ACCEPT_CANCEL = "accept_cancel"
    REJECT_CANCEL = "reject_cancel"
    CANCEL_TIMEOUT = "cancel_timeout"
    CANCEL_UNSHIPPED = "cancel_unshipped"
    CANNOT_COMPLETE = "cannot_complete"
    LOST = "lost"
    RETURNED_TO_SENDER = "returned_to_sender"
    CLOSE = "close"
    ORDER_CANCELLED = "order_cancelled"


class By(StrEnum):
    SUPPLIER = "supplier"
    BRAND = "brand"
    SYSTEM = "system"
    """Clocks, the router and operators."""


@dataclass(frozen=True, slots=True)
class State:
    status: Status
    request: RequestStatus

    def __str__(self) -> str:
        return f"{self.status}/{self.request}"


@dataclass(frozen=True, slots=True)
class Rule:
    event: FoEventKind
    by: frozenset[By]
    sources: frozenset[State]
    outcomes: Mapping[str, tuple[Status | None, RequestStatus | None]]
    """Outcome → where it leads; ``None`` keeps that axis as it is."""


class FulfillmentActionNotAllowed(Conflict):
    code = "FULFILLMENT_ACTION_NOT_ALLOWED"

    def __init__(self, action: FoEventKind, state: State, allowed: Iterable[FoEventKind]) -> None:
        self.action, self.state, self.request_state = action.value, state.status.value, state.request.value
        self.allowed_actions = [event.value for event in allowed]
        super().__init__(
            f"{action} is not possible in {state}; allowed: {', '.join(self.allowed_actions) or 'nothing'}"
        )


S, R, E = Status, RequestStatus, FoEventKind
SCHEDULED = State(S.SCHEDULED, R.UNSUBMITTED)
UNSUBMITTED = State(S.OPEN, R.UNSUBMITTED)
SUBMITTED = State(S.OPEN, R.SUBMITTED)
REFUSED = frozenset({State(S.OPEN, R.REJECTED), State(S.OPEN, R.CLOSED), State(S.INCOMPLETE, R.REJECTED)})
"""Goods without a source: the router looks for another one."""
WORKING = frozenset({State(S.IN_PROGRESS, R.ACCEPTED), State(S.PARTIALLY_SHIPPED, R.ACCEPTED)})
ASKED_TO_CANCEL = frozenset(
    {State(S.IN_PROGRESS, R.CANCELLATION_REQUESTED), State(S.PARTIALLY_SHIPPED, R.CANCELLATION_REQUESTED)}
)
SHIPPED = State(S.SHIPPED, R.ACCEPTED)
DELIVERED = State(S.DELIVERED, R.ACCEPTED)
EXCEPTION = State(S.EXCEPTION, R.ACCEPTED)
HELD = frozenset(
    State(S.ON_HOLD, request) for request in (R.UNSUBMITTED, R.SUBMITTED, R.ACCEPTED, R.REJECTED, R.CLOSED)
)
_HOLDABLE = frozenset({UNSUBMITTED, SUBMITTED, State(S.IN_PROGRESS, R.ACCEPTED)})
_ONLY_SYSTEM, _ONLY_SUPPLIER = frozenset({By.SYSTEM}), frozenset({By.SUPPLIER, By.SYSTEM})
_BRAND = frozenset({By.BRAND, By.SYSTEM})
DONE, PART, ALL = "done", "part", "all"
HELD_STATUS = "held"
"""The outcome of ``release_hold``: the status kept in ``held_status``."""


def _rule(
    event: FoEventKind,
    by: frozenset[By],
    sources: Iterable[State],
    outcomes: Mapping[str, tuple[Status | None, RequestStatus | None]],
) -> Rule:
    return Rule(event, by, frozenset(sources), outcomes)


_UNSHIPPED = (
    {SCHEDULED, UNSUBMITTED, SUBMITTED, State(S.IN_PROGRESS, R.ACCEPTED)}
    | REFUSED
    | HELD
    | {State(S.IN_PROGRESS, R.CANCELLATION_REQUESTED)}
)
_REST_CANCELLED = {ALL: (S.CANCELLED, R.CANCELLED), PART: (S.SHIPPED, R.ACCEPTED)}

RULES: tuple[Rule, ...] = (
    _rule(E.RELEASE_DUE, _ONLY_SYSTEM, {SCHEDULED}, {DONE: (S.OPEN, None)}),
    _rule(E.SUBMIT, _ONLY_SYSTEM, {UNSUBMITTED}, {DONE: (None, R.SUBMITTED)}),
    _rule(E.ACCEPT, _ONLY_SUPPLIER, {SUBMITTED}, {DONE: (S.IN_PROGRESS, R.ACCEPTED)}),
    _rule(E.ACCEPT_PARTIAL, _ONLY_SUPPLIER, {SUBMITTED}, {DONE: (S.IN_PROGRESS, R.ACCEPTED)}),
    _rule(E.REJECT, _ONLY_SUPPLIER, {SUBMITTED}, {DONE: (None, R.REJECTED)}),
    _rule(E.ACK_TIMEOUT, _ONLY_SYSTEM, {SUBMITTED}, {DONE: (None, R.CLOSED)}),
    _rule(E.HOLD, _BRAND, _HOLDABLE, {DONE: (S.ON_HOLD, None)}),
    _rule(E.RELEASE_HOLD, _BRAND, HELD, {HELD_STATUS: (None, None)}),
    _rule(E.MOVE, _ONLY_SYSTEM, {UNSUBMITTED, *REFUSED}, {DONE: (S.CANCELLED, None)}),
    _rule(E.UNSOURCED, _ONLY_SYSTEM, {UNSUBMITTED, *REFUSED}, {DONE: (S.ON_HOLD, None)}),
    _rule(E.SHIP, _ONLY_SUPPLIER, WORKING, {PART: (S.PARTIALLY_SHIPPED, None), ALL: (S.SHIPPED, None)}),
    _rule(
        E.DELIVER,
        _ONLY_SUPPLIER,
        {*(s for s in WORKING | ASKED_TO_CANCEL if s.status is S.PARTIALLY_SHIPPED), SHIPPED, EXCEPTION},
        {PART: (None, None), ALL: (S.DELIVERED, R.ACCEPTED)},
    ),
    _rule(E.DELIVER_TIMEOUT, _ONLY_SYSTEM, {SHIPPED}, {DONE: (S.DELIVERED, None)}),
    _rule(E.REQUEST_CANCEL, _BRAND, WORKING, {DONE: (None, R.CANCELLATION_REQUESTED)}),
    _rule(E.ACCEPT_CANCEL, _ONLY_SUPPLIER, ASKED_TO_CANCEL, _REST_CANCELLED),
    _rule(E.REJECT_CANCEL, _ONLY_SUPPLIER, ASKED_TO_CANCEL, {DONE: (None, R.ACCEPTED)}),
    _rule(E.CANCEL_TIMEOUT, _ONLY_SYSTEM, ASKED_TO_CANCEL, _REST_CANCELLED),
    _rule(
        E.CANCEL_UNSHIPPED,
        _BRAND,
        _UNSHIPPED | WORKING | ASKED_TO_CANCEL,
        {DONE: (None, None), PART: (S.SHIPPED, R.ACCEPTED), ALL: (S.CANCELLED, R.CANCELLED)},
    ),
    _rule(
        E.CANNOT_COMPLETE, _ONLY_SUPPLIER, WORKING, {ALL: (S.INCOMPLETE, R.REJECTED), PART: (S.SHIPPED, None)}
    ),
    _rule(E.LOST, _ONLY_SUPPLIER, {SHIPPED}, {DONE: (S.EXCEPTION, None)}),
    _rule(E.RETURNED_TO_SENDER, _ONLY_SUPPLIER, {SHIPPED}, {DONE: (S.EXCEPTION, None)}),
    _rule(E.CLOSE, _ONLY_SYSTEM, {DELIVERED}, {DONE: (S.CLOSED, None)}),
    _rule(E.ORDER_CANCELLED, _BRAND, _UNSHIPPED, {DONE: (S.CANCELLED, R.CANCELLED)}),
)
BY_EVENT: Mapping[FoEventKind, Rule] = {rule.event: rule for rule in RULES}


def allowed(state: State, by: By | None = None) -> list[FoEventKind]:
    """What may happen in ``state``, in the table's order; ``by`` narrows it to one party."""
    return [r.event for r in RULES if state in r.sources and (by is None or by in r.by)]


def step(state: State, event: FoEventKind, outcome: str, *, by: By, held: Status | None = None) -> State:
    """Where ``event`` leads. Raises ``FulfillmentActionNotAllowed`` with what is allowed instead."""
    check(state, event, by=by)
    if outcome == HELD_STATUS:
        if held is None:
            raise ValueError("a hold without the status it holds")
        return State(held, state.request)
    status, request = BY_EVENT[event].outcomes[outcome]
    return State(status or state.status, request or state.request)


def check(state: State, event: FoEventKind, *, by: By) -> None:
    rule = BY_EVENT[event]
    if state not in rule.sources or by not in rule.by:
        raise FulfillmentActionNotAllowed(event, state, allowed(state, by))
