"""``paysim …``: the fault switches and a look inside, for people. Speaks to the admin API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

app = typer.Typer(help="Fault switches and state of a running paysim.", no_args_is_help=True)
ANSWER_TIMEOUT_S = 30.0

Pairs = Annotated[list[str] | None, typer.Option(help="name=value; repeat for more")]


class Target:
    """Where the commands go; set by the options before the command."""

    url = ""
    key = ""


@app.callback()
def target(
    url: Annotated[
        str, typer.Option(envvar="PAYSIM_URL", help="address of paysim")
    ] = "http://127.0.0.1:12111",
    admin_key: Annotated[str, typer.Option(envvar="PAYSIM_ADMIN_KEY", help="key of the admin API")] = "",
    data_dir: Annotated[
        Path | None, typer.Option(envvar="PAYSIM_DATA_DIR", help="read the admin key from here")
    ] = None,
) -> None:
    Target.url = url.rstrip("/")
    Target.key = admin_key or (_key_of(data_dir) if data_dir else "")


@app.command("fault")
def add_fault(
    kind: Annotated[
        str, typer.Argument(help="decline, three_ds, rate_limit, server_error, drop_response, …")
    ],
    once: Annotated[bool, typer.Option(help="fire once")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="fire this often; default until removed")] = None,
    match: Pairs = None,
    option: Pairs = None,
) -> None:
    """Turn a fault on: ``fault webhook_hold --match event=charge.*``."""
    options: dict[str, Any] = {name: _value(text) for name, text in _pairs(option).items()}
    body = {"kind": kind, "once": once, "count": count, "match": _pairs(match), "options": options}
    _show(_send("POST", "/faults", body))


@app.command("faults")
def list_faults() -> None:
    """The switches that are on."""
    _show(_send("GET", "/faults"))


@app.command("clear")
def clear_faults(id: Annotated[int | None, typer.Argument(help="one switch; default all")] = None) -> None:
    """Turn one switch off, or all."""
    _show(_send("DELETE", "/faults" if id is None else f"/faults/{id}"))


@app.command("release")
def release_webhooks(
    event: Annotated[str | None, typer.Argument(help="one event; default all")] = None,
) -> None:
    """Let held webhooks go."""
    _show(_send("POST", "/webhooks/release", {"event": event}))


@app.command("redeliver")
def redeliver_webhook(event: str) -> None:
    """Deliver an event once more."""
    _show(_send("POST", "/webhooks/redeliver", {"event": event}))


@app.command("dispute")
def dispute_charge(
    charge: Annotated[str, typer.Argument(help="charge or payment intent")],
    reason: str = "fraudulent",
    amount: Annotated[int | None, typer.Option(min=1, help="minor units; default all that is left")] = None,
    inquiry: Annotated[bool, typer.Option(help="the bank only asks; nothing moves")] = False,
    lapses: Annotated[bool, typer.Option(help="lost by itself when evidence is due")] = False,
) -> None:
    """Open a dispute."""
    asked = {"charge": charge, "reason": reason, "amount": amount, "inquiry": inquiry, "lapses": lapses}
    _show(_send("POST", "/disputes", asked))


@app.command("close-dispute")
def close_dispute(
    dispute: str,
    verdict: Annotated[str, typer.Argument(help="won or lost")],
    fee_back: Annotated[bool, typer.Option(help="won: give the dispute fee back as well")] = False,
) -> None:
    """Decide a dispute."""
    _show(_send("POST", f"/disputes/{dispute}/close", {"status": verdict, "fee_back": fee_back}))


@app.command("escalate")
def escalate_inquiry(dispute: str) -> None:
    """Make a chargeback of an inquiry."""
    _show(_send("POST", f"/disputes/{dispute}/escalate"))


@app.command("warn")
def warn_of_fraud(
    charge: Annotated[str, typer.Argument(help="charge or payment intent")], fraud_type: str = "misc"
) -> None:
    """Let the card network warn of fraud."""
    _show(_send("POST", "/early_fraud_warnings", {"charge": charge, "fraud_type": fraud_type}))


@app.command("automatic-payout")
def automatic_payout(
    currency: str = "usd",
    account: Annotated[str | None, typer.Option(help="connected account; default the platform")] = None,
) -> None:
    """Pay out everything available, as the provider's own schedule does."""
    _show(_send("POST", "/payouts/automatic", {"currency": currency, "account": account}))


