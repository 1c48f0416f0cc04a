"""Hosted pages for people: pay, authenticate, onboard. Chinese or English by ``Accept-Language``."""

from __future__ import annotations

import hmac
from html import escape
from string import Template
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from services.paysim import accounts, intents
from services.paysim.engine import Engine
from services.paysim.sharing import merchants, payments
from services.paysim.tariff import shown
from services.paysim.transaction import Tx
from services.paysim.wire import ApiError, JsonDict

# The buttons of the pay page and the test card behind each.
CHOICES = {
    "pay": "pm_card_visa",
    "decline": "pm_card_chargeDeclined",
    "three_ds": "pm_card_threeDSecure2Required",
}

WORDS = {
    "en": {
        "pay_title": "Payment",
        "pay": "Pay",
        "decline": "Card that is declined",
        "three_ds": "Card with 3-D Secure",
        "test": "Test provider: no money moves.",
        "three_ds_title": "Confirm with your bank",
        "complete": "Confirm",
        "fail": "Refuse",
        "succeeded": "Paid. You can close this page.",
        "requires_capture": "Authorised. You can close this page.",
        "canceled": "This payment was cancelled.",
        "expired": "This link is not valid any more.",
        "onboarding_title": "Set up payouts",
        "onboarding_text": "The details of your business and bank account are filled in for this test "
        "account.",
        "submit": "Submit",
        "declined": "The payment failed",
        "failed": "The payment was not made.",
        "order": "Order",
        "payee": "Paid to",
        "account": "Account",
        "country": "Country",
        "bank": "Bank account",
        "frozen": "Kept frozen with the merchant until it is shared out.",
    },
    "zh": {
        "pay_title": "付款",
        "pay": "支付",
        "decline": "使用会被拒绝的卡",
        "three_ds": "使用需要 3-D 验证的卡",
        "test": "测试支付：不会产生真实扣款。",
        "three_ds_title": "银行验证",
        "complete": "确认",
        "fail": "拒绝",
        "succeeded": "支付成功，可以关闭本页。",
        "requires_capture": "已授权，可以关闭本页。",
        "canceled": "该笔付款已取消。",
        "expired": "链接已失效。",
        "onboarding_title": "开通收款",
        "onboarding_text": "测试账户的企业与银行资料已自动填好。",
        "submit": "提交",
        "declined": "支付失败",
        "failed": "付款未完成。",
        "order": "订单",
        "payee": "收款方",
        "account": "账户",
        "country": "国家/地区",
        "bank": "银行账户",
        "frozen": "款项冻结在商户处，分账后解冻。",
    },
}
# Inline drawings: the policy below lets the page load nothing.
LOCK = (
    '<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"><path fill="currentColor" '
    'd="M4 7V5a4 4 0 1 1 8 0v2h.5A1.5 1.5 0 0 1 14 8.5v5A1.5 1.5 0 0 1 12.5 15h-9A1.5 1.5 0 0 1 2 '
    '13.5v-5A1.5 1.5 0 0 1 3.5 7H4Zm1.5 0h5V5a2.5 2.5 0 0 0-5 0v2Z"/></svg>'
)
CARD = (
    '<svg viewBox="0 0 32 22" width="32" height="22" aria-hidden="true"><rect width="32" height="22" rx="3.5" '
    'fill="currentColor" opacity=".12"/><rect y="4.5" width="32" height="4" fill="currentColor" opacity=".45"/>'
    '<rect x="4" y="13" width="11" height="2.5" rx="1.2" fill="currentColor" opacity=".45"/></svg>'
)
BANK = (
    '<svg viewBox="0 0 32 32" width="32" height="32" aria-hidden="true"><path fill="currentColor" opacity=".7" '
    'd="M16 3 3 10v3h26v-3L16 3ZM6 15v9h4v-9H6Zm8 0v9h4v-9h-4Zm8 0v9h4v-9h-4ZM3 26v3h26v-3H3Z"/></svg>'
)
STYLE = """
:root { color-scheme: light dark; --brand: #4f46e5; --page: #f4f5fa; --card: #fff; --ink: #1b1f30;
  --soft: #626a82; --line: #dfe2ec; --bad: #b3261e; --good: #11733f }
@media (prefers-color-scheme: dark) { :root { --brand: #8b85ff; --page: #12141d; --card: #1c1f2b;
  --ink: #eceef6; --soft: #a0a7bd; --line: #333849; --bad: #ff8a80; --good: #6fd49b } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif; color: var(--ink); margin: 0;
  background: var(--page); min-height: 100vh; display: grid; place-items: center; padding: 1.5rem 1rem }
.sharing { --brand: #0b8f4d }
main { width: min(27rem, 100%); background: var(--card); border: 1px solid var(--line); border-radius: 16px;
  box-shadow: 0 12px 32px #1b1f3014; overflow: hidden }
header { padding: 1.5rem 1.75rem 1.25rem; border-bottom: 1px solid var(--line);
  border-top: 4px solid var(--brand) }
section { padding: 1.25rem 1.75rem 1.5rem }
footer { padding: .8rem 1.75rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .82rem;
  display: flex; gap: .4rem; align-items: center }
h1 { font-size: 1rem; font-weight: 600; margin: 0; color: var(--soft) }
p { margin: .5rem 0 }
form { display: grid; gap: .6rem; margin-top: 1rem }
button { font: inherit; font-weight: 600; padding: .78rem 1rem; border-radius: 10px; cursor: pointer;
  border: 1px solid var(--line); background: none; color: inherit; display: flex; gap: .75rem;
  align-items: center; justify-content: center }
button:first-of-type { background: var(--brand); border-color: var(--brand); color: #fff }
@media (prefers-color-scheme: dark) { button:first-of-type { color: #12141d } }
button:hover { filter: brightness(.96) }
button:focus-visible { outline: 3px solid var(--brand); outline-offset: 2px }
button + button { justify-content: flex-start; font-weight: 500 }
.amount { font-size: 2.2rem; font-weight: 650; margin: .15rem 0 0; font-variant-numeric: tabular-nums }
.about { color: var(--soft); overflow-wrap: anywhere }
.error, .done { border-radius: 10px; padding: .7rem .9rem; margin: 0 0 .25rem; border: 1px solid }
.error { color: var(--bad) }
.done { color: var(--good) }
dl { display: grid; grid-template-columns: auto 1fr; gap: .35rem 1rem; margin: .9rem 0 0; font-size: .92rem }
dt { color: var(--soft) }
dd { margin: 0; text-align: right; overflow-wrap: anywhere }
svg { flex: none }
.bank { display: flex; gap: 1rem; align-items: center; color: var(--soft) }
.bank p { color: var(--ink) }
"""
PAGE = Template(
    """<!doctype html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body class="$kind"><main>$body<footer>$lock $note</footer></main></body>
</html>
"""
)
SECURITY = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Pages:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        return [
            Route("/pay/{id}", self.pay, methods=["GET", "POST"]),
            Route("/3ds/{id}", self.three_ds, methods=["GET", "POST"]),
            Route("/onboarding/{token}", self.onboarding, methods=["GET", "POST"]),
            Route("/sharing/pay/{id}", self.pay_shared, methods=["GET", "POST"]),
        ]

    async def pay(self, request: Request) -> Response:
        given, words = await _given(request), _words(request)
        try:
            intent = await self._intent(request, given)
            error = ""
            if request.method == "POST" and given.get("action") in CHOICES:
                params = {"payment_method": CHOICES[given["action"]], "client_secret": given["client_secret"]}
                if _web(given.get("return_url")):
                    params["return_url"] = given["return_url"]
                intent, error = await self._engine.run(lambda tx: _attempt(tx, params, intent["id"]))
        except ApiError:
            return _gone(request, words["pay_title"], 404)
        if intent["status"] == "requires_action":
            return RedirectResponse(intent["next_action"]["redirect_to_url"]["url"], 303)
        if intent["status"] in {"succeeded", "requires_capture", "canceled"}:
            return _done(request, intent, given.get("return_url"))
        body = _head(words["pay_title"], intent) + _pay_form(intent, given, words, error)
        return _page(request, words["pay_title"], body, status=402 if error else 200)

    async def three_ds(self, request: Request) -> Response:
        given, words = await _given(request), _words(request)
        try:
            intent = await self._intent(request, given)
        except ApiError:
            return _gone(request, words["three_ds_title"], 404)
        if request.method == "POST":
            passed, id = given.get("action") == "complete", intent["id"]
            intent = await self._engine.run(lambda tx: intents.authenticate(tx, id, passed=passed))
        if intent["status"] != "requires_action":
            return _done(request, intent, intent.get("_return_url"))
        buttons = "".join(
            f'<button name="action" value="{name}">{words[name]}</button>' for name in ("complete", "fail")
        )
        body = f"{_head(words['three_ds_title'], intent)}<section>{_form(given, buttons)}</section>"
        return _page(request, words["three_ds_title"], body)

    async def onboarding(self, request: Request) -> Response:
        words, token = _words(request), request.path_params["token"]
        submitted = request.method == "POST"
        link = await self._engine.run(lambda tx: _open_link(tx, token, submitted=submitted))
        if link is None:
            return _gone(request, words["onboarding_title"], 410)
        if "refresh" in link:
            return RedirectResponse(link["refresh"], 303)
        if submitted:
            return RedirectResponse(link["return_url"], 303)
        body = (
            f"<header><h1>{words['onboarding_title']}</h1></header><section>"
            f'<div class="bank">{BANK}<p>{words["onboarding_text"]}</p></div>'
            f"{_facts(words, account=link['account'], country=link['country'], bank='PAYSIM TEST BANK ···· 6789')}"
            f'<form method="post"><button>{words["submit"]}</button></form></section>'
        )
        return _page(request, words["onboarding_title"], body)

    async def pay_shared(self, request: Request) -> Response:
        """The sharing rail's page: one button, for whoever has the link."""
        given, words = await _given(request), _words(request)
        paying = request.method == "POST" and given.get("action") == "pay"
        id, token = request.path_params["id"], given.get("token", "")
        found = await self._engine.run(lambda tx: _shared(tx, id, token, paying=paying))
        if found is None:
            return _gone(request, words["pay_title"], 404)
        payment, merchant = found
        shown_as = {"amount": payment["total"], "currency": "cny", "description": payment["description"]}
        facts = _facts(words, payee=merchant["name"], order=payment["out_trade_no"])
        if payment["state"] == "NOTPAY":
            form = (
                f'<form method="post"><input type="hidden" name="token" value="{escape(token)}">'
                f'<button name="action" value="pay">{words["pay"]}</button></form>'
            )
            rest = f"{facts}<p class=about>{words['frozen']}</p>{form}"
        else:
            paid = payment["state"] == "SUCCESS"
            rest = f"<p class=done>{words['succeeded' if paid else 'canceled']}</p>{facts}"
        body = f"{_head(words['pay_title'], shown_as)}<section>{rest}</section>"
        return _page(request, words["pay_title"], body, kind="sharing")

    async def _intent(self, request: Request, given: dict[str, str]) -> JsonDict:
        """The intent whose secret the visitor knows; otherwise it does not exist."""
        params = {"client_secret": given.get("client_secret", "")}
        return await self._engine.run(lambda tx: intents.retrieve(tx, params, request.path_params["id"]))


