"""The claim of weights: filled by a list, with commits, so that no worker sees half a checkpoint."""

import os
import subprocess
from pathlib import Path

import pytest

from ettametta_pipelines_tests.k8s.rendered import named, render

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# What the hub's client does as far as the script can see: files in the directory it is told, or an end in the middle.
HF = """#!/bin/sh
[ "$1" = download ] && [ "$3" = --revision ] && [ "$5" = --local-dir ] || exit 9
mkdir -p "$6/.cache"
echo "$2 $4" >"$6/model_index.json"
echo asked >>"$ASKED"
if [ -n "${BREAKS:-}" ]; then exit 1; fi
"""


class Claim:
    """A directory in the claim's place, and the job's own script."""

    def __init__(self, home: Path) -> None:
        self.home, self.models = home, home / "models"
        self.models.mkdir()
        (home / "bin").mkdir()
        (home / "bin/hf").write_text(HF)
        (home / "bin/hf").chmod(0o755)
        script = named(render("production"), "ConfigMap", "ettametta-models")["data"]["fetch.sh"]
        (home / "fetch.sh").write_text(script)

    def fetch(self, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.home / "models.txt").write_text(text)
        return subprocess.run(
            ["sh", "fetch.sh", "models.txt", "models"], cwd=self.home, capture_output=True, text=True, check=False,
            env={"PATH": f"{self.home}/bin:{os.environ['PATH']}", "TMPDIR": str(self.home),
                 "ASKED": str(self.home / "asked"), **environment},
        )  # fmt: skip

    @property
    def asked(self) -> int:
        return len((self.home / "asked").read_text().splitlines())


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    return Claim(tmp_path)


def test_checkpoints_are_fetched_once_and_by_commit(claim: Claim) -> None:
    text = f"# a note\n\nltx  owner/ltx  {COMMIT}\nwan  owner/wan  {COMMIT}\n"
    assert claim.fetch(text).returncode == 0
    assert claim.fetch(text).stdout == "ltx is there.\nwan is there.\n"
    assert claim.asked == 2
    assert (claim.models / "wan/model_index.json").read_text() == f"owner/wan {COMMIT}\n"
    assert sorted(path.name for path in claim.models.iterdir()) == ["ltx", "wan"]


def test_an_interrupted_download_is_not_a_checkpoint_and_is_gone_on_with(claim: Claim) -> None:
    assert claim.fetch(f"ltx owner/ltx {COMMIT}\n", BREAKS="yes").returncode != 0
    assert not (claim.models / "ltx").exists()
    assert claim.fetch(f"ltx owner/ltx {COMMIT}\n").returncode == 0
    assert (claim.models / "ltx/.fetched").exists()


def test_another_commit_does_not_replace_what_workers_may_be_reading(claim: Claim) -> None:
    claim.fetch(f"ltx owner/ltx {COMMIT}\n")
    refused = claim.fetch(f"ltx owner/ltx {COMMIT[::-1]}\n")
    assert refused.returncode == 2
    assert "another commit" in refused.stderr
    assert COMMIT in (claim.models / "ltx/model_index.json").read_text()


@pytest.mark.parametrize(
    "text", ["# nothing\n", "ltx owner/ltx main\n", f"ltx owner/ltx {COMMIT} more\n", "ltx\n"]
)
def test_a_list_that_pins_nothing_is_refused(claim: Claim, text: str) -> None:
    assert claim.fetch(text).returncode == 2


def test_nothing_is_downloaded_before_somebody_says_so() -> None:
    job = named(render("production"), "Job", "ettametta-models")["spec"]
    assert job["suspend"] is True
    mounts = {mount["name"]: mount for mount in job["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert "readOnly" not in mounts["models"]
