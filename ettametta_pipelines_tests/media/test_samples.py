"""The demo's samples: different from each other, alive, heard, cut into shots, and the same every time."""

from dataclasses import replace
from pathlib import Path

import pytest

from ettametta_pipelines.media import samples
from ettametta_pipelines.media.analysis import analyse
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.samples import SAMPLES, make_samples


@pytest.mark.slow
def test_the_samples_are_good_uploads_with_shots_motion_and_sound(tmp_path: Path) -> None:
    paths = make_samples(tmp_path / "samples")
    assert [path.name for path in paths] == [sample.name for sample in SAMPLES]
    shapes = set()
    for sample, path in zip(SAMPLES, paths, strict=True):
        probe = require_probe(path)
        assert (probe.width, probe.height) == sample.size
        assert 8 <= probe.duration_s <= 10.1
        assert probe.fps == pytest.approx(30)
        seen = analyse(path, probe, tmp_path)
        assert len(seen.shot_starts_s) == len(sample.shots)
        assert seen.mean_motion > 0.001
        assert seen.loudness is not None
        assert seen.loudness.lufs > -30
        shapes.add(probe.width > probe.height)
    assert shapes == {True, False}
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in paths]
    assert make_samples(tmp_path / "samples") == paths
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in paths] == before, "kept, not made again"
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == sorted(s.name for s in SAMPLES)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_sample_comes_out_the_same_every_time(
    sample: samples.Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(sample, shot_s=0.4, shots=sample.shots[-1:])
    monkeypatch.setattr(samples, "SAMPLES", (short,))
    (one,) = make_samples(tmp_path / "a")
    (two,) = make_samples(tmp_path / "b")
    assert one.read_bytes() == two.read_bytes()
