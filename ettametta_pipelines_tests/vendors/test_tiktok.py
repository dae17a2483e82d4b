"""The TikTok client against the sandbox over HTTP: tokens, direct post in chunks, figures, and what errors mean."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.vendors.tiktok import (
    ERRORS,
    FAIL_REASONS,
    ChunkOutOfOrder,
    PublishStatus,
    TikTokApp,
    TikTokCreator,
    TikTokPost,
    UploadUrlGone,
    plan_chunks,
)
from ettametta_pipelines_tests.conftest import SandboxUnderTest

MP4_HEAD = b"\x00\x00\x00\x18ftypmp42"
POST = TikTokPost(title="Three cuts #editing", privacy_level="PUBLIC_TO_EVERYONE")


@pytest.fixture
def app(settings_env: Settings) -> TikTokApp:
    return TikTokApp(settings_env.endpoint("tiktok"), sleep=lambda seconds: None)


@pytest.fixture
def creator(app: TikTokApp) -> TikTokCreator:
    return app.creator(app.exchange_code("sandbox-alice").access_token)


def video_of(size: int) -> bytes:
    return MP4_HEAD + bytes(size - len(MP4_HEAD))


def publish(creator: TikTokCreator, video: bytes, post: TikTokPost = POST) -> PublishStatus:
    plan = plan_chunks(len(video))
    target = creator.init_upload(post, plan.size, plan.chunk_size, plan.count)
    for index in range(plan.count):
        start, end = plan.range_of(index)
        creator.put_chunk(target.upload_url, video[start:end], start, plan.size)
    status = creator.status(target.publish_id)
    while status.status == "PROCESSING_UPLOAD":
        status = creator.status(target.publish_id)
    return status


# Tokens


def test_a_consent_code_becomes_tokens_that_are_not_shown(app: TikTokApp) -> None:
    tokens = app.exchange_code("sandbox-alice")
    assert tokens.expires_in_s == 7200
    assert "video.publish" in tokens.scopes
    assert tokens.refresh_token is not None
    assert tokens.access_token not in repr(tokens)
    assert tokens.refresh_token not in repr(tokens)
    assert app.creator(tokens.access_token).user_info().open_id == tokens.subject


def test_a_refresh_gives_a_new_pair_and_kills_the_old_refresh_token(app: TikTokApp) -> None:
    first = app.exchange_code("sandbox-alice")
    second = app.refresh(first.refresh_token or "")
    assert second.refresh_token != first.refresh_token
    assert second.subject == first.subject
    with pytest.raises(NeedsPersonError) as refusal:
        app.refresh(first.refresh_token or "")
    assert refusal.value.code == "tiktok_invalid_grant"
    assert "connect" in refusal.value.remedy
    app.refresh(second.refresh_token or "")


def test_a_flat_error_on_http_200_is_a_failure(app: TikTokApp, sandbox: SandboxUnderTest) -> None:
    body = {"error": "invalid_grant", "error_description": "spent", "log_id": "1"}
    sandbox.fault("tiktok", path_regex="oauth/token", status=200, body=body)
    with pytest.raises(NeedsPersonError, match="spent"):
        app.refresh("rft.anything")


def test_a_lost_answer_of_the_token_endpoint_is_not_repeated(
    app: TikTokApp, sandbox: SandboxUnderTest
) -> None:
    tokens = app.exchange_code("sandbox-alice")
    sandbox.fault("tiktok", path_regex="oauth/token", action="drop_after")
    with pytest.raises(OutcomeUnknownError):
        app.refresh(tokens.refresh_token or "")
    assert sandbox.count("tiktok", "POST", "oauth/token") == 2
    with pytest.raises(NeedsPersonError):
        app.refresh(tokens.refresh_token or "")


def test_an_unknown_code_needs_a_person(app: TikTokApp) -> None:
    with pytest.raises(NeedsPersonError):
        app.exchange_code("nonsense")


# Errors


def test_an_error_code_on_http_200_is_a_failure(creator: TikTokCreator, sandbox: SandboxUnderTest) -> None:
    error = {"code": "spam_risk_too_many_posts", "message": "cap", "log_id": "1"}
    sandbox.fault("tiktok", path_regex="creator_info", status=200, body={"data": {}, "error": error})
    with pytest.raises(TransientError) as refusal:
        creator.creator_info()
    assert refusal.value.code == "tiktok_spam_risk_too_many_posts"
    assert refusal.value.retry_after_s == 86_400


def test_an_expired_access_token_needs_a_fresh_one(app: TikTokApp, sandbox: SandboxUnderTest) -> None:
    creator = app.creator(app.exchange_code("sandbox-alice").access_token)
    sandbox.advance(hours=2)
    with pytest.raises(NeedsPersonError) as refusal:
        creator.user_info()
    assert refusal.value.code == "tiktok_access_token_invalid"


def test_reads_are_repeated_after_a_server_error_and_posts_are_not(
    creator: TikTokCreator, sandbox: SandboxUnderTest
) -> None:
    error = {"data": {}, "error": {"code": "internal_error", "message": "", "log_id": "1"}}
    sandbox.fault("tiktok", path_regex="user/info", status=500, body=error, times=2)
    assert creator.user_info().username == "alice"
    sandbox.fault("tiktok", path_regex="video/init", status=500, body=error, times=1)
    with pytest.raises(TransientError):
        creator.init_upload(POST, 100, 100, 1)
    assert sandbox.count("tiktok", "POST", "video/init") == 1


def test_an_answer_that_is_not_json_fails_by_its_status(
    creator: TikTokCreator, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("tiktok", path_regex="user/info", status=502, body="<html>Bad gateway</html>", times=None)
    with pytest.raises(TransientError) as failure:
        creator.user_info()
    assert failure.value.code == "tiktok_unavailable"


KINDS: list[tuple[str, FailureKind, float | None]] = [
    ("invalid_param", FailureKind.PERMANENT, None),
    ("privacy_level_option_mismatch", FailureKind.PERMANENT, None),
    ("unaudited_client_can_only_post_to_private_accounts", FailureKind.PERMANENT, None),
    ("access_token_invalid", FailureKind.NEEDS_PERSON, None),
    ("scope_not_authorized", FailureKind.NEEDS_PERSON, None),
    ("spam_risk_too_many_pending_share", FailureKind.NEEDS_PERSON, None),
    ("reached_active_user_cap", FailureKind.TRANSIENT, 86_400),
    ("rate_limit_exceeded", FailureKind.TRANSIENT, 60),
    ("internal_error", FailureKind.TRANSIENT, None),
]


@pytest.mark.parametrize(("code", "kind", "wait_s"), KINDS, ids=[code for code, _, _ in KINDS])
def test_every_code_says_what_to_do_about_it(code: str, kind: FailureKind, wait_s: float | None) -> None:
    rule = ERRORS[code]
    assert (rule.kind, rule.wait_s, rule.code) == (kind, wait_s, f"tiktok_{code}")
    assert rule.remedy


@pytest.mark.parametrize("reason", [*FAIL_REASONS, "something_new", None])
def test_a_failed_post_is_a_failure_of_a_known_class(reason: str | None) -> None:
    failure = PublishStatus("FAILED", reason, (), 0).failure()
    assert isinstance(failure, PipelineError)
    retried = {"internal", "video_pull_failed", "spam_risk_too_many_posts"}
    assert (failure.kind is FailureKind.TRANSIENT) == (reason in retried)
    assert PublishStatus("PUBLISH_COMPLETE", None, (), 0).failure() is None


# Posting


def test_a_public_post_is_published_and_named(creator: TikTokCreator) -> None:
    assert "PUBLIC_TO_EVERYONE" in creator.creator_info().privacy_options
    status = publish(creator, video_of(2000))
    assert status.is_published
    (post_id,) = status.post_ids
    (video,) = creator.query_videos([post_id])
    assert (video.title, video.views) == ("Three cuts #editing", 0)
    assert f"/@alice/video/{post_id}" in video.share_url


def test_a_private_post_is_published_without_a_name(creator: TikTokCreator) -> None:
    status = publish(creator, video_of(2000), TikTokPost(title="x", privacy_level="SELF_ONLY"))
    assert (status.status, status.post_ids) == ("PUBLISH_COMPLETE", ())


def test_a_file_that_is_no_video_fails_for_good(creator: TikTokCreator) -> None:
    failure = publish(creator, b"not a video at all").failure()
    assert isinstance(failure, PermanentError)
    assert failure.code == "tiktok_file_format_check_failed"


def test_chunks_go_in_order_and_progress_is_told(creator: TikTokCreator) -> None:
    video = video_of(25_000_123)
    plan = plan_chunks(len(video))
    target = creator.init_upload(POST, plan.size, plan.chunk_size, plan.count)
    start, end = plan.range_of(0)
    first = creator.put_chunk(target.upload_url, video[start:end], start, plan.size)
    assert (first.received, first.complete) == (10_000_000, False)
    with pytest.raises(ChunkOutOfOrder):
        creator.put_chunk(target.upload_url, video[start:end], start, plan.size)
    assert creator.status(target.publish_id).uploaded_bytes == 10_000_000
    start, end = plan.range_of(1)
    last = creator.put_chunk(target.upload_url, video[start:end], start, plan.size)
    assert (last.received, last.complete) == (25_000_123, True)


def test_a_lost_answer_to_the_last_chunk_is_found_by_asking(
    creator: TikTokCreator, sandbox: SandboxUnderTest
) -> None:
    video = video_of(3000)
    target = creator.init_upload(POST, 3000, 3000, 1)
    sandbox.fault("tiktok", method="PUT", action="drop_after")
    with pytest.raises(OutcomeUnknownError):
        creator.put_chunk(target.upload_url, video, 0, 3000)
    assert creator.status(target.publish_id).uploaded_bytes == 3000


def test_an_expired_or_unknown_upload_url_is_gone(creator: TikTokCreator, sandbox: SandboxUnderTest) -> None:
    target = creator.init_upload(POST, 3000, 3000, 1)
    with pytest.raises(UploadUrlGone):
        creator.put_chunk(target.upload_url + "x", video_of(3000), 0, 3000)
    sandbox.advance(hours=1)
    with pytest.raises(UploadUrlGone):
        creator.put_chunk(target.upload_url, video_of(3000), 0, 3000)


def test_the_upload_url_stands_in_no_message(creator: TikTokCreator, sandbox: SandboxUnderTest) -> None:
    target = creator.init_upload(POST, 3000, 3000, 1)
    token = target.upload_url.partition("upload_token=")[2]
    assert len(token) > 20
    assert token not in repr(target)
    assert token not in str(target)
    outcomes: list[dict[str, Any]] = [
        {"status": 500, "body": target.upload_url},
        {"status": 400, "body": target.upload_url},
        {"status": 403},
        {"status": 404},
        {"status": 416},
        {"action": "drop_before"},
    ]
    for outcome in outcomes:
        sandbox.clear_faults()
        sandbox.fault("tiktok", method="PUT", **outcome)
        with pytest.raises(PipelineError) as failure:
            creator.put_chunk(target.upload_url, video_of(3000), 0, 3000)
        assert token not in str(failure.value)
        assert token not in "".join(map(str, (failure.value.__cause__, failure.value.args)))


def test_a_title_too_long_for_tiktok_is_refused_before_it_is_sent(creator: TikTokCreator) -> None:
    with pytest.raises(PermanentError) as refusal:
        creator.init_upload(TikTokPost(title="🎬" * 1101, privacy_level="SELF_ONLY"), 10, 10, 1)
    assert refusal.value.code == "tiktok_title_too_long"


# Chunks


@given(size=st.integers(1, 4 * 2**30))
def test_chunks_follow_tiktoks_arithmetic_and_cover_the_file_once(size: int) -> None:
    plan = plan_chunks(size)
    ranges = [plan.range_of(index) for index in range(plan.count)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == size
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    assert plan.count == max(1, size // plan.chunk_size)
    assert 1 <= plan.count <= 1000
    if plan.count > 1:
        assert 5 * 2**20 <= plan.chunk_size <= 64_000_000
        assert ranges[-1][1] - ranges[-1][0] <= 128_000_000
    else:
        assert plan.chunk_size == size <= 64_000_000


def test_the_example_of_the_guide_has_five_chunks_the_last_a_little_longer() -> None:
    plan = plan_chunks(50_000_123)
    assert plan.count == 5
    assert plan.range_of(4) == (40_000_000, 50_000_123)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(PermanentError) as refusal:
        plan_chunks(0)
    assert refusal.value.code == "empty_file"


# Figures


def test_own_videos_come_newest_first_page_by_page_each_once(creator: TikTokCreator) -> None:
    first = creator.list_videos(max_count=8)
    second = creator.list_videos(first.cursor, max_count=20)
    videos = [*first.videos, *second.videos]
    assert first.has_more
    assert not second.has_more
    assert len({video.id for video in videos}) == len(videos) >= 18
    assert [v.created_at for v in videos] == sorted((v.created_at for v in videos), reverse=True)


def test_figures_only_grow(creator: TikTokCreator, sandbox: SandboxUnderTest, app: TikTokApp) -> None:
    before = {video.id: video for video in creator.list_videos().videos}
    sandbox.advance(days=2)
    later = app.creator(app.exchange_code("sandbox-alice").access_token).query_videos(list(before))
    assert len(later) == len(before)
    for video in later:
        old = before[video.id]
        assert (video.views, video.likes) >= (old.views, old.likes)
        assert video.shares >= old.shares
    assert sum(v.views for v in later) > sum(v.views for v in before.values())
