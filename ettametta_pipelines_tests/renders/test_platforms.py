"""What each platform takes: refused before rendering and before posting, by one table."""

from pathlib import Path

import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.orders import Wishes, order_for
from ettametta_pipelines.renders.assets import RenditionConfig
from ettametta_pipelines.renders.encoders import X264
from ettametta_pipelines.renders.engine import render_file
from ettametta_pipelines.renders.formats import FORMATS, SOUND
from ettametta_pipelines.renders.platforms import (
    PLATFORMS,
    REMEDIES,
    SAFE_ZONES,
    require_fit,
    table_rows,
)
from ettametta_pipelines_tests.media.clips import clip


@pytest.mark.parametrize(
    ("platform", "facts", "code"),
    [
        ("tiktok", {"duration_s": 601.5}, "video_too_long"),
        ("youtube_shorts", {"duration_s": 240.0}, "video_too_long"),
        ("facebook_reels", {"duration_s": 2.5}, "video_too_short"),
        ("instagram_reels", {"duration_s": 400.0, "size_bytes": 301_000_000}, "video_too_large"),
        ("instagram_feed", {"duration_s": 10.0, "size_bytes": 40_000_000}, "bit_rate_too_high"),
        ("tiktok", {"duration_s": 10.0, "fps": 15.0}, "frame_rate_refused"),
        ("vine", {"duration_s": 6.0}, "unknown_platform"),
    ],
)
def test_what_a_platform_refuses_is_refused_with_a_code_and_a_remedy(
    platform: str, facts: dict[str, float], code: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        require_fit(platform, **facts)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.remedy
    assert code in REMEDIES or code == "unknown_platform"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_short_of_half_a_minute_fits_everywhere_with_the_encoder_at_its_limit(platform: str) -> None:
    kbps = X264.maxrate_kbps + SOUND.kbps
    for fps in (24000 / 1001, 60.0):
        require_fit(platform, 30.0, fps=fps, size_bytes=30 * kbps * 125)


def test_a_figure_no_platform_states_refuses_nothing() -> None:
    assert "fps" in PLATFORMS["youtube"].guesses
    require_fit("youtube", 10.0, fps=120.0)


def test_a_last_frame_past_the_limit_is_no_second_more() -> None:
    require_fit("youtube_shorts", 180.03)


@pytest.mark.parametrize("format", FORMATS.values(), ids=str)
def test_the_safe_zone_of_a_format_is_free_on_each_of_its_platforms(format: object) -> None:
    left, top, right, bottom = SAFE_ZONES[format.name].box(format)  # type: ignore[attr-defined, arg-type]
    rows = [row for row in PLATFORMS.values() if row.format == format.name]  # type: ignore[attr-defined]
    assert rows
    for row in rows:
        free = row.margins.box(format)  # type: ignore[arg-type]
        assert free[0] <= left < right <= free[2]
        assert free[1] <= top < bottom <= free[3]
    assert left == format.width - right  # type: ignore[attr-defined]


def test_every_row_says_where_its_figures_come_from_and_the_table_marks_guesses() -> None:
    assert all(source.startswith("https://") for row in PLATFORMS.values() for source in row.sources)
    assert all(row.sources for row in PLATFORMS.values())
    heading, *rows = table_rows()
    assert {len(row) for row in rows} == {len(heading)}
    told = {row[0]: row for row in rows}
    assert told["tiktok"][heading.index("covered pixels")].startswith("~")
    assert not told["instagram_reels"][heading.index("covered pixels")].startswith("~")
    assert told["facebook_reels"][heading.index("length")] == "3 s to 90 s"


def test_the_launchpad_names_every_platform() -> None:
    described = str(RenditionConfig.model_fields["platform"].description)
    assert all(name in described for name in PLATFORMS)


def test_a_video_too_long_for_its_platform_is_refused_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "s.mp4", picture="testsrc2=s=320x180:r=25:d=2", sound=None)
    monkeypatch.setattr("ettametta_pipelines.renders.engine.render", lambda *a, **k: pytest.fail("rendered"))
    with pytest.raises(PermanentError) as caught:
        render_file(source, "clean", ["9x16"], tmp_path / "o", platform="facebook_reels")
    assert caught.value.code == "video_too_short"


def test_what_is_too_long_for_the_platform_is_not_posted() -> None:
    source = {
        "rights": "owned", "attribution": None, "upload_key": "uploads/a/b/c.mp4", "account": "acme",
        "source_id": "acme--1", "title": "A title",
    }  # fmt: skip
    rendition = {
        "object_key": "k", "sha256": "0" * 64, "size_bytes": 1000, "duration_s": 700.0, "fps": 30.0,
    }  # fmt: skip
    assert order_for("youtube", source, rendition, Wishes()).rendition.duration_s == 700
    with pytest.raises(PermanentError) as caught:
        order_for("tiktok", source, rendition, Wishes())
    assert caught.value.code == "video_too_long"
