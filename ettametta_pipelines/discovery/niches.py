"""The operator's niches: one validated YAML file -> typed niches.

Light on purpose (pydantic and yaml only): `partitions.py` reads it while definitions load, and intake asks it
whether a niche exists. Nothing here talks to a vendor; what is done with a niche lives in the collectors.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ettametta_pipelines.failures import PermanentError

DEFAULT_NICHES_FILE = Path(__file__).with_name("niches.yaml")

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
Query = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=120)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Za-z]{2,4})?$")]
Region = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
ChannelId = Annotated[str, StringConstraints(pattern=r"^UC[A-Za-z0-9_-]{22}$")]
Account = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]

_HINTS = {
    "slug": "A niche's name is 1 to 40 lower-case letters, digits and dashes, and not `all`.",
    "regions": 'Regions are two capital letters such as US; quote "NO", or YAML reads it as false.',
    "languages": 'Languages are two-letter codes such as en or zh-Hans; quote "no".',
    "watch_channels": "Give the channel's id, UC followed by 22 characters, not its name or handle.",
    "clips_a_day": "Say under `account` whose clips these are, or leave clips_a_day out.",
    "account": "Give the account's name: 1 to 40 lower-case letters, digits and dashes.",
    "tiktok_accounts": "Give the account name used with `ettametta connect`.",
}


class NichesFileError(PermanentError):
    """The niches file is missing, unreadable or holds a value that cannot be used."""


class Niche(BaseModel):
    """One subject to watch. `weight` is relative: a niche of weight 2 may spend twice the searches of 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    slug: Slug
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
    queries: tuple[Query, ...] = Field(min_length=1, max_length=20, strict=False)
    languages: tuple[Language, ...] = Field(default=(), max_length=10, strict=False)
    regions: tuple[Region, ...] = Field(default=(), max_length=20, strict=False)
    watch_channels: tuple[ChannelId, ...] = Field(default=(), max_length=200, strict=False)
    tiktok_accounts: tuple[Account, ...] = Field(default=(), max_length=50, strict=False)
    weight: float = Field(default=1.0, gt=0, le=10, strict=False)
    # Whose niche it is: that account's tier decides how broadly it is searched. Empty is the house's own.
    account: Account | None = None
    # How many clips of each night's best briefs are made for that account, unasked; see docs/synthesis.md.
    clips_a_day: int = Field(default=0, ge=0, le=20)

    @field_validator("slug")
    @classmethod
    def _not_all_of_them(cls, slug: str) -> str:
        # Tables over several niches call all of them together so.
        if slug == "all":
            raise ValueError("tables call all niches together so")
        return slug

    @field_validator("clips_a_day")
    @classmethod
    def _have_an_owner(cls, clips: int, info: ValidationInfo) -> int:
        if clips and not info.data.get("account"):
            raise ValueError("clips are made for an account, and the niche names none")
        return clips


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a repeated key: plain YAML keeps the last and loses a niche without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_niches(path: Path | None = None) -> dict[str, Niche]:
    """Niches by slug, in the file's order; the packaged file when no path is given.

    Raises NichesFileError naming the file, every bad key and what to write instead.
    """
    file = path or DEFAULT_NICHES_FILE
    entries = _read_entries(file)
    niches: dict[str, Niche] = {}
    problems: list[str] = []
    hints: list[str] = []
    for slug, fields in entries.items():
        if not isinstance(fields, dict):
            problems.append(f"niches.{slug}: must be a mapping with title and queries")
            continue
        try:
            niches[str(slug)] = Niche(**{**{str(k): v for k, v in fields.items()}, "slug": slug})
        except ValidationError as error:
            for item in error.errors(include_url=False, include_context=False):
                location = [str(part) for part in item["loc"]]
                problems.append(
                    f"niches.{slug}.{'.'.join(location)}: {item['msg']} (got {item['input']!r:.60})"
                )
                hints.append(_HINTS.get(location[0], "") if location else "")
    if problems:
        raise _bad_file(file, "; ".join(problems), " ".join(dict.fromkeys(filter(None, hints))))
    return niches


def find_niche(niches: Mapping[str, Niche], slug: str) -> Niche:
    """The niche of this name. Raises PermanentError `unknown_niche` naming those there are."""
    if slug not in niches:
        raise PermanentError(
            f"There is no niche {slug!r}; there are {', '.join(sorted(niches))}.",
            code="unknown_niche",
            remedy="Use one of these, or add it to the niches file and reload the code location.",
        )
    return niches[slug]


def _read_entries(file: Path) -> dict[Any, Any]:
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError as error:
        raise _bad_file(file, "the file does not exist", "Create it, or unset ETTAMETTA_NICHES.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_file(file, f"the file cannot be read ({error.__class__.__name__})") from error
    except yaml.YAMLError as error:
        raise _bad_file(file, f"not valid YAML ({_one_line(error)})") from error
    if not isinstance(document, dict) or set(document) != {"niches"}:
        raise _bad_file(file, "the top level must hold exactly one key, niches")
    entries = document["niches"]
    if not isinstance(entries, dict) or not entries:
        raise _bad_file(file, "niches: must name at least one niche")
    return entries


def _one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _bad_file(file: Path, problem: str, hint: str = "") -> NichesFileError:
    return NichesFileError(
        f"Niches file {file}: {problem}.",
        code="bad_niches_file",
        remedy=(hint + " " if hint else "")
        + f"Correct {file.name}; the packaged niches.yaml shows every key.",
    )
