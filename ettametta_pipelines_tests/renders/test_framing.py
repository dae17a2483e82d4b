"""The camera keeps the subject, rests when it may, pans without stepping, and jumps at cuts alone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ettametta_pipelines.media.faces import find_faces
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.subject import Extent, Method, ShotTrack, Sighting, SubjectTrack
from ettametta_pipelines.renders.encoders import X264
from ettametta_pipelines.renders.engine import QualityFailure, render, render_file
from ettametta_pipelines.renders.formats import FORMATS, Format
from ettametta_pipelines.renders.framing import (
    CALM,
    FARTHEST,
    FASTEST_PER_S,
    QUICKEST_PER_S2,
    CropPath,
    Framed,
    judge_framing,
    plan_path,
)
from ettametta_pipelines.renders.jitter import margin, sway
from ettametta_pipelines.renders.recipe import Jitter, Letterbox, Originality, Recipe, SpeedRamp
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines_tests.media.clips import ffmpeg
from ettametta_pipelines_tests.media.people import backdrop, with_person
from ettametta_pipelines_tests.renders.frames import NEARLY_LOSSLESS, luma

PLAIN = Recipe(name="plain")
UPRIGHT, WIDE = FORMATS["9x16"], FORMATS["16x9"]
SHOWN = (9 / 16) / (16 / 9)


def shot(
    where: "dict[float, float] | list[float]",
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    half: float = 0.04,
    method: Method = "faces",
    axis: str = "x",
) -> ShotTrack:
    """A shot with its subject here, at times given or four times a second."""
    at = where if isinstance(where, dict) else {start_s + place / 4: x for place, x in enumerate(where)}
    extents = {
        t: Extent(x, 0.4, half, half) if axis == "x" else Extent(0.5, x, half, half) for t, x in at.items()
    }
    seen = tuple(Sighting(t, e, e, confidence=0.9) for t, e in extents.items())
    return ShotTrack(start_s, max(at) + 0.25 if end_s is None else end_s, method, len(seen), seen)


def track(*shots: ShotTrack, aspect: float = 16 / 9) -> SubjectTrack:
    return SubjectTrack(aspect, shots)


def path_of(*shots: ShotTrack, recipe: Recipe = PLAIN, format: Format = UPRIGHT) -> CropPath:
    path = plan_path(track(*shots), recipe, format)
    assert path is not None
    return path


def along(path: CropPath, begin_s: float, end_s: float, per_s: int = 60) -> NDArray[np.float64]:
    return np.array([path.centre(t) for t in np.arange(begin_s, end_s, 1 / per_s)])


# --- the path --------------------------------------------------------------------------------------------------------


def test_a_subject_that_keeps_its_place_or_only_sways_is_shown_by_a_camera_that_stands_still() -> None:
    sways = [0.7 + 0.03 * math.sin(1.3 * place) for place in range(80)]
    centres = set(along(path_of(shot(sways)), 0, 20))
    assert len({round(centre, 9) for centre in centres}) == 1
    assert centres.pop() == pytest.approx(0.7, abs=0.03)


def test_a_walk_is_followed_in_one_go_within_the_bounds_of_speed_and_change_of_speed() -> None:
    walk = [0.25] * 12 + [0.25 + 0.5 * place / 16 for place in range(17)] + [0.75] * 16
    path = path_of(shot(walk))
    centres = along(path, 0, 11) / SHOWN
    speed = np.diff(centres) * 60
    assert speed.min() > -1e-6
    assert speed.max() <= FASTEST_PER_S + 1e-3
    assert np.abs(np.diff(speed) * 60).max() <= QUICKEST_PER_S2 + 0.05
    # It moves once: from the first movement to the last it never stops on the way.
    moving = np.flatnonzero(speed > 1e-3)
    assert (speed[moving[0] : moving[-1]] > 1e-3).all()
    for place, x in enumerate(walk):
        assert abs(path.centre(place / 4) - x) <= FARTHEST * SHOWN + 0.01
    assert path.centre(0.5) == pytest.approx(0.25, abs=CALM * SHOWN)
    assert path.centre(10.5) == pytest.approx(0.75, abs=CALM * SHOWN)


def test_someone_pacing_to_and_fro_within_the_comfort_zone_moves_no_camera() -> None:
    pacing = [0.6 + 0.8 * CALM * SHOWN * math.sin(0.9 * place / 4) for place in range(120)]
    assert len({round(centre, 9) for centre in along(path_of(shot(pacing)), 0, 30)}) == 1


def test_the_camera_jumps_at_a_cut_and_moves_on_neither_side_of_it() -> None:
    path = path_of(shot([0.25] * 8), shot([0.75] * 8, start_s=2.0))
    before, after = along(path, 0, 2), along(path, 2, 4)
    assert before.std() == after.std() == pytest.approx(0)
    assert (before[-1], after[0]) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.75, abs=0.02))


def test_a_shot_without_a_subject_shows_the_centre_and_one_who_is_lost_for_a_while_is_waited_for() -> None:
    empty = ShotTrack(2.0, 4.0, "none", 8, ())
    gap = {0.25 * place: 0.3 for place in range(8)} | {6 + 0.25 * place: 0.32 for place in range(8)}
    path = path_of(shot([0.25] * 8), empty, shot({4 + t: x for t, x in gap.items()}, start_s=4.0))
    assert set(along(path, 2, 4)) == {0.5}
    assert along(path, 4, 12).std() == pytest.approx(0, abs=1e-9)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.02, 0.3), st.sampled_from(["9x16", "1x1"])
)
@settings(max_examples=25, deadline=None)
def test_whatever_is_seen_the_window_stays_in_the_picture_and_the_path_is_the_same_again(
    where: list[float], half: float, name: str
) -> None:
    seen = track(shot(where, half=half))
    path, again = (plan_path(seen, PLAIN, FORMATS[name]) for _ in range(2))
    if path is None:
        assert again is None
        return
    assert again is not None
    assert again.digest == path.digest
    centres = along(path, 0, len(where) / 4, per_s=25)
    assert centres.min() >= path.shown / 2 - 1e-4
    assert centres.max() <= 1 - path.shown / 2 + 1e-4


def test_a_long_shot_is_laid_in_pieces_that_do_not_show() -> None:
    wander = [0.5 + 0.3 * math.sin(place / 4 / 5) for place in range(4 * 200)]
    path = path_of(shot(wander))
    centres = along(path, 0, 199, per_s=20) / SHOWN
    assert np.abs(np.diff(centres, 2) * 20**2).max() <= QUICKEST_PER_S2 + 0.05
    kept = judge_framing(Framed(track(shot(wander)), path, PLAIN), 1080, 1920)
    assert kept.share_cut_off == 0


def test_at_full_speed_across_the_border_of_two_pieces_a_path_is_still_found() -> None:
    darting = [(0.05, 0.95)[place // 9 % 2] for place in range(4 * 150)]
    points = np.array(path_of(shot(darting, half=0.1)).shots[0].points) / SHOWN
    assert np.abs(np.diff(points)).max() <= FASTEST_PER_S / 4 + 1e-4
    assert np.abs(np.diff(points, 2)).max() <= QUICKEST_PER_S2 / 16 + 1e-4


def test_two_people_are_shown_together_where_both_fit_and_the_main_one_where_not() -> None:
    alone, both = Extent(0.3, 0.4, 0.04, 0.08), Extent(0.45, 0.4, 0.19, 0.08)
    seen = tuple(Sighting(place / 4, alone, both, 0.9) for place in range(16))
    pair = ShotTrack(0, 4, "faces", 16, seen)
    assert path_of(pair).centre(2) == pytest.approx(0.3, abs=0.02)
    assert path_of(pair, format=FORMATS["1x1"]).centre(2) == pytest.approx(0.45, abs=0.02)


def test_of_an_upright_source_a_wide_format_shows_the_height_the_face_is_at_between_letterbox_bars() -> None:
    high = track(shot([0.3] * 12, axis="y", half=0.05), aspect=9 / 16)
    path = plan_path(high, PLAIN, WIDE)
    assert path is not None
    assert path.axis == "y"
    assert path.centre(1) == pytest.approx(0.35, abs=0.02)
    barred = Recipe(name="barred", letterbox=Letterbox(height=0.15))
    bars = round(0.15 * 1080)
    kept = judge_framing(Framed(high, plan_path(high, barred, WIDE), barred), 1920, 1080, bars)
    assert kept.share_cut_off == 0


def test_where_nothing_is_cut_or_the_recipe_says_so_there_is_no_path() -> None:
    side = track(shot([0.2] * 8))
    assert plan_path(side, PLAIN, WIDE) is None
    assert plan_path(side, Recipe(name="a", fit="blur"), UPRIGHT) is None
    assert plan_path(side, Recipe(name="a", framing="centre"), UPRIGHT) is None
    assert plan_path(None, PLAIN, UPRIGHT) is None
    assert plan_path(track(shot([0.5] * 8)), PLAIN, UPRIGHT) is None
    unsure = tuple(replace(s, confidence=0.3) for s in side.shots[0].sightings)
    assert plan_path(track(replace(side.shots[0], sightings=unsure)), PLAIN, UPRIGHT) is None


# --- on decoded frames -----------------------------------------------------------------------------------------------

TALL = Format("tall", 360, 640, "tests")
LENGTH, HEIGHT, RATE = 640, 360, 25
WINDOW = 202


@pytest.fixture(autouse=True)
def tall_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine as it is, on a picture small enough to render often, with an encoder that loses hardly anything."""
    monkeypatch.setitem(FORMATS, TALL.name, TALL)
    for option, value in NEARLY_LOSSLESS.items():
        monkeypatch.setitem(X264.quality, option, value)


