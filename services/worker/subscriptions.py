"""Event → handlers, one table: read it to learn what the product does when something has happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from core.events import Event
from marketplace.catalog.events import ProductChanged, ProductsChanged
from marketplace.insights import handlers as insights
from marketplace.insights import simulation
from marketplace.insights.events import SimulationRequested
from marketplace.matching import documents
from marketplace.matching import handlers as matching
from marketplace.orders import (
    capture,
    coupon_returns,
    late_payments,
    notices,
    paying,
    progress,
    refund_commission,
    refund_sending,
)
from marketplace.orders.events import (
    CheckoutExpired,
    PaymentCameLate,
    PaymentCaptured,
    ProviderNotified,
    RefundRequested,
    RefundSettled,
)
from marketplace.orders.own_checkout import moving as own_checkout
from marketplace.orders.own_checkout.events import OrderTold
from marketplace.promotion.agreements import counters
from marketplace.promotion.commission import states as commission_states
from marketplace.promotion.events import CommissionReversed, OrderCredited
from marketplace.promotion.fraud import on_credit
from marketplace.promotion.fraud.events import CommissionHeld, CommissionHoldEnded
from marketplace.promotion.offers import budgets
from supply.fulfillment import handlers as fulfillment
from supply.fulfillment.events import (
    FulfillmentCancellationRequested,
    FulfillmentOrderAccepted,
    FulfillmentOrderCancelled,
    FulfillmentOrderDelivered,
    FulfillmentOrderRejected,
    FulfillmentOrderShipped,
    FulfillmentOrderSubmitted,
    FulfillmentRerouted,
    FulfillmentUnsourced,
)
from supply.routing import handlers as routing
from supply.settlement import handlers as settlement
from supply.settlement.disputes import evidence
from supply.settlement.disputes import handlers as disputes
from supply.settlement.disputes.events import DisputeConceded, DisputeLost, DisputeWon, EvidenceGiven
from supply.settlement.events import CommissionReleased, PayoutPaid, RefundVoided, StatementsClosed
from supply.settlement.rails import handlers as rails

Handler = Callable[..., Awaitable[Any]]

SUBSCRIPTIONS: dict[type[Event], tuple[Handler, ...]] = {
    # Selling
    ProductChanged: (documents.on_product_changed,),
    ProductsChanged: (documents.on_products_changed,),
    # Paying
    ProviderNotified: (notices.on_provider_notified,),
    PaymentCaptured: (capture.on_payment_captured,),
    OrderTold: (own_checkout.on_order_told,),
    PaymentCameLate: (late_payments.on_payment_came_late,),
    OrderCredited: (
        matching.on_order_credited,
        on_credit.on_order_credited,
        insights.on_order_credited,
    ),
    CheckoutExpired: (paying.on_checkout_expired,),
    RefundRequested: (refund_sending.on_refund_requested,),
    RefundSettled: (coupon_returns.on_refund_settled,),
    DisputeLost: (refund_commission.on_dispute_lost,),
    DisputeWon: (refund_commission.on_dispute_won, late_payments.on_dispute_won),
    EvidenceGiven: (evidence.on_evidence_given,),
    DisputeConceded: (evidence.on_dispute_conceded,),
    RefundVoided: (disputes.on_refund_voided,),
    SimulationRequested: (simulation.on_simulation_requested,),
    CommissionHeld: (insights.on_commission_held,),
    CommissionHoldEnded: (insights.on_hold_ended,),
    # Settling
    CommissionReleased: (
        commission_states.on_commission_released,
        budgets.on_commission_released,
    ),
    CommissionReversed: (
        counters.on_commission_reversed,
        budgets.on_commission_reversed,
    ),
    StatementsClosed: (commission_states.on_statements_closed,),
    PayoutPaid: (commission_states.on_payout_paid,),
    # Delivering
    FulfillmentOrderSubmitted: (progress.on_fulfillment_moved, fulfillment.on_submitted),
    FulfillmentOrderAccepted: (progress.on_fulfillment_moved, fulfillment.on_accepted),
    FulfillmentOrderRejected: (routing.on_fulfillment_order_rejected, fulfillment.on_rejected),
    FulfillmentRerouted: (
        settlement.on_fulfillment_rerouted,
        disputes.on_fulfillment_rerouted,
        progress.on_fulfillment_moved,
    ),
    FulfillmentUnsourced: (progress.on_fulfillment_moved,),
    FulfillmentCancellationRequested: (fulfillment.on_cancellation_requested,),
    FulfillmentOrderCancelled: (progress.on_fulfillment_moved, fulfillment.on_cancelled),
    FulfillmentOrderShipped: (progress.on_fulfillment_moved, fulfillment.on_shipped),
    FulfillmentOrderDelivered: (
        settlement.on_fulfillment_delivered,
        rails.on_fulfillment_delivered,
        commission_states.on_fulfillment_delivered,
        progress.on_fulfillment_moved,
        fulfillment.on_delivered,
    ),
}
