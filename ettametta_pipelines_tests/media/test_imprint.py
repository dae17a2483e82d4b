"""The imprint: a video is known again in other clothes, and another is not."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ettametta_pipelines.media import landmarks, melody
from ettametta_pipelines.media.imprint import Imprint, compare, imprint_of
from ettametta_pipelines.media.landmarks import landmarks_of, mirror_mask
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines_tests.media.clips import ffmpeg
from ettametta_pipelines_tests.media.scenes import film

UPRIGHT = "crop=ih*9/16:ih:iw*0.4:0,scale=360:640"
WORN = "eq=contrast=0.92:saturation=1.2,noise=c0s=8:c0f=t,vignette=PI/5"
LETTERS = "drawbox=y=ih*0.65:h=ih*0.12:color=black@0.8:t=fill,drawbox=x=iw*0.2:y=ih*0.68:w=iw*0.5:h=ih*0.04:color=white"
# Filters of picture and sound, the coder's options, and by what it is to be known.
CLOTHES = {
    "mirrored": ("hflip", "anull", (), "mirrored picture and sound"),
    "upright": (UPRIGHT, "anull", (), "picture and sound"),
    "cut to 80 percent": ("crop=iw*0.8:ih*0.8:iw*0.15:ih*0.05", "anull", (), "picture and sound"),
    "slower": ("setpts=PTS/0.8", "atempo=0.8", (), "picture and sound"),
    "faster, and the pitch with it": (
        "setpts=PTS/1.25", "asetrate=60000,aresample=48000", (), "picture and sound",
    ),
    "between bars": ("pad=iw:iw:0:(oh-ih)/2", "volume=-9dB", (), "picture and sound"),
    "coarse": ("scale=480:270", "anull", ("-b:v", "150k", "-b:a", "24k"), "picture and sound"),
    "with words": (LETTERS, "anull", (), "picture and sound"),
    "upright, mirrored and worn": (f"hflip,{UPRIGHT},{WORN}", "anull", (), "mirrored picture and sound"),
    "with another sound": ("null", "", (), "picture"),
    "as sound alone": ("drawbox=t=fill:color=black", "anull", (), "sound"),
}  # fmt: skip


def dressed(source: Path, path: Path, picture: str, sound: str, coder: tuple[str, ...]) -> Path:
    other = "sine=frequency=330:beep_factor=4:sample_rate=48000:duration=6"
    heard = ("-map", "0:a", "-af", f"aresample=48000,{sound}") if sound else ("-map", "1:a")
    ffmpeg(
        "-i", str(source), "-f", "lavfi", "-i", other, "-map", "0:v", "-vf", f"{picture},format=yuv420p", *heard,
        "-c:v", "libx264", "-preset", "superfast", "-threads", "1", *coder, "-c:a", "aac", "-shortest", str(path),
    )  # fmt: skip
    return path


def taken(path: Path) -> Imprint:
    return imprint_of(path, require_probe(path), path.parent)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Three films of their own and two from one room."""
    folder = tmp_path_factory.mktemp("films")
    made = {seed: film(folder / f"{seed}.mp4", seed, seconds=6) for seed in (1, 2, 3)}
    return made | {seed: film(folder / f"{seed}.mp4", seed, seconds=6, studio=5) for seed in (12, 13)}


@pytest.fixture(scope="module")
def posts(films: dict[int, Path]) -> dict[int, Imprint]:
    return {seed: taken(path) for seed, path in films.items()}


@pytest.mark.parametrize("kind", CLOTHES)
def test_a_post_is_known_again_and_no_other_is_taken_for_it(
    kind: str, films: dict[int, Path], posts: dict[int, Imprint], tmp_path: Path
) -> None:
    *how, known_by = CLOTHES[kind]
    again = taken(dressed(films[1], tmp_path / "again.mp4", *how))
    answers = compare(again, list(posts.values()))
    assert {seed: answer.kind for seed, answer in zip(posts, answers, strict=True)} == {
        seed: known_by if seed == 1 else "" for seed in posts
    }


def test_films_of_one_room_are_told_apart_by_what_happens_in_it(posts: dict[int, Imprint]) -> None:
    (answer,) = compare(posts[12], [posts[13]])
    assert answer.picture.marks > 50
    assert answer.picture.elsewhere > 0.5 * answer.picture.marks
    assert not answer.resembles


def test_no_film_resembles_another(posts: dict[int, Imprint]) -> None:
    assert len(posts) > 2
    for one, other in combinations(posts, 2):
        (answer,) = compare(posts[one], [posts[other]])
        assert not answer.resembles, (one, other, answer)


def test_one_post_is_found_among_many(posts: dict[int, Imprint]) -> None:
    rng = np.random.default_rng(1)
    crowd = [posts[2 + number % 2] for number in range(60)]
    place = int(rng.integers(60))
    crowd[place] = posts[1]
    assert [number for number, answer in enumerate(compare(posts[1], crowd)) if answer.resembles] == [place]


def test_what_is_kept_comes_back_and_is_small(posts: dict[int, Imprint]) -> None:
    data = posts[1].to_bytes()
    again = Imprint.from_bytes(data)
    assert (again.marks == posts[1].marks).all()
    assert (again.course == posts[1].course).all()
    assert len(data) < 7_000
    for broken in (b"", data[:-1], b"XXXX" + data[4:]):
        with pytest.raises(ValueError, match="imprint"):
            Imprint.from_bytes(broken)


def test_a_mirrored_picture_has_the_same_landmarks_with_a_known_half_of_the_bits_turned(
    films: dict[int, Path],
) -> None:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (12, 21), np.uint8)
    picture = np.kron(coarse, np.ones((18, 18), np.uint8))
    plain, turned = (
        landmarks_of(one[None], 1.0) for one in (picture, np.ascontiguousarray(picture[:, ::-1]))
    )
    bits = np.bitwise_count(plain["hash"][:, None] ^ turned["hash"] ^ np.uint64(mirror_mask()))
    assert np.median(bits.min(axis=1)) <= 4
    assert 20 <= mirror_mask().bit_count() <= 44


def test_what_shows_and_says_nothing_resembles_nothing() -> None:
    blank = Imprint(
        landmarks_of(np.full((4, 100, 100), 90, np.uint8), 2.0), melody.course_of(np.zeros(80_000, np.int16))
    )
    assert not len(blank.marks)
    assert not blank.course.any()
    assert not compare(blank, [blank])[0].resembles
    nothing = Imprint(np.empty(0, landmarks.FORM), np.zeros((0, melody.BANDS), np.int8))
    assert compare(nothing, []) == []
    assert compare(blank, [nothing])[0].kind == ""


def test_a_long_video_is_looked_at_less_often() -> None:
    assert landmarks.frame_rate(8) == 2
    assert landmarks.frame_rate(320) == pytest.approx(0.1)
