"""The subject is found where it is: faces first, then what moves by itself, then what stands out."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ettametta_pipelines.media.faces import find_faces
from ettametta_pipelines.media.subject import (
    LOOKS_PER_S,
    Spotter,
    SubjectTrack,
    in_words,
    track_from_json,
)
from ettametta_pipelines_tests.media.people import Picture, backdrop, shipped, with_person

WIDTH, HEIGHT = 320, 180


def spotted(
    frame: Callable[[float], Picture], seconds: float = 4, cuts: tuple[float, ...] = ()
) -> SubjectTrack:
    spotter = Spotter(WIDTH, HEIGHT)
    for look in range(round(seconds * LOOKS_PER_S)):
        picture = frame(look / LOOKS_PER_S)
        spotter.look(look / LOOKS_PER_S, picture, np.asarray(Image.fromarray(picture).convert("L")))
    return spotter.track([0.0, *cuts], seconds, WIDTH / HEIGHT)


@pytest.mark.parametrize("half_height", [0.06, 0.1, 0.2])
@pytest.mark.parametrize("x", [0.15, 0.5, 0.85])
def test_a_face_is_found_where_it_is_and_as_large_as_it_is(x: float, half_height: float) -> None:
    face = find_faces(with_person(backdrop(WIDTH, HEIGHT), x, 0.45, half_height))[0]
    assert face.x == pytest.approx(x, abs=0.02)
    assert face.y == pytest.approx(0.45, abs=0.04)
    assert face.half_height == pytest.approx(half_height, rel=0.35)


@pytest.mark.parametrize(
    "name", ["coffee.png", "grass.png", "gravel.png", "brick.png", "motorcycle_left.png", "page.png"]
)
@pytest.mark.parametrize("size", [(320, 180), (180, 320), (318, 136)])
def test_pictures_without_people_have_no_faces_whatever_their_size(name: str, size: tuple[int, int]) -> None:
    assert find_faces(np.asarray(shipped(name).resize(size))) == []


def test_a_face_that_walks_through_the_picture_is_followed() -> None:
    empty = backdrop(WIDTH, HEIGHT)
    track = spotted(lambda t: with_person(empty, 0.2 + 0.15 * t, 0.4, 0.12))
    (shot,) = track.shots
    assert shot.method == "faces"
    assert len(shot.sightings) == shot.looks
    for sighting in shot.sightings:
        assert sighting.subject.x == pytest.approx(0.2 + 0.15 * sighting.time_s, abs=0.02)
    assert in_words(track) == "faces in 100% of frames"


def test_of_two_people_the_larger_stays_the_subject_and_both_are_the_company() -> None:
    empty = backdrop(WIDTH, HEIGHT)

    def pair(t: float) -> Picture:
        larger = with_person(empty, 0.25, 0.4, 0.14)
        # The smaller face turns away now and then.
        return with_person(larger, 0.75, 0.4, 0.1) if int(4 * t) % 3 else larger

    (shot,) = spotted(pair).shots
    assert {round(s.subject.x, 1) for s in shot.sightings} <= {0.2, 0.3}
    widest = max(shot.sightings, key=lambda s: s.company.half_width).company
    assert widest.x + widest.half_width == pytest.approx(0.8, abs=0.05)
    assert widest.x - widest.half_width == pytest.approx(0.2, abs=0.05)


def test_without_faces_what_moves_is_the_subject_and_a_moving_camera_is_not() -> None:
    wide = np.asarray(shipped("gravel.png").resize((2 * WIDTH, 2 * HEIGHT)))

    def frame(t: float, *, pan: int = 0, ball: bool = True) -> Picture:
        left = round(pan * t) // 2 * 2
        picture = wide[:HEIGHT, left : left + WIDTH].copy()
        if ball:
            across, down = (
                round(WIDTH * (0.7 + 0.05 * np.sin(9 * t))),
                round(HEIGHT * (0.5 + 0.05 * np.cos(7 * t))),
            )
            picture[down - 15 : down + 15, across - 15 : across + 15] = (200, 60, 40)
        return picture

    for pan in (0, 40):
        (shot,) = spotted(lambda t, pan=pan: frame(t, pan=pan)).shots  # type: ignore[misc]
        assert shot.method == "motion"
        assert all(s.subject.x == pytest.approx(0.7, abs=0.07) for s in shot.sightings)
    (shot,) = spotted(lambda t: frame(t, pan=40, ball=False)).shots
    assert shot.method != "motion"


def test_in_a_still_picture_what_stands_out_is_the_subject_and_nothing_is_none() -> None:
    plain = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    marked = plain.copy()
    marked[70:110, 235:275] = (230, 40, 40)
    (shot,) = spotted(lambda t: marked).shots
    assert shot.method == "saliency"
    assert shot.sightings[0].subject.x == pytest.approx(0.8, abs=0.04)
    (shot,) = spotted(lambda t: plain).shots
    assert (shot.method, shot.sightings) == ("none", ())


def test_shots_are_judged_apart() -> None:
    empty = backdrop(WIDTH, HEIGHT)
    track = spotted(lambda t: with_person(empty, 0.2 if t < 2 else 0.8, 0.4, 0.12), cuts=(2.0,))
    assert [round(shot.sightings[0].subject.x, 1) for shot in track.shots] == [0.2, 0.8]
    assert [shot.looks for shot in track.shots] == [8, 8]
    assert track.shot_at(1.99) is track.shots[0]
    near = track.near(2.1)
    assert near is not None
    assert near.subject.x == pytest.approx(0.8, abs=0.02)


def test_a_track_survives_the_store_and_one_of_another_revision_is_not_read() -> None:
    track = spotted(lambda t: with_person(backdrop(WIDTH, HEIGHT), 0.3, 0.4, 0.12), seconds=1)
    data = track.as_json()
    again = track_from_json(data)
    assert again is not None
    assert again.as_json() == data
    assert track_from_json(json.dumps(json.loads(data) | {"revision": 0}).encode()) is None
