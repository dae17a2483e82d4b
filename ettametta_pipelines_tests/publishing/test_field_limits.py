"""Every limit of a field: a post that breaks it is refused when it is shown, approved and run, and nobody is asked."""

from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.publishing.admission import admitted_order
from ettametta_pipelines.publishing.approvals import Request, propose
from ettametta_pipelines.publishing.orders import Wishes
from ettametta_pipelines.publishing.policy import ChannelPolicy
from ettametta_pipelines.publishing.posts import LIMITS
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import Publication, PublicationDecision
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import ACCOUNT, SOURCE, Publisher

GB = 1_000_000_000
# Platform, what is wrong in the wishes, the source or the rendition, and what it is refused as.
BREACHES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ("youtube", {}, {"title": " "}, {}, "bad_title"),
    ("youtube", {"title": "x" * 101}, {}, {}, "bad_title"),
    ("youtube", {"title": "1 < 2"}, {}, {}, "bad_title"),
    ("youtube", {"description": "ä" * 2481}, {}, {}, "bad_description"),
    ("youtube", {"description": "2 > 1"}, {}, {}, "bad_description"),
    ("youtube", {"description": "y" * 4955}, {"rights": "cc_by", "attribution": "By Ann"}, {}, "bad_description"),
    ("youtube", {"tags": ("x" * 250, "y" * 250)}, {}, {}, "bad_tags"),
    ("youtube", {"tags": ("a b " * 50,) * 3}, {}, {}, "bad_tags"),
    ("youtube", {"privacy": "SELF_ONLY"}, {}, {}, "bad_privacy"),
    ("youtube", {"license": "cc-by"}, {}, {}, "bad_license"),
    ("youtube", {}, {}, {"duration_s": 12 * 3600 + 1.0}, "video_too_long"),
    ("youtube", {}, {}, {"size_bytes": 257 * GB, "duration_s": 40_000.0}, "video_too_large"),
    ("tiktok", {"title": "😀" * 1101}, {}, {}, "bad_title"),
    ("tiktok", {"title": "x" * 2000, "tags": ("y" * 200,)}, {}, {}, "bad_title"),
    ("tiktok", {"privacy": "private"}, {}, {}, "bad_privacy"),
    ("tiktok", {"paid_promotion": True}, {}, {}, "paid_promotion_private"),
    ("tiktok", {}, {"sponsor": "Knives Ltd"}, {}, "paid_promotion_private"),
    ("tiktok", {}, {}, {"duration_s": 601.0}, "video_too_long"),
    ("tiktok", {}, {}, {"size_bytes": 5 * GB, "duration_s": 500.0}, "video_too_large"),
    ("tiktok", {}, {}, {"fps": 15.0}, "frame_rate_refused"),
    ("tiktok", {}, {}, {"fps": 90.0}, "frame_rate_refused"),
]  # fmt: skip
ASKED = ["platform", "wishes", "source", "rendition", "code"]


def rows(source: dict[str, Any], rendition: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {
        "source_id": SOURCE, "account": ACCOUNT, "niche": "home-cooking", "upload_key": "uploads/a.mp4",
        "title": "Knife skills", "rights": "owned", "attribution": None,
    } | source, {
        "source_id": SOURCE, "object_key": "media/x.mp4", "sha256": "a" * 64, "size_bytes": 9, "duration_s": 20.0,
    } | rendition  # fmt: skip


def test_no_limit_is_left_out() -> None:
    shown = {(platform, code) for platform, *_, code in BREACHES}
    assert {(platform, limit.code) for platform, limits in LIMITS.items() for limit in limits} <= shown


@pytest.mark.parametrize(ASKED, BREACHES)
def test_a_breach_is_refused_before_anybody_is_asked(
    publisher: Publisher,
    sandbox: SandboxUnderTest,
    settings_env: Settings,
    platform: str,
    wishes: dict[str, Any],
    source: dict[str, Any],
    rendition: dict[str, Any],
    code: str,
) -> None:
    asked = len(sandbox.requests())
    with pytest.raises(PermanentError) as failure:
        admitted_order(
            publisher.workshop.db, settings_env, platform, *rows(source, rendition), Wishes(**wishes),
            approve=True, run_id="run", tags={},
        )  # fmt: skip
    assert failure.value.code == code
    assert failure.value.remedy
    assert len(sandbox.requests()) == asked
    with publisher.workshop.db.session(write=False) as session:
        for table in (Publication, PublicationDecision):
            assert session.scalar(sa.select(sa.func.count()).select_from(table)) == 0


@pytest.mark.parametrize(ASKED, BREACHES)
def test_a_breach_is_refused_when_the_post_is_shown_to_be_approved(
    platform: str, wishes: dict[str, Any], source: dict[str, Any], rendition: dict[str, Any], code: str
) -> None:
    about = rows(source, rendition)
    with pytest.raises(PipelineError) as failure:
        propose(Request(platform, *about, ChannelPolicy()), Wishes(**wishes))
    assert failure.value.code == code


@pytest.mark.parametrize("platform", ["youtube", "tiktok"])
def test_a_post_within_the_limits_gets_through_to_the_platform(
    publisher: Publisher, sandbox: SandboxUnderTest, settings_env: Settings, platform: str, video: bytes
) -> None:
    """Without which the refusals above would show nothing."""
    made = publisher.order(platform, video).rendition
    file = {"object_key": made.object_key, "sha256": made.sha256, "size_bytes": made.size_bytes}
    order = admitted_order(
        publisher.workshop.db, settings_env, platform, *rows({}, file | {"duration_s": 0.25}),
        Wishes(title="x" * 100), approve=True, run_id="run", tags={},
    )  # fmt: skip
    asked = len(sandbox.requests())
    send = publisher.to_youtube if platform == "youtube" else publisher.to_tiktok
    assert send(order).posted
    assert len(sandbox.requests()) > asked


def test_a_paid_promotion_says_who_may_see_it_and_where_else_it_can_go() -> None:
    with pytest.raises(PermanentError) as failure:
        propose(Request("tiktok", *rows({"sponsor": "Knives Ltd"}, {}), ChannelPolicy()), Wishes())
    assert "seen by its owner alone" in failure.value.message
    assert "PUBLIC_TO_EVERYONE" in failure.value.remedy
    assert "platforms: [youtube]" in failure.value.remedy
    allowed = propose(
        Request("tiktok", *rows({"sponsor": "Knives Ltd"}, {}), ChannelPolicy(privacy="PUBLIC_TO_EVERYONE")), Wishes()
    )  # fmt: skip
    assert allowed.order.post.paid
