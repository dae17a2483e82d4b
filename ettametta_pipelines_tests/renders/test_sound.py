"""Loudness and peaks of the track as encoded: what AAC moves is put right before the picture is made."""

from pathlib import Path

import pytest

from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders.engine import render
from ettametta_pipelines.renders.recipe import load_preset
from ettametta_pipelines_tests.media.clips import clip

TRACKS = {
    "pulses over near silence": "aevalsrc='if(lt(mod(t,1),0.01),0.9*sin(2*PI*3000*t),0.0005*random(0))':d=4",
    "loud white noise": "anoisesrc=d=4:a=0.9:seed=7",
    "quiet speech-like hum": "sine=f=180:d=4,volume=-22dB,tremolo=f=4:d=0.8",
}


@pytest.mark.parametrize("track", TRACKS.values(), ids=TRACKS)
def test_every_soundtrack_ends_below_the_ceiling_and_passes_its_checks(track: str, tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=320x240:r=30:d=4", sound=track)
    (made,) = render(source, require_probe(source), load_preset("clean"), ["1x1"], 1, tmp_path / "out")
    measured = {finding.name: finding.measured for finding in made.findings}
    assert measured["true_peak_below_ceiling"]
    assert all(finding.passed for finding in made.findings), made.findings
