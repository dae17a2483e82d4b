"""Collecting our own TikTok posts, over the sandbox."""

from datetime import timedelta
from typing import Any

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.contracts import TIKTOK_CANDIDATES
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.tiktok_collector import TikTokAccount, TikTokCollection, collect_tiktok
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.failures import NeedsPersonError, TransientError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.vendors.tiktok import TikTokApp, TikTokCreator
from ettametta_pipelines_tests.conftest import SandboxUnderTest


def niche(*accounts: str) -> Niche:
    return Niche(slug="travel", title="Travel", queries=("packing",), tiktok_accounts=accounts)


class Connected:
    """Accounts connected at the sandbox."""

    def __init__(self, settings: Settings, *accounts: str) -> None:
        self.app = TikTokApp(settings.endpoint("tiktok"), sleep=lambda _: None)
        self.tokens = {account: self.app.exchange_code(f"sandbox-{account}") for account in accounts}
        self.accounts = {a: TikTokAccount(a, str(t.subject), a.title()) for a, t in self.tokens.items()}

    def creator_of(self, account: str) -> TikTokCreator:
        return self.app.creator(self.tokens[account].access_token)

    def collect(self, wanted: Niche, *, days: int = 30, **changes: Any) -> TikTokCollection:
        now = utc_now()
        options: dict[str, Any] = {
            "connected": self.accounts,
            "creator_of": self.creator_of,
            "clock": utc_now,
        }
        window = Window(now - timedelta(days=days), now)
        return collect_tiktok(wanted, now.date(), window, **{**options, **changes})


def test_own_posts_of_the_window_become_candidates_with_a_baseline(settings_env: Settings) -> None:
    found = Connected(settings_env, "wander").collect(niche("wander"))
    frame = TIKTOK_CANDIDATES.frame(found.rows)
    assert 5 <= len(frame) <= 12
    assert set(frame["platform"]) == {"tiktok"}
    assert frame["views"].notna().all()
    assert frame["baseline_views"].notna().any()
    assert found.accounts_read == ["wander"]
    assert found.left_out == []


def test_posts_outside_the_window_count_for_the_baseline_only(settings_env: Settings) -> None:
    found = Connected(settings_env, "wander").collect(niche("wander"), days=4)
    assert 1 <= len(found.rows) <= 3
    assert all(row["baseline_uploads"] >= 10 for row in found.rows)


def test_without_any_connected_account_the_table_is_empty_and_says_how_to_connect(
    settings_env: Settings,
) -> None:
    found = Connected(settings_env).collect(niche())
    assert found.rows == []
    assert len(found.left_out) == 1
    assert "No TikTok account is connected" in found.left_out[0]
    assert "ettametta connect --account A --platform tiktok" in found.left_out[0]


def test_a_niche_without_an_account_names_those_there_are(settings_env: Settings) -> None:
    found = Connected(settings_env, "wander").collect(niche())
    assert found.rows == []
    assert "connected are wander" in found.left_out[0]


def test_an_account_that_is_not_connected_is_named_and_the_others_are_read(settings_env: Settings) -> None:
    found = Connected(settings_env, "wander").collect(niche("elsewhere", "wander"))
    assert found.rows
    assert found.left_out == [
        "elsewhere is not connected: run `ettametta connect --account elsewhere --platform tiktok`"
    ]


def test_ended_consent_concerns_one_account_only(settings_env: Settings) -> None:
    at_tiktok = Connected(settings_env, "wander", "roam")

    def creator_of(account: str) -> TikTokCreator:
        if account == "roam":
            raise NeedsPersonError(
                "roam's consent has ended.", code="reauth_required", remedy="Connect again."
            )
        return at_tiktok.creator_of(account)

    found = at_tiktok.collect(niche("roam", "wander"), creator_of=creator_of)
    assert found.accounts_read == ["wander"]
    assert found.left_out == ["roam: roam's consent has ended. Connect again."]


def test_tiktok_being_down_is_worth_another_try(settings_env: Settings, sandbox: SandboxUnderTest) -> None:
    at_tiktok = Connected(settings_env, "wander")
    sandbox.fault("tiktok", path_regex="/video/list", times=None, status=503)
    with pytest.raises(TransientError):
        at_tiktok.collect(niche("wander"))


def test_without_the_switch_nobody_asks_the_research_api(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    assert not settings_env.tiktok_research_api
    Connected(settings_env, "wander").collect(niche("wander"))
    assert sandbox.count("tiktok", "POST", "/v2/research/") == 0


def test_an_app_without_a_research_grant_is_told_so_and_keeps_its_own_posts(settings_env: Settings) -> None:
    ours = Connected(settings_env, "wander")
    found = ours.collect(niche("wander"), research=ours.app.research_videos)
    assert len(found.rows) >= 5
    assert "non-commercial research" in found.left_out[0]


def test_with_a_research_grant_the_niches_queries_are_searched(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    made = int((utc_now() - timedelta(hours=3)).timestamp())
    videos = [
        {
            "id": 7,
            "create_time": made,
            "username": "other",
            "video_description": "Pack \u202elight",
            "view_count": 9,
        },
        {"id": 8, "create_time": made - 90 * 86_400, "username": "other"},
    ]
    answer = {"data": {"videos": videos, "has_more": False}, "error": {"code": "ok"}}
    sandbox.fault("tiktok", path_regex="research", status=200, body=answer)
    ours = Connected(settings_env)
    found = ours.collect(niche(), research=ours.app.research_videos)
    (row,) = TIKTOK_CANDIDATES.rows(TIKTOK_CANDIDATES.frame(found.rows))
    assert (row["video_id"], row["views"], row["likes"], row["title"]) == ("7", 9, None, "Pack light")
    assert row["found_by"] == ["research: packing"]
