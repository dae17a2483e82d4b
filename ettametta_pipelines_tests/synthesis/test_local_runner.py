"""Clips ordered from a worker on this machine, and which of the three kinds of worker is asked."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.synthesis.clip_file import encode_clip
from ettametta_pipelines.synthesis.gpu_models import gpu_model
from ettametta_pipelines.synthesis.job import ClipJob, make_job
from ettametta_pipelines.synthesis.local import LocalSubprocessRunner
from ettametta_pipelines.synthesis.prices import EngineTable, load_engines
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult
from ettametta_pipelines.synthesis.runners import chosen_runner, open_runner
from ettametta_pipelines.synthesis.stills import first_still, named_still, still_of_footage, still_of_pexels
from ettametta_pipelines.vendors.pexels import PexelsClient
from ettametta_pipelines_tests.media.clips import clip

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
REQUEST = ClipRequest("a kite", 0.4, 32, 32, 24, 0)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Stands for the GPU environment's interpreter: whatever it is asked to run, it is the fake worker."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_WORKER}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def store(settings_env: Settings) -> ObjectStore:
    return open_store(settings_env)


def test_a_worker_of_this_machine_makes_every_clip_and_what_is_made_is_not_made_again(
    settings_env: Settings, store: ObjectStore, python: Path
) -> None:
    runner = LocalSubprocessRunner(settings_env, store, python)
    requests = [REQUEST, replace(REQUEST, prompt="fail")]
    made, failed = runner.run("j1", "ltx", "ltx-2-distilled", requests)
    assert isinstance(made, ClipResult)
    assert isinstance(failed, ClipFailure)
    assert store.exists(made.object_key)
    python.unlink()
    assert runner.run("j1", "ltx", "ltx-2-distilled", [REQUEST])[0] == made


def test_how_a_worker_of_this_machine_ended_decides_what_is_done(
    settings_env: Settings, store: ObjectStore, python: Path
) -> None:
    runner = LocalSubprocessRunner(settings_env, store, python)
    with pytest.raises(PipelineError, match="GPU worker"):
        runner.run("j2", "ltx", "ltx-2-distilled", [replace(REQUEST, prompt="crash")])


@pytest.mark.parametrize(
    ("variables", "chosen"),
    [
        ({}, None),
        ({"ETTAMETTA_GPU_PYTHON": sys.executable}, "local"),
        ({"ETTAMETTA_GPU_IMAGE": "registry/w@sha256:0", "ETTAMETTA_GPU_PYTHON": sys.executable}, "pod"),
        ({"RENDER_NODE_URL": "http://127.0.0.1:1", "ETTAMETTA_GPU_PYTHON": sys.executable}, "node"),
        (
            {"RENDER_NODE_URL": "http://127.0.0.1:1", "ETTAMETTA_GPU_PYTHON": sys.executable,
             "ETTAMETTA_GPU_RUNNER": "local"},
            "local",
        ),
    ],
)  # fmt: skip
def test_the_worker_is_the_one_that_is_configured(
    settings_env: Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str],
    chosen: str | None,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RENDER_NODE_SECRET", "s" * 40)
    settings = load_settings()
    assert chosen_runner(settings) == chosen
    if chosen in (None, "pod"):
        # Outside a run there is no step that a pod could belong to.
        with pytest.raises(NeedsPersonError) as failure:
            open_runner(settings, store)
        assert failure.value.code == "no_gpu_configured"
    else:
        name = type(open_runner(settings, store)).__name__
        assert name == {"local": "LocalSubprocessRunner", "node": "NodeRunner"}[chosen]


def test_a_worker_that_is_asked_for_and_not_configured_is_named(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_GPU_RUNNER", "pod")
    with pytest.raises(NeedsPersonError, match="ETTAMETTA_GPU_IMAGE is not set") as failure:
        chosen_runner(load_settings())
    assert failure.value.code == "gpu_runner_unconfigured"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": ""}, "model must be a text"),
        ({"engine": 7}, "engine must be a text"),
        ({"requests": [{"prompt": "x"}]}, "cannot be read"),
        ({"requests": [{"width": 0}]}, "width must be a whole number from 1 to 8192"),
        ({"requests": [{"fps": True}]}, "fps must be a whole number"),
        ({"requests": [{"seconds": 601}]}, "seconds must be more than 0"),
        ({"requests": [{"seconds": "1"}]}, "seconds must be more than 0"),
        ({"requests": [{"prompt": " "}]}, "a prompt is empty"),
    ],
)
def test_a_job_that_no_worker_could_do_is_refused_with_what_is_wrong(
    change: dict[str, Any], said: str
) -> None:
    document = json.loads(make_job("j", "ltx", "ltx-2-distilled", [REQUEST]).as_json())
    if requests := change.get("requests"):
        whole = [document["requests"][0] | one if said != "cannot be read" else one for one in requests]
        change = {"requests": whole}
    with pytest.raises(PermanentError, match=said) as failure:
        ClipJob.from_json(json.dumps(document | change).encode())
    assert failure.value.code == "bad_gpu_job"


def test_a_model_says_how_long_its_clips_may_be_and_an_unknown_one_which_there_are() -> None:
    model = gpu_model("wan2.2-ti2v-5b")
    assert model.frames(replace(REQUEST, seconds=5)) == 121
    with pytest.raises(PermanentError, match=r"at most 5\.0 s at 24 frames a second, not 6 s") as failure:
        model.frames(replace(REQUEST, seconds=6))
    assert failure.value.code == "clip_too_long"
    with pytest.raises(PermanentError) as unknown:
        gpu_model("wan9")
    assert "wan2.2-ti2v-5b" in unknown.value.remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["engines"]["ltx"].update(model="none"), "is not among its models"),
        (lambda d: d.update(chains={"quick": ["cinematic"]}), "chains need a"),
        (lambda d: d["engines"].pop("ltx"), "which has no models"),
    ],
)
def test_a_table_of_engines_that_no_chain_could_work_off_is_refused(
    change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    document = load_engines().model_dump()
    change(document)
    with pytest.raises(ValueError, match=said):
        EngineTable.model_validate(document)


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_cut_or_filled_to_the_length_of_the_picture(tmp_path: Path, channels: int) -> None:
    import av
    import numpy as np

    path = tmp_path / "clip.mp4"
    frames = np.zeros((24, 32, 32, 3), np.uint8)
    encode_clip(path, frames, 24, np.full((channels, 30_000), 0.5, np.float32), 24_000)
    with av.open(str(path)) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.channels == channels
        samples = sum(frame.samples for frame in container.decode(sound))
    assert samples == pytest.approx(24_000, abs=2048)


def test_a_still_is_the_sharpest_of_a_few_frames_and_only_with_a_right(
    store: ObjectStore, tmp_path: Path
) -> None:
    path = clip(
        tmp_path / "clip.mp4",
        picture="testsrc2=s=320x180:r=25:d=2,gblur=sigma='20':enable='lt(t,1.2)'",
        sound=None,
    )
    store.put_file("media/sources/a.mp4", path)
    source = {
        "source_id": "acme--1", "object_key": "media/sources/a.mp4", "container": "mov", "duration_s": 2.0,
        "rights": "owned", "attribution": None,
    }  # fmt: skip
    still = still_of_footage(store, source, tmp_path / "scratch")
    assert (still.origin, still.right) == ("acme--1", "owned")
    assert store.exists(still.object_key)
    with pytest.raises(PermanentError) as failure:
        still_of_footage(store, source | {"rights": "unknown"}, tmp_path / "scratch")
    assert failure.value.code == "still_right_missing"


def test_where_one_still_cannot_be_had_the_next_is_tried_and_it_is_told_why(
    settings_env: Settings, store: ObjectStore
) -> None:
    pexels = PexelsClient(settings_env.endpoint("pexels"), sleep=lambda _: None)
    tries = [
        lambda: named_still(store, "media/none.jpg", "owned"),
        lambda: still_of_pexels(store, pexels, [], upright=True, seed=1),
        lambda: still_of_pexels(store, pexels, ["kitchen"], upright=True, seed=1),
    ]
    still, failed = first_still(tries)
    assert still is not None
    assert (still.right, still.credit.startswith("Photo by ")) == ("licensed", True)
    assert [error.code for error in failed] == ["still_missing", "still_not_found"]
    assert first_still(tries[:2])[0] is None