def _shared(tx: Tx, id: str, token: str, *, paying: bool) -> tuple[JsonDict, JsonDict] | None:
    """The payment and its merchant for whoever knows the token; paid when asked to."""
    payment = tx.find(id, "share_payment")
    if payment is None or not hmac.compare_digest(payment["token"], token):
        return None
    if paying:
        payment = payments.pay(tx, payment)
    return payment, merchants.need(tx, payment["merchant_id"])


def _attempt(tx: Tx, params: JsonDict, id: str) -> tuple[JsonDict, str]:
    try:
        return intents.confirm(tx, params, id), ""
    except ApiError as declined:
        if not declined.keeps_effects and declined.error.get("code") != "payment_intent_unexpected_state":
            raise
        return tx.need("payment_intent", id), str(declined)


def _open_link(tx: Tx, token: str, *, submitted: bool) -> JsonDict | None:
    link: JsonDict | None = tx.setting(f"link:{token}")
    if link is None:
        return None
    if link["expires_at"] <= tx.now:
        return {"refresh": link["refresh_url"]}
    account = tx.need("account", link["account"], account=tx.platform)
    if submitted:
        accounts.onboard(tx, account)
        tx.db.execute("DELETE FROM setting WHERE name = ?", (f"link:{token}",))
    return {**link, "country": account["country"]}


