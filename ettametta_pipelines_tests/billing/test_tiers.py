"""The tiers file: what is wrong with it is named, and nothing half-right is taken."""

from pathlib import Path

import pytest
import yaml

from ettametta_pipelines.billing.tiers import DEFAULT_TIERS_FILE, TiersFileError, load_tiers
from ettametta_pipelines.discovery.breadth import breadth_in_words, niches_by_plan
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.session import open_state


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("tiers", "creator", "videos"), -1, "tiers.creator.videos: Input should be greater than or equal to 0"),
        (("tiers", "creator", "monthly_minor"), 29.0, "tiers.creator.monthly_minor: Input should be a valid integer"),
        (("tiers", "creator", "colour"), "red", "tiers.creator.colour: Extra inputs are not permitted"),
        (("tiers", "creator", "features"), ["teleport"], "tiers.creator.features.0"),
        (("tiers", "creator", "lookup_key"), None, "a price and the lookup_key"),
        (("tiers", "creator", "lookup_key"), "empire_usd", "two tiers have the same lookup_key"),
        (("tiers", "creator", "monthly_minor"), 9900, "tiers must begin with a free one and become dearer"),
        (("tiers", "empire", "fair_use"), None, "unlimited videos need fair_use"),
        (("currency",), "XQQ", "the number of decimals of XQQ is not known"),
        (("on_dispute",), "shout", "on_dispute"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_its_place(
    tmp_path: Path, path: tuple[str, ...], value: object, problem: str
) -> None:
    document = yaml.safe_load(DEFAULT_TIERS_FILE.read_text())
    node = document
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    file = tmp_path / "tiers.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(TiersFileError) as refusal:
        load_tiers(file)
    assert problem in refusal.value.message
    assert str(file) in refusal.value.message


@pytest.mark.parametrize("text", ["", "tiers: [1]", "{", "tiers: {free: 3}"])
def test_what_is_no_tiers_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tiers.yaml").write_text(text)
    with pytest.raises(TiersFileError):
        load_tiers(tmp_path / "tiers.yaml")


def test_a_tiers_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TiersFileError, match=r"absent\.yaml"):
        load_tiers(tmp_path / "absent.yaml")


NICHES = """
niches:
  bread:
    title: Bread
    account: acme
    queries: [sourdough, baguette]
    regions: [US, GB]
    languages: [en]
  house:
    title: House
    queries: [lamp, rug]
"""


@pytest.mark.parametrize(("tier", "queries", "regions"), [("free", 1, 1), ("creator", 2, 2)])
def test_a_niche_of_an_account_is_searched_as_broadly_as_its_tier_and_the_houses_own_in_full(
    settings_env: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tier: str,
    queries: int,
    regions: int,
) -> None:
    (tmp_path / "niches.yaml").write_text(NICHES)
    monkeypatch.setenv("ETTAMETTA_NICHES", str(tmp_path / "niches.yaml"))
    monkeypatch.setenv("ETTAMETTA_DEFAULT_TIER", tier)
    get_settings.cache_clear()
    from ettametta_pipelines.discovery.niches import load_niches

    stated = load_niches(get_settings().niches_file)
    planned = niches_by_plan(get_settings(), open_state(get_settings()))
    assert (len(planned["bread"].queries), len(planned["bread"].regions)) == (queries, regions)
    assert planned["house"] == stated["house"]
    assert ("basic discovery" in breadth_in_words(stated["bread"], planned["bread"])) is (tier == "free")
