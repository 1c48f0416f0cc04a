"""Who earned what of a payment, and who gives back what of a refund: pure arithmetic, exact to the unit.

Amounts are ``int`` in minor units of the order's one currency, which the caller carries. Nothing here knows
the ledger: whether a payee still *has* its part, or owes it (account 1100), the caller decides from balances.
Rules: the money contract, "How the split is made at capture", "How a line refund is composed" and "Rounding".

A *cell* is one part (merchant, supplier, …) of one line or one shipping charge; a line that several promoters
sold has one for each of them, told apart by its *seat*. A line refund takes from
each cell ``half_up(part × refunded / whole)`` minus what line refunds took before, so the last slice empties
it. A refund by amount is spread over what each payee still holds of the order, then over that payee's cells;
what it took no longer counts as part of the cell, so both kinds mix in any sequence and still empty exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from core.errors import Conflict
from core.money import allocate_remaining, cumulative_part


class Part(StrEnum):
    """In the fixed payee order of every allocation."""

    MERCHANT = "merchant"
    SUPPLIER = "supplier"
    PROMOTER_BRAND = "promoter_brand"
    INDIVIDUAL = "individual"
    PLATFORM_COMMISSION = "platform_commission"
    """The platform's part of the commission."""
    PLATFORM_FEE = "platform_fee"
    TAX = "tax"
    COUPON = "coupon"
    """What somebody else than the merchant and the supplier paid of the price: less than zero. The platform's
    expense (no payee), or what its commission does not cover of a promoter's own coupon."""


_ORDER = {part: rank for rank, part in enumerate(Part)}
COMMISSION_PARTS = (Part.INDIVIDUAL, Part.PROMOTER_BRAND, Part.PLATFORM_COMMISSION)
"""In the order of R3."""
_PLATFORM = frozenset({Part.PLATFORM_COMMISSION, Part.PLATFORM_FEE})
Seat = str
"""A cell's key within its line: the part, with ``.2`` and on for the further winners of a commission.

A ``Part`` is the seat of its first payee. The number is the winner's, so that R3's sequence of shares is
found again, and stays when another supplier takes the line over.
"""
Parts = Mapping[Seat, int]


def seat_of(part: Part, winner: int = 1) -> Seat:
    return part if winner == 1 else f"{part}.{winner}"


def part_of(seat: Seat) -> Part:
    return Part(seat.partition(".")[0])


def seat_rank(seat: Seat) -> tuple[int, int]:
    """Cells of a line in the fixed payee order, winners of one role by their number."""
    part, _, winner = seat.partition(".")
    return _ORDER[Part(part)], int(winner or 1)


class RefundTooLarge(Conflict):
    """More than is left: it may have been refunded a moment ago."""

    code = "REFUND_TOO_LARGE"

    def __init__(self, asked: int, left: int) -> None:
        super().__init__(f"{asked} asked, {left} left to refund")
        self.asked, self.left = asked, left


@dataclass(frozen=True, slots=True)
class Payee:
    """Both platform parts have the kind ``PLATFORM_FEE``; platform and tax have no ``party_id``."""

    kind: Part
    party_id: str = ""


@dataclass(frozen=True, slots=True)
class FurtherShare:
    """A commission share of the second winner of a line, or a later one (``winner`` from 2 on)."""

    part: Part
    winner: int
    party_id: str
    amount_minor: int

    @property
    def seat(self) -> Seat:
        return seat_of(self.part, self.winner)