async def _given(request: Request) -> dict[str, str]:
    given = dict(request.query_params)
    if request.method == "POST":
        form = await request.form()
        given.update({name: value for name, value in form.items() if isinstance(value, str)})
    return given


def _words(request: Request) -> dict[str, str]:
    return WORDS[_language(request)]


def _language(request: Request) -> str:
    wished = request.headers.get("accept-language", "en").lower().split(",")
    known = (tag.strip()[:2] for tag in wished)
    return next((tag for tag in known if tag in WORDS), "en")


def _head(title: str, payment: JsonDict) -> str:
    about = f'<p class="about">{escape(payment["description"])}</p>' if payment.get("description") else ""
    amount = escape(shown(payment["amount"], payment["currency"]))
    return f"<header><h1>{escape(title)}</h1><p class=amount>{amount}</p>{about}</header>"


def _facts(words: dict[str, str], **facts: str) -> str:
    rows = "".join(f"<dt>{words[name]}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{rows}</dl>"


def _pay_form(intent: JsonDict, given: dict[str, str], words: dict[str, str], error: str) -> str:
    failed = f'<p class="error" role="alert">{words["declined"]}: {escape(error)}</p>' if error else ""
    order = _facts(words, order=intent["transfer_group"]) if intent["transfer_group"] else ""
    buttons = "".join(
        f'<button name="action" value="{name}">{"" if name == "pay" else CARD}{words[name]}</button>'
        for name in CHOICES
    )
    return f"<section>{failed}{order}{_form(given, buttons)}</section>"


def _form(given: dict[str, str], buttons: str) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(given[name])}">'
        for name in ("client_secret", "return_url")
        if name in given
    )
    return f'<form method="post">{hidden}{buttons}</form>'


