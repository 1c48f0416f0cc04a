"""The real payment provider of the embedded stack, for payouts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).resolve().parents[2] / "paysim" / "conftest.py"
_NAME = "tests.paysim.conftest"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, _PATH)
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])
_suite = sys.modules[_NAME]

receiver, provider, paysim, gateway = _suite.receiver, _suite.provider, _suite.paysim, _suite.gateway
