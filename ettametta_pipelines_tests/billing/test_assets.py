"""What operators see and meet: the tables, their checks, and the limit wherever a render is asked for."""

import json
from pathlib import Path

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from ettametta_pipelines.billing.assets import ASSETS
from ettametta_pipelines.billing.entitlements import allows
from ettametta_pipelines.billing.tiers import Feature, open_plans
from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.cli import app
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource, StripeResource
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import VideoPeriod
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.billing.conftest import plans
from ettametta_pipelines_tests.media.clips import clip
from ettametta_pipelines_tests.renders.test_assets import Line, metadata_of

runner = CliRunner()

ONE_VIDEO = """
currency: USD
tiers:
  free: {title: Free, monthly_minor: 0, videos: 1, releases: 1}
  creator: {title: Creator, monthly_minor: 2900, lookup_key: creator_usd, videos: 50, releases: 5}
on_dispute: block
on_refund: keep
"""


@pytest.fixture
def one_video(settings_env: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Accounts that never subscribed have one video a month."""
    (tmp_path / "tiers.yaml").write_text(ONE_VIDEO)
    monkeypatch.setenv("ETTAMETTA_TIERS", str(tmp_path / "tiers.yaml"))
    monkeypatch.setenv("ETTAMETTA_DEFAULT_TIER", "free")
    get_settings.cache_clear()
    return get_settings()


def materialize(*selection: str) -> dg.ExecuteInProcessResult:
    store = StoreResource()
    return dg.materialize(
        ASSETS,
        selection=list(selection) or None,
        resources={
            "store": store, "state": StateResource(), "stripe": StripeResource(),
            "tables": ParquetTables(store.open, ALL_TABLES),
        },
        raise_on_error=False,
    )  # fmt: skip


def passed(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def buy(account: str, tier: str = "creator") -> None:
    answer = runner.invoke(app, ["plan", account, "--checkout", "--tier", tier, "--json"])
    assert answer.exit_code == 0, answer.output
    with httpx.Client(trust_env=False, verify=False) as browser:
        assert browser.post(json.loads(answer.stdout)["pages"]["checkout"]).status_code == 303


def test_a_render_beyond_the_limit_is_refused_where_it_runs_and_an_upgrade_lets_it(
    one_video: Settings, tmp_path: Path
) -> None:
    line = Line(one_video)
    pictures = {n: f"testsrc2=s=320x240:r=25:d=1.2,hue=h={n}" for n in (10, 90)}
    files = [clip(tmp_path / f"{n}.mp4", picture=picture, sound=None) for n, picture in pictures.items()]
    first, second = (line.upload(file, recipe="clean") for file in files)
    assert line.run(first, "source_media", "media_analysis", "rendition_1x1").success
    assert line.run(first, "rendition_9x16").success, "another format of the same video"

    refused = line.run(second, "source_media", "media_analysis", "rendition_1x1")
    (failure,) = [event for event in refused.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data is not None
    said = str(failure.step_failure_data.user_failure_data.description)
    assert "video_limit_reached" in said
    assert "`ettametta plan studio --checkout --tier creator`" in said
    assert not list(line.store.list(f"media/renditions/{second}/"))
    run = line.instance.get_run_by_id(refused.run_id)
    assert run is not None
    assert run.tags["ettametta/failure_code"] == "video_limit_reached"
    assert run.tags["dagster/max_retries"] == "0"

    buy("studio")
    assert not line.run(second, "rendition_1x1").success, "paid, but nothing was heard of it yet"
    assert materialize("account_entitlements").success
    assert line.run(second, "rendition_1x1").success
    (row,) = read_table(line.store, ALL_TABLES["account_entitlements"], None).to_dict("records")
    assert (row["tier"], row["used"], row["limit"], row["status"]) == ("creator", 1, 50, "active")


def test_a_render_that_fails_for_good_gives_its_video_back(one_video: Settings, tmp_path: Path) -> None:
    line = Line(one_video)
    source = line.upload(
        clip(tmp_path / "a.mp4", picture="testsrc2=s=320x240:r=25:d=3", sound=None),
        recipe="narrated", voice_over="slowly baked bread " * 9,
    )  # fmt: skip
    assert not line.run(source, "source_media", "media_analysis", "rendition_1x1").success
    assert materialize("video_slots").success
    (row,) = read_table(line.store, ALL_TABLES["video_slots"], None).to_dict("records")
    assert (row["state"], row["reason"]) == ("released", "voice_over_too_long")
    assert line.run(source, "rendition_1x1", config={"recipe": "clean"}).success


def test_the_tables_show_who_has_what_and_the_checks_pass(settings_env: Settings) -> None:
    buy("acme", "empire")
    result = materialize()
    assert result.success
    assert passed(result) == dict.fromkeys(
        ("every_customer_was_read", "one_subscription_each", "prices_match", "slots_add_up"), True
    )
    told = metadata_of(result)["account_entitlements"]
    assert told["repaired_count"] == 1
    assert "status none → active" in told["repaired"].replace("\\", "")
    assert "| acme | empire | active | paid | 0 of 1,000 (fair use) |" in told["plans"]
    assert metadata_of(materialize("account_entitlements"))["account_entitlements"]["repaired"] == "nothing"


def test_a_period_that_counts_wrongly_and_a_price_that_differs_fail_their_checks(one_video: Settings) -> None:
    tiers = Path(str(one_video.tiers_file))
    tiers.write_text(ONE_VIDEO.replace("2900", "2901"))
    runner.invoke(app, ["plan", "acme"])
    from ettametta_pipelines.billing.reservations import reserve_slot

    db = open_state(one_video)
    reserve_slot(db, open_plans(one_video), "acme", "one", holder="run")
    with db.session() as session:
        session.execute(sa.update(VideoPeriod).values(used=7))
    result = materialize("account_entitlements")
    assert [name for name, good in passed(result).items() if not good] == ["prices_match", "slots_add_up"]
    said = {c.check_name: str(c.description) for c in result.get_asset_check_evaluations()}
    assert "7 used and 1 reserved, slots say 0 and 1" in said["slots_add_up"]
    assert said["prices_match"] == "Creator: $29.01 in the tiers file, $29.00 at Stripe"


def test_a_stripe_that_is_away_leaves_everybody_what_they_have(settings_env: Settings) -> None:
    buy("acme", "creator")
    assert materialize("account_entitlements").success
    from ettametta_pipelines.billing.entitlements import standing

    with httpx.Client(trust_env=False, verify=False) as control:
        control.post(
            f"{settings_env.sandbox_url}/_control/faults",
            json={"vendor": "stripe", "status": 401, "times": None},
        )
    assert not materialize("account_entitlements").success
    assert standing(open_state(settings_env), open_plans(settings_env), "acme").tier.slug == "creator"


def test_plan_shows_and_changes_an_account(settings_env: Settings) -> None:
    shown = runner.invoke(app, ["plan", "acme"])
    assert "acme: Empire, never subscribed." in shown.stdout
    assert "Videos: 0 of 1000 by fair use" in shown.stdout
    buy("acme", "creator")
    document = json.loads(runner.invoke(app, ["plan", "acme", "--json"]).stdout)
    assert (document["tier"], document["status"], document["limit"]) == ("creator", "active", 50)
    runner.invoke(app, ["plan", "acme", "--change-to", "empire"])
    said = runner.invoke(app, ["plan", "acme", "--cancel"]).stdout
    assert "acme: Empire, paid." in said
    assert "Then: Free." in said
    assert "Then" not in runner.invoke(app, ["plan", "acme", "--resume"]).stdout
    assert "/stripe/portal/" in runner.invoke(app, ["plan", "acme", "--portal"]).stdout


def test_plan_refuses_what_is_no_account_or_no_tier(settings_env: Settings) -> None:
    for arguments, code in (
        (["acme' OR '1"], "bad_account"),
        (["acme", "--change-to", "gold"], "unknown_tier"),
    ):
        assert getattr(runner.invoke(app, ["plan", *arguments]).exception, "code", "") == code


def test_without_any_setting_the_sandbox_gives_everything_and_a_live_stripe_the_free_tier(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_plans(settings_env).default.slug == "empire"
    assert allows(open_state(settings_env), open_plans(settings_env), "demo-studio", Feature.STUDIO_VOICE)
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_abc")
    get_settings.cache_clear()
    assert open_plans(get_settings()).default.slug == "free"
    assert not allows(
        open_state(settings_env), open_plans(get_settings()), "demo-studio", Feature.STUDIO_VOICE
    )
    monkeypatch.setenv("ETTAMETTA_DEFAULT_TIER", "creator")
    get_settings.cache_clear()
    assert open_plans(get_settings()).default.slug == "creator"


def test_a_tier_without_the_studio_voice_is_spoken_to_by_the_local_one_and_told_so(
    one_video: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "a-key-of-the-test")
    monkeypatch.setenv("ELEVENLABS_BASE_URL", f"{one_video.sandbox_url}/elevenlabs/")
    get_settings.cache_clear()
    line = Line(get_settings())
    source = line.upload(
        clip(tmp_path / "a.mp4", picture="testsrc2=s=320x240:r=25:d=4", sound=None),
        recipe="narrated", voice_over="Slowly baked.",
    )  # fmt: skip
    told = metadata_of(line.run(source, "source_media", "media_analysis", "rendition_1x1"))["rendition_1x1"]
    assert told["voice_engine"] == "espeak-ng"
    assert told["voice_fallback"] == "the account's tier has no ElevenLabs voice: local voice"


def test_the_tiers_of_the_package_are_the_ones_that_are_sold() -> None:
    table = plans().table
    assert {(t.title, t.monthly_minor, t.videos) for t in table.tiers.values()} == {
        ("Free", 0, 5), ("Creator", 2900, 50), ("Empire", 9900, None),
    }  # fmt: skip
    assert str(table.price(table.tiers["empire"])) == "$99.00"
