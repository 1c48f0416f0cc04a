"""A fulfilment order as JSON: the same shape in the REST API and in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.money import Money
from supply.fulfillment import machine
from supply.fulfillment.queries import FulfillmentLineView, FulfillmentOrderView, ShipmentView


def fulfillment_order_json(view: FulfillmentOrderView, *, for_supplier: bool) -> dict[str, Any]:
    """``for_supplier``: list only what a supplier may do (a webhook is written by the system)."""
    actions = (
        machine.allowed(machine.State(view.status, view.request_status), machine.By.SUPPLIER)
        if for_supplier
        else view.allowed_actions
    )
    return {
        "id": str(view.id),
        "order_id": str(view.order_id),
        "brand_id": str(view.brand_id),
        "supplier_id": str(view.supplier_id),
        "location_id": str(view.location_id),
        "parent_id": str(view.parent_id) if view.parent_id else None,
        "attempt_no": view.attempt_no,
        "status": view.status.value,
        "request_status": view.request_status.value,
        "hold_reason": view.hold_reason,
        "reason": view.reason,
        "ship_by": _at(view.ship_by),
        "deliver_by": _at(view.deliver_by),
        "submitted_at": _at(view.submitted_at),
        "accepted_at": _at(view.accepted_at),
        "shipped_at": _at(view.shipped_at),
        "delivered_at": _at(view.delivered_at),
        "updated_at": _at(view.updated_at),
        "ship_to": view.address,
        "dest_zone": view.dest_zone,
        "freight": money_json(view.freight),
        "quirks": list(view.quirks),
        "lines": [_line(line) for line in view.lines],
        "shipments": [_shipment(each) for each in view.shipments],
        "allowed_actions": [action.value for action in actions],
        "version": view.version,
    }


def money_json(money: Money) -> dict[str, Any]:
    return {"amount": money.decimal, "amount_minor": money.amount_minor, "currency": money.currency}


def _line(line: FulfillmentLineView) -> dict[str, Any]:
    return {
        "id": str(line.id), "order_line_id": str(line.order_line_id), "variant_id": str(line.variant_id),
        "sku": line.sku, "title": line.title, "quantity": line.quantity, "accepted": line.accepted,
        "rejected": line.rejected, "cancelled": line.cancelled, "shipped": line.shipped,
        "delivered": line.delivered, "returned": line.returned, "outstanding": line.outstanding,
        "unit_cost": money_json(line.unit_cost), "price_version": line.price_version,
        "weight_g": line.weight_g,
    }  # fmt: skip


def _shipment(each: ShipmentView) -> dict[str, Any]:
    return {
        "id": str(each.id), "carrier": each.carrier, "tracking_no": each.tracking_no,
        "status": each.status, "handed_over_at": _at(each.handed_over_at),
        "delivered_at": _at(each.delivered_at),
    }  # fmt: skip


def _at(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
