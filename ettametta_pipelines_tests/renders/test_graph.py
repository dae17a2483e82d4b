"""Windows and graphs: geometry that holds for every source, and no text of strangers in a graph."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.graph import (
    RenderPlan,
    color_matrix,
    crop_window,
    fitted_size,
    render_arguments,
)
from ettametta_pipelines.renders.recipe import load_preset


def probe_of(**changes: object) -> Probe:
    facts: dict[str, object] = {
        "container": "mov", "video_codec": "h264", "audio_codec": "aac", "width": 1920, "height": 1080, "rotation": 0,
        "sample_aspect": (1, 1), "fps": 30.0, "variable_rate": False, "duration_s": 10.0, "frames": 300,
        "has_audio": True, "audio_channels": 2, "audio_duration_s": 10.0, "bit_depth": 8, "pixel_format": "yuv420p",
        "full_range": False, "color_matrix": 2, "color_transfer": 2, "color_primaries": 2, "video_index": 0,
        "audio_index": 1, "size_bytes": 1,
    } | changes  # fmt: skip
    return Probe(**facts)  # type: ignore[arg-type]


sizes = st.integers(min_value=64, max_value=4096)
aspects = st.sampled_from([(1, 1), (4, 3), (16, 15), (3, 4), (40, 33)])
zooms = st.one_of(st.just(1.0), st.floats(min_value=1.02, max_value=1.08))


@given(sizes, sizes, aspects, st.sampled_from(list(FORMATS.values())), zooms)
def test_every_crop_lies_inside_the_source_keeps_the_shape_and_starts_on_whole_chroma(
    width: int, height: int, sample_aspect: tuple[int, int], format: object, zoom: float
) -> None:
    probe = probe_of(width=width, height=height, sample_aspect=sample_aspect)
    window = crop_window(probe, format.aspect, zoom)  # type: ignore[attr-defined]
    assert 0 <= window.x <= window.x + window.width <= width
    assert 0 <= window.y <= window.y + window.height <= height
    assert window.x % 2 == window.y % 2 == window.width % 2 == window.height % 2 == 0
    shown = Fraction(window.width, window.height) * Fraction(*sample_aspect)
    # Even sizes are within a pixel of any, and lose one more where the source ends on an odd one.
    assert float(shown / format.aspect) == pytest.approx(1, abs=2.1 / min(window.width, window.height))  # type: ignore[attr-defined]


@given(sizes, sizes, aspects, st.sampled_from(list(FORMATS.values())))
def test_a_fitted_picture_fills_one_side_and_is_even(
    width: int, height: int, sample_aspect: tuple[int, int], format: object
) -> None:
    fitted = fitted_size(probe_of(width=width, height=height, sample_aspect=sample_aspect), format)  # type: ignore[arg-type]
    full = (format.width, format.height)  # type: ignore[attr-defined]
    assert fitted[0] == full[0] or fitted[1] == full[1]
    assert fitted[0] <= full[0]
    assert fitted[1] <= full[1]
    assert fitted[0] % 2 == fitted[1] % 2 == 0


def test_an_hour_of_crop_is_the_centre() -> None:
    window = crop_window(probe_of(), Fraction(9, 16), 1.0)
    assert (window.x, window.y, window.width, window.height) == (656, 0, 608, 1080)


def test_untagged_footage_is_read_as_players_read_it() -> None:
    assert color_matrix(probe_of()) == "bt709"
    assert color_matrix(probe_of(width=640, height=272)) == "smpte170m"
    assert color_matrix(probe_of(width=640, height=272, color_matrix=1)) == "bt709"
    assert color_matrix(probe_of(color_transfer=18, color_matrix=9)) == "bt709"


def test_a_path_of_a_stranger_stands_only_after_the_input_option() -> None:
    source = Path("/in/[0:v]movie=http\\://x,';drawtext=text=%{pts}.mp4")
    plan = RenderPlan(
        source, probe_of(), load_preset("cinematic"), 1, list(FORMATS.values()),
        {name: f"{name}.yuva" for name in FORMATS}, {(name, 0): f"captions_{name}_0.ass" for name in FORMATS},
    )  # fmt: skip
    outputs = {name: Path(f"/p/{name}.mp4") for name in FORMATS}
    arguments = render_arguments(plan, plan.segments[0], outputs)
    (graph,) = [argument for argument in arguments if "overlay" in argument]
    assert graph.count("ass=filename=captions_") == graph.count(":fontsdir=fonts") == 3
    mentions = [place for place, argument in enumerate(arguments) if "movie=" in argument]
    assert [arguments[place - 1] for place in mentions] == ["-i"]
    assert arguments[mentions[0]] == f"file:{source}"
    whitelists = arguments[: mentions[0]]
    assert {"-protocol_whitelist", "-format_whitelist", "-codec_whitelist", "-f"} <= set(whitelists)
