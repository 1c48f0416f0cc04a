"""Hosted pages for people: pay, authenticate, onboard. Chinese or English by ``Accept-Language``."""

from __future__ import annotations

from html import escape
from string import Template
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from services.paysim import accounts, intents
from services.paysim.engine import Engine
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
    },
}
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui; display: grid; place-items: center; min-height: 100vh; margin: 0 }
main { width: min(22rem, 85vw); padding: 2rem; border: 1px solid #8884; border-radius: 12px }
h1 { font-size: 1.1rem; margin: 0 }
p { margin: .5rem 0 }
button { font: inherit; width: 100%; padding: .7rem; margin: .25rem 0; border-radius: 8px; cursor: pointer;
  border: 1px solid #635bff; background: none; color: inherit }
button:first-of-type { background: #635bff; color: #fff }
button:focus-visible { outline: 3px solid #a7a2ff }
.amount { font-size: 2rem; font-weight: 600; margin: .25rem 0 1rem }
.error { color: #c0262d }
.note { opacity: .7; font-size: .85rem }
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
<body><main><h1>$title</h1>$body</main></body>
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
            return _page(request, words["pay_title"], f"<p>{words['expired']}</p>", status=404)
        if intent["status"] == "requires_action":
            return RedirectResponse(intent["next_action"]["redirect_to_url"]["url"], 303)
        if intent["status"] in {"succeeded", "requires_capture", "canceled"}:
            return _done(request, intent, given.get("return_url"))
        return _page(
            request, words["pay_title"], _pay_form(intent, given, words, error), status=402 if error else 200
        )

    async def three_ds(self, request: Request) -> Response:
        given, words = await _given(request), _words(request)
        try:
            intent = await self._intent(request, given)
        except ApiError:
            return _page(request, words["three_ds_title"], f"<p>{words['expired']}</p>", status=404)
        if request.method == "POST":
            passed, id = given.get("action") == "complete", intent["id"]
            intent = await self._engine.run(lambda tx: intents.authenticate(tx, id, passed=passed))
        if intent["status"] != "requires_action":
            return _done(request, intent, intent.get("_return_url"))
        buttons = "".join(
            f'<button name="action" value="{name}">{words[name]}</button>' for name in ("complete", "fail")
        )
        body = f"{_amount(intent)}{_form(given, buttons)}<p class=note>{words['test']}</p>"
        return _page(request, words["three_ds_title"], body)

    async def onboarding(self, request: Request) -> Response:
        words, token = _words(request), request.path_params["token"]
        submitted = request.method == "POST"
        link = await self._engine.run(lambda tx: _open_link(tx, token, submitted=submitted))
        if link is None:
            return _page(request, words["onboarding_title"], f"<p>{words['expired']}</p>", status=410)
        if "refresh" in link:
            return RedirectResponse(link["refresh"], 303)
        if submitted:
            return RedirectResponse(link["return_url"], 303)
        form = f'<form method="post"><button>{words["submit"]}</button></form>'
        return _page(request, words["onboarding_title"], f"<p>{words['onboarding_text']}</p>{form}")

    async def _intent(self, request: Request, given: dict[str, str]) -> JsonDict:
        """The intent whose secret the visitor knows; otherwise it does not exist."""
        params = {"client_secret": given.get("client_secret", "")}
        return await self._engine.run(lambda tx: intents.retrieve(tx, params, request.path_params["id"]))


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
    if submitted:
        accounts.onboard(tx, tx.need("account", link["account"], account=tx.platform))
        tx.db.execute("DELETE FROM setting WHERE name = ?", (f"link:{token}",))
    return link


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


def _amount(intent: JsonDict) -> str:
    return f"<p class=amount>{escape(shown(intent['amount'], intent['currency']))}</p>"


def _pay_form(intent: JsonDict, given: dict[str, str], words: dict[str, str], error: str) -> str:
    failed = f'<p class="error" role="alert">{words["declined"]}: {escape(error)}</p>' if error else ""
    about = f"<p>{escape(intent['description'])}</p>" if intent["description"] else ""
    buttons = "".join(f'<button name="action" value="{name}">{words[name]}</button>' for name in CHOICES)
    return f"{_amount(intent)}{about}{failed}{_form(given, buttons)}<p class=note>{words['test']}</p>"


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
    message = words.get(intent["status"], words["declined"])
    return _page(request, words["pay_title"], f"{_amount(intent)}<p>{message}</p>")


def _web(url: str | None) -> bool:
    return bool(url) and urlsplit(url or "").scheme in {"http", "https"}


def _page(request: Request, title: str, body: str, *, status: int = 200) -> HTMLResponse:
    html = PAGE.substitute(lang=_language(request), title=escape(title), style=STYLE, body=body)
    return HTMLResponse(html, status, headers=SECURITY)
