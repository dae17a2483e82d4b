"""What the repository brings along: no key in a tracked file, every package at a pinned version, licences known."""

import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# What keys of services look like, and what stands before those of certificates.
KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:(?:sk|rk)_(?:live|test)_|whsec_|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AKIA|ASIA|AIza|ya29\.|GOCSPX-"
    r"|shp(?:at|ca|pa|ss)_|sk-|hf_|SG\.|npm_|pypi-)[A-Za-z0-9_-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{16}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}"
)
LONG = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{28,}(?![\w+/-])")
# More bits a character than names and sentences have; of hexadecimal digits there are four at most.
RANDOM_BITS = 4.5
# Nobody draws these at random: whoever writes a stand-in for a key writes one of them.
MADE_UP = re.compile(r"0123|1234|abcd|ABCD|TEST|secret|canary|c4n4ry|sandbox|Sandbox|example", re.I)
COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|General Public|Mozilla", re.I)


def bits(text: str) -> float:
    """Entropy of one character, as the text itself uses them."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def keys_in(text: str) -> Iterator[str]:
    yield from (found for found in KEY.findall(text) if not MADE_UP.search(found))
    for found in LONG.findall(text):
        kinds = all(re.search(kind, found) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
        if (
            kinds
            and bits(found) > RANDOM_BITS
            and not MADE_UP.search(found)
            and "/" not in found.strip("/")[:12]
        ):
            yield found


def tracked() -> Iterator[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: nothing says which files are tracked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    yield from (ROOT / name for name in listed.decode().split("\0") if name)


def test_no_tracked_file_holds_a_key() -> None:
    found = {}
    for file in tracked():
        if file.is_file() and (said := list(keys_in(file.read_bytes().decode("utf-8", "ignore")))):
            # Never the key itself: what a test prints is kept for long.
            found[str(file.relative_to(ROOT))] = [f"{key[:6]}… ({len(key)} characters)" for key in said]
    assert found == {}


@pytest.mark.parametrize(
    "drawn",
    [
        "sk_live_" + "Qm7Zp2Xc9Rt4Vn8LwK3s", "AKIA" + "Q7ZP2XC9RT4VN8LW", "whsec_" + "hY7Kq0Zr3Wv9Xt5Bn1Mp",
        "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0B", "Zk9pQ2xV7rT4mN8bX1cL6wS3" + "yH5jF0dGuAeIoP+Rq",
    ],
)  # fmt: skip
def test_the_scan_finds_a_key_wherever_it_stands(drawn: str) -> None:
    assert list(keys_in(f"settings:\n  key: {drawn}\n"))
    assert not list(keys_in("an-odd-value-of-no-known-form and_a_function_name_that_is_quite_long_indeed"))


def test_no_file_of_settings_or_state_is_tracked() -> None:
    names = {file.name for file in tracked()}
    assert not {name for name in names if name == ".env" or name.endswith((".db", ".pem", ".key", ".p12"))}


def brought_along(extras: Iterable[str] = ("dev",)) -> dict[str, Distribution]:
    """Every distribution that ours needs, by its name: what the installation follows from setup.py."""
    found: dict[str, Distribution] = {}
    waiting = [("ettametta-pipelines", frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        try:
            here = distribution(name)
        except PackageNotFoundError:
            continue  # for another system, or one that this installation was not asked for
        found[canonicalize_name(name)] = here
        for line in here.requires or ():
            needs = Requirement(line)
            if needs.marker and not any(needs.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                continue
            one = (canonicalize_name(needs.name), frozenset(needs.extras))
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_everything_that_is_installed_for_us_is_pinned_at_its_version() -> None:
    here = {name: one.version for name, one in brought_along().items() if name != "ettametta-pipelines"}
    # What the virtual environment itself brings, and builds with.
    loose = {name: version for name, version in here.items() if name not in {"pip", "setuptools"}}
    assert len(loose) > 150
    assert {
        name: (version, pins().get(name)) for name, version in loose.items() if pins().get(name) != version
    } == {}


def test_every_package_whose_licence_binds_those_who_pass_it_on_is_named_with_what_follows() -> None:
    # It ships the GPL's espeak-ng, and says nothing of a licence in its metadata.
    binding = {"espeakng-loader"}
    for name, one in brought_along().items():
        about: Any = one.metadata
        licence = (about.get("License") or "").partition("\n")[0]
        classed = [line for line in about.get_all("Classifier") or [] if line.startswith("License")]
        if COPYLEFT.search(" ".join([about.get("License-Expression") or "", licence, *classed])):
            binding.add(name)
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    named = {canonicalize_name(name) for name in re.findall(r"^\| `([\w.-]+)`", page, re.M)}
    assert binding - named == set()