@dataclass(frozen=True, slots=True)
class LineSale:
    """One paid line. ``goods_minor`` is what the customer paid for it without tax, after every discount.

    ``basis_minor`` is the commission's basis (R1), the three commission figures the shares (R3) of its first
    winner; ``further`` are those of others.
    """

    line_id: str
    quantity: int
    goods_minor: int
    tax_minor: int
    merchant_id: str
    supplier_id: str
    supplier_cost_minor: int
    platform_fee_minor: int = 0
    basis_minor: int = 0
    promoter_brand_id: str = ""
    individual_id: str = ""
    promoter_brand_minor: int = 0
    individual_minor: int = 0
    platform_commission_minor: int = 0
    further: tuple[FurtherShare, ...] = ()
    coupon_minor: int = 0
    """Paid for the customer on top of ``goods_minor``, above zero; ``coupon_payee_id`` "" is the platform."""
    coupon_payee_id: str = ""

    @property
    def parts(self) -> dict[Seat, int]:
        """The merchant keeps the residual; below zero it owes it."""
        others: dict[Seat, int] = {
            Part.SUPPLIER: self.supplier_cost_minor,
            Part.PROMOTER_BRAND: self.promoter_brand_minor,
            Part.INDIVIDUAL: self.individual_minor,
            Part.PLATFORM_COMMISSION: self.platform_commission_minor,
            Part.PLATFORM_FEE: self.platform_fee_minor,
            **{share.seat: share.amount_minor for share in self.further},
        }
        merchant = self.goods_minor + self.coupon_minor - sum(others.values())
        parts = {Part.MERCHANT: merchant, **others, Part.TAX: self.tax_minor}
        return parts | {Part.COUPON: -self.coupon_minor} if self.coupon_minor else parts

    @property
    def commission_seats(self) -> tuple[Seat, ...]:
        """In the order of R3, one winner after another."""
        later = sorted(self.further, key=lambda share: (share.winner, COMMISSION_PARTS.index(share.part)))
        return (*COMMISSION_PARTS, *(share.seat for share in later))

    def payee(self, seat: Seat) -> Payee:
        return _payee(
            seat,
            {
                Part.MERCHANT: self.merchant_id,
                Part.SUPPLIER: self.supplier_id,
                Part.PROMOTER_BRAND: self.promoter_brand_id,
                Part.INDIVIDUAL: self.individual_id,
                Part.COUPON: self.coupon_payee_id,
                **{share.seat: share.party_id for share in self.further},
            },
        )


@dataclass(frozen=True, slots=True)
class ShippingSale:
    """One shipping charge: the customer pays ``charged_minor``, the supplier gets ``freight_minor``."""

    shipping_id: str
    charged_minor: int
    tax_minor: int
    merchant_id: str
    supplier_id: str
    freight_minor: int

    @property
    def parts(self) -> dict[Seat, int]:
        return {
            Part.MERCHANT: self.charged_minor - self.freight_minor,
            Part.SUPPLIER: self.freight_minor,
            Part.TAX: self.tax_minor,
        }

    def payee(self, seat: Seat) -> Payee:
        return _payee(seat, {Part.MERCHANT: self.merchant_id, Part.SUPPLIER: self.supplier_id})


def _payee(seat: Seat, parties: Mapping[Seat, str]) -> Payee:
    part = part_of(seat)
    return Payee(Part.PLATFORM_FEE) if part in _PLATFORM else Payee(part, parties.get(seat, ""))


@dataclass(frozen=True, slots=True)
class Returned:
    """What refunds took from one line or shipping charge so far."""

    quantity: int = 0
    """Units refunded."""
    accepted_quantity: int = 0
    """Units the supplier took back."""
    by_quantity_minor: int = 0
    """Goods (or shipping) value refunded, without tax, with units …"""
    by_value_minor: int = 0
    """… and as goodwill or price protection on the line."""
    by_line: Parts = field(default_factory=dict)
    by_amount: Parts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LineState:
    sale: LineSale
    returned: Returned = field(default_factory=Returned)


@dataclass(frozen=True, slots=True)
class ShippingState:
    sale: ShippingSale
    returned: Returned = field(default_factory=Returned)


@dataclass(frozen=True, slots=True)
class OrderState:
    """One payment's order: its lines and shipping charges with what was refunded of each."""

    lines: tuple[LineState, ...]
    shipping: tuple[ShippingState, ...] = ()

    @property
    def charges(self) -> list[LineState | ShippingState]:
        """Everything the customer paid for: the lines, then the shipping."""
        return [*self.lines, *self.shipping]

    @property
    def held(self) -> dict[Payee, int]:
        """What each payee still holds of this order, in the fixed payee order (then as the lines come).

        A merchant that carried more than it held of a line has less than zero there.
        """
        held: dict[Payee, int] = {}
        for state in self.charges:
            for seat, amount in held_parts(state).items():
                payee = state.sale.payee(seat)
                held[payee] = held.get(payee, 0) + amount
        return dict(sorted(held.items(), key=lambda item: _ORDER[item[0].kind]))

    @property
    def left_minor(self) -> int:
        """What the customer paid and has not got back."""
        return sum(self.held.values())


