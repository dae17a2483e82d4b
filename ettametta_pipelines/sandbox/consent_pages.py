"""The consent page of a sandboxed vendor: who consents, to which scopes, or not at all, and the code that comes of it.

A code works once, for ten minutes, with the redirect address and the PKCE verifier it was asked with. There are no
passwords: whoever opens the page names the account. Used by `youtube.py` and `tiktok.py`, which issue the tokens.
"""

import base64
import hashlib
import hmac
import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng

CODE_LIFE_S = 600
URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# Escaped, since browsers read a pattern by stricter rules than Python does.
ACCOUNT_PATTERN = r"[a-z0-9\-]{1,40}"


def base64url_sha256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def hex_sha256(verifier: str) -> str:
    return hashlib.sha256(verifier.encode()).hexdigest()


@dataclass(frozen=True)
class ConsentPage:
    """One vendor's page. `scopes`: scope -> what it allows, in words. `issuer` is named in its answers, if any."""

    vendor: str
    store: SandboxStore
    clock: Clock
    seed: int
    client_name: str
    separator: str
    scopes: Mapping[str, str]
    challenge: Callable[[str], str]
    code_prefix: str
    issuer: str = ""

    def show(self, request: Request) -> Response:
        """The form, or what is wrong with the address that led here."""
        query = dict(request.query_params)
        problem = self._problem(query)
        if problem:
            return self._page("Error 400", f"<h1>Error 400</h1><p>{html.escape(problem)}</p>", 400)
        boxes = "".join(
            f'<p><label><input type="checkbox" name="scope" value="{html.escape(scope)}" checked> '
            f"{html.escape(self.scopes[scope])}</label></p>"
            for scope in self._asked(query)
        )
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{html.escape(query.get(name, ""))}">'
            for name in (self.client_name, "redirect_uri", "state", "code_challenge")
        )
        return self._page(
            "Consent",
            f'<h1>ettametta asks for access to your {html.escape(self.vendor)} account</h1><form method="post">{hidden}'
            f'<p><label>Account<br><input name="account" required pattern="{ACCOUNT_PATTERN}" value="demo-studio">'
            f"</label></p><fieldset><legend>It may</legend>{boxes}</fieldset>"
            '<p><button name="decision" value="allow">Allow</button> '
            '<button name="decision" value="deny" formnovalidate>Deny</button></p></form>',
        )

    async def answer(self, request: Request) -> Response:
        """Back to whoever asked, with a code or with `access_denied`."""
        pairs = parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True)
        form = dict(pairs)
        back: dict[str, str] = {"state": form.get("state", "")}
        if self.issuer:
            back["iss"] = self.issuer
        if form.get("decision") == "allow" and not re.fullmatch(ACCOUNT_PATTERN, form.get("account", "")):
            return self._page("Error 400", "<h1>Error 400</h1><p>There is no such account.</p>", 400)
        if form.get("decision") == "allow":
            granted = [value for name, value in pairs if name == "scope" and value in self.scopes]
            back |= {"code": self._make_code(form, granted), "scope": self.separator.join(granted)}
        else:
            back |= {"error": "access_denied"}
        address = form.get("redirect_uri", "")
        if urlsplit(address).scheme not in ("http", "https"):
            return Response(status_code=400)
        return RedirectResponse(f"{address}?{urlencode(back)}", 303)

    def redeem(self, form: Mapping[str, str]) -> dict[str, Any] | str:
        """{account, scopes} for a code, which is then spent, or why not."""
        code = form.get("code", "")
        grant = self.store.get(self._kind, code)
        if grant is None:
            return "Malformed or spent authorization code."
        self.store.delete(self._kind, code)
        if grant["expires_at"] <= self.clock().timestamp():
            return "The authorization code has expired."
        if form.get("redirect_uri", "") != grant["redirect_uri"]:
            return "The redirect_uri is not the one the code was asked with."
        made = self.challenge(form.get("code_verifier", ""))
        if grant["challenge"] and not hmac.compare_digest(made, grant["challenge"]):
            return "Code verifier or code challenge is invalid."
        return {"account": grant["account"], "scopes": grant["scopes"]}

    @property
    def _kind(self) -> str:
        return f"{self.vendor.lower()}_code"

    def _make_code(self, form: Mapping[str, str], scopes: list[str]) -> str:
        number = self.store.counter(f"{self._kind}s")
        rng = seeded_rng(self.seed, self._kind, number)
        code = self.code_prefix + "".join(rng.choices(URL_SAFE, k=48))
        grant = {
            "account": form["account"], "scopes": scopes, "redirect_uri": form["redirect_uri"],
            "challenge": form.get("code_challenge", ""), "expires_at": self.clock().timestamp() + CODE_LIFE_S,
        }  # fmt: skip
        self.store.put(self._kind, code, grant)
        return code

    def _asked(self, query: Mapping[str, str]) -> list[str]:
        return [scope for scope in query.get("scope", "").split(self.separator) if scope]

    def _problem(self, query: Mapping[str, str]) -> str:
        if not query.get(self.client_name):
            return f"Missing required parameter: {self.client_name}"
        if query.get("response_type") != "code":
            return "Invalid parameter value for response_type"
        if urlsplit(query.get("redirect_uri", "")).scheme not in ("http", "https"):
            return "redirect_uri_mismatch"
        if query.get("code_challenge") and query.get("code_challenge_method") != "S256":
            return "Invalid parameter value for code_challenge_method"
        unknown = [scope for scope in self._asked(query) if scope not in self.scopes]
        if unknown or not self._asked(query):
            return f"invalid_scope: {', '.join(unknown)}"
        return ""

    def _page(self, title: str, body: str, status: int = 200) -> HTMLResponse:
        vendor = html.escape(self.vendor)
        return HTMLResponse(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)} – {vendor} '
            'sandbox</title><meta name="viewport" content="width=device-width"><style>'
            "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:2rem auto;padding:0 1rem}"
            "input,button{font:inherit;padding:.4rem .6rem}.quiet{color:#595959}</style></head>"
            f'<body><p class="quiet">{vendor} sandbox: a stand-in for the real consent page</p>{body}</body></html>',
            status,
        )
