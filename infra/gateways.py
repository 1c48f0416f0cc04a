"""What every process of the platform shares, and nothing of GraphQL: a worker starts without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.clock import Clock
from infra.config import Settings
from infra.db.session import Database
from infra.payments.gateway import PaymentGateway
from infra.payments.sharing import SharingRail
from infra.search.index import SearchIndex
from infra.suppliers.endpoint import SupplierEndpoint


@dataclass(frozen=True, slots=True)
class Gateways:
    """The real objects, made once a process by services/wiring.py."""

    db: Database
    clock: Clock
    payments: PaymentGateway
    search: SearchIndex
    endpoints: SupplierEndpoint
    settings: Settings
    rails: Mapping[str, SharingRail] = field(default_factory=dict)
    """Rails that pay by instruction, by name; none where the vendor has none."""
