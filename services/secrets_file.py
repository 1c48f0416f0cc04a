"""The secrets of an embedded stack: made once, kept in its data directory (0600), never in the repository."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StackSecrets:
    """What the processes of one stack share. Stripe's shapes (`sk_test_…`) because its client checks them."""

    secret_key: str
    stripe_api_key: str
    stripe_publishable_key: str
    stripe_webhook_secret: str
    paysim_admin_key: str
    app_password: str
    """Of `lianyu_app` on a database of yours, when you name only its owner (development)."""

    @classmethod
    def fresh(cls) -> StackSecrets:
        return cls(
            secret_key=secrets.token_urlsafe(36),
            stripe_api_key="sk_test_" + secrets.token_hex(16),
            stripe_publishable_key="pk_test_" + secrets.token_hex(16),
            stripe_webhook_secret="whsec_" + secrets.token_hex(24),
            paysim_admin_key="ak_paysim_" + secrets.token_hex(16),
            app_password=secrets.token_hex(24),
        )


def stack_secrets(data_dir: Path) -> StackSecrets:
    """Those of ``data_dir``, made at the first call; two first calls at once agree."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "secrets.json"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        text = stream.read()
        if text:
            return StackSecrets(**json.loads(text))
        made = StackSecrets.fresh()
        stream.seek(0)
        json.dump(asdict(made), stream, indent=2)
    return made
