"""Speed ramp, jitter, glitch and grayscale, measured on decoded frames and sound of small renditions."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders.encoders import X264
from ettametta_pipelines.renders.engine import RenderedFile, render
from ettametta_pipelines.renders.formats import FORMATS, Format
from ettametta_pipelines.renders.glitch import Burst, command_script, plan_bursts
from ettametta_pipelines.renders.graph import RenderPlan
from ettametta_pipelines.renders.jitter import margin, reach, sway
from ettametta_pipelines.renders.recipe import (
    Colour,
    Glitch,
    Grain,
    Jitter,
    Letterbox,
    Originality,
    Recipe,
    SpeedRamp,
    Vignette,
)
from ettametta_pipelines.renders.tempo import rendered_duration, time_map
from ettametta_pipelines_tests.media.clips import clip, ffmpeg
from ettametta_pipelines_tests.renders.frames import NEARLY_LOSSLESS, luma, planes, sound

SMALL = (Format("small", 320, 180, "tests"), Format("narrow", 180, 320, "tests"))
PLAIN = Recipe(name="plain")
RAMPED = Recipe(name="ramped", speed_ramp=SpeedRamp(period_s=8))
SHAKEN = Recipe(name="shaken", jitter=Jitter(strength=0.03, hertz=3))
TORN = Recipe(name="torn", glitch=Glitch(strength=0.6, every_s=1, burst_s=0.2))


@pytest.fixture(scope="module", autouse=True)
def small_formats() -> object:
    """The engine as it is, on pictures small enough to render many of."""
    with pytest.MonkeyPatch.context() as patch:
        for format in SMALL:
            patch.setitem(FORMATS, format.name, format)
        yield


def rendered(source: Path, recipe: Recipe, out: Path, *, seed: int = 1, name: str = "small") -> RenderedFile:
    (one,) = render(source, require_probe(source), recipe, [name], seed, out)
    return one


@pytest.fixture
def hardly_any_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that does not carry what it lost in one frame into the next."""
    for option, value in NEARLY_LOSSLESS.items():
        monkeypatch.setitem(X264.quality, option, value)


