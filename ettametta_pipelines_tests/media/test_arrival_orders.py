"""Uploads in random order, many of the same moment, before a sensor whose position is lost now and then."""

import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.media.inbox import Position, in_batches
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore
from ettametta_pipelines_tests.fuzz import tried
from ettametta_pipelines_tests.media.test_inbox import NOW, TODAY, YEARS_AGO, Inbox

pytestmark = pytest.mark.fuzz

names = st.sampled_from([f"{stem}{end}" for stem in "abcd" for end in (".mp4", "", ".mov", ".1.mp4")])
uploads = st.tuples(
    st.sampled_from(["acme", "other"]), st.sampled_from([TODAY, "2026/11/19", YEARS_AGO]), names,
    st.integers(1, 3), st.sampled_from([b"same bytes", b"others"]),
)  # fmt: skip
steps = st.lists(uploads | st.sampled_from(["look", "lose", "an hour"]), min_size=1, max_size=14)


@pytest.fixture(scope="module")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy."""
    path = tmp_path_factory.mktemp("arrivals") / "state.db"
    with StateDatabase(f"sqlite:///{path}") as database:
        database.migrate()
    return path


@tried(12, dear=5)
@given(steps=steps, at_once=st.integers(1, 4))
def test_each_upload_is_taken_once_in_whatever_order_and_of_whatever_moment(
    steps: list[object], at_once: int, empty_state: Path
) -> None:
    with TemporaryDirectory() as folder:
        state, objects = Path(folder) / "state.db", Path(folder) / "objects"
        shutil.copy(empty_state, state)
        objects.mkdir()
        with StateDatabase(f"sqlite:///{state}") as database:
            box = Inbox(ObjectStore.from_url(objects.as_uri()), database)
            placed: set[str] = set()
            taken: Counter[str] = Counter()
            for step in steps:
                if step == "look":
                    taken.update(box.taken(max_arrivals=at_once))
                elif step == "lose":
                    box.cursor = None
                elif step == "an hour":
                    # Through the same text as the daemon keeps it.
                    box.now = box.now.replace(hour=box.now.hour % 20 + 1)
                    assert Position.load(box.cursor).dump() == (box.cursor or Position().dump())
                elif isinstance(step, tuple):
                    account, day, name, minutes, data = step
                    key = f"uploads/{account}/travel/{day}/{name}"
                    if key not in placed:
                        box.place(key, data)
                        box.age(key, minutes=minutes * 20)
                        placed.add(key)
            box.now, box.cursor = NOW.replace(hour=23), None
            for _ in range(len(placed) + 1):
                taken.update(box.taken(max_arrivals=at_once))
            assert taken == dict.fromkeys(placed, 1)


@tried(60)
@given(
    keys=st.sets(st.tuples(st.sampled_from("ab"), names, st.sampled_from(["", ".json", ".srt"]))),
    size=st.integers(1, 5),
)
def test_batches_keep_order_lose_nothing_and_part_no_upload_from_its_words(
    keys: set[tuple[str, str, str]], size: int
) -> None:
    listed = [
        ObjectInfo(key, 1, "e", NOW) for key in sorted(f"uploads/{a}/{name}{end}" for a, name, end in keys)
    ]
    batches = list(in_batches(listed, size))
    assert [info for batch in batches for info in batch] == listed
    assert all(len(batch) <= 2 * size for batch in batches)
    for before, after in pairwise(batches):
        first, last = after[0].key, before[-1].key
        assert len(before) >= size
        assert first.split(".")[0] != last.split(".")[0] or len(before) == 2 * size
