"""paysim as it really runs: a subprocess on a free port, and a receiver for its webhooks."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from core.clock import SharedClock
from infra.embedded.ports import free_port
from infra.payments.stripe_gateway import StripeGateway
from tests.fixtures.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LIANYU_SHARED", ROOT.parent / "shared"))
SECRET_KEY, PUBLISHABLE_KEY = "sk_test_suite", "pk_test_suite"
WEBHOOK_SECRET, ADMIN_KEY = "whsec_suite", "ak_suite"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Receiver:
    """Keeps every delivery as (signature, raw body); answers what ``answer`` says."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[str, bytes]] = []
        self.whole: list[tuple[dict[str, str], bytes]] = []
        """The same deliveries with all their headers."""
        self.answer: Callable[[dict[str, Any]], int] = lambda event: 200
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answer(json.loads(raw))
                with receiver._changed:
                    receiver.deliveries.append((self.headers["stripe-signature"] or "", raw))
                    receiver.whole.append((dict(self.headers.items()), raw))
                    receiver._changed.notify_all()
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def events(self, type: str | None = None, *, about: str = "") -> list[dict[str, Any]]:
        found = [json.loads(raw) for _, raw in list(self.deliveries) if about.encode() in raw]
        return [event for event in found if type in (None, event["type"])]

    def wait(self, type: str, *, about: str = "", count: int = 1) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while len(self.events(type, about=about)) < count:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(
                        f"{count} × {type} did not arrive: {[e['type'] for e in self.events()]}"
                    )
                self._changed.wait(left)
        return self.events(type, about=about)