@app.command("inject")
def inject_row(
    type: Annotated[str, typer.Argument(help="stripe_fee, reserve_transaction, adjustment, topup, …")],
    amount: Annotated[int, typer.Argument(help="minor units, signed from the owner's side")],
    currency: str = "usd",
    source: Annotated[str | None, typer.Option(help="id the row points at")] = None,
    description: str | None = None,
) -> None:
    """Add a balance transaction no call of ours made: ``inject stripe_fee -- -250``."""
    given = {"type": type, "amount": amount, "currency": currency, "source": source}
    body = given if description is None else {**given, "description": description}
    _show(_send("POST", "/balance_transactions", body))


@app.command("fx")
def set_rate(
    rule: Annotated[list[str] | None, typer.Argument(help="eur=usd:1.08 …; nothing stops converting")] = None,
) -> None:
    """Settle charges of a currency in another one from now on."""
    rules = {}
    for currency, value in _pairs(rule).items():
        to, _, rate = value.partition(":")
        rules[currency] = {"to": to, "rate": rate}
    _show(_send("POST", "/fx", rules))


@app.command("restrict")
def restrict_account(
    account: str,
    transfers: Annotated[str | None, typer.Option(help="active, inactive or pending")] = None,
    payouts: Annotated[bool | None, typer.Option(help="whether payouts are enabled")] = None,
) -> None:
    """Change what a connected account may do."""
    _show(_send("POST", f"/accounts/{account}", {"transfers": transfers, "payouts_enabled": payouts}))


@app.command("deliveries")
def list_deliveries(
    state: Annotated[str | None, typer.Option(help="due, held, delivered, dropped, abandoned")] = None,
) -> None:
    """Webhook deliveries, newest first."""
    _show(_send("GET", f"/deliveries{f'?state={state}' if state else ''}"))


@app.command("fail-payout")
def fail_payout(payout: str, code: str = "could_not_process") -> None:
    """Let the bank return a payout."""
    _show(_send("POST", f"/payouts/{payout}/fail", {"code": code}))


@app.command("fail-refund")
def fail_refund(refund: str, code: str = "lost_or_stolen_card") -> None:
    """Let the bank return a refund."""
    _show(_send("POST", f"/refunds/{refund}/fail", {"code": code}))


@app.command("succeed-refund")
def succeed_refund(refund: str) -> None:
    """Let a waiting refund arrive."""
    _show(_send("POST", f"/refunds/{refund}/succeed"))


@app.command("state")
def show_state() -> None:
    """Counts, balances, switches, the clock."""
    _show(_send("GET", "/state"))


@app.command("books")
def show_books() -> None:
    """The trial balance; exits 1 when it does not sum to zero."""
    report = _send("GET", "/books")
    _show(report)
    if not report["balanced"]:
        raise typer.Exit(1)


def _send(verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"authorization": f"Bearer {Target.key}"}
    try:
        answer = httpx.request(
            verb,
            f"{Target.url}/_paysim{path}",
            json=body,
            headers=headers,
            timeout=ANSWER_TIMEOUT_S,
            trust_env=False,
        )
    except httpx.TransportError as error:
        typer.echo(f"paysim does not answer at {Target.url}: {error}", err=True)
        raise typer.Exit(2) from error
    if not answer.is_success:
        typer.echo(answer.json()["error"]["message"], err=True)
        raise typer.Exit(1)
    return answer.json()


def _show(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _key_of(data_dir: Path) -> str:
    path = data_dir / "admin_key"
    return path.read_text() if path.exists() else ""


def _pairs(given: list[str] | None) -> dict[str, str]:
    found = {}
    for pair in given or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not name=value")
        found[name] = value
    return found


def _value(text: str) -> Any:
    """Numbers and booleans as such, everything else as text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    app()
