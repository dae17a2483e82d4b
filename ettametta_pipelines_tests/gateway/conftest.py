"""A browser at the gateway: keeps cookies, sends the Origin browsers send, walks through the sandbox's consent."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient

from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase, open_state

URL = "http://127.0.0.1:8000"
_FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
_BOX = re.compile(r'type="checkbox" name="scope" value="([^"]*)"')


@dataclass
class Browser:
    """One browser profile of an operator."""

    client: TestClient
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=self.headers | headers)

    def csrf(self, path: str = "/accounts") -> str:
        match = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.get(path).text)
        assert match
        return match[1]

    def post(self, path: str, *, origin: str = URL, csrf: str | None = None, **fields: str) -> httpx.Response:
        form = fields | {"csrf": self.csrf() if csrf is None else csrf}
        return self.client.post(path, data=form, headers=self.headers | {"origin": origin})

    def ask(self, account: str, platform: str) -> str:
        """Start connecting; returns the address of the vendor's consent page."""
        answer = self.post("/accounts/connect", account=account, platform=platform)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def consent(self, page: str, *, account: str, deny: bool = False, without: str = "") -> str:
        """Answer the sandbox's consent page as a person would; returns the address it sends the browser back to."""
        with httpx.Client(trust_env=False) as vendor:
            shown = vendor.get(page)
            assert shown.status_code == 200, shown.text
            form: dict[str, str | list[str]] = {
                name: unescape(value) for name, value in _FIELD.findall(shown.text)
            }
            form["scope"] = [
                scope for scope in _BOX.findall(shown.text) if not (without and scope.endswith(without))
            ]
            form |= {"account": account, "decision": "deny" if deny else "allow"}
            back = vendor.post(page.partition("?")[0], data=form)
        assert back.status_code == 303, back.text
        return back.headers["location"]

    def come_back(self, address: str) -> httpx.Response:
        parts = urlsplit(address)
        assert f"{parts.scheme}://{parts.netloc}" == URL
        return self.get(f"{parts.path}?{parts.query}")

    def connect(
        self, account: str, platform: str, *, channel: str | None = None, **answers: str
    ) -> httpx.Response:
        page = self.ask(account, platform)
        return self.come_back(self.consent(page, account=channel or account, **answers))  # type: ignore[arg-type]


def browser_at(settings: Settings, *, url: str = URL, peer: str = "127.0.0.1", **headers: str) -> Browser:
    app = create_gateway(settings, url=url)
    return Browser(TestClient(app, base_url=url, client=(peer, 4000), follow_redirects=False), headers)


@pytest.fixture
def browser(settings_env: Settings) -> Iterator[Browser]:
    made = browser_at(settings_env)
    with made.client:
        yield made


@pytest.fixture
def db(settings_env: Settings) -> StateDatabase:
    return open_state(settings_env)