def _done(request: Request, intent: JsonDict, return_url: str | None) -> Response:
    """Back to the shop, the way Stripe sends people back; or a last word when there is no way back."""
    paid = intent["status"] in {"succeeded", "requires_capture"}
    if return_url and _web(return_url):
        query = urlencode(
            {
                "payment_intent": intent["id"],
                "payment_intent_client_secret": intent["client_secret"],
                "redirect_status": "succeeded" if paid else "failed",
            }
        )
        return RedirectResponse(f"{return_url}{'&' if urlsplit(return_url).query else '?'}{query}", 303)
    words = _words(request)
    known = intent["status"] in {"succeeded", "requires_capture", "canceled"}
    message = words[intent["status"]] if known else words["failed"]
    body = (
        f"{_head(words['pay_title'], intent)}<section>"
        f'<p class="{"done" if paid else "error"}">{message}</p></section>'
    )
    return _page(request, words["pay_title"], body)


def _gone(request: Request, title: str, status: int) -> HTMLResponse:
    body = f"<header><h1>{title}</h1></header><section><p>{_words(request)['expired']}</p></section>"
    return _page(request, title, body, status=status)


def _web(url: str | None) -> bool:
    return bool(url) and urlsplit(url or "").scheme in {"http", "https"}


def _page(request: Request, title: str, body: str, *, status: int = 200, kind: str = "") -> HTMLResponse:
    html = PAGE.substitute(
        lang=_language(request),
        title=escape(title),
        style=STYLE,
        kind=kind,
        body=body,
        lock=LOCK,
        note=_words(request)["test"],
    )
    return HTMLResponse(html, status, headers=SECURITY)
