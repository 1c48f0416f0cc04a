"""Which processes make up Lianyu, and what each is told. Change the platform's processes here.

Stages, each started when the one before is ready: servers (PostgreSQL, Valkey; only those for which no URL is
set), the migrations, the applications, the demo market.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.config import Settings
from infra.embedded.child import ProcessSpec
from infra.embedded.errors import EmbeddedServerError
from infra.embedded.ports import free_port
from infra.embedded.postgres import APPLICATION, OWNER, EmbeddedPostgres
from infra.embedded.postgres_home import server_account
from infra.embedded.probes import Probe, every, http_ok, log_says, tcp_open
from infra.embedded.valkey import EmbeddedValkey
from services.application_role import application_url, set_application_password
from services.secrets_file import stack_secrets

ROOT = Path(__file__).resolve().parents[1]

SERVERS = frozenset({"postgres", "valkey"})
APPLICATIONS = frozenset({"paysim", "api", "edge", "fulfillment", "worker", "beat", "relay"})
EVERYTHING = SERVERS | APPLICATIONS
USUAL_PORT = 8000
USUAL_POSTGRES_PORT = 5433


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the applications listen on 127.0.0.1: base, base + 1, … or any free one."""

    api: int
    edge: int
    fulfillment: int
    paysim: int

    @classmethod
    def choose(cls, base: int = USUAL_PORT) -> Ports:
        return cls(*(free_port(base + offset) for offset in range(4)))


