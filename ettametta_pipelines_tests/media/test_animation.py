"""Short animated previews: small, moving, and of the video they are named after."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ettametta_pipelines.media.animation import BUDGET, animated, keep_preview
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders.playback import play
from ettametta_pipelines.renders.quality import RENDITION
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip

# Red, then green, then blue: a colour a second.
THIRDS = (
    "color=red:s=360x640:r=30:d=2[r];color=lime:s=360x640:r=30:d=2[g];color=blue:s=360x640:r=30:d=2[b];"
    "[r][g][b]concat=n=3"
)


def frames_of(webp: bytes) -> list[np.ndarray]:
    with Image.open(BytesIO(webp)) as image:
        return [np.asarray(frame.convert("RGB"), dtype=float) for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize("played", [False, True], ids=["decoded for it", "kept while it is checked"])
def test_a_preview_shows_the_beginning_the_middle_and_the_end(tmp_path: Path, played: bool) -> None:
    file = clip(tmp_path / "thirds.mp4", picture=THIRDS, sound=None)
    probe = require_probe(file)
    webp = (
        play(file, probe, RENDITION, tmp_path, imprint=True).preview
        if played
        else animated(file, probe, tmp_path)
    )
    frames = frames_of(webp)
    assert len(webp) <= BUDGET
    assert {frame.shape for frame in frames} == {(288, 162, 3)}
    assert set(map(int, (frame.mean(axis=(0, 1)).argmax() for frame in frames))) == {0, 1, 2}
    assert list(tmp_path.iterdir()) == [file]


def test_a_restless_picture_stays_within_the_budget(tmp_path: Path) -> None:
    noise = "nullsrc=s=640x360:r=30:d=4,geq=random(1)*255:random(2)*255:random(3)*255"
    file = clip(tmp_path / "noise.mp4", picture=noise, sound=None)
    webp = animated(file, require_probe(file), tmp_path)
    assert len(webp) <= BUDGET
    assert len(frames_of(webp)) >= 4


def test_the_shortest_video_has_a_preview_too(tmp_path: Path) -> None:
    file = clip(tmp_path / "short.mp4", picture="testsrc2=s=320x320:r=30:d=1", sound=None)
    probe = require_probe(file)
    assert frames_of(animated(file, probe, tmp_path))
    assert frames_of(play(file, probe, RENDITION, tmp_path, imprint=True).preview)


def test_a_preview_is_made_once_and_lies_beside_its_video(tmp_path: Path) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    file = clip(tmp_path / "clip.mp4", sound=None)
    key = keep_preview(store, "media/clips/veo/k.mp4", file, require_probe(file), tmp_path)
    assert key == "media/clips/veo/k.preview.webp"
    store.put(key, b"as it was")
    keep_preview(store, "media/clips/veo/k.mp4", file, require_probe(file), tmp_path)
    assert store.get(key) == b"as it was"