@dataclass(frozen=True, slots=True)
class Taken:
    """One cell's part of a refund. ``source_id`` is a line's or shipping charge's id."""

    source_id: str
    seat: Seat
    payee: Payee
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Refund:
    """``taken`` sums to ``amount_minor``; ``order`` is the state after it."""

    amount_minor: int
    taken: tuple[Taken, ...]
    order: OrderState
    merchant_beyond_minor: int
    """How much of the merchants' parts exceeds what they held of this order: owed, whatever the balances."""

    @property
    def by_payee(self) -> dict[Payee, int]:
        """In the fixed payee order, without zeros."""
        sums: dict[Payee, int] = {}
        for each in self.taken:
            sums[each.payee] = sums.get(each.payee, 0) + each.amount_minor
        kept = {payee: amount for payee, amount in sums.items() if amount}
        return dict(sorted(kept.items(), key=lambda item: _ORDER[item[0].kind]))


def split_capture(lines: Iterable[LineSale], shipping: Iterable[ShippingSale] = ()) -> OrderState:
    """The split at capture; ``held`` of the answer is one journal's credit side.

    Its sum is what the customer paid. A payee with less than zero (a merchant below its floor) owes it.
    """
    return OrderState(tuple([LineState(line) for line in lines]), tuple([ShippingState(s) for s in shipping]))


def held_parts(state: LineState | ShippingState) -> dict[Seat, int]:
    """What is left in each cell of one line or shipping charge."""
    by_line, by_amount = state.returned.by_line, state.returned.by_amount
    return {
        seat: amount - by_line.get(seat, 0) - by_amount.get(seat, 0)
        for seat, amount in state.sale.parts.items()
    }


def refund_line(
    order: OrderState, line_id: str, *, quantity: int, supplier_accepts: bool, goods_minor: int | None = None
) -> Refund:
    """Take back ``quantity`` units of a line, or with ``quantity`` 0 a ``goods_minor`` value of it.

    The value of units is their cumulative part of what the line still stands for; ``goods_minor`` (without
    tax) replaces it where the return was valued otherwise. Raises ``RefundTooLarge`` beyond the line
    or the order, and ``KeyError`` for a line that is not in the order.
    """
    state = next((each for each in order.lines if each.sale.line_id == line_id), None)
    if state is None:
        raise KeyError(line_id)
    sale, was = state.sale, state.returned
    if not 0 <= quantity <= sale.quantity - was.quantity:
        raise RefundTooLarge(quantity, sale.quantity - was.quantity)
    if quantity == 0 and goods_minor is None:
        raise ValueError("a refund without units needs a value")
    standing = sale.goods_minor - sum([n for part, n in was.by_amount.items() if part is not Part.TAX])
    left = max(standing - was.by_quantity_minor - was.by_value_minor, 0)
    if goods_minor is None:
        due = cumulative_part(standing - was.by_value_minor, was.quantity + quantity, sale.quantity)
        goods_minor = min(max(due - was.by_quantity_minor, 0), left)
    elif not 0 <= goods_minor <= left:
        raise RefundTooLarge(goods_minor, left)
    returned = replace(
        was,
        quantity=was.quantity + quantity,
        accepted_quantity=was.accepted_quantity + (quantity if supplier_accepts else 0),
        by_quantity_minor=was.by_quantity_minor + (goods_minor if quantity else 0),
        by_value_minor=was.by_value_minor + (0 if quantity else goods_minor),
    )
    taken = _line_parts(state, returned, goods_minor, standing)
    # Where a merchant carried more than it held, refunds by amount may have used up this line's money
    # through other lines: nobody gets back more than was paid, and the merchant's part shrinks for it.
    over_minor = max(goods_minor + taken[Part.TAX] - order.left_minor, 0)
    if over_minor and not quantity:
        raise RefundTooLarge(goods_minor + taken[Part.TAX], order.left_minor)
    taken[Part.MERCHANT] -= over_minor
    after = LineState(sale, replace(returned, by_line=_added(was.by_line, taken)))
    lines = tuple([after if each is state else each for each in order.lines])
    return _refund(order, replace(order, lines=lines))


