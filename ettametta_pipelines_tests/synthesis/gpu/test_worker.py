"""The real GPU worker with real pipelines, tiny and random, on this machine's processor."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import av
import dagster as dg
import numpy as np
import pytest
from PIL import Image

from ettametta_pipelines.failures import FailureKind, NeedsPersonError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.synthesis.job import ClipJob, Exit, collect, finished_clip, make_job
from ettametta_pipelines.synthesis.local import LocalSubprocessRunner
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult

ACCIDENTS = Path(__file__).with_name("worker_with_accidents.py")
LTX, WAN = "ltx-2-distilled", "wan2.2-ti2v-5b-distilled"


@pytest.fixture
def settings(
    tiny_models: Path, gpu_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ETTAMETTA_GPU_MODELS_DIR", str(tiny_models))
    monkeypatch.setenv("ETTAMETTA_GPU_PYTHON", str(gpu_python))
    return Settings(_env_file=None)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def shots(number: int, **more: Any) -> list[ClipRequest]:
    wanted = {"prompt": "a red kite", "seconds": 0.4, "width": 64, "height": 64, "fps": 24} | more
    return [ClipRequest(**wanted, seed=seed) for seed in range(number)]


def start(python: Path, store: ObjectStore, job: ClipJob, accident: str) -> "subprocess.Popen[str]":
    store.put(job.key, job.as_json())
    command = [str(python), str(ACCIDENTS), accident, "--job", f"store:{job.key}"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


@pytest.mark.parametrize(("model", "forwards"), [(LTX, 8), (WAN, 4)])
def test_a_distilled_model_is_called_once_a_step(
    gpu_python: Path, store: ObjectStore, model: str, forwards: int
) -> None:
    job = make_job("counted", "gpu", model, shots(1))
    worker = start(gpu_python, store, job, "count")
    said, trouble = worker.communicate(timeout=300)
    assert worker.returncode == Exit.DONE, trouble
    assert f"forwards: {forwards}\n" in said
    (made,) = collect(store, job)
    assert isinstance(made, ClipResult)
    assert made.provenance["forwards"] == str(forwards)


def test_a_dagster_run_hears_of_every_step_and_gets_clips_that_play_the_same_ones_for_the_same_request(
    settings: Settings, store: ObjectStore, gpu_python: Path, tmp_path: Path
) -> None:
    made: list[Any] = []

    @dg.asset
    def clips(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        made.extend(
            LocalSubprocessRunner(settings, store, gpu_python, context).run("heard", "gpu", LTX, shots(2))
        )
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([clips], instance=instance)
        said = [entry.message for entry in instance.all_logs(result.run_id)]
    steps = [message for message in said if message.startswith("Shot 2 of 2: step ")]
    assert len(steps) == 8
    for clip in made:
        path = store.local_path(clip.object_key)
        assert path is not None
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert sum(1 for _ in container.decode(video)) == clip.frames == 9
        with av.open(str(path)) as container:
            heard = sum(frame.samples for frame in container.decode(audio=0)) / 16000
            assert heard == pytest.approx(clip.frames / 24, abs=0.1)
    assert made[0].sha256 != made[1].sha256
    elsewhere = ObjectStore.from_url((tmp_path / "elsewhere").as_uri())
    (again,) = LocalSubprocessRunner(settings, elsewhere, gpu_python).run("again", "gpu", LTX, shots(1))
    assert again.sha256 == made[0].sha256


@pytest.mark.parametrize("model", [LTX, WAN])
def test_a_clip_begins_at_its_picture_and_a_picture_that_is_missing_or_none_fails_alone(
    settings: Settings, store: ObjectStore, gpu_python: Path, tmp_path: Path, model: str
) -> None:
    Image.fromarray(np.full((64, 64, 3), 128, dtype=np.uint8)).save(tmp_path / "still.png")
    store.put_file("stills/grey.png", tmp_path / "still.png")
    store.put("stills/words.png", b"no picture at all")
    requests = [
        *shots(1, image_key="stills/none.png", image_sha256="b" * 64),
        *shots(1, image_key="stills/words.png", image_sha256="c" * 64),
        *shots(1, image_key="stills/grey.png", image_sha256="a" * 64),
    ]
    missing, broken, made = LocalSubprocessRunner(settings, store, gpu_python).run(
        "stills", "gpu", model, requests
    )
    assert isinstance(made, ClipResult)
    assert isinstance(missing, ClipFailure)
    assert missing.code == "still_missing"
    assert isinstance(broken, ClipFailure)
    assert (broken.code, broken.kind) == ("still_unreadable", FailureKind.PERMANENT)


def test_a_shot_without_room_fails_alone_and_one_too_long_as_well(
    gpu_python: Path, store: ObjectStore
) -> None:
    job = make_job("room", "gpu", LTX, [*shots(3), *shots(1, seconds=60)])
    worker = start(gpu_python, store, job, "memory")
    _, trouble = worker.communicate(timeout=300)
    assert worker.returncode == Exit.DONE, trouble
    first, second, third, fourth = collect(store, job)
    assert isinstance(first, ClipResult)
    assert isinstance(third, ClipResult)
    assert isinstance(second, ClipFailure)
    assert (second.code, second.kind) == ("gpu_out_of_memory", FailureKind.PERMANENT)
    assert isinstance(fourth, ClipFailure)
    assert fourth.code == "clip_too_long"


def test_a_shot_of_no_numbers_a_black_one_and_one_the_disk_has_no_room_for_fail_alone(
    gpu_python: Path, store: ObjectStore
) -> None:
    job = make_job("trouble", "gpu", LTX, shots(5))
    worker = start(gpu_python, store, job, "trouble")
    _, trouble = worker.communicate(timeout=300)
    assert worker.returncode == Exit.DONE, trouble
    first, nan, black, no_room, last = collect(store, job)
    assert isinstance(first, ClipResult)
    assert isinstance(last, ClipResult)
    failed = [(one.code, one.kind) for one in (nan, black, no_room) if isinstance(one, ClipFailure)]
    assert failed == [
        ("clip_spoilt", FailureKind.PERMANENT),
        ("clip_spoilt", FailureKind.PERMANENT),
        ("clip_not_written", FailureKind.TRANSIENT),
    ]


def test_told_to_stop_it_finishes_its_shot_while_the_one_before_is_stored_and_the_next_makes_the_rest(
    gpu_python: Path, store: ObjectStore, settings: Settings
) -> None:
    job = make_job("stopped", "gpu", LTX, shots(3))
    worker = start(gpu_python, store, job, "slow")
    listen(worker, "Shot 2 of 3: step 2")
    worker.send_signal(signal.SIGTERM)
    listen(worker, "Shot 2 of 3: step 8")
    # Two seconds of painting lie behind the first shot's end; nothing was waited for.
    assert finished_clip(store, job.prefix, job.keyed()[0][0]) is not None
    worker.communicate(timeout=300)
    assert worker.returncode == Exit.STOPPED
    assert [finished_clip(store, job.prefix, key) is not None for key, _ in job.keyed()] == [
        True,
        True,
        False,
    ]
    said, _ = start(gpu_python, store, job, "count").communicate(timeout=300)
    assert "forwards: 8\n" in said
    assert all(isinstance(outcome, ClipResult) for outcome in collect(store, job))


def listen(worker: "subprocess.Popen[str]", words: str) -> None:
    """Read what it says up to these words."""
    assert worker.stdout is not None
    while words not in (line := worker.stdout.readline()):
        assert line, worker.communicate()


def test_it_ends_when_whoever_started_it_is_gone(gpu_python: Path, store: ObjectStore) -> None:
    job = make_job("orphan", "gpu", LTX, shots(3))
    store.put(job.key, job.as_json())
    command = [str(gpu_python), str(ACCIDENTS), "slow", "--job", f"store:{job.key}", "--with-parent"]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert worker.stdout is not None
    assert worker.stdin is not None
    worker.stdout.readline()
    worker.stdin.close()
    assert worker.wait(240) == Exit.STOPPED


@pytest.mark.parametrize(
    ("document", "code"),
    [(b"no json", Exit.BAD_JOB), (make_job("m", "gpu", "ltx-2.3", shots(1)).as_json(), Exit.NO_MODEL)],
)
def test_a_job_that_cannot_be_done_ends_with_its_own_code(
    gpu_python: Path, settings: Settings, tmp_path: Path, document: bytes, code: Exit
) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(document)
    command = [str(gpu_python), "-m", "ettametta_pipelines.synthesis.worker", "--job", str(path)]
    assert subprocess.run(command, env=os.environ, capture_output=True, timeout=60).returncode == code


def test_a_missing_checkpoint_is_a_persons_matter(
    settings: Settings, store: ObjectStore, gpu_python: Path
) -> None:
    with pytest.raises(NeedsPersonError) as failed:
        LocalSubprocessRunner(settings, store, gpu_python).run("none", "gpu", "ltx-2.3", shots(1))
    assert failed.value.code == "gpu_model_missing"
