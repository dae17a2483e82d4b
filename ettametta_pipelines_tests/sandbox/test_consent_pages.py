"""The sandbox's consent pages refuse what the vendors refuse."""

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from ettametta_pipelines_tests.conftest import SandboxUnderTest

VERIFIER = "v" * 64
CALLBACK = "http://127.0.0.1:8000/oauth/x"
YOUTUBE = {
    "page": "/youtube/o/oauth2/v2/auth", "token": "/youtube/token", "client": "client_id",
    "scope": "https://www.googleapis.com/auth/youtube.upload",
}  # fmt: skip
TIKTOK = {
    "page": "/tiktok/v2/auth/authorize/", "token": "/tiktok/v2/oauth/token/", "client": "client_key",
    "scope": "video.publish",
}  # fmt: skip


def challenge(vendor: dict[str, str]) -> str:
    import base64
    import hashlib

    digest = hashlib.sha256(VERIFIER.encode())
    if vendor is TIKTOK:
        return digest.hexdigest()
    return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")


def query(vendor: dict[str, str], **changes: str) -> dict[str, str]:
    return {
        vendor["client"]: "app", "response_type": "code", "redirect_uri": CALLBACK, "scope": vendor["scope"],
        "state": "s", "code_challenge": challenge(vendor), "code_challenge_method": "S256",
    } | changes  # fmt: skip


def code_of(sandbox: SandboxUnderTest, vendor: dict[str, str]) -> str:
    form = query(vendor) | {"account": "acme", "decision": "allow"}
    back = sandbox.http.post(vendor["page"], data=form)
    assert back.status_code == 303
    answer = parse_qs(urlsplit(back.headers["location"]).query)
    assert answer["state"] == ["s"]
    return answer["code"][0]


def redeem(sandbox: SandboxUnderTest, vendor: dict[str, str], code: str, **changes: str) -> dict[str, str]:
    form = {
        vendor["client"]: "app", "client_secret": "s", "grant_type": "authorization_code", "code": code,
        "redirect_uri": CALLBACK, "code_verifier": VERIFIER,
    } | changes  # fmt: skip
    answer: dict[str, str] = sandbox.http.post(vendor["token"], data=form).json()
    return answer


BOTH = pytest.mark.parametrize("vendor", [YOUTUBE, TIKTOK], ids=["youtube", "tiktok"])


@BOTH
def test_a_code_works_once_and_carries_the_scopes_that_were_left_ticked(
    sandbox: SandboxUnderTest, vendor: dict[str, str]
) -> None:
    code = code_of(sandbox, vendor)
    assert redeem(sandbox, vendor, code)["scope"] == vendor["scope"]
    assert redeem(sandbox, vendor, code)["error"] == "invalid_grant"


@BOTH
@pytest.mark.parametrize(
    "changes", [{"code_verifier": "w" * 64}, {"code_verifier": ""}, {"redirect_uri": CALLBACK + "/"}]
)
def test_a_code_with_the_wrong_proof_is_refused(
    sandbox: SandboxUnderTest, vendor: dict[str, str], changes: dict[str, str]
) -> None:
    assert redeem(sandbox, vendor, code_of(sandbox, vendor), **changes)["error"] == "invalid_grant"


@BOTH
def test_a_code_is_refused_after_ten_minutes(sandbox: SandboxUnderTest, vendor: dict[str, str]) -> None:
    code = code_of(sandbox, vendor)
    sandbox.advance(minutes=10)
    assert redeem(sandbox, vendor, code)["error"] == "invalid_grant"


@BOTH
@pytest.mark.parametrize(
    "changes",
    [{"response_type": "token"}, {"scope": "everything"}, {"redirect_uri": "javascript:alert(1)"},
     {"code_challenge_method": "plain"}],
)  # fmt: skip
def test_a_page_asked_for_wrongly_is_not_shown(
    sandbox: SandboxUnderTest, vendor: dict[str, str], changes: dict[str, str]
) -> None:
    assert sandbox.http.get(f"{vendor['page']}?{urlencode(query(vendor, **changes))}").status_code == 400


def test_a_call_outside_the_scopes_that_were_granted_is_refused(sandbox: SandboxUnderTest) -> None:
    token = redeem(sandbox, TIKTOK, code_of(sandbox, TIKTOK))["access_token"]
    answer = sandbox.http.get(
        "/tiktok/v2/user/info/", params={"fields": "open_id"}, headers={"authorization": f"Bearer {token}"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "scope_not_authorized")