def _line_parts(state: LineState, returned: Returned, goods_minor: int, standing: int) -> dict[Seat, int]:
    """The composition of one slice of a line, ``returned`` already counting its units and value."""
    sale, held = state.sale, held_parts(state)
    by_line, by_amount, parts = state.returned.by_line, state.returned.by_amount, sale.parts
    # Refunds by amount may leave a line less than was refunded of it, where a merchant carried too much.
    standing = max(standing, 0)
    refunded = min(returned.by_quantity_minor + returned.by_value_minor, standing)

    def slice_of(part: Part, done: int, whole: int) -> int:
        due = cumulative_part(parts[part] - by_amount.get(part, 0), done, whole)
        return min(max(due - by_line.get(part, 0), 0), max(held[part], 0))

    taken: dict[Seat, int] = {
        Part.TAX: slice_of(Part.TAX, refunded, standing),
        Part.PLATFORM_FEE: slice_of(Part.PLATFORM_FEE, refunded, standing),
        Part.SUPPLIER: slice_of(Part.SUPPLIER, returned.accepted_quantity, sale.quantity)
        if returned.accepted_quantity
        else 0,
        **_commission_parts(state, cumulative_part(sale.basis_minor, refunded, standing)),
    }
    if sale.coupon_minor:
        # What the coupon paid of the refunded value goes back to who paid it: a taking below zero.
        due = cumulative_part(sale.coupon_minor + by_amount.get(Part.COUPON, 0), refunded, standing)
        back = min(max(due + by_line.get(Part.COUPON, 0), 0), max(-held[Part.COUPON], 0))
        taken[Part.COUPON] = -back
    taken[Part.MERCHANT] = goods_minor + taken[Part.TAX] - sum(taken.values())
    return taken


def commission_due_back(state: LineState) -> dict[Seat, int]:
    """What refunds of the line by units or value, as they stand, still have to take of its commission: nothing,
    unless the commission came back to the line after them."""
    was = state.returned
    standing = state.sale.goods_minor - sum([n for part, n in was.by_amount.items() if part is not Part.TAX])
    refunded = min(was.by_quantity_minor + was.by_value_minor, max(standing, 0))
    return _commission_parts(state, cumulative_part(state.sale.basis_minor, refunded, max(standing, 0)))


def _commission_parts(state: LineState, refunded_basis_minor: int) -> dict[Seat, int]:
    seats, left, parts = state.sale.commission_seats, held_parts(state), state.sale.parts
    held = [left[seat] for seat in seats]
    standing = sum([parts[seat] - state.returned.by_amount.get(seat, 0) for seat in seats])
    shares = commission_back(standing, state.sale.basis_minor, refunded_basis_minor, held)
    return dict(zip(seats, shares, strict=True))


def commission_back(
    commission_minor: int, basis_minor: int, refunded_basis_minor: int, held: Sequence[int]
) -> list[int]:
    """R6: what each payee gives back once ``refunded_basis_minor`` of the basis is back in all, of the shares it still
    holds of the commission, in R3's order: cumulative, so that the last slice takes what is left."""
    reversed_before = commission_minor - sum(held)
    due = cumulative_part(commission_minor, refunded_basis_minor, basis_minor)
    return allocate_remaining(max(due - reversed_before, 0), held)


def refund_shipping(order: OrderState, shipping_id: str, *, amount_minor: int) -> Refund:
    """Refund ``amount_minor`` of a shipping charge (its tax comes on top), from whoever received it.

    A supplier whose freight was dearer than the charge gives back the charge, not the freight. Raises
    ``RefundTooLarge`` beyond the charge and ``KeyError`` for one that is not in the order.
    """
    state = next((each for each in order.shipping if each.sale.shipping_id == shipping_id), None)
    if state is None:
        raise KeyError(shipping_id)
    sale, was, held = state.sale, state.returned, held_parts(state)
    standing = sale.charged_minor - sum([n for part, n in was.by_amount.items() if part is not Part.TAX])
    left = max(standing - was.by_value_minor, 0)
    if not 0 <= amount_minor <= left:
        raise RefundTooLarge(amount_minor, left)
    refunded = was.by_value_minor + amount_minor
    received = {Part.SUPPLIER: min(sale.freight_minor, sale.charged_minor), Part.TAX: sale.tax_minor}
    taken: dict[Seat, int] = {}
    for part, amount in received.items():
        due = cumulative_part(
            max(amount - was.by_amount.get(part, 0), 0), min(refunded, max(standing, 0)), max(standing, 0)
        )
        taken[part] = min(max(due - was.by_line.get(part, 0), 0), max(held[part], 0))
    if amount_minor + taken[Part.TAX] > order.left_minor:
        raise RefundTooLarge(amount_minor + taken[Part.TAX], order.left_minor)
    taken[Part.MERCHANT] = amount_minor - taken[Part.SUPPLIER]
    returned = replace(was, by_value_minor=refunded, by_line=_added(was.by_line, taken))
    after = ShippingState(sale, returned)
    return _refund(
        order, replace(order, shipping=tuple([after if each is state else each for each in order.shipping]))
    )