class Paysim:
    """One data directory and the process that serves it now."""

    def __init__(self, data_dir: Path, webhook_url: str, *options: str) -> None:
        self.data_dir, self._options, self._webhook_url = data_dir, options, webhook_url
        self.clock = SharedClock(data_dir / "clock")
        self.clock.freeze(START)
        # Not one of those that outgoing connections take: it must be free again after a kill.
        self._port = free_port()
        self.url = ""
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "services.paysim", "--port", str(self._port)]
        command += ["--data-dir", str(self.data_dir), "--clock-file", str(self.data_dir / "clock")]
        command += [
            "--secret-key",
            SECRET_KEY,
            "--publishable-key",
            PUBLISHABLE_KEY,
            "--admin-key",
            ADMIN_KEY,
        ]
        command += ["--webhook-url", self._webhook_url, "--webhook-secret", WEBHOOK_SECRET]
        command += ["--webhook-retry-base-s", "0.1", *self._options]
        log = (self.data_dir / "log").open("a")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("paysim listening on "), (self.data_dir / "log").read_text()[-2000:]
        self.url = line.split()[-1]
        self._await_health()

    def _await_health(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/healthz", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("paysim did not become healthy")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def admin(self, verb: str, path: str, **body: Any) -> Any:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        answer = httpx.request(
            verb,
            f"{self.url}/_paysim{path}",
            json=body,
            headers=headers,
            timeout=PATIENCE_S,
            trust_env=False,
        )
        assert answer.is_success, answer.text
        return answer.json()

    def fault(
        self, kind: str, *, count: int | None = 1, match: dict[str, str] | None = None, **options: Any
    ) -> None:
        self.admin("POST", "/faults", kind=kind, count=count, match=match or {}, options=options)

    def books(self) -> dict[str, Any]:
        report: dict[str, Any] = self.admin("GET", "/books")
        assert report["balanced"], report
        return report

    def owes_nothing(self) -> None:
        """Waits until every webhook that is due has arrived: whoever was here before may not have."""
        deadline = time.monotonic() + PATIENCE_S
        while any(row["url"] == self._webhook_url for row in self.admin("GET", "/deliveries?state=due")):
            assert time.monotonic() < deadline, "paysim still owes webhooks"
            time.sleep(0.02)

    def post(
        self, path: str, *, key: str | None = None, auth: str = SECRET_KEY, **form: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {auth}"} | ({"idempotency-key": key} if key else {})
        url = f"{self.url}{path}"
        return self._checked(httpx.post(url, data=form, headers=headers, timeout=PATIENCE_S, trust_env=False))

    def get(self, path: str, *, auth: str = SECRET_KEY, **query: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {auth}"} if auth else {}
        url = f"{self.url}{path}"
        return self._checked(
            httpx.get(url, params=query, headers=headers, timeout=PATIENCE_S, trust_env=False)
        )

    @staticmethod
    def _checked(answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            problems_of(answer.json())
        return answer

    def ok(self, path: str, *, key: str | None = None, **form: Any) -> dict[str, Any]:
        answer = self.post(path, key=key, **form)
        assert answer.status_code == 200, answer.text
        problems_of(answer.json())
        body: dict[str, Any] = answer.json()
        return body

    def paid(self, amount: int = 10_388, currency: str = "usd", **form: Any) -> dict[str, Any]:
        given = {"payment_method": "pm_card_visa", **form}
        return self.ok("/v1/payment_intents", amount=amount, currency=currency, confirm="true", **given)

    def refused(self, path: str, **form: Any) -> dict[str, Any]:
        answer = self.post(path, **form)
        assert answer.status_code >= 400, answer.text
        error: dict[str, Any] = {"status": answer.status_code, **answer.json()["error"]}
        return error

    def funded(self, amount: int = 100_000, currency: str = "usd") -> None:
        """Money that is available at once."""
        self.paid(amount, currency, payment_method="pm_card_bypassPending")

    def account(self, **form: Any) -> dict[str, Any]:
        asked = {"country": "US", "type": "express", "capabilities[transfers][requested]": "true"}
        return self.ok("/v1/accounts", **{**asked, **form})


def _contract() -> Any:
    path = SHARED / "contracts" / "stripe" / "check.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("stripe_contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTRACT = _contract()


def problems_of(answer: dict[str, Any]) -> None:
    """Asserts that an answer is well-formed Stripe, where the contract is at hand."""
    if CONTRACT is not None and "error" not in answer:
        assert CONTRACT.problems(answer) == []


class CheckedHttp(stripe.HTTPXClient):
    """Stripe's own transport, with every answer held against the contract and every request kept."""

    def __init__(self) -> None:
        super().__init__(timeout=PATIENCE_S)
        self.requests: list[tuple[str, str, str]] = []

    async def request_async(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        self.requests.append((method, httpx.URL(url).path, post_data or ""))
        content, status, answered = await super().request_async(method, url, headers, post_data)
        problems_of(json.loads(content))
        return content, status, answered


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Paysim]:
    paysim = Paysim(tmp_path_factory.mktemp("paysim"), receiver.url)
    yield paysim
    paysim.stop()


@pytest.fixture
def paysim(provider: Paysim, receiver: Receiver) -> Iterator[Paysim]:
    """The module's process without faults; after every test its books balance and every webhook it sent is
    well-formed Stripe."""
    receiver.answer = lambda event: 200
    provider.owes_nothing()
    receiver.deliveries.clear()
    receiver.whole.clear()
    yield provider
    if provider.process.poll() is None:
        provider.admin("DELETE", "/faults")
        provider.books()
    for event in receiver.events():
        if event.get("object") == "event":
            problems_of(event)


@pytest.fixture
async def client(paysim: Paysim) -> AsyncIterator[stripe.StripeClient]:
    http = CheckedHttp()
    yield stripe.StripeClient(
        SECRET_KEY, base_addresses={"api": paysim.url}, http_client=http, max_network_retries=0
    )
    await http.close_async()  # type: ignore[no-untyped-call]


@pytest.fixture
async def gateway(paysim: Paysim) -> AsyncIterator[StripeGateway]:
    gateway = StripeGateway(secret_key=SECRET_KEY, webhook_secret=WEBHOOK_SECRET, api_base=paysim.url)
    yield gateway
    await gateway.close()


@pytest.fixture
def contract() -> Any:
    if CONTRACT is None:
        pytest.skip("the Stripe contract is not beside the checkout (LIANYU_SHARED)")
    return CONTRACT