@pytest.fixture(scope="module")
def columns() -> NDArray[np.float64]:
    """Brightness of each column of the still source."""
    coarse = np.random.default_rng(5).integers(70, 200, 81).astype(np.float64)
    return np.interp(np.arange(LENGTH), np.arange(81) * 8, coarse)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory, columns: NDArray[np.float64]) -> Path:
    """Nine seconds of one picture with keyframes to begin segments at."""
    folder = tmp_path_factory.mktemp("still")
    Image.fromarray(np.tile(columns.round().astype(np.uint8), (HEIGHT, 1))).save(folder / "still.png")
    ffmpeg(
        "-loop", "1", "-framerate", str(RATE), "-t", "9", "-i", str(folder / "still.png"), "-c:v", "libx264",
        "-crf", "4", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-color_range", "tv", "-g", "50",
        str(folder / "still.mp4"),
    )  # fmt: skip
    return folder / "still.mp4"


# Pans, cuts to the left, and is in the middle of a pan at 6 s, where the second segment begins.
CUT_S = 3.0
RIGHT = [0.3] * 4 + [0.3 + 0.4 * place / 4 for place in range(5)] + [0.7] * 3
LEFT_AND_ON = [0.25] * 9 + [0.25 + 0.5 * place / 8 for place in range(9)] + [0.75] * 6
MOVING = track(shot(RIGHT), shot(LEFT_AND_ON, start_s=CUT_S))


