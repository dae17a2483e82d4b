"""The operator's niches file."""

from pathlib import Path

import pytest

from ettametta_pipelines.discovery.niches import NichesFileError, find_niche, load_niches
from ettametta_pipelines.failures import PermanentError


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my-niches.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_packaged_niches_load_and_each_can_be_searched() -> None:
    niches = load_niches()
    assert len(niches) == 5
    assert all(niche.slug == slug and niche.queries for slug, niche in niches.items())


def test_a_niche_needs_only_a_title_and_queries(tmp_path: Path) -> None:
    file = write(tmp_path, "niches:\n  bread:\n    title: Bread\n    queries: [sourdough]\n")
    niche = load_niches(file)["bread"]
    assert (niche.queries, niche.regions, niche.weight) == (("sourdough",), (), 1.0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("niches:\n  bread: {title: Bread, queries: []}", "niches.bread.queries"),
        ("niches:\n  bread: {queries: [rye]}", "niches.bread.title"),
        ("niches:\n  bread: {title: B, queries: [rye], regions: [NO]}", "niches.bread.regions.0"),
        ("niches:\n  bread: {title: B, queries: [rye], weight: 0}", "niches.bread.weight"),
        (
            "niches:\n  bread: {title: B, queries: [rye], watch_channels: ['@baker']}",
            "niches.bread.watch_channels.0",
        ),
        ("niches:\n  bread: {title: B, queries: [rye], querys: [rye]}", "niches.bread.querys"),
        ("niches:\n  Rye Bread: {title: B, queries: [rye]}", "niches.Rye Bread.slug"),
        ("niches:\n  all: {title: B, queries: [rye]}", "niches.all.slug"),
        ("niches:\n  bread: rye", "niches.bread"),
        ("niches:\n  bread: {}\n  bread: {}", "'bread' stands twice"),
        ("niches: {}", "at least one niche"),
        ("[1, 2]", "exactly one key"),
        ("niches: [", "line 1"),
    ],
)
def test_a_bad_file_is_refused_naming_the_file_and_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(NichesFileError) as refused:
        load_niches(write(tmp_path, text))
    assert named in refused.value.message
    assert "my-niches.yaml" in refused.value.message
    assert refused.value.remedy


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    text = "niches:\n  a: {title: A, queries: []}\n  b: {title: B, queries: [ok], weight: -1}"
    with pytest.raises(NichesFileError, match=r"niches\.a\.queries.*niches\.b\.weight"):
        load_niches(write(tmp_path, text))


def test_a_country_that_yaml_reads_as_false_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NichesFileError) as refused:
        load_niches(write(tmp_path, "niches:\n  a: {title: A, queries: [ok], regions: [NO]}"))
    assert 'quote "NO"' in refused.value.remedy


def test_a_missing_file_says_which_variable_names_it(tmp_path: Path) -> None:
    with pytest.raises(NichesFileError) as refused:
        load_niches(tmp_path / "nowhere.yaml")
    assert "ETTAMETTA_NICHES" in refused.value.remedy


def test_an_unknown_niche_is_refused_naming_those_there_are() -> None:
    niches = load_niches()
    assert find_niche(niches, "travel").slug == "travel"
    with pytest.raises(PermanentError, match="fitness, home-cooking") as refused:
        find_niche(niches, "knitting")
    assert refused.value.code == "unknown_niche"
