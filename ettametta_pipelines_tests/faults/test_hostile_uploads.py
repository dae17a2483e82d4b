"""A short selection of the hostile inputs through the real upload path; `make hostile` sends all of them."""

from ettametta_pipelines.settings import Settings
from ettametta_pipelines_tests.faults.hostile import play
from ettametta_pipelines_tests.faults.hostile_corpus import corpus

CHOSEN = {
    "concat of the file beside it", "HLS to a file as mp4", "media in the neighbour's file", "a pipe", "a folder",
    "a link to the neighbour", "a link to /dev/zero", "an upload under way", "replaced between tick and run",
    "a sidecar that names another folder", "a sidecar nested 30 000 deep",
    *(f"a good video named {name!r}" for name in ("two\nlines.mp4", "\x1b[31mred.mp4")),
}  # fmt: skip


def test_hostile_uploads_are_refused_by_name_and_the_next_good_one_is_rendered(
    settings_env: Settings,
) -> None:
    chosen = [upload for upload in corpus() if upload.what in CHOSEN]
    assert len(chosen) == len(CHOSEN)
    rows, leaked = play(settings_env.home_dir, chosen, lambda row: None)
    assert {row.upload.what: row.broken for row in rows if row.broken} == {}
    assert leaked == []
    assert rows[-1].verdict == "accepted"
