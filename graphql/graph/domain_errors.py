"""Imports every module's errors, so that the schema can list all codes."""

from __future__ import annotations

import importlib
import pkgutil

import marketplace
import supply

for _package in (marketplace, supply):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        if _module.name.endswith(".errors"):
            importlib.import_module(_module.name)