def measured_lefts(
    rendition: Path, columns: NDArray[np.float64], *, mirrored: bool, window: float
) -> NDArray[np.float64]:
    """First column of the source in each frame, found to a tenth of one by shifting what it should look like."""
    lefts = np.arange(0, LENGTH - window, 0.1)
    pixels = (np.arange(TALL.width) + 0.5) / TALL.width * window - 0.5
    looks = np.stack([np.interp(left + pixels, np.arange(LENGTH), columns) for left in lefts])
    looks = (looks - looks.mean(axis=1, keepdims=True)) / looks.std(axis=1, keepdims=True)
    profiles = luma(rendition)[:, 300:340].mean(axis=1)
    shown = (profiles[:, ::-1] if mirrored else profiles) - profiles.mean(axis=1, keepdims=True)
    return lefts[(shown @ looks.T).argmax(axis=1)]


RECIPES = {
    "plain": PLAIN,
    "mirrored and nearer": Recipe(name="a", originality=Originality(mirror=True, zoom=1.05)),
    "at a varying pace": Recipe(name="b", speed_ramp=SpeedRamp(period_s=5)),
    "held by hand": Recipe(name="c", jitter=Jitter(strength=0.02, hertz=2)),
}


@pytest.mark.parametrize("what", RECIPES)
def test_each_frame_shows_what_the_path_says_whatever_else_is_done(
    what: str, still: Path, columns: NDArray[np.float64], tmp_path: Path
) -> None:
    recipe, seed = RECIPES[what], 3
    path = plan_path(MOVING, recipe, TALL)
    assert path is not None
    (made,) = render(still, require_probe(still), recipe, [TALL.name], seed, tmp_path, subject=MOVING)
    zoom = recipe.originality.zoom or 1.0
    window, per_pixel = WINDOW / zoom, WINDOW / zoom / TALL.width
    swaying: NDArray[np.float64] | float = 0.0
    if recipe.jitter is not None:
        edge = margin(recipe.jitter, TALL.width, TALL.height)
        window = 207 * TALL.width / (TALL.width + 2 * edge)
        across = sway(recipe.jitter, seed)[0]
    lefts = measured_lefts(made.path, columns, mirrored=recipe.originality.mirror, window=window)
    times = np.arange(len(lefts)) / RATE
    if recipe.jitter is not None:
        swaying = np.array([0.02 * TALL.width * across.offset(t) for t in times]) * window / TALL.width
    wanted = np.array([path.centre(time_map(recipe, seed).source_time(t)) for t in times]) * LENGTH
    lefts = lefts + window / 2 - swaying
    # A pixel of the output, half a one more where the sway is rounded by itself; a cut between two frames of a ramped
    # rendition falls to the nearer.
    allowed = per_pixel * (1.7 if recipe.jitter else 1.2)
    off = np.abs(lefts - np.clip(wanted, window / 2, LENGTH - window / 2))
    assert (off > allowed).sum() <= (1 if recipe.speed_ramp else 0), off.max() / per_pixel
    if what == "plain":
        jumps = np.flatnonzero(np.abs(np.diff(lefts)) > 40)
        assert list(jumps + 1) == [CUT_S * RATE]
        # The pan has no steps: changes of speed from frame to frame stay below what one pixel of rounding makes.
        of_shots = np.split(lefts, [round(CUT_S * RATE)])
        second = np.concatenate([np.diff(of_shot, 2) for of_shot in of_shots])
        assert np.abs(second).max() / per_pixel <= 2.2


