"""What one paysim process is told: by argument, or by a ``PAYSIM_*`` variable of the same name."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fees:
    """Processing fee of a charge and of a dispute. Defaults: 2.9 % + 30 minor units, half up; 15.00."""

    rate_ppm: int = 29_000
    fixed_minor: int = 30
    dispute_minor: int = 1_500


@dataclass(frozen=True, slots=True)
class PaysimConfig:
    data_dir: Path
    secret_key: str
    publishable_key: str
    webhook_url: str = ""
    webhook_secret: str = ""
    admin_key: str = ""
    """Key of ``/_paysim/``; empty: one is made and kept in ``data_dir/admin_key``."""
    sharing_key: str = ""
    """Signs requests and notices of the sharing rail; empty: the secret key does."""
    clock_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 12111
    public_url: str = ""
    """Where payers' browsers reach the hosted pages; empty: the address we listen on."""
    fees: Fees = field(default_factory=Fees)
    available_after_days: int = 2
    durable: bool = True
    """An answer waits until it is on disk. Off only inside a process whose end is the end of these books, too."""
    enforce_minimum: bool = True
    """Refuse charges below the rail's smallest amount (50 cents and the like), as Stripe does."""
    instant_onboarding: bool = True
    """Connected accounts are ready at once; otherwise somebody completes the onboarding page first."""
    webhook_retry_base_s: float = 1.0
    """Real seconds before the first re-delivery; doubles each time."""

    @property
    def sharing_secret(self) -> str:
        return self.sharing_key or self.secret_key

    @property
    def base_url(self) -> str:
        return self.public_url or f"http://{self.host}:{self.port}"


def read_config(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> PaysimConfig:
    """Arguments win over ``PAYSIM_*``. Exits with a usage message when something needed is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m services.paysim", description="Embedded payment provider"
    )

    def option(name: str, *, default: str | None, text: str) -> None:
        variable = "PAYSIM_" + name.upper().replace("-", "_")
        given = environ.get(variable, default)
        parser.add_argument(f"--{name}", default=given, required=given is None, help=f"{text} [{variable}]")

    option("host", default="127.0.0.1", text="address to listen on")
    option("port", default="12111", text="port to listen on; 0 takes a free one")
    option("data-dir", default=None, text="directory of the durable state")
    option("secret-key", default=None, text="sk_test_… of the platform account")
    option("publishable-key", default=None, text="pk_test_… of the platform account")
    option("webhook-url", default="", text="where events are delivered; empty delivers nothing")
    option("webhook-secret", default="", text="whsec_… that signs deliveries")
    option("admin-key", default="", text="key of /_paysim/; empty makes one in the data directory")
    option("sharing-key", default="", text="key of the sharing rail; empty takes the secret key")
    option("clock-file", default="", text="shared clock file; empty is real time")
    option("public-url", default="", text="address of the hosted pages as payers see it")
    option("fee-rate-ppm", default="29000", text="processing fee, parts per million")
    option("fee-fixed-minor", default="30", text="processing fee, fixed part in minor units")
    option("dispute-fee-minor", default="1500", text="fee of one dispute in minor units")
    option("available-after-days", default="2", text="days until a charge becomes available")
    option("enforce-minimum", default="1", text="1 refuses charges below the rail's minimum")
    option("instant-onboarding", default="1", text="0: accounts need the onboarding page first")
    option("webhook-retry-base-s", default="1.0", text="first re-delivery after this many real seconds")
    given = parser.parse_args(argv)

    data_dir = Path(given.data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    return PaysimConfig(
        data_dir=data_dir,
        secret_key=given.secret_key,
        publishable_key=given.publishable_key,
        webhook_url=given.webhook_url,
        webhook_secret=given.webhook_secret,
        admin_key=given.admin_key,
        sharing_key=given.sharing_key,
        clock_file=Path(given.clock_file) if given.clock_file else None,
        host=given.host,
        port=int(given.port),
        public_url=given.public_url.rstrip("/"),
        fees=Fees(int(given.fee_rate_ppm), int(given.fee_fixed_minor), int(given.dispute_fee_minor)),
        available_after_days=int(given.available_after_days),
        enforce_minimum=_truth(given.enforce_minimum),
        instant_onboarding=_truth(given.instant_onboarding),
        webhook_retry_base_s=float(given.webhook_retry_base_s),
    )


def admin_key(config: PaysimConfig) -> str:
    """The key of the admin API, made once per data directory (mode 0600) when none is configured."""
    if config.admin_key:
        return config.admin_key
    path = config.data_dir / "admin_key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("ak_paysim_" + secrets.token_urlsafe(24))
    return path.read_text()


def _truth(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "on"}