class Stack:
    """The stack of one data directory. ``parts`` leaves out what a command does not need."""

    def __init__(
        self, settings: Settings, data_dir: Path, *, ports: Ports, parts: frozenset[str] = EVERYTHING
    ) -> None:
        self.settings = settings
        self.data_dir = data_dir
        self.ports = ports
        self.secrets = stack_secrets(data_dir)
        own_stripe = bool(settings.stripe_api_key.get_secret_value())
        self.parts = parts - ({"paysim"} if own_stripe else set())
        self.postgres: EmbeddedPostgres | None = None
        self.valkey: EmbeddedValkey | None = None
        if not settings.database_url and "postgres" in parts:
            self.postgres = EmbeddedPostgres(data_dir / "postgres", port=_postgres_port(data_dir))
        if not settings.broker_url and "valkey" in parts:
            self.valkey = EmbeddedValkey(data_dir / "valkey")

    # --- stages ---

    def servers(self) -> list[ProcessSpec]:
        specs = []
        if self.postgres is not None:
            specs.append(_postgres(self.postgres))
        if self.valkey is not None:
            specs.append(_valkey(self.valkey))
        return specs

    def migrations(self) -> list[ProcessSpec]:
        if not self.database_url:
            return []
        upgrade = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"]
        return [self._python("migrations", upgrade, None, once=True, ready_timeout_s=600)]

    def applications(self) -> list[ProcessSpec]:
        ports, celery = self.ports, [sys.executable, "-m", "celery", "-A", "services.worker.app"]
        schedule = self.data_dir / "beat" / "schedule"
        schedule.parent.mkdir(exist_ok=True)
        table = [
            self._python(
                "paysim",
                self._paysim_argv(),
                every(log_says(self.log("paysim"), "paysim listening on"), tcp_open(ports.paysim)),
            ),
            self._web("api", "services.api.app:create_app", ports.api),
            self._web("edge", "services.edge.app:create_app", ports.edge),
            self._web("fulfillment", "services.fulfillment.app:create_app", ports.fulfillment),
            self._python(
                "worker",
                [
                    *celery,
                    "worker",
                    "--concurrency=2",
                    "--loglevel=INFO",
                    "--without-gossip",
                    "--without-mingle",
                ],
                log_says(self.log("worker"), " ready."),
                settled_after_s=10.0,
                stop_timeout_s=15.0,
            ),
            self._python(
                "beat",
                [*celery, "beat", "--loglevel=INFO", "--pidfile=", f"--schedule={schedule}"],
                log_says(self.log("beat"), "beat: Starting"),
                settled_after_s=5.0,
            ),
            self._python("relay", [sys.executable, "-m", "services.worker.relay"], None, settled_after_s=3.0),
        ]
        return [spec for spec in table if spec.name in self.parts]

    def demo_market(self) -> list[ProcessSpec]:
        """Fills an empty market once, through the public interfaces; writes the keys to `keys_file`."""
        argv = [sys.executable, "-m", "services.cli", "seed", "--keys-file", str(self.keys_file)]
        return [self._python("demo-market", argv, None, once=True, ready_timeout_s=600)]

    def close(self) -> None:
        """After the supervisor has stopped: nothing of the servers is left, their directories are free."""
        for server in (self.postgres, self.valkey):
            if server is not None:
                server.stop()

    # --- what the processes are told ---

    @property
    def database_url(self) -> str:
        return self.postgres.url(role=OWNER) if self.postgres else self.settings.database_url

    @property
    def app_database_url(self) -> str:
        if self.postgres is not None:
            return self.postgres.url(role=APPLICATION)
        if self.settings.app_database_url or not self.settings.database_url:
            return self.settings.app_database_url
        return application_url(self.settings.database_url, self.secrets.app_password)

    def admit_application(self) -> None:
        """After the migrations, on a database of yours of which only the owner is named: its password."""
        if self.settings.database_url and not self.settings.app_database_url:
            asyncio.run(set_application_password(self.database_url, self.secrets.app_password))

    @property
    def broker_url(self) -> str:
        return self.valkey.url() if self.valkey else self.settings.broker_url

    @property
    def keys_file(self) -> Path:
        return self.data_dir / "keys.json"

    def environment(self) -> dict[str, str]:
        """What this stack adds to the environment of its processes, and of commands that use it."""
        secrets, settings, ports = self.secrets, self.settings, self.ports
        given = {
            "LIANYU_ENV": str(settings.env.value),
            "LIANYU_DATA_DIR": str(self.data_dir),
            "LIANYU_SECRET_KEY": os.environ.get("LIANYU_SECRET_KEY", secrets.secret_key),
            "DATABASE_URL": self.database_url,
            "APP_DATABASE_URL": self.app_database_url,
            "BROKER_URL": self.broker_url,
            "LIANYU_BRAND_URL": f"http://127.0.0.1:{ports.api}/graphql",
            "LIANYU_STOREFRONT_URL": f"http://127.0.0.1:{ports.api}/storefront/graphql",
            "LIANYU_EDGE_URL": f"http://127.0.0.1:{ports.edge}",
            "LIANYU_FULFILLMENT_URL": f"http://127.0.0.1:{ports.fulfillment}/fulfillment/v1",
        }
        if settings.env.value != "production":
            given["LIANYU_CLOCK_FILE"] = str(settings.clock_file or self.data_dir / "clock")
        for name in (
            "LIANYU_BRAND_URL",
            "LIANYU_STOREFRONT_URL",
            "LIANYU_EDGE_URL",
            "LIANYU_FULFILLMENT_URL",
        ):
            given[name] = os.environ.get(name, given[name])  # public addresses behind a proxy of yours
        if not settings.stripe_api_key.get_secret_value():
            given |= {
                "STRIPE_API_KEY": secrets.stripe_api_key,
                "STRIPE_API_BASE": f"http://127.0.0.1:{ports.paysim}",
                "STRIPE_WEBHOOK_SECRET": secrets.stripe_webhook_secret,
                "STRIPE_PUBLISHABLE_KEY": secrets.stripe_publishable_key,
                "PAYSIM_ADMIN_KEY": secrets.paysim_admin_key,
            }
        return {name: value for name, value in given.items() if value}

    def urls(self) -> dict[str, str]:
        environment = self.environment()
        named = {
            "brand": environment["LIANYU_BRAND_URL"],
            "storefront": environment["LIANYU_STOREFRONT_URL"],
            "fulfillment": environment["LIANYU_FULFILLMENT_URL"],
            "edge": environment["LIANYU_EDGE_URL"],
        }
        if "paysim" in self.parts:
            named["paysim"] = environment["STRIPE_API_BASE"]
        return named

    # --- parts ---

    def _paysim_argv(self) -> list[str]:
        """Its keys go through the environment: a command line is readable by everybody."""
        argv = [sys.executable, "-m", "services.paysim", "--port", str(self.ports.paysim)]
        argv += ["--data-dir", str(self.data_dir / "paysim")]
        return [*argv, "--webhook-url", f"http://127.0.0.1:{self.ports.api}/webhooks/stripe"]

    def _paysim_environment(self) -> dict[str, str]:
        return {
            "PAYSIM_SECRET_KEY": self.secrets.stripe_api_key,
            "PAYSIM_PUBLISHABLE_KEY": self.secrets.stripe_publishable_key,
            "PAYSIM_WEBHOOK_SECRET": self.secrets.stripe_webhook_secret,
            "PAYSIM_CLOCK_FILE": self.environment().get("LIANYU_CLOCK_FILE", ""),
        }

    def _web(self, name: str, factory: str, port: int) -> ProcessSpec:
        argv = [sys.executable, "-m", "uvicorn", factory, "--factory", "--host", "127.0.0.1"]
        argv += ["--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "5"]
        # Another stack that took the port meanwhile must not pass for this one.
        instance = ("x-lianyu-stack", uuid.uuid4().hex)
        argv += ["--header", ":".join(instance)]
        return self._python(name, argv, http_ok(f"http://127.0.0.1:{port}/healthz", header=instance))

    def _python(self, name: str, argv: list[str], ready: Probe | None, **options: Any) -> ProcessSpec:
        environment = {**os.environ, **self.environment(), "PYTHONUNBUFFERED": "1"}
        if name == "paysim":
            environment |= self._paysim_environment()
        if name not in ("migrations", "demo-market"):
            environment.pop("DATABASE_URL", None)  # the owner's role is for migrations only
        options.setdefault("log", self.log(name))
        return ProcessSpec(name=name, argv=lambda: argv, env=environment, cwd=ROOT, ready=ready, **options)

    def log(self, name: str) -> Path:
        return self.data_dir / "log" / f"{name}.log"


def _postgres_port(data_dir: Path) -> int | None:
    """The usual port for a new directory; a known one keeps its own."""
    return None if (data_dir / "postgres" / "port").exists() else USUAL_POSTGRES_PORT


def _postgres(server: EmbeddedPostgres) -> ProcessSpec:
    port = LastingPort(server)

    def settled() -> None:
        port.settle()
        server.provision()

    return ProcessSpec(
        name="postgres",
        argv=server.argv,
        env=server.environment(),
        account=server_account(),
        log=server.log,
        ready=server.ready,
        before=port.prepare,
        after=settled,
        ready_timeout_s=120,
        stop_signal=signal.SIGINT,
        stop_timeout_s=20,
    )


def _valkey(server: EmbeddedValkey) -> ProcessSpec:
    port = LastingPort(server)
    return ProcessSpec(
        name="valkey",
        argv=server.argv,
        cwd=server.data_dir,
        log=server.log,
        ready=server.ready,
        before=port.prepare,
        after=port.settle,
        stop_timeout_s=10,
    )


class LastingPort:
    """A server's port: any until it has been ready once, then always that one: its URL is with the others."""

    def __init__(self, server: EmbeddedPostgres | EmbeddedValkey) -> None:
        self._server = server
        self._settled: int | None = None

    def prepare(self) -> None:
        """Before every start. Raises `EmbeddedServerError` when a program of another owner took the port."""
        if self._settled is not None:
            self._server.port = self._settled
        self._server.prepare()
        if self._settled not in (None, self._server.port):
            raise EmbeddedServerError(f"port {self._settled} is taken by another program")

    def settle(self) -> None:
        """When it is ready."""
        self._settled = self._server.port


def describe(stack: Stack, *, keys: Mapping[str, str], pids: Mapping[str, int]) -> dict[str, Any]:
    """What `lianyu up --json` prints."""
    shown = dict(keys)
    if "paysim" in stack.parts:
        shown["paysim"] = stack.secrets.stripe_api_key
    return {"urls": stack.urls(), "keys": shown, "pids": dict(pids), "data_dir": str(stack.data_dir)}