def test_a_walking_face_is_kept_from_upload_to_file_and_a_centred_crop_of_it_is_refused(
    tmp_path: Path,
) -> None:
    empty = backdrop(640, 360)
    (tmp_path / "frames").mkdir()
    for place in range(50):
        picture = with_person(empty, 0.12 + 0.25 * place / 50, 0.42, 0.11)
        Image.fromarray(picture).save(tmp_path / "frames" / f"{place:03}.png", compress_level=1)
    source = tmp_path / "walk.mp4"
    ffmpeg(
        "-framerate", "25", "-i", str(tmp_path / "frames" / "%03d.png"), "-c:v", "libx264", "-crf", "14",
        "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(source),
    )  # fmt: skip
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("originality: {mirror: true, zoom: 1.03}\n")
    document = render_file(source, str(recipe), ["tall"], tmp_path / "out")
    assert document["subject"] == "faces in 100% of frames"
    (check,) = (c for c in document["outputs"][0]["checks"] if c["name"] == "subject_in_frame")
    assert check["passed"]
    frames = luma(tmp_path / "out" / "walk_tall.mp4")[::7]
    for frame in frames:
        grey = np.clip((frame - 16) * 255 / 219, 0, 255).astype(np.uint8)
        face = find_faces(np.stack([grey] * 3, axis=2))[0]
        assert 0.2 < face.x < 0.8

    side = require_probe(source)
    seen = track(shot([0.15] * 12, half=0.05))
    with pytest.raises(QualityFailure) as caught:
        render(
            source, side, Recipe(name="c", framing="centre"), ["tall"], 1, tmp_path / "centre", subject=seen
        )
    failed = [finding for finding in caught.value.findings["tall"] if not finding.passed]
    assert [finding.name for finding in failed] == ["subject_in_frame"]
    assert failed[0].sentence.startswith("The subject is cut off in 100% of the 12 frames")
    assert "framing: subject" in failed[0].sentence
    assert ("tall", "subject_in_frame") in caught.value.frames
