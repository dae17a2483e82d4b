"""The documents tell the truth: what they link to, show and name exists, and what can be set is named in them."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
from typer.core import TyperGroup

from ettametta_pipelines.cli import app
from ettametta_pipelines.definitions import defs
from ettametta_pipelines.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
VARIABLES = {(field.alias or name).upper() for name, field in Settings.model_fields.items()}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
# A word of a command: `ettametta keys rotate --new`, as it stands in a line of code.
COMMAND = re.compile(r"(?:^|[\s/(`&|])(?<!-n )ettametta((?: +[^\s`|&#]+)*)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_of(page: Path) -> Iterator[str]:
    """Lines of code blocks, and code in sentences."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.findall(text):
        yield from block.splitlines()[1:-1]
    for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
        yield " ".join(code.split())


def anchors_of(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def source_text() -> str:
    """Everything the repository holds but its documents."""
    folders = ("ettametta_pipelines", "ettametta_pipelines_tests", "scripts", "k8s", ".ci")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()]
    files += [file for file in ROOT.iterdir() if file.is_file() and file.suffix != ".md"]
    kinds = {".py", ".yaml", ".yml", ".sql", ".sh", ".toml", ".html", ".graphql", ".txt", ""}
    texts = [file.read_text(encoding="utf-8") for file in files if file.suffix in kinds]
    return "\n".join(texts)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    lost = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and anchor not in anchors_of(file)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_and_option_exists(page: Path) -> None:
    program = typer.main.get_command(app)
    unknown = []
    for line in code_of(page):
        for said in COMMAND.findall(line):
            words, command = said.split(), program
            if not words or not re.fullmatch(r"[a-z][a-z-]*", words[0]):
                continue
            while words and isinstance(command, TyperGroup):
                if words[0] not in command.commands:
                    unknown.append(f"ettametta{said}")
                    break
                command = command.commands[words.pop(0)]
            options = {"--help", *(name for parameter in command.params for name in parameter.opts)}
            unknown += [f"ettametta{said}: {w}" for w in words if w.startswith("--") and w not in options]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {name for line in code_of(page) for name in re.findall(r"\bmake ([a-z][a-z-]*)", line)}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_variable_and_code_word_exists(page: Path) -> None:
    named = {
        word
        for line in code_of(page)
        for word in re.findall(r"(?<![\w.])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", line)
    }
    ours = {word for word in named if word.startswith("ETTAMETTA_")}
    assert ours <= VARIABLES
    assert [word for word in sorted(named - VARIABLES) if word not in source_text()] == []


def test_every_variable_is_named_in_a_document() -> None:
    said = set(re.findall(r"[A-Z][A-Z0-9_]+", "\n".join(page.read_text(encoding="utf-8") for page in PAGES)))
    assert sorted(VARIABLES - said) == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/handbook").glob("*.md")), ids=name_of)
def test_every_job_asset_and_sensor_the_handbook_starts_exists(page: Path) -> None:
    made = defs()
    there = {key.to_user_string() for key in made.resolve_asset_graph().get_all_asset_keys()}
    there |= {thing.name for thing in (*made.resolve_all_job_defs(), *made.sensors, *made.schedules)}
    steps = re.findall(r"\*\*(?:Jobs|Catalog|Automation)\*\*(?: →|,) `([a-z0-9_]+)`", page.read_text("utf-8"))
    assert set(steps) <= there


def test_pictures_are_small_and_each_is_shown() -> None:
    pictures = sorted((ROOT / "docs/handbook/pictures").glob("*.png"))
    shown = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [file.name for file in pictures if f"pictures/{file.name}" not in shown] == []
    assert [file.name for file in pictures if file.stat().st_size > 100_000] == []
    assert sum(file.stat().st_size for file in pictures) < 1_500_000
