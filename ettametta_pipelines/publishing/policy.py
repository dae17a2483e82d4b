"""The operator's channels: one validated YAML file -> when and whether each channel is posted to.

Light (pydantic and yaml only) and read anew whenever it is needed, so that an edit holds without a restart. What is
due when by these rules is `queue.py`; whether a person has approved a post is `approvals.py`.
"""

from collections.abc import Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.posts import DEFAULT_PRIVACY, PRIVACY_CHOICES

DEFAULT_CHANNELS_FILE = Path(__file__).with_name("channels.yaml")

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
DAY_WORDS: Mapping[str, tuple[Weekday, ...]] = {
    "daily": WEEKDAYS,
    "weekdays": WEEKDAYS[:5],
    "weekend": WEEKDAYS[5:],
}
THUMBNAIL_STYLES = frozenset({"plain", "headline", "block"})


class ChannelsFileError(PermanentError):
    """The channels file is missing, unreadable or holds a value that cannot be used."""


def _time_of_day(value: object) -> time:
    hours, colon, minutes = str(value).partition(":")
    if not (colon and hours.isdecimal() and minutes.isdecimal() and len(hours) <= 2 and len(minutes) == 2):
        raise ValueError("not a time of day such as 18:30")
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError("not a time of day between 00:00 and 23:59")
    return time(int(hours), int(minutes))


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("not an IANA time zone such as Europe/Berlin") from error


