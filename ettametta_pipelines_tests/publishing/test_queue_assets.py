"""The queue, approvals and the publish sensor as operators meet them: real runs, tables in a store, the sandbox."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from ettametta_pipelines.automation.jobs import APPROVAL_JOB, PUBLISH_JOB, QUEUE_JOB
from ettametta_pipelines.automation.publish_sensor import publish_sensor
from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.media.contracts import SOURCE_MEDIA
from ettametta_pipelines.orchestration.resources import StoreResource, TikTokResource, YouTubeResource
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.publishing.queue_contracts import PUBLICATION_APPROVALS, PUBLISH_QUEUE
from ettametta_pipelines.publishing.reauth import end_consent
from ettametta_pipelines.renders.contracts import RENDITIONS
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.quota import usage
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.contracts import plain_rows
from ettametta_pipelines.storage.tables import read_table, write_table
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.rows import a_row

SOURCE = "acme--0123456789abcdef"
KEY = f"media/renditions/{SOURCE}/9x16/x.mp4"
Run = Callable[..., dg.ExecuteInProcessResult]


@cache
def definitions() -> dg.Definitions:
    """Built once: resources read the settings of the moment they are used."""
    return build_definitions(get_settings())


@pytest.fixture
def finished(settings_env: Settings, video: bytes) -> Settings:
    """One finished video of an account that is connected on both platforms."""
    store = StoreResource().open()
    store.put(KEY, video)
    source = a_row(
        SOURCE_MEDIA, source_id=SOURCE, account="acme", verdict="accepted", title="Knife skills", rights="owned",
        upload_key="uploads/acme/cooking/2026/11/22/a.mp4", accepted_at=utc_now(),
    )  # fmt: skip
    write_table(store, SOURCE_MEDIA, SOURCE_MEDIA.frame([source]), SOURCE)
    render(video)
    with open_state(settings_env) as database:
        connect(database, YouTubeResource().app(), "acme", "youtube", "sandbox-acme")
        connect(database, TikTokResource().app(), "acme", "tiktok", "sandbox-acme")
    return settings_env


def render(video: bytes) -> None:
    upright = next(c for c in RENDITIONS if c.name == "rendition_9x16")
    store = StoreResource().open()
    store.put(KEY, video)
    row = a_row(
        upright, source_id=SOURCE, object_key=KEY, sha256=hashlib.sha256(video).hexdigest(), size_bytes=len(video),
        duration_s=0.25, fps=24.0, format="9x16", recipe_json="{}",
    )  # fmt: skip
    write_table(store, upright, upright.frame([row]), SOURCE)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        made.add_dynamic_partitions("source_video", [SOURCE])
        yield made


@pytest.fixture
def run(finished: Settings, instance: dg.DagsterInstance) -> Run:
    def run_it(
        job: str, asset: str, *, tags: dict[str, str] | None = None, **config: Any
    ) -> dg.ExecuteInProcessResult:
        partitioned = asset != "publish_queue"
        return definitions().resolve_job_def(job).execute_in_process(
            instance=instance,
            partition_key=SOURCE if partitioned else None,
            asset_selection=[dg.AssetKey(asset)],
            tags=tags,
            run_config={"ops": {asset: {"config": config}}} if config else None,
            raise_on_error=False,
        )  # fmt: skip

    return run_it


def facts(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {
        name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
    }


def failure(result: dg.ExecuteInProcessResult) -> dg.Failure:
    (event,) = [e for e in result.all_events if e.is_step_failure]
    return event.step_failure_data.user_failure_data  # type: ignore[return-value]


def tick(instance: dg.DagsterInstance, settings: Settings) -> Any:
    resources = {
        name: (definitions().resources or {})[name] for name in publish_sensor.required_resource_keys
    }
    with dg.build_sensor_context(
        instance_ref=instance.get_ref(),
        definitions=definitions(),
        sensor_name="publish_sensor",
        resources=resources,
    ) as context:
        return publish_sensor.evaluate_tick(context)


def allow(settings: Settings, monkeypatch: pytest.MonkeyPatch, text: str) -> Settings:
    file = settings.home_dir / "channels.yaml"
    file.write_text(text)
    monkeypatch.setenv("ETTAMETTA_CHANNELS", str(file))
    get_settings.cache_clear()
    return get_settings()


def test_what_waits_for_a_person_is_listed_with_the_page_where_it_is_decided(run: Run) -> None:
    seen = facts(run(QUEUE_JOB, "publish_queue"))
    assert (seen["planned"], seen["waiting"], seen["next_post"]) == (0, 2, "none planned")
    page = f"/assets/publication_approvals?view=partitions&partition={SOURCE}"
    assert seen["waiting_for_approval"].count(page) == 2
    assert f"[watch](http://127.0.0.1:8000/{KEY})" in seen["queue"]
    rows = plain_rows(read_table(StoreResource().open(), PUBLISH_QUEUE, None))
    assert {(row["platform"], row["why"], row["planned_at"]) for row in rows} == {
        ("tiktok", "waiting for approval", None),
        ("youtube", "waiting for approval", None),
    }


def test_what_is_asked_to_be_approved_is_shown_before_anything_is_decided(run: Run) -> None:
    seen = facts(run(APPROVAL_JOB, "publication_approvals"))
    assert seen["decision"] == "only shown; nothing was decided"
    assert seen["stills"].startswith("![")
    for said in (
        "Knife skills",
        "| synthetic media | no |",
        "| rights | owned |",
        "if approved now:",
        "| decision | none yet |",
    ):
        assert said in seen["youtube"]
    assert "SELF\\_ONLY" in seen["tiktok"]
    assert seen["decisions"] == 0


def test_a_post_one_channel_cannot_take_hides_not_the_others_and_is_not_approved_with_them(run: Run) -> None:
    seen = facts(run(APPROVAL_JOB, "publication_approvals", paid_promotion=True))
    assert "| paid promotion | yes |" in seen["youtube"]
    assert seen["tiktok"].startswith("It cannot be posted: The privacy for tiktok is SELF")
    assert "youtube" in seen["tiktok"]
    refused = run(APPROVAL_JOB, "publication_approvals", paid_promotion=True, decision="approve")
    assert not refused.success
    assert failure(refused).metadata["code"].value == "paid_promotion_private"
    allowed = run(
        APPROVAL_JOB, "publication_approvals", paid_promotion=True, decision="approve", platforms=["youtube"]
    )
    assert facts(allowed)["decisions"] == 1


def test_an_approved_post_is_started_by_the_sensor_in_the_approved_words(
    run: Run, instance: dg.DagsterInstance, finished: Settings, sandbox: SandboxUnderTest
) -> None:
    assert "No post is approved and no channel is automatic" in str(tick(instance, finished).skip_message)
    decided = run(
        APPROVAL_JOB, "publication_approvals", tags={"user": "anna"}, decision="approve", platforms=["youtube"],
        title="Sharp knives", privacy="unlisted", comment="go",
    )  # fmt: skip
    assert "approve by anna" in facts(decided)["youtube"]
    (row,) = plain_rows(read_table(StoreResource().open(), PUBLICATION_APPROVALS, SOURCE))
    assert (row["decided_by"], row["run_id"], row["stands"], row["title"]) == (
        "anna", decided.run_id, True, "Sharp knives",
    )  # fmt: skip
    (request,) = tick(instance, finished).run_requests
    assert request.asset_selection == [dg.AssetKey("youtube_publications"), dg.AssetKey("youtube_thumbnails")]
    # Until the run exists, it is asked for again under the same key.
    (again,) = tick(instance, finished).run_requests
    assert again.run_key == request.run_key
    posted = run(PUBLISH_JOB, "youtube_publications", tags={"dagster/run_key": request.run_key})
    assert (facts(posted)["title"], facts(posted)["privacy"]) == ("Sharp knives", "unlisted")
    after = tick(instance, finished)
    assert after.run_requests == []
    assert "No post is approved" in str(after.skip_message)
    assert facts(run(QUEUE_JOB, "publish_queue"))["held"] == 1
    assert sandbox.count("youtube", "POST", "/upload/youtube/v3/videos") == 1


def test_a_post_launched_by_hand_needs_an_approval_of_its_own(run: Run, sandbox: SandboxUnderTest) -> None:
    refused = failure(run(PUBLISH_JOB, "youtube_publications"))
    assert refused.metadata["code"].value == "approval_missing"
    assert sandbox.count("youtube", "POST", "/upload/") == 0
    assert facts(run(PUBLISH_JOB, "youtube_publications", approve=True))["posted"] is True
    # Finding out what became of it needs none.
    assert facts(run(PUBLISH_JOB, "youtube_publications"))["posted"] is False


def test_a_video_rendered_again_after_its_approval_is_not_posted(run: Run, video: bytes) -> None:
    assert run(APPROVAL_JOB, "publication_approvals", decision="approve").success
    render(video + b"\0\0\0\x08free")
    refused = failure(run(PUBLISH_JOB, "tiktok_publications"))
    assert refused.metadata["code"].value == "approval_outdated"
    assert "The rendition was made again" in str(refused.description)
    assert "the video was made again since its approval" in facts(run(QUEUE_JOB, "publish_queue"))["queue"]


def test_an_automatic_channel_posts_by_itself_what_its_policy_says(
    run: Run, instance: dg.DagsterInstance, finished: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = allow(
        finished, monkeypatch,
        "channels:\n  acme:\n    youtube: {approval: automatic, privacy: unlisted, hashtags: [cook], tell: [anna]}\n",
    )  # fmt: skip
    (request,) = tick(instance, settings).run_requests
    assert (request.tags["ettametta/tell"], request.tags["ettametta/title"]) == ("anna", "Knife skills")
    assert facts(run(PUBLISH_JOB, "youtube_publications"))["privacy"] == "unlisted"


def test_a_date_is_on_the_channels_clock(
    run: Run, finished: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(finished, monkeypatch, "channels:\n  acme:\n    youtube: {time_zone: Asia/Tokyo}\n")
    shown = facts(
        run(
            APPROVAL_JOB,
            "publication_approvals",
            decision="approve",
            platforms=["youtube"],
            not_before="2199-01-01 09:00",
        )
    )["youtube"]
    assert "Tue 01 Jan 09:00 Asia/Tokyo, approved for 2199-01-01 09:00 or later" in shown
    wrong = run(APPROVAL_JOB, "publication_approvals", decision="approve", not_before="tomorrow")
    assert failure(wrong).metadata["code"].value == "bad_not_before"


def test_a_bad_channels_file_stops_the_queue_and_is_named(
    run: Run, finished: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(finished, monkeypatch, "channels:\n  acme:\n    youtube: {slots: [{at: [later]}]}\n")
    assert "line 3: channels.acme.youtube.slots.0.at.0" in str(
        failure(run(QUEUE_JOB, "publish_queue")).description
    )


@pytest.mark.parametrize(
    ("platform", "asset", "vendor", "fault"),
    [
        (
            "tiktok", "tiktok_publications", "tiktok",
            {"path_regex": "creator_info", "status": 200,
             "body": '{"data": {}, "error": {"code": "spam_risk_too_many_posts", "message": "", "log_id": "1"}}'},
        ),
        (
            "youtube", "youtube_publications", "youtube",
            {"path_regex": "/upload/youtube/v3/videos", "method": "POST", "status": 400,
             "body": '{"error": {"code": 400, "message": "", "errors": [{"reason": "uploadLimitExceeded"}]}}'},
        ),
    ],
)  # fmt: skip
def test_a_channel_whose_platform_takes_no_more_today_waits_with_a_date_and_loses_no_try(
    run: Run, instance: dg.DagsterInstance, finished: Settings, sandbox: SandboxUnderTest, platform: str, asset: str,
    vendor: str, fault: dict[str, Any],
) -> None:  # fmt: skip
    assert run(APPROVAL_JOB, "publication_approvals", decision="approve", platforms=[platform]).success
    assert len(tick(instance, finished).run_requests) == 1
    sandbox.fault(vendor, action="status", times=None, **fault)
    refused = failure(run(PUBLISH_JOB, asset))
    assert refused.metadata["code"].value in ("tiktok_spam_risk_too_many_posts", "upload_limit_reached")
    assert facts(run(QUEUE_JOB, "publish_queue"))["planned"] == 1
    (row,) = [
        row
        for row in plain_rows(read_table(StoreResource().open(), PUBLISH_QUEUE, None))
        if row["platform"] == platform
    ]
    assert timedelta(hours=23) < row["planned_at"] - utc_now() <= timedelta(hours=24)
    assert "takes no more posts of this channel" in row["why"]
    assert row["attempts"] == 0
    # A person may try all the same; the post is made as soon as the platform takes it.
    sandbox.clear_faults()
    assert facts(run(PUBLISH_JOB, asset))["posted"] is True


def test_an_approval_given_twice_or_while_the_channel_has_no_consent_is_one_post_once_it_has(
    run: Run, instance: dg.DagsterInstance, finished: Settings, sandbox: SandboxUnderTest
) -> None:
    with open_state(finished) as database, database.session() as session:
        row = session.scalars(sa.select(OAuthConnection).filter_by(platform="youtube")).one()
        end_consent(session, row, "a test", actor="test", now=utc_now())
    for _ in range(2):
        assert run(APPROVAL_JOB, "publication_approvals", decision="approve", platforms=["youtube"]).success
    assert "the channel must be connected again" in facts(run(QUEUE_JOB, "publish_queue"))["queue"]
    assert tick(instance, finished).run_requests == []
    assert failure(run(PUBLISH_JOB, "youtube_publications")).metadata["code"].value == "reauth_required"
    assert sandbox.count("youtube", "POST", "/upload/youtube/v3/videos") == 0
    with open_state(finished) as database:
        connect(database, YouTubeResource().app(), "acme", "youtube", "sandbox-acme")
    assert len(tick(instance, finished).run_requests) == 1
    assert [facts(run(PUBLISH_JOB, "youtube_publications"))["posted"] for _ in range(2)] == [True, False]
    assert sandbox.count("youtube", "POST", "/upload/youtube/v3/videos") == 1


def test_an_approved_rendition_that_was_deleted_posts_nothing_costs_no_upload_and_is_posted_when_it_is_back(
    run: Run, finished: Settings, sandbox: SandboxUnderTest, video: bytes
) -> None:
    assert run(APPROVAL_JOB, "publication_approvals", decision="approve").success
    StoreResource().open().delete(KEY)
    for asset in ("youtube_publications", "tiktok_publications"):
        refused = failure(run(PUBLISH_JOB, asset))
        assert refused.metadata["code"].value == "object_missing"
        assert KEY in str(refused.description)
    assert sandbox.count("youtube", "POST", "/upload/youtube/v3/videos") == 0
    assert sandbox.count("tiktok", "POST", "/video/init/") == 0
    with open_state(finished) as database:
        (inserts,) = [u for u in usage(database, pacific_quota_day(utc_now())) if u.bucket == "videos_insert"]
    assert inserts.used == 0
    StoreResource().open().put(KEY, video)
    assert facts(run(PUBLISH_JOB, "youtube_publications"))["posted"] is True
    assert facts(run(PUBLISH_JOB, "tiktok_publications"))["posted"] is True
