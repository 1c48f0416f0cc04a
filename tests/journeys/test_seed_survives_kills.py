"""Seeding killed with -9 again and again still ends with exactly the market that was drawn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.config import Settings
from infra.embedded.process import wait_until
from services.demo.http_clients import GraphQL, Patience, client
from services.demo.market import generate
from services.demo.run import unusual_ports
from services.running import running_stack
from tests.fixtures.patience import PATIENCE_S

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
CONFIGURED = ("DATABASE_URL", "APP_DATABASE_URL", "BROKER_URL", "STRIPE_API_KEY", "LIANYU_CLOCK_FILE")
KILLED_AFTER = (1, 300, 1_200)
"""Notes of the seeding, of 1,800: among the sign-ups, the products, what the brands agree."""
COUNTS = """
query counts {
  products { totalCount }
  communities { nodes { memberCount placements { id } } totalCount }
  agreements { nodes { status } totalCount }
  storefronts { id }
  promoters { nodes { id } }
}
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Settings]:
    saved = {name: os.environ.pop(name) for name in CONFIGURED if name in os.environ}
    try:
        with running_stack(
            Settings(), data_dir=tmp_path / "stack", seed=False, port_base=unusual_ports()
        ) as running:
            yield running.settings
    finally:
        os.environ.update(saved)


def seeding(keys: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "services.cli", "seed", "--keys-file", str(keys)]
    return subprocess.Popen(argv, cwd=ROOT)


def noted(notebook: Path) -> int:
    return len(json.loads(notebook.read_text())) if notebook.exists() else 0


def killed(process: subprocess.Popen[bytes], notebook: Path, notes: int) -> None:
    """By SIGKILL in the midst of its work."""
    assert wait_until(lambda: noted(notebook) >= notes, timeout_s=PATIENCE_S)
    process.kill()
    assert process.wait() == -signal.SIGKILL


async def test_a_killed_seeding_goes_on_where_it_was(stack: Settings, tmp_path: Path) -> None:
    keys, notebook = tmp_path / "keys.json", stack.data_dir / "market.json"
    for notes in KILLED_AFTER:
        killed(seeding(keys), notebook, notes)
    assert seeding(keys).wait(timeout=240) == 0
    assert set(json.loads(keys.read_text())) == {"brand", "storefront", "supplier", "operator", "paysim"}

    market = generate()
    notes = json.loads(notebook.read_text())
    async with client() as http:
        for brand in market.brands:
            headers = {"authorization": f"Bearer {notes[f'token:{brand.key}']}"}
            found = await GraphQL(http, stack.brand_url, headers, Patience())(COUNTS)
            own = [community for community in market.communities if community.brand == brand.key]
            agreed = [a for a in market.agreements if brand.key in (a.advertiser, a.promoter)]
            assert found["products"]["totalCount"] == len(brand.products)
            assert found["communities"]["totalCount"] == len(own)
            assert sorted(c["memberCount"] for c in found["communities"]["nodes"]) == sorted(
                len(community.members) for community in own
            )
            assert all(len(c["placements"]) == 2 for c in found["communities"]["nodes"])
            assert found["agreements"]["totalCount"] == len(agreed)
            assert {node["status"] for node in found["agreements"]["nodes"]} == {"ACTIVE"}
            assert len(found["storefronts"]) == len(brand.storefronts)
            assert len(found["promoters"]["nodes"]) == len(brand.promoters)