def _days(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in DAY_WORDS:
        raise ValueError(f"must be a list of {', '.join(WEEKDAYS)}, or one of {', '.join(DAY_WORDS)}")
    return DAY_WORDS[value]


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class SlotRule(_Rules):
    """Posting times of some weekdays, local to the channel's time zone."""

    days: Annotated[tuple[Weekday, ...], BeforeValidator(_days)] = Field(default=WEEKDAYS, min_length=1)
    at: tuple[Annotated[time, BeforeValidator(_time_of_day)], ...] = Field(min_length=1, max_length=48)


class Arm(_Rules):
    """One variant: what it says, and its share beside the others. `{title}` stands for the video's own title."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
    share: float = Field(default=1.0, gt=0, le=1000)


class Experiment(_Rules):
    """Variants of one thing, of which every post gets one by chance."""

    kind: Literal["title", "hook", "thumbnail"]
    arms: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,29}$")], Arm] = Field(
        min_length=2, max_length=6
    )


class ChannelPolicy(_Rules):
    """How one channel is posted to. The defaults are the safest: a person approves, only the owner sees."""

    approval: Literal["manual", "automatic"] = "manual"
    time_zone: Annotated[ZoneInfo, BeforeValidator(_zone)] = ZoneInfo("UTC")
    slots: tuple[SlotRule, ...] = Field(default=(), max_length=50)
    daily_cap: int | None = Field(default=None, ge=1, le=1000)
    min_gap_minutes: int = Field(default=30, ge=1, le=10_080)
    privacy: str = ""
    hashtags: tuple[
        Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^#<>,]{1,100}$")], ...
    ] = Field(default=(), max_length=30)
    tell: tuple[
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)], ...
    ] = Field(default=(), max_length=20)
    weight: float = Field(default=1.0, gt=0, le=100)
    # Off unless asked for: an offer makes the post commercial content, with flags that people see.
    offers: Literal["none", "products", "links", "both"] = "none"
    experiments: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")], Experiment] = (
        Field(default={}, max_length=10)
    )


class Limits(_Rules):
    """What platforms take beside the vendor quotas. TikTok's is reported, not documented."""

    tiktok_posts_per_24_hours: int = Field(default=15, ge=1, le=1000)


class Channels(BaseModel):
    """All channels of the file. One that is not in it is posted to by the defaults."""

    model_config = ConfigDict(frozen=True)

    limits: Limits = Limits()
    defaults: ChannelPolicy = ChannelPolicy()
    channels: dict[tuple[str, str], ChannelPolicy] = {}

    def of(self, account: str, platform: str) -> ChannelPolicy:
        """The channel's policy, its privacy filled in."""
        policy = self.channels.get((account, platform), self.defaults)
        return policy if policy.privacy else policy.model_copy(update={"privacy": DEFAULT_PRIVACY[platform]})


def load_channels(path: Path | None = None) -> Channels:
    """The channels file, or the packaged one, which names none.

    Raises ChannelsFileError naming the file and, for each bad field, its line and what may stand there.
    """
    file = path or DEFAULT_CHANNELS_FILE
    document, lines = _read(file)
    reader = _Reader(lines)
    for key in set(document) - {"limits", "defaults", "channels"}:
        reader.note((key,), "unknown key; there are limits, defaults and channels")
    defaults = reader.mapping(document, "defaults")
    if "privacy" in defaults:
        reader.note(("defaults", "privacy"), "each platform has its own words; set it per channel")
    limits = reader.model(Limits, reader.mapping(document, "limits"), [("limits",)])
    whole = reader.model(
        ChannelPolicy, {k: v for k, v in defaults.items() if k != "privacy"}, [("defaults",)]
    )
    channels: dict[tuple[str, str], ChannelPolicy] = {}
    for account, platforms in reader.mapping(document, "channels").items():
        where = ("channels", account)
        for platform, fields in reader.mapping({account: platforms}, account, above=("channels",)).items():
            if platform not in PRIVACY_CHOICES:
                reader.note((*where, platform), f"not a platform; use {' or '.join(sorted(PRIVACY_CHOICES))}")
                continue
            own = reader.mapping({platform: fields}, platform, above=where)
            policy = reader.model(ChannelPolicy, {**defaults, **own}, [(*where, platform), ("defaults",)])
            if policy is not None:
                _check_words(reader, policy, platform, (*where, platform))
                channels[account, platform] = policy
    if reader.problems or limits is None or whole is None:
        raise _bad_file(file, "; ".join(said for _, said in sorted(reader.problems)))
    return Channels(limits=limits, defaults=whole, channels=channels)


def _check_words(reader: "_Reader", policy: ChannelPolicy, platform: str, where: "_Path") -> None:
    if policy.privacy and policy.privacy not in PRIVACY_CHOICES[platform]:
        choices = ", ".join(sorted(PRIVACY_CHOICES[platform]))
        reader.note((*where, "privacy"), f"{policy.privacy!r} is not one of {choices}")
    kinds = [experiment.kind for experiment in policy.experiments.values()]
    if len(kinds) > len(set(kinds)):
        reader.note((*where, "experiments"), "one at a time for titles, hooks and thumbnails each")
    for name, experiment in policy.experiments.items():
        if experiment.kind == "thumbnail" and platform != "youtube":
            reader.note((*where, "experiments", name), "only YouTube takes thumbnails")
        for arm, words in experiment.arms.items():
            place = (*where, "experiments", name, "arms", arm, "text")
            if experiment.kind == "thumbnail" and words.text not in THUMBNAIL_STYLES:
                reader.note(place, f"a thumbnail is one of {', '.join(sorted(THUMBNAIL_STYLES))}")
            elif set("{}") & set(words.text.replace("{title}", "")):
                reader.note(place, "only {title} may stand in braces")


_Path = tuple[str, ...]


class _Reader:
    """Collects what is wrong in the file, each with its line, so that one look corrects all of it."""

    def __init__(self, lines: Mapping[_Path, int]) -> None:
        self._lines = lines
        self.problems: set[tuple[int, str]] = set()

    def note(self, path: _Path, problem: str) -> None:
        known = path
        while known and known not in self._lines:
            known = known[:-1]
        line = self._lines.get(known, 1)
        self.problems.add((line, f"line {line}: {'.'.join(path)}: {problem}"))

    def mapping(self, of: Mapping[str, Any], key: str, *, above: _Path = ()) -> dict[str, Any]:
        value = of.get(key)
        # A key with nothing behind it is the empty text here.
        if value in (None, ""):
            return {}
        if not isinstance(value, dict):
            self.note((*above, key), "must be a mapping")
            return {}
        return value

    def model(self, kind: type[Any], fields: Mapping[str, Any], places: list[_Path]) -> Any:
        """The model of these fields, or None with its problems noted at the first place that has the field."""
        try:
            return kind(**{str(name): value for name, value in fields.items()})
        except ValidationError as error:
            for item in error.errors(include_url=False, include_context=False):
                field = tuple(str(part) for part in item["loc"] if part != "[key]")
                place = next((p for p in places if (*p, *field[:1]) in self._lines), places[0])
                said = item["msg"].removeprefix("Value error, ")
                if item["type"] == "extra_forbidden":
                    said = (
                        f"unknown key; there are {', '.join(kind.model_fields)}" if len(field) == 1 else said
                    )
                    self.note((*place, *field), said)
                else:
                    self.note((*place, *field), f"{said} (got {item['input']!r:.60})")
            return None


def _read(file: Path) -> tuple[dict[str, Any], dict[_Path, int]]:
    """The document with every scalar as its text (so that 18:30 is no number and `no` no boolean), and lines."""
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except FileNotFoundError as error:
        raise _bad_file(
            file, "the file does not exist", "Create it, or unset ETTAMETTA_CHANNELS. "
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_file(file, f"the file cannot be read ({error.__class__.__name__})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _bad_file(file, f"line {line}: not valid YAML ({error.problem})") from error
    except yaml.YAMLError as error:
        raise _bad_file(file, "not valid YAML") from error
    lines: dict[_Path, int] = {}
    document = _plain(file, root, (), lines) if root is not None else {}
    if not isinstance(document, dict):
        raise _bad_file(file, "line 1: the top level must be a mapping")
    return document, lines


def _plain(file: Path, node: yaml.Node, path: _Path, lines: dict[_Path, int]) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_plain(file, item, (*path, str(n)), lines) for n, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return node.value
    made: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value)
        if name in made:
            raise _bad_file(file, f"line {key.start_mark.line + 1}: the key {name!r} stands twice")
        made[name] = _plain(file, value, (*path, name), lines)
        lines[(*path, name)] = key.start_mark.line + 1
    return made


def _bad_file(file: Path, problem: str, hint: str = "") -> ChannelsFileError:
    return ChannelsFileError(
        f"Channels file {file}: {problem}.",
        code="bad_channels_file",
        remedy=f"{hint}Correct {file.name}; the packaged channels.yaml shows every key.",
    )
