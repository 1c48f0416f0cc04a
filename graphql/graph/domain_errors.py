"""Imports every module an expected error may come from, so that the schema can list all codes."""

from __future__ import annotations

import importlib
import pkgutil

import infra.db.idempotency
import infra.payments.errors
import infra.suppliers.endpoint  # noqa: F401
import marketplace
import supply

# They draw with a library of nine MiB, and raise no error of their own: imported by who prints.
_DRAWING = {"marketplace.promotion.links.print_sheet", "supply.settlement.statements.pdf"}

for _package in (marketplace, supply):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        if _module.name not in _DRAWING:
            importlib.import_module(_module.name)
