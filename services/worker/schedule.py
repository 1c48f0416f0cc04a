"""What is swept, and how often in real seconds. Sweeps ask the clock what is due: a virtual clock drives them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from marketplace.insights import counting, measuring, told_buyers
from marketplace.matching import documents
from marketplace.orders import late_payments, missed_notices, notices, paying, refund_sending, returning
from marketplace.promotion.agreements import inviting
from marketplace.promotion.agreements import lifecycle as agreements
from marketplace.promotion.commission import nothing_to_pay
from marketplace.promotion.directory import recording
from marketplace.promotion.disputes import lifecycle as commission_disputes
from marketplace.promotion.fraud import click_floods, late_clicks, sale_patterns
from marketplace.promotion.fraud import holds as commission_holds
from marketplace.promotion.links import lifecycle as links
from marketplace.promotion.offers import campaigns
from services.worker import recovery
from supply.fulfillment import sla, webhooks
from supply.ledger import service as ledger
from supply.settlement import platform_payouts
from supply.settlement import service as settlement
from supply.settlement.at_source import covering
from supply.settlement.at_source import paying as debts
from supply.settlement.disputes import applying as disputes
from supply.settlement.rails import service as rails
from supply.settlement.reconciliation import bill
from supply.settlement.reconciliation import service as reconciliation
from supply.settlement.statements import contesting

Sweep = Callable[..., Awaitable[int]]

_TABLE: dict[str, tuple[Sweep, float]] = {
    # Selling
    "agreements.invitations": (inviting.expire_invitations, 60),
    "campaigns.ended": (campaigns.end_due, 30),
    "agreements.ended": (agreements.end_due, 30),
    "links.expired": (links.expire_links, 30),
    "directory.records": (recording.keep_track_records, 60),
    "fraud.bursts": (click_floods.sweep_bursts, 30),
    "fraud.late_clicks": (late_clicks.sweep_late_clicks, 30),
    "fraud.hollow_days": (click_floods.sweep_hollow_days, 300),
    "fraud.velocity": (sale_patterns.sweep_velocity, 60),
    "fraud.patterns": (sale_patterns.sweep_patterns, 300),
    "fraud.holds": (commission_holds.clear_holds, 60),
    "commissions.nothing_to_pay": (nothing_to_pay.end_lines, 60),
    "commissions.disputes": (commission_disputes.end_silent_disputes, 60),
    "matching.stock": (documents.refresh_stock, 30),
    "insights.performance": (counting.keep_performance, 2),
    "insights.holdouts": (measuring.measure_due, 60),
    "insights.told_buyers": (told_buyers.forget_buyers, 3600),
    # Paying
    "orders.checkouts": (paying.sweep_checkouts, 5),
    "orders.payments": (paying.sweep_payments, 60),
    "orders.late_payments": (late_payments.sweep_late_payments, 60),
    "orders.refunds": (refund_sending.sweep_refunds, 60),
    "orders.notices": (notices.sweep_notices, 15),
    "orders.notices_missed": (missed_notices.find_missed_notices, 60),
    "orders.returns": (returning.sweep_returns, 300),
    # Delivering
    "fulfillment.clocks": (sla.sweep_clocks, 5),
    "fulfillment.webhooks": (webhooks.send_due, 5),
    # Settling
    "settlement.fees": (settlement.collect_fees, 2),
    "settlement.funds": (settlement.funds_available, 5),
    "settlement.commission_due": (covering.claim_due, 5),
    "settlement.commission_covered": (covering.cover_due, 5),
    "settlement.debt_payments": (debts.sweep_debt_payments, 60),
    "settlement.release": (settlement.release_due, 5),
    "settlement.statements": (settlement.close_due_statements, 20),
    "settlement.contests": (contesting.end_silent_contests, 60),
    "settlement.disputes": (disputes.sweep_disputes, 60),
    "settlement.disputes_missed": (disputes.find_missed_disputes, 600),
    "settlement.recoveries": (settlement.sweep_recoveries, 60),
    "settlement.payable": (settlement.pay_statements, 20),
    "settlement.payouts": (settlement.send_payouts, 2),
    "settlement.platform_payouts": (platform_payouts.send_platform_payouts, 30),
    "settlement.bills": (bill.sweep_bills, 600),
    "settlement.reconciliation": (reconciliation.sweep_reconciliation, 60),
    "settlement.payouts_unknown": (settlement.resolve_payouts, 30),
    "rails.send": (rails.send_shares, 5),
    "rails.results": (rails.resolve_shares, 15),
    "rails.refunds": (rails.send_shared_refunds, 15),
    "ledger.rollup": (ledger.roll_up, 10),
    "ledger.partitions": (ledger.make_partitions, 3600),
    # Carrying
    "outbox.lost": (recovery.republish_lost, 30),
    "outbox.done": (recovery.forget_done, 600),
}

SWEEPS: dict[str, Sweep] = {name: sweep for name, (sweep, _) in _TABLE.items()}
INTERVALS_S: dict[str, float] = {name: every for name, (_, every) in _TABLE.items()}
