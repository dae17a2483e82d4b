"""The operator's channels file: what it may say, and that every mistake is named with its line."""

from datetime import time
from pathlib import Path

import pytest

from ettametta_pipelines.publishing.policy import ChannelsFileError, load_channels

EXPERIMENT = "channels:\n  acme: {youtube: {experiments: {a: {kind: title, arms: "
TWO = "{x: {text: a}, y: {text: b}}}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "channels.yaml"


def test_a_channel_nobody_named_waits_for_a_person_and_shows_its_posts_to_its_owner() -> None:
    here = load_channels()
    assert here.channels == {}
    policy = here.of("acme", "tiktok")
    assert (policy.approval, policy.privacy, policy.slots) == ("manual", "SELF_ONLY", ())
    assert here.of("acme", "youtube").privacy == "private"


def test_a_channel_says_what_the_defaults_do_not(file: Path) -> None:
    file.write_text(
        """
defaults: {time_zone: Europe/Berlin, daily_cap: 2, tell: [team]}
channels:
  acme:
    youtube:
      approval: automatic
      daily_cap: 3
      slots:
        - {days: weekdays, at: [09:00, 18:30]}
        - {days: [sun], at: ["12:00"]}
  beta:
"""
    )
    here = load_channels(file)
    policy = here.of("acme", "youtube")
    assert (policy.approval, policy.daily_cap, policy.time_zone.key) == ("automatic", 3, "Europe/Berlin")
    assert policy.slots[0].at == (time(9), time(18, 30))
    assert policy.slots[1].days == ("sun",)
    assert here.of("other", "youtube").daily_cap == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chanels: {}", "line 1: chanels: unknown key"),
        ("channels:\n  acme:\n    youtube: {aproval: manual}", "line 3: channels.acme.youtube.aproval: unknown key"),
        ("channels:\n  acme:\n    myspace: {}", "line 3: channels.acme.myspace: not a platform"),
        ("channels:\n  acme:\n    youtube: {time_zone: Mars/Base}", "line 3: channels.acme.youtube.time_zone: not an"),
        (
            "channels:\n  acme:\n    youtube:\n      slots:\n      - days: daily\n        at: [9am]",
            "line 6: channels.acme.youtube.slots.0.at.0: not a time of day such as 18:30 (got '9am')",
        ),
        ("channels:\n  acme:\n    youtube:\n      slots: [{at: ['24:00']}]", "line 4: channels.acme.youtube.slots"),
        ("channels:\n  acme:\n    youtube: {slots: [{days: [fry], at: ['9:00']}]}", "slots.0.days.0: Input should be"),
        ("channels:\n  acme:\n    youtube: {privacy: everyone}", "line 3: channels.acme.youtube.privacy: 'every"),
        ("channels:\n  acme:\n    youtube: {daily_cap: 0}", "line 3: channels.acme.youtube.daily_cap"),
        ("channels:\n  acme:\n    youtube: {hashtags: ['#a']}", "line 3: channels.acme.youtube.hashtags.0"),
        ("defaults:\n  privacy: public", "line 2: defaults.privacy: each platform has its own words"),
        ("defaults: {daily_cap: many}", "line 1: defaults.daily_cap"),
        ("limits: {tiktok: 3}", "line 1: limits.tiktok: unknown key"),
        ("channels: {}\nchannels: {}", "line 2: the key 'channels' stands twice"),
        ("channels: [acme]", "line 1: channels: must be a mapping"),
        (EXPERIMENT + "{x: {text: '{name}'}, y: {text: b}}}}}}", "only {title} may stand in braces"),
        (EXPERIMENT + "{x: {text: b}}}}}}", "at least 2 items"),
        (EXPERIMENT + TWO + ", b: {kind: title, arms: " + TWO + "}}}", "one at a time"),
        (
            EXPERIMENT.replace("youtube", "tiktok").replace("title", "thumbnail") + TWO.replace("a}", "block}") + "}}}",
            "line 2: channels.acme.tiktok.experiments.a: only YouTube takes thumbnails",
        ),
        (EXPERIMENT.replace("title", "thumbnail") + TWO + "}}}", "a thumbnail is one of block, "),
        ("channels:\n  acme:\n    youtube: {slots: [{days: workdays, at: ['9:00']}]}", "must be a list of mon, tue"),
        ("- channels", "line 1: the top level must be a mapping"),
        ("channels: {", "line 2: not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(file: Path, text: str, said: str) -> None:
    file.write_text(text + "\n")
    with pytest.raises(ChannelsFileError) as caught:
        load_channels(file)
    assert said in caught.value.message
    assert caught.value.code == "bad_channels_file"


def test_all_mistakes_are_named_at_once(file: Path) -> None:
    file.write_text(
        "defaults:\n  weight: heavy\nchannels:\n  acme:\n    youtube: {daily_cap: x, approval: maybe}\n"
    )
    with pytest.raises(ChannelsFileError) as caught:
        load_channels(file)
    assert all(name in caught.value.message for name in ("defaults.weight", "daily_cap", "approval"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChannelsFileError, match="does not exist"):
        load_channels(tmp_path / "none.yaml")
