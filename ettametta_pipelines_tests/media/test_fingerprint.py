"""The fingerprint: near for the same picture in other clothes, far for another, mirrored noticed."""

from pathlib import Path

import numpy as np
import pytest

from ettametta_pipelines.media.analysis import analyse, analyse_source
from ettametta_pipelines.media.contracts import MEDIA_ANALYSIS
from ettametta_pipelines.media.fingerprint import (
    SAME_PICTURE_BITS,
    digest,
    distance,
    distance_to,
    from_bytes,
    from_digest,
    samples_of,
    to_bytes,
)
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.resemblance import find_resembling
from ettametta_pipelines.renders.engine import render
from ettametta_pipelines.renders.recipe import Originality, Recipe
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip, ffmpeg

# Scenes with something large in them, as footage has: test cards of fine lines would be told apart by nothing else.
SCENES = (
    "gradients=s=640x360:r=30:c0=orange:c1=navy:n=3:seed={seed}:speed=0.02:d=2,"
    "drawbox=x=40+60*{seed}:y=60:w=180:h=200:c=white:t=fill,drawbox=x=420:y=30*{seed}:w=90:h=90:c=black:t=fill"
)


def made(path: Path, seed: int) -> Path:
    return clip(path, picture=SCENES.format(seed=seed), sound=None)


def fingerprint(path: Path) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return samples_of(analyse(path, require_probe(path), path.parent).thumbs)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("original") / "original.mp4", 1)


COPIES = {
    "smaller and coarse": ("scale=320:180", ("-crf", "36")),
    "another frame rate": ("fps=24", ()),
    "brighter and in other colours": ("eq=brightness=0.06:contrast=1.15:saturation=0.6,hue=h=10", ()),
    "a little enlarged": ("crop=iw/1.04:ih/1.04,scale=640:360", ()),
    "upright pixels": ("scale=320:360,setsar=2", ()),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_near(kind: str, original: Path, tmp_path: Path) -> None:
    chain, coder = COPIES[kind]
    one = ("-threads", "1")  # else the copy depends on the machine
    ffmpeg("-i", str(original), "-vf", chain, "-c:v", "libx264", *one, *coder, str(tmp_path / "copy.mp4"))
    far = distance(fingerprint(original), fingerprint(tmp_path / "copy.mp4"))
    assert far.resembles
    assert not far.mirrored
    assert far.compared == 4


def test_a_mirrored_copy_is_near_and_noticed(original: Path, tmp_path: Path) -> None:
    ffmpeg("-i", str(original), "-vf", "hflip", str(tmp_path / "copy.mp4"))
    far = distance(fingerprint(original), fingerprint(tmp_path / "copy.mp4"))
    assert far.resembles
    assert far.mirrored


def test_other_footage_is_far(original: Path, tmp_path: Path) -> None:
    for seed in (3, 5):
        far = distance(fingerprint(original), fingerprint(made(tmp_path / f"{seed}.mp4", seed)))
        assert far.bits > 1.5 * SAME_PICTURE_BITS
        assert not far.resembles


def test_blank_pictures_say_nothing_and_a_number_of_bits_is_counted() -> None:
    rng = np.random.default_rng(1)
    one = rng.integers(0, 255, (3, 32, 32), np.uint8)
    flat = np.full((1, 32, 32), 30, np.uint8)
    samples = samples_of(np.concatenate([one, flat]).tobytes())
    assert samples[3] == 0
    assert distance(samples, samples).compared == 3
    assert distance(samples[3:], samples[3:]).compared == 0
    assert not distance(samples[3:], samples[3:]).resembles
    changed = samples ^ np.uint64(0b111 << 40)
    assert distance(samples[:3], changed[:3]).bits == 3
    flipped = samples_of(one[:, :, ::-1].tobytes())
    assert distance(samples[:3], flipped).bits == 0
    assert distance(samples[:3], flipped).mirrored


def test_what_is_stored_comes_back() -> None:
    samples = np.array([1, 2**63, 12345], np.uint64)
    assert list(from_bytes(to_bytes(samples))) == list(samples)
    assert len(digest(samples)) == 128
    assert set(from_digest(digest(samples))) == set(samples)
    assert from_digest(digest(samples[:0])).sum() == 0
    with pytest.raises(ValueError, match="digest"):
        from_digest("00")


def test_a_near_duplicate_of_another_video_of_the_account_is_named(original: Path, tmp_path: Path) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    ffmpeg("-i", str(original), "-vf", "hflip,scale=480:270", str(tmp_path / "copy.mp4"))
    files = {
        "studio--aaaa": original,
        "studio--bbbb": made(tmp_path / "other.mp4", 4),
        "rival--cccc": original,
        "studio--dddd": tmp_path / "copy.mp4",
    }
    rows = {}
    for source_id, path in files.items():
        store.put_file(f"media/sources/{source_id}.mp4", path)
        row, _ = analyse_source(store, source_id, f"media/sources/{source_id}.mp4", scratch=tmp_path / "s")
        MEDIA_ANALYSIS.frame([row])
        rows[source_id] = row
    found = {name: find_resembling(store, name, row["fingerprint_key"]) for name, row in rows.items()}
    twin = found["studio--dddd"]
    assert twin is not None
    assert twin.source_id == "studio--aaaa"
    assert "mirrored" in twin.in_words
    assert found["studio--bbbb"] is None
    assert found["rival--cccc"] is None


def test_a_rendition_says_how_far_its_picture_is_from_the_source(original: Path, tmp_path: Path) -> None:
    probe = require_probe(original)
    source = to_bytes(fingerprint(original))

    def shown(recipe: Recipe, format: str) -> dict[str, float]:
        (one,) = render(original, probe, recipe, [format], 1, tmp_path / format, fingerprint=source)
        finding = next(f for f in one.findings if f.name == "distance_from_source")
        assert finding.passed
        return dict(finding.measured)

    plain = shown(Recipe(name="p"), "16x9")
    assert plain["source_distance"] < 0.05
    assert plain["samples"] == 4
    turned = shown(Recipe(name="m", originality=Originality(mirror=True, zoom=1.08)), "16x9")
    assert turned["mirrored"]
    assert plain["source_distance"] < turned["source_distance"] < 0.2
    assert shown(Recipe(name="p"), "9x16")["source_distance"] > 0.15


def test_a_changed_pace_is_followed_back_to_the_source(original: Path) -> None:
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 255, (20, 32, 32), np.uint8)
    source = to_bytes(samples_of(pictures.tobytes()))
    half = distance_to(source, lambda seconds: 2 * seconds)
    assert half(pictures[::2].tobytes()).bits == 0
    assert distance_to(source, lambda seconds: seconds)(pictures[::2].tobytes()).bits > 10
    beyond = distance_to(source, lambda seconds: seconds + 100)
    assert beyond(pictures.tobytes()).compared == 0
