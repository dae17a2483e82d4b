"""From an upload to renditions through Dagster: what an operator sees, and what stops what."""

import json
import socket
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.media.assets import ASSETS as MEDIA
from ettametta_pipelines.media.inbox import drop_upload, scan_inbox
from ettametta_pipelines.orchestration.resources import PexelsResource, StateResource, StoreResource
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.renders import quality
from ettametta_pipelines.renders.assets import ASSETS as RENDERS
from ettametta_pipelines.renders.assets import CHECKS
from ettametta_pipelines.renders.quality import CHECK_NAMES
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.media.clips import clip, cut_short

LATER = datetime(2030, 1, 1, tzinfo=UTC)


class Line:
    """The media and render assets on one home, run for one source video at a time."""

    def __init__(self, settings: Settings) -> None:
        self.store: ObjectStore = open_store(settings)
        self.state = open_state(settings)
        self.instance = dg.DagsterInstance.ephemeral()

    def upload(self, file: Path, *, captions: Path | None = None, **stated: str) -> str:
        where = {"account": "studio", "niche": "cooking", "niches": ["cooking"], "day": date(2026, 11, 22)}
        drop_upload(self.store, file, **where, stated=stated, captions=captions)  # type: ignore[arg-type]
        (arrival,) = scan_inbox(self.store, self.state, ["cooking"], clock=lambda: LATER).arrivals
        self.instance.add_dynamic_partitions(str(SOURCE_VIDEO.name), [arrival.source_id])
        return arrival.source_id

    def run(
        self, source_id: str, *selection: str, config: dict[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        store = StoreResource()
        return dg.materialize(
            [*MEDIA, *RENDERS],
            instance=self.instance,
            partition_key=source_id,
            selection=list(selection) or None,
            run_config={"ops": {"renditions": {"config": config}}} if config else None,
            resources={
                "store": store,
                "state": StateResource(),
                "pexels": PexelsResource(),
                "tables": ParquetTables(store.open, ALL_TABLES),
            },
            raise_on_error=False,
        )


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    found = {}
    for event in result.get_asset_materialization_events():
        materialization = event.materialization
        found[materialization.asset_key.to_user_string()] = {
            name: value.value for name, value in materialization.metadata.items()
        }
    return found


def checks_of(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {(e.asset_key.to_user_string(), e.check_name): e for e in result.get_asset_check_evaluations()}


@pytest.fixture
def line(home: Settings) -> Line:
    return Line(home)


def test_an_upload_becomes_renditions_and_a_second_run_finds_them(line: Line, tmp_path: Path) -> None:
    source = clip(tmp_path / "My clip.mp4", picture="testsrc2=s=640x360:r=25:d=1.2", sound="sine=d=1.2")
    source_id = line.upload(source, rights="owned", recipe="clean")
    result = line.run(source_id)
    assert result.success
    told = metadata_of(result)
    assert told["source_media"]["verdict"] == "accepted"
    assert told["media_analysis"]["contact_sheet"].startswith("![contact sheet](data:image/jpeg;base64,")
    assert told["media_analysis"]["subject"]
    for name, size in (("9x16", (1080, 1920)), ("16x9", (1920, 1080)), ("1x1", (1080, 1080))):
        asset = f"rendition_{name}"
        assert told[asset]["rendered"] is True
        assert told[asset]["recipe"] == "clean"
        row = read_table(line.store, ALL_TABLES[asset], source_id).iloc[0]
        assert (row["width"], row["height"], row["format"]) == (*size, name)
        assert told[asset]["watch"] == f"http://127.0.0.1:8000/{row['object_key']}"
        assert Path(told[asset]["file"]).is_file()
        assert told[asset]["took_s"] > 0
        moving = told[asset]["in_motion"].partition("(http://127.0.0.1:8000/")[2].removesuffix(")")
        assert line.store.get(moving)[8:12] == b"WEBP"
        assert told[asset]["see_source_media"].endswith(
            f"/assets/source_media?view=partitions&partition={source_id}"
        )
        assert f"/assets/{asset}?" in told["source_media"][f"see_{asset}"]
        assert len(json.dumps(told[asset])) < 50_000
    assert told["thumbnails"]["count"] == told["thumbnails"]["new"] == 18
    assert "data:image/jpeg;base64," in told["thumbnails"]["pictures"]
    assert len(json.dumps(told["thumbnails"])) < 50_000
    assert len(read_table(line.store, ALL_TABLES["thumbnails"], source_id)) == 18
    assert all(check.passed for check in checks_of(result).values())
    assert len(checks_of(result)) == 1 + 3 * len(CHECK_NAMES)
    loudness = checks_of(result)["rendition_1x1", "loudness_on_target"]
    assert loudness.metadata["lufs"].value == pytest.approx(-14, abs=1)

    again = line.run(source_id)
    assert again.success
    assert metadata_of(again)["thumbnails"]["new"] == 0
    assert [
        told["rendered"] for name, told in metadata_of(again).items() if name.startswith("rendition")
    ] == [False] * 3
    assert all(check.passed for check in checks_of(again).values())


def test_every_check_of_a_rendition_is_declared_and_blocks() -> None:
    assert tuple(CHECKS) == CHECK_NAMES
    (renditions,) = (asset for asset in RENDERS if asset.op.name == "renditions")
    assert all(spec.blocking for spec in renditions.check_specs)


def test_a_rendition_that_fails_a_check_shows_where_and_stores_nothing(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=25:d=1.2", sound="sine=d=1.2")
    source_id = line.upload(source, recipe="clean")
    assert line.run(source_id, "source_media", "media_analysis").success
    monkeypatch.setattr(quality, "RENDITION", replace(quality.RENDITION, black_luma=0.99))
    result = line.run(source_id, "rendition_1x1")
    assert not result.success
    checks = checks_of(result)
    assert [check for (_, check), seen in checks.items() if not seen.passed] == ["no_black_stretch"]
    black = checks["rendition_1x1", "no_black_stretch"]
    assert str(black.description).startswith("The picture is black from 0.00 s to 1.20 s")
    assert black.metadata["longest_s"].value == pytest.approx(1.2, abs=0.05)
    assert str(black.metadata["frame"].value).startswith("![")
    assert len(str(black.metadata["frame"].value)) <= 15 * 1024
    assert not list(line.store.list("media/renditions/"))


def test_one_format_can_be_asked_for_with_another_recipe(line: Line, tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=25:d=1.2", sound=None)
    source_id = line.upload(source)
    assert line.run(source_id, "source_media", "media_analysis").success
    result = line.run(source_id, "rendition_1x1", config={"recipe": "punchy", "seed": 4})
    assert result.success
    told = metadata_of(result)
    assert list(told) == ["rendition_1x1"]
    assert (told["rendition_1x1"]["recipe"], told["rendition_1x1"]["seed"]) == ("punchy", 4)


def test_captions_of_an_upload_are_drawn_where_the_operator_asks(line: Line, tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=25:d=1.2", sound=None)
    captions = tmp_path / "mine.srt"
    captions.write_text("1\n00:00:00,200 --> 00:00:00,900\nHello 😀\n")
    source_id = line.upload(source, captions=captions)
    result = line.run(source_id, "source_media", "media_analysis", "rendition_1x1")
    assert metadata_of(result)["source_media"]["captions"] == "1 captions"
    assert "captions_drawn" not in metadata_of(result)["rendition_1x1"]
    result = line.run(source_id, "rendition_1x1", config={"captions": "boxed"})
    told = metadata_of(result)["rendition_1x1"]
    assert (told["rendered"], told["captions_drawn"]) == (True, 1)
    assert told["characters_left_out"] == "😀 (not in the caption font)"
    result = line.run(source_id, "rendition_1x1", config={"captions": "comic"})
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "'comic' is no style of captions" in str(failure.event_specific_data)


def test_cutaways_are_made_of_the_accounts_clips_and_a_missing_one_is_named(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=25:d=6", sound=None)
    source_id = line.upload(source, rights="owned", broll_keywords="ocean, surf")
    assert line.run(source_id, "source_media", "media_analysis").success
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ETTAMETTA_SANDBOX_PORT", str(taken.getsockname()[1]))
        get_settings.cache_clear()
        result = line.run(source_id, "rendition_1x1", config={"recipe": "clean", "broll": "any"})
    assert result.success
    told = metadata_of(result)["rendition_1x1"]
    assert told["broll"].startswith("skipped: Pexels cannot be reached at 127.0.0.1")
    assert told["stock_footage"] == "sandbox (PEXELS_API_KEY not set)"

    surf = clip(tmp_path / "surf.mp4", picture="testsrc=s=320x180:r=25:d=4", sound=None)
    line.store.put_file("library/studio/surf.mp4", surf)
    line.store.put("library/studio/surf.mp4.json", b'{"rights": "cc_by", "attribution": "Surf by B"}')
    shown = line.run(source_id, "rendition_1x1", config={"recipe": "clean", "broll": "library"})
    again = line.run(source_id, "rendition_1x1", config={"recipe": "clean", "broll": "library"})
    one, two = (metadata_of(run)["rendition_1x1"] for run in (shown, again))
    assert (one["broll"], one["broll_credits"]) == ("1 cutaway", ["Footage: Surf by B"])
    assert (one["rendered"], two["rendered"]) == (True, False)
    assert one["render_key"] == two["render_key"] != told["render_key"]
    row = read_table(line.store, ALL_TABLES["rendition_1x1"], source_id).iloc[0]
    (cutaway,) = json.loads(row["broll_json"])["cutaways"]
    assert (cutaway["vendor"], cutaway["rights"], cutaway["credit"]) == (
        "library",
        "cc_by",
        "Footage: Surf by B",
    )
    assert cutaway["start_s"] >= 2


def test_a_text_of_an_upload_is_spoken_where_the_recipe_has_a_voice_over(line: Line, tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=25:d=4", sound=None)
    source_id = line.upload(source, recipe="clean", voice_over="Langsam gebacken.", language="de")
    result = line.run(source_id, "source_media", "media_analysis", "rendition_1x1")
    told = metadata_of(result)["rendition_1x1"]
    assert told["voice"] == "not spoken: clean has no voice-over"
    assert read_table(line.store, ALL_TABLES["rendition_1x1"], source_id).iloc[0]["has_audio"] == False  # noqa: E712

    told = metadata_of(line.run(source_id, "rendition_1x1", config={"recipe": "narrated"}))["rendition_1x1"]
    assert (told["voice_engine"], told["voice_words"]) == ("espeak-ng", 2)
    assert told["voice_fallback"] == "no ElevenLabs key: local voice"
    assert (told["voice_cost_microusd"], told["captions_drawn"]) == (0, 1)
    assert told["voice"].startswith("de (1.")
    row = read_table(line.store, ALL_TABLES["rendition_1x1"], source_id).iloc[0]
    spoken = json.loads(row["voice_json"])
    assert row["has_audio"]
    assert spoken["synthetic"] is True
    assert told["voice_listen"] == f"http://127.0.0.1:8000/{spoken['object_key']}"
    assert line.store.exists(spoken["object_key"])

    asked = {"recipe": "clean", "voice_over": "Slowly baked.", "language": "en"}
    told = metadata_of(line.run(source_id, "rendition_1x1", config=asked))["rendition_1x1"]
    assert (told["voice"].split()[0], told["rendered"]) == ("en-us", True)
    assert (
        metadata_of(line.run(source_id, "rendition_1x1", config=asked))["rendition_1x1"]["rendered"] is False
    )
    silent = {"recipe": "narrated", "voice_over": "none"}
    assert (
        "voice_engine"
        not in metadata_of(line.run(source_id, "rendition_1x1", config=silent))["rendition_1x1"]
    )


def test_a_text_that_does_not_fit_says_how_many_words_do(line: Line, tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=320x240:r=25:d=3", sound=None)
    source_id = line.upload(source, recipe="narrated", voice_over="slowly baked bread " * 9)
    result = line.run(source_id, "source_media", "media_analysis", "rendition_1x1")
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "voice_over_too_long" in str(failure.event_specific_data)
    assert "Shorten it to about" in str(failure.event_specific_data)


def test_a_rejected_upload_stops_its_own_line_with_a_readable_reason(line: Line, tmp_path: Path) -> None:
    whole = clip(tmp_path / "whole.mp4", extra=("-movflags", "+faststart"))
    source_id = line.upload(cut_short(whole, tmp_path / "holiday.mp4"))
    result = line.run(source_id)
    assert not result.success
    assert list(metadata_of(result)) == ["source_media"]
    check = checks_of(result)["source_media", "accepted"]
    assert not check.passed
    assert str(check.description).startswith("holiday.mp4 is cut short: ")
    assert check.metadata["reason_code"].value == "truncated_media"
    row = read_table(line.store, ALL_TABLES["source_media"], source_id).iloc[0]
    assert (row["verdict"], row["reason_code"]) == ("rejected", "truncated_media")
    assert not list(line.store.list("media/"))


def test_a_backfill_makes_the_pictures_of_several_videos_in_one_run(line: Line, tmp_path: Path) -> None:
    sources = []
    for n in range(3):
        picture = f"testsrc2=s=320x240:r=25:d=1.2,hue=h={n}"
        sources.append(line.upload(clip(tmp_path / f"{n}.mp4", picture=picture, sound=None)))
        assert line.run(sources[-1], "source_media", "media_analysis").success
    gone = read_table(line.store, ALL_TABLES["source_media"], sources[1]).iloc[0]["object_key"]
    line.store.delete(gone)
    ends = {"start": sources[0], "end": sources[-1]}
    repository = build_definitions(get_settings()).get_repository_def()
    result = repository.get_job("__ASSET_JOB").execute_in_process(
        instance=line.instance,
        asset_selection=[dg.AssetKey("thumbnails")],
        tags={f"dagster/asset_partition_range_{end}": source for end, source in ends.items()},
        raise_on_error=False,
    )
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert f"1 of 3 videos failed, the others are made. {sources[1]}" in str(failed.event_specific_data)
    records = line.instance.fetch_materializations(dg.AssetKey("thumbnails"), limit=9).records
    said = {r.partition_key: r.asset_materialization.metadata["new"].value for r in records}  # type: ignore[union-attr]
    assert said == {sources[0]: 18, sources[2]: 18}


def test_a_rejected_source_is_not_rendered_when_asked_for_alone(line: Line, tmp_path: Path) -> None:
    bad = tmp_path / "note.mp4"
    bad.write_text("hello, this is no video")
    source_id = line.upload(bad)
    line.run(source_id, "source_media")
    result = line.run(source_id, "media_analysis")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "note.mp4 is not a video file" in str(failure.event_specific_data)


def test_a_recipe_that_does_not_exist_is_named_with_those_that_do(line: Line, tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=320x240:r=25:d=1.2", sound=None)
    source_id = line.upload(source, recipe="cinematicc")
    result = line.run(source_id)
    assert not result.success
    assert set(metadata_of(result)) == {"source_media", "media_analysis", "thumbnails"}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "cinematicc" in str(failure.event_specific_data)
    assert "punchy" in str(failure.event_specific_data)
