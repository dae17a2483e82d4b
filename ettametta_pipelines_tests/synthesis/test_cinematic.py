"""Cinematic motion, measured on decoded frames: smooth, within the picture, the same every time."""

from itertools import pairwise
from pathlib import Path

import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.synthesis.engines import cinematic
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines_tests.synthesis.motion import drawn_still, tremble, zoompan

SIZE = (360, 640)
STILL = drawn_still(540, 960)
REQUEST = ClipRequest("a wall", 2.0, *SIZE, fps=30, seed=5, image_sha256="a" * 64)


def test_a_slow_push_in_trembles_far_less_than_zoompan(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.mp4", tmp_path / "theirs.mp4"
    planes = cinematic.open_still(STILL, SIZE)
    move = cinematic.MOVES["push_in"]
    cinematic.write_video(cinematic.frames(planes, move, SIZE, 90), ours, SIZE, 30)
    zoompan(STILL, theirs, SIZE, 30, 90, cinematic.CLOSEST)
    assert tremble(ours, 15, 75) < tremble(theirs, 15, 75) / 4


def test_a_clip_has_the_frames_size_and_rate_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    heard: list[tuple[int, int]] = []
    cinematic.make_clip(REQUEST, STILL, path, progress=lambda made, of: heard.append((made, of)))
    probe = require_probe(path)
    assert (probe.width, probe.height, probe.fps, probe.frames) == (*SIZE, 30.0, 60)
    assert (probe.video_codec, probe.pixel_format, probe.color_matrix) == ("h264", "yuv420p", 1)
    assert heard == [(30, 60), (60, 60)]


def test_the_same_request_makes_the_same_bytes_and_another_seed_another_move(tmp_path: Path) -> None:
    first, again = tmp_path / "first.mp4", tmp_path / "again.mp4"
    cinematic.make_clip(REQUEST, STILL, first)
    cinematic.make_clip(REQUEST, STILL, again)
    assert file_sha256(first) == file_sha256(again)
    assert len({cinematic.choose_move(seed, SIZE, SIZE)[0] for seed in range(40)}) >= 8


@pytest.mark.parametrize("name", cinematic.MOVES)
@pytest.mark.parametrize("still", [(540, 960), (1200, 800), (700, 2100)])
def test_no_move_ever_looks_beyond_the_picture(name: str, still: tuple[int, int]) -> None:
    import numpy as np

    for step in range(41):
        matrix = cinematic.camera(cinematic.MOVES[name].at(step / 40), still, SIZE)
        right, bottom = SIZE[0] - 0.5, SIZE[1] - 0.5
        corners = matrix @ np.array([[-0.5, right, -0.5, right], [-0.5, -0.5, bottom, bottom], [1, 1, 1, 1]])
        places = corners[:2] / corners[2] + 0.5
        assert places.min() >= -1.0
        assert (places.max(axis=1) <= np.array(still) + 1.0).all()


@pytest.mark.parametrize(("still", "move"), [((1200, 640), "pan"), ((360, 1400), "sweep")])
def test_a_still_much_longer_than_the_clip_is_panned_along_its_length(
    still: tuple[int, int], move: str
) -> None:
    assert cinematic.choose_move(1, still, SIZE)[0].startswith(move)


def test_a_panorama_is_not_rushed_through() -> None:
    import numpy as np

    still = (4000, 640)
    _, move = cinematic.choose_move(1, still, SIZE)
    ways = [cinematic.camera(move.at(share), still, SIZE) @ np.array([0, 0, 1]) for share in (0.0, 1.0)]
    assert abs(ways[0][0] - ways[1][0]) <= 0.75 * SIZE[0]


def test_the_camera_gathers_speed_and_never_turns_back() -> None:
    way = [cinematic.eased(step / 200) for step in range(201)]
    steps = [after - before for before, after in pairwise(way)]
    assert (way[0], way[-1]) == (0.0, 1.0)
    assert min(steps) >= 0
    assert steps[0] < steps[15] < steps[100]
    assert max(abs(after - before) for before, after in pairwise(steps)) < 5e-4


@pytest.mark.parametrize("data", [b"", b"<svg/>", STILL[: len(STILL) // 3]])
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        cinematic.make_clip(REQUEST, data, tmp_path / "clip.mp4")
    assert caught.value.code == "still_unreadable"