def refund_amount(order: OrderState, amount_minor: int) -> Refund:
    """A refund with no line behind it: over what each payee still holds of this order, ties by payee order.

    Raises ``RefundTooLarge`` for more than the customer has not got back.
    """
    if not 0 <= amount_minor <= order.left_minor:
        raise RefundTooLarge(amount_minor, max(order.left_minor, 0))
    held = order.held
    # Coupons get back what they paid of it; the others give the amount and that.
    back = {
        payee: cumulative_part(-amount, amount_minor, order.left_minor)
        for payee, amount in held.items()
        if payee.kind is Part.COUPON
    }
    given = amount_minor + sum(back.values())
    shares = allocate_remaining(given, [max(amount, 0) for amount in held.values()])
    due = dict(zip(held, shares, strict=True))
    return _refund(order, _over_cells(order, due | {payee: -amount for payee, amount in back.items()}))


def refund_rest(order: OrderState) -> Refund:
    """Everything that is left, from every cell: the full refund, or what remains of it.

    The customer gets ``order.left_minor``; a merchant below zero in a cell gets that back.
    """
    lines = tuple([LineState(each.sale, _emptied(each)) for each in order.lines])
    shipping = tuple([ShippingState(each.sale, _emptied(each)) for each in order.shipping])
    return _refund(order, OrderState(lines, shipping))


def _emptied(state: LineState | ShippingState) -> Returned:
    was = state.returned
    return replace(was, by_amount=_added(was.by_amount, held_parts(state)))


def _over_cells(order: OrderState, due: Mapping[Payee, int]) -> OrderState:
    """Take each payee's share from its cells, in proportion to what each of them holds."""
    states = order.charges
    cells: dict[Payee, list[tuple[int, Seat, int]]] = {}
    for index, state in enumerate(states):
        for seat, amount in held_parts(state).items():
            payee = state.sale.payee(seat)
            holds = -amount if payee.kind is Part.COUPON else max(amount, 0)
            cells.setdefault(payee, []).append((index, seat, holds))
    taken: list[dict[Seat, int]] = [{} for _ in states]
    for payee, amount in due.items():
        shares = allocate_remaining(abs(amount), [holds for _, _, holds in cells[payee]])
        for (index, seat, _), share in zip(cells[payee], shares, strict=True):
            taken[index][seat] = share if amount >= 0 else -share
    returned = [
        replace(s.returned, by_amount=_added(s.returned.by_amount, taken[i])) for i, s in enumerate(states)
    ]
    count = len(order.lines)
    return OrderState(
        tuple([LineState(s.sale, r) for s, r in zip(order.lines, returned[:count], strict=True)]),
        tuple([ShippingState(s.sale, r) for s, r in zip(order.shipping, returned[count:], strict=True)]),
    )


def _added(before: Parts, taken: Parts) -> Parts:
    return {seat: before.get(seat, 0) + taken.get(seat, 0) for seat in {**before, **taken}}


def _refund(before: OrderState, after: OrderState) -> Refund:
    taken = []
    for was, now in zip(before.charges, after.charges, strict=True):
        left = held_parts(now)
        source_id = was.sale.line_id if isinstance(was, LineState) else was.sale.shipping_id
        for seat, amount in held_parts(was).items():
            if amount != left[seat]:
                taken.append(Taken(source_id, seat, was.sale.payee(seat), amount - left[seat]))
    held = before.held
    beyond = sum(
        [
            max(-now, 0) - max(-held[payee], 0)
            for payee, now in after.held.items()
            if payee.kind is Part.MERCHANT and now < held[payee]
        ]
    )
    return Refund(sum([each.amount_minor for each in taken]), tuple(taken), after, beyond)
