"""The call of docs/guides/own-checkout.md, as it is written there, is one that we take."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from infra.suppliers import signing
from marketplace.orders.own_checkout import told
from marketplace.orders.own_checkout.told import Telling
from services.api.intake_bodies import telling_of

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "own-checkout.md"
_CURL = r"""curl() {
  while [ $# -gt 0 ]; do case "$1" in -H|--data-raw) printf '%s\0' "$2"; shift 2;; *) shift;; esac; done
}
"""


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "openssl", "od", "base64"))), reason="no shell to sign in"
)
def test_what_the_guides_shell_signs_is_signed_and_what_it_tells_adds_up() -> None:
    (script,) = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    secret = signing.new_secret()
    first, _, rest = script.partition("\n")
    assert first.startswith("SECRET=whsec_…")
    ours = f"SECRET={secret} STOREFRONT=sf_1 API=http://127.0.0.1:1\n"

    done = subprocess.run(["bash", "-c", _CURL + ours + rest], capture_output=True, check=True, text=True)

    *named, body = done.stdout.rstrip("\0").split("\0")
    headers = dict(each.split(": ", 1) for each in named)
    assert headers["x-lianyu-storefront"] == "sf_1"
    signing.verify([secret], headers, body.encode(), now=datetime.now(UTC))
    (row,) = orjson.loads(body)["orders"]
    telling = telling_of(row)
    assert isinstance(telling, Telling)
    told.check(telling, now=datetime(2026, 3, 2, 11, tzinfo=UTC))
