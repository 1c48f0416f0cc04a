"""The public verbs of settlement, by recipe (money.md §2). Each lives in the file named for its rule."""

from supply.settlement.capture import (
    CapturedLine,
    CapturedOrder,
    CommissionShare,
    open_split,
    open_splits,
    register_charge,
)
from supply.settlement.delivery import hold_release, lift_hold, record_delivery
from supply.settlement.payees import PayeeFacts, payees_of, register_payee
from supply.settlement.payout_schedule import pay_statements
from supply.settlement.payout_sending import resolve_payouts, send_payouts, take_transfer
from supply.settlement.payouts import make_batch, make_daily_batch, settle_payout
from supply.settlement.provider_funds import collect_fees, funds_available, recharge_fee, record_fee
from supply.settlement.recovery import net_receivables
from supply.settlement.refunds import (
    LineRefund,
    RefundPlan,
    ReservedRefund,
    ShippingRefund,
    preview_refund,
    reserve_refund,
    settle_refund,
    void_refund,
)
from supply.settlement.release import release_due
from supply.settlement.reroute import MovedUnits, reroute
from supply.settlement.reversing import record_reversal, reverse_transfers, sweep_recoveries
from supply.settlement.statements.closing import (
    ClosedStatement,
    close_due_statements,
    close_statement,
    recompute_statement,
)
from supply.settlement.statements.terms import (
    TermsView,
    open_terms,
    set_settlement_terms,
    settlement_terms,
)
from supply.settlement.writing_off import ask_write_off, decide_write_off, write_off

__all__ = [
    "CapturedLine",
    "CapturedOrder",
    "ClosedStatement",
    "CommissionShare",
    "LineRefund",
    "MovedUnits",
    "PayeeFacts",
    "RefundPlan",
    "ReservedRefund",
    "ShippingRefund",
    "TermsView",
    "ask_write_off",
    "close_due_statements",
    "close_statement",
    "collect_fees",
    "decide_write_off",
    "funds_available",
    "hold_release",
    "lift_hold",
    "make_batch",
    "make_daily_batch",
    "net_receivables",
    "open_split",
    "open_splits",
    "open_terms",
    "pay_statements",
    "payees_of",
    "preview_refund",
    "recharge_fee",
    "recompute_statement",
    "record_delivery",
    "record_fee",
    "record_reversal",
    "register_charge",
    "register_payee",
    "release_due",
    "reroute",
    "reserve_refund",
    "resolve_payouts",
    "reverse_transfers",
    "send_payouts",
    "set_settlement_terms",
    "settle_payout",
    "settle_refund",
    "settlement_terms",
    "sweep_recoveries",
    "take_transfer",
    "void_refund",
    "write_off",
]