@pytest.fixture(scope="module")
def texture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of one bright picture with detail everywhere; nothing in it is black."""
    folder = tmp_path_factory.mktemp("texture")
    coarse = np.random.default_rng(4).integers(110, 250, (90, 160), np.uint8)
    Image.fromarray(coarse).resize((640, 360), Image.Resampling.BICUBIC).save(folder / "t.png")
    ffmpeg(
        "-loop", "1", "-framerate", "25", "-t", "3", "-i", str(folder / "t.png"), "-c:v", "libx264", "-crf", "10",
        "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(folder / "t.mp4"),
    )  # fmt: skip
    return folder / "t.mp4"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.mp4"
    return clip(path, picture="testsrc2=s=640x360:r=25:d=2.4", sound="sine=d=2.4")


# Speed ramp

FLASHES = 15
FLASH_TIMES = [7 / 30 + 0.5 * place for place in range(FLASHES)]


def flash_and_click(path: Path, *, sound_delay_s: float = 0.0, extra: tuple[str, ...] = ()) -> Path:
    """Every half second two white frames and, at the same instant, a burst of sound; 8 s."""
    picture = r"color=black:s=320x180:r=30:d=8,eq=brightness=1:enable=lte(mod(n\,15)-7\,1)*gte(mod(n\,15)\,7)"
    delayed = rf"mod(t-7/30-{sound_delay_s}\,0.5)"
    burst = rf"aevalsrc=if(lt({delayed}\,0.03)*gte(t\,7/30+{sound_delay_s})\,0.8*sin(6000*t)\,0):d=8:s=48000"
    return clip(path, picture=picture, sound=burst, extra=extra)


def onsets(active: NDArray[np.bool_], apart: int) -> NDArray[np.int64]:
    """Places where something begins after at least so long a pause."""
    places = np.flatnonzero(active)
    return places[np.insert(np.diff(places) > apart, 0, True)]


@pytest.mark.parametrize(
    ("seed", "delay", "extra"),
    [
        (1, 0.0, ()),
        (2, 0.15, ()),
        # A file that counts time in whole frames.
        (3, 0.0, ("-video_track_timescale", "30")),
    ],
)
def test_a_speed_ramp_puts_every_flash_and_click_where_the_time_map_says(
    seed: int, delay: float, extra: tuple[str, ...], tmp_path: Path
) -> None:
    source = flash_and_click(tmp_path / "source.mp4", sound_delay_s=delay, extra=extra)
    one = rendered(source, RAMPED, tmp_path / "o", seed=seed)
    times = time_map(RAMPED, seed)
    flashes = onsets(luma(one.path).mean(axis=(1, 2)) > 120, 3) / 30
    expected = np.array([times.output_time(moment) for moment in FLASH_TIMES])
    assert np.abs(flashes[:FLASHES] - expected).max() <= 1 / 30
    samples, rate, first = sound(one.path)
    clicks = onsets(np.abs(samples) > 0.15, rate // 5) / rate + first
    heard = np.array([times.output_time(moment + delay) for moment in FLASH_TIMES])
    assert np.abs(clicks[:FLASHES] - heard).max() < 0.02
    # A steady speed cannot explain these times: the ramp varies.
    steady = np.polyfit(FLASH_TIMES, clicks[:FLASHES], 1)
    assert np.abs(np.polyval(steady, FLASH_TIMES) - clicks[:FLASHES]).max() > 0.012


@pytest.mark.parametrize("seed", range(4))
def test_a_ramped_rendition_lasts_as_long_as_the_curves_integral(seed: int, tmp_path: Path) -> None:
    source = clip(tmp_path / "s.mp4", picture="testsrc2=s=320x180:r=25:d=3", sound="sine=d=3")
    one = rendered(source, RAMPED, tmp_path / "o", seed=seed)
    expected = rendered_duration(RAMPED, seed, require_probe(source).duration_s)
    assert one.probe.duration_s == pytest.approx(expected, abs=0.021)
    # Sound ends with the last whole AAC frame of 21 ms before the picture's end.
    assert one.probe.audio_duration_s == pytest.approx(expected, abs=0.042)
    assert len(luma(one.path)) == round(expected * 25)


@given(
    st.integers(0, 2**31 - 1), st.floats(0.01, 0.05), st.floats(3, 30), st.floats(0, 10_800), st.floats(0, 60)
)
def test_the_time_map_rises_keeps_its_range_and_can_be_turned_round(
    seed: int, strength: float, period: float, moment: float, later: float
) -> None:
    times = time_map(Recipe(name="r", speed_ramp=SpeedRamp(strength=strength, period_s=period)), seed)
    assert times.output_time(0) == pytest.approx(0, abs=1e-12)
    assert 1 - strength - 1e-9 <= times.speed(moment) <= 1 + strength + 1e-9
    passed = times.output_time(moment + later) - times.output_time(moment)
    assert later / (1 + strength) - 1e-6 <= passed <= later / (1 - strength) + 1e-6
    assert times.source_time(times.output_time(moment)) == pytest.approx(moment, abs=1e-6)


def test_without_a_ramp_time_is_left_as_it_is() -> None:
    assert time_map(PLAIN, 1).is_identity
    assert rendered_duration(PLAIN, 1, 12.34) == 12.34
    assert not time_map(RAMPED, 1).is_identity


# Jitter


def translations(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (down, across) by which each frame shows the picture moved against the first, by phase correlation."""
    window = np.outer(np.hanning(frames.shape[1]), np.hanning(frames.shape[2]))
    spectra = np.fft.fft2((frames - frames.mean(axis=(1, 2), keepdims=True)) * window)
    cross = spectra * np.conj(spectra[0])
    peaks = np.fft.ifft2(cross / (np.abs(cross) + 1e-9)).real
    found = []
    for peak in peaks:
        row, column = np.unravel_index(peak.argmax(), peak.shape)
        found.append([(p + n // 2) % n - n // 2 for p, n in zip((row, column), peak.shape, strict=True)])
    return np.array(found, float)


@pytest.mark.parametrize("name", ["small", "narrow"])
def test_jitter_moves_every_frame_as_planned_within_its_band_and_shows_no_edge(
    name: str, texture: Path, tmp_path: Path
) -> None:
    one = rendered(texture, SHAKEN, tmp_path / "o", name=name)
    frames = luma(one.path)
    moved = translations(frames)
    jitter, format = SHAKEN.jitter, FORMATS[name]
    assert jitter is not None
    far = reach(jitter, format.width, format.height)
    across, down = (
        np.array([axis.offset(n / 25) for n in range(len(frames))]) * far for axis in sway(jitter, 1)
    )
    # The window of the crop goes right where the picture goes left.
    planned = -np.stack([np.round(down) - round(down[0]), np.round(across) - round(across[0])], axis=1)
    assert np.abs(moved - planned).max() <= 1
    for axis in range(2):
        assert np.ptp(moved[:, axis]) > 0.6 * far
        way = (moved[:, axis] - moved[:, axis].mean()) * np.hanning(len(moved))
        power = np.abs(np.fft.rfft(way)) ** 2
        # One bin and a half beyond the band: that far a window of three seconds smears.
        inside = np.fft.rfftfreq(len(way), 1 / 25) <= jitter.hertz + 0.5
        assert power[inside].sum() / power.sum() > 0.93
    edges = np.concatenate([frames[:, :2].ravel(), frames[:, -2:].ravel(), frames[:, :, :2].ravel()])
    assert edges.min() > 70, "never black"
    assert frames[:, :, -2:].min() > 70, "never black"


@given(st.integers(0, 2**31 - 1), st.floats(0.002, 0.03), st.floats(0.5, 6), st.floats(0, 10_800))
def test_the_sway_never_leaves_its_margin(seed: int, strength: float, hertz: float, moment: float) -> None:
    jitter = Jitter(strength=strength, hertz=hertz)
    axes = sway(jitter, seed)
    assert len(axes) == 2
    for axis in axes:
        assert axis.sines
        assert abs(axis.offset(moment)) <= 1 + 1e-9
        assert all(slow <= hertz for _, slow, _ in axis.sines)
        assert reach(jitter, 1080, 1920) <= margin(jitter, 1080, 1920)


def test_a_blurred_fill_sways_only_in_its_middle(texture: Path, tmp_path: Path) -> None:
    blurred = SHAKEN.model_copy(update={"fit": "blur"})
    frames = luma(rendered(texture, blurred, tmp_path / "o", name="narrow").path)
    assert frames[:, :90].std(axis=0).max() < 3
    assert frames[:, 115:205].std(axis=0).mean() > 5


# Grayscale


def test_grayscale_leaves_no_colour_and_the_same_brightness(scene: Path, tmp_path: Path) -> None:
    shift = Originality(colour=Colour(warmth=1, hue_degrees=10, saturation=1.3))
    gray = Recipe(name="g", grayscale=True, originality=shift)
    colourful = planes(rendered(scene, PLAIN, tmp_path / "a").path, limit=5)
    assert len(colourful) == 5
    for (y, u, v), (plain, plain_u, _) in zip(
        planes(rendered(scene, gray, tmp_path / "b").path, limit=5), colourful, strict=True
    ):
        assert np.abs(np.concatenate([u.ravel(), v.ravel()]) - 128).max() <= 1
        assert np.ptp(plain_u) > 60
        assert np.abs(y - plain).mean() < 2


# Glitch


def bursts_of(source: Path, recipe: Recipe, seed: int = 1) -> tuple[Burst, ...]:
    return RenderPlan(source, require_probe(source), recipe, seed, []).bursts


@pytest.mark.usefixtures("hardly_any_loss")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_glitch_tears_exactly_the_frames_of_its_bursts(seed: int, scene: Path, tmp_path: Path) -> None:
    plain = planes(rendered(scene, PLAIN, tmp_path / "a").path)
    torn = planes(rendered(scene, TORN, tmp_path / "b", seed=seed).path)
    differs = np.array(
        [
            sum(np.abs(one - two).mean() for one, two in zip(a, b, strict=True))
            for a, b in zip(plain, torn, strict=True)
        ]
    )
    inside = np.zeros(len(differs), bool)
    bursts = bursts_of(scene, TORN, seed)
    for burst in bursts:
        inside[burst.first : burst.end] = True
        assert burst.times(Fraction(25)) == (burst.first / 25, burst.end / 25)
    assert len(bursts) >= 1
    assert differs[inside].min() > 10
    assert differs[~inside].max() < 3, "only what the encoder makes of a neighbouring burst"


def test_a_glitch_slips_the_chroma_planes_apart_by_the_planned_pixels(texture: Path, tmp_path: Path) -> None:
    bars = "color=gray:s=640x360:r=25:d=1.2,drawbox=x=300:y=0:w=40:h=360:c=0xff2020:t=fill"
    source = clip(tmp_path / "bars.mp4", picture=bars, sound=None)
    recipe = TORN.model_copy(update={"glitch": Glitch(strength=1, every_s=1, burst_s=0.2)})
    frames = planes(rendered(source, recipe, tmp_path / "o").path)
    whole = [tear for burst in bursts_of(source, recipe) for tear in burst.tears if tear.block is None]
    assert whole
    for tear in whole:
        _, u, v = frames[tear.first]
        # The outermost rows are never sliced.
        blue, red = (np.abs(plane[:6] - 128).mean(axis=0) for plane in (u, v))
        columns = np.arange(len(blue))
        apart = (columns * blue).sum() / blue.sum() - (columns * red).sum() / red.sum()
        assert apart == pytest.approx((tear.slip_blue - tear.slip_red) / 2, abs=1)


@given(
    st.integers(0, 2**31 - 1),
    st.builds(Glitch, strength=st.floats(0.1, 1), every_s=st.floats(1, 60), burst_s=st.floats(0.1, 0.8)),
    st.integers(10, 4000),
    st.tuples(st.integers(64, 4096), st.integers(64, 4096)),
)
def test_every_burst_lies_in_the_video_and_every_slice_in_the_picture(
    seed: int, glitch: Glitch, frames: int, size: tuple[int, int]
) -> None:
    width, height = size
    bursts = plan_bursts(glitch, seed, frames, Fraction(30), width, height)
    assert bursts
    ends = [0]
    for burst in bursts:
        assert ends[-1] < burst.first < burst.end <= frames
        assert [tear.first for tear in burst.tears] == [burst.first, *(t.end for t in burst.tears[:-1])]
        assert burst.tears[-1].end == burst.end
        ends.append(burst.end)
        for one in (one for tear in burst.tears for one in tear.slices):
            assert 0 <= one.upper < one.upper + one.height <= one.lower
            assert one.lower + one.height <= height
            assert 0 < one.slide < width // 2
            assert {n % 2 for n in (one.upper, one.lower, one.height, one.slide)} == {0}
    assert command_script(bursts, Fraction(30), width).count(";\n") >= 2 * len(bursts)


# All together


@pytest.mark.parametrize("recipe", [RAMPED, SHAKEN, TORN], ids=lambda recipe: recipe.name)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    recipe: Recipe, scene: Path, tmp_path: Path
) -> None:
    one, same, other = (
        rendered(scene, recipe, tmp_path / name, seed=seed).sha256
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert one == same
    assert one != other


def perhaps(treatment: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), treatment)


RECIPES = st.builds(
    Recipe,
    name=st.just("any"),
    fit=st.sampled_from(["crop", "blur"]),
    grayscale=st.booleans(),
    originality=st.builds(
        Originality,
        mirror=st.booleans(),
        zoom=perhaps(st.floats(1.02, 1.08)),
        colour=st.builds(Colour, warmth=st.floats(-1, 1), hue_degrees=st.floats(-12, 12)),
    ),
    letterbox=perhaps(st.builds(Letterbox, height=st.floats(0.02, 0.15))),
    vignette=perhaps(st.builds(Vignette, strength=st.floats(0.05, 0.8))),
    grain=perhaps(st.builds(Grain, strength=st.integers(1, 20))),
    speed_ramp=perhaps(st.builds(SpeedRamp, strength=st.floats(0.01, 0.05), period_s=st.floats(3, 30))),
    jitter=perhaps(st.builds(Jitter, strength=st.floats(0.002, 0.03), hertz=st.floats(0.5, 6))),
    glitch=perhaps(
        st.builds(Glitch, strength=st.floats(0.1, 1), every_s=st.floats(1, 60), burst_s=st.floats(0.1, 0.8))
    ),
)


@pytest.fixture(scope="module")
def odd_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second, odd width and height."""
    path = tmp_path_factory.mktemp("odd") / "odd.mp4"
    picture = "testsrc2=s=334x178:r=30:d=1,crop=333:177:exact=1,format=yuv444p"
    return clip(path, picture=picture, sound="sine=d=1")


# Without shrinking: a failing example is small enough, and each costs a render.
@settings(max_examples=16, derandomize=True, deadline=None, phases=[Phase.generate])
@given(recipe=RECIPES, seed=st.integers(0, 2**31 - 1))
def test_any_subset_of_treatments_renders_and_passes_its_checks(
    recipe: Recipe, seed: int, odd_scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("subset")
    made = render(odd_scene, require_probe(odd_scene), recipe, ["small", "narrow"], seed, out)
    assert [one.format.name for one in made] == ["small", "narrow"]
    for one in made:
        assert one.findings
        assert all(finding.passed for finding in one.findings)
        assert one.probe.frames == round(rendered_duration(recipe, seed, 1.0) * 30)
    if recipe.grayscale:
        assert all(np.abs(u - 128).max() <= 1 for _, u, _ in planes(made[0].path, limit=3))
