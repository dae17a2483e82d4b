"""The videos of other people that the sandboxed YouTube knows: channels and uploads for any subject, by seed alone.

Every subject has its own channels; a channel posts at its own pace since its start, so a search, a channel's uploads
playlist and a lookup by id agree with each other and with the clock. Most uploads come out near their channel's
baseline and a few far above it: those are the outliers that discovery looks for. Ids carry what they stand for, and
only the wording of a subject has to be remembered (`remember`, `recall`).
"""

import hashlib
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from statistics import NormalDist
from typing import overload

from ettametta_pipelines.sandbox.core import seeded_rng

CHANNELS_PER_SUBJECT = 28
OUTLIER_CHANCE = 0.05
FIRST_START = datetime(2024, 1, 1, tzinfo=UTC)
# Without bounds a search looks this far back; further adds cost and nothing a trend needs.
DEFAULT_LOOKBACK = timedelta(days=30)

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_SUBJECT_BITS, _CHANNEL_BITS, _NUMBER_BITS, _CHECK_BITS = 24, 6, 20, 16
_VIDEO_BITS = _SUBJECT_BITS + _CHANNEL_BITS + _NUMBER_BITS + _CHECK_BITS
_CHANNEL_FILL_BITS = 132 - _SUBJECT_BITS - _CHANNEL_BITS
_SCRAMBLER = 0x9E3779B97F4A7C15F39CC0605CEDC8341  # odd, so that multiplying by it can be undone

# name -> (chance, seconds from, seconds to): what a channel mostly makes
_FORMS = {"short": (0.45, 14, 59), "medium": (0.4, 250, 900), "long": (0.15, 1260, 4200)}
_CATEGORIES = ("1", "2", "10", "15", "17", "19", "20", "22", "23", "24", "26", "27", "28")
_COUNTRIES = ("US", "US", "GB", "DE", "IN", "BR", "CA", "AU", "FR", "JP")
_CHANNEL_NAMES = (
    "{first} {last}", "{topic} with {first}", "The {topic} Room", "{last} Daily", "{topic} Lab", "Studio {last}",
    "{first} Makes", "Only {topic}", "{topic} & Friends", "Half Past {topic}",
)  # fmt: skip
_FIRST_NAMES = (
    "Ada", "Bruno", "Chiara", "Dmitri", "Esther", "Femi", "Greta", "Hiro", "Ines", "Jonas", "Kalinda", "Luca", "Mei",
    "Noor", "Otto", "Priya", "Quinn", "Rosa", "Sven", "Tariq", "Uma", "Viktor", "Wren", "Yara", "Zoë",
)  # fmt: skip
_LAST_NAMES = (
    "Abara", "Brandt", "Castelli", "Duarte", "Eriksen", "Falk", "García", "Holm", "Ivanova", "Jansen", "Kovač", "Lund",
    "Moreau", "Nakamura", "Okafor", "Petrov", "Quist", "Rossi", "Silva", "Tanaka", "Ueda", "Vidal", "Weber", "Yilmaz",
)  # fmt: skip
_TITLES = (
    "{T}: the mistake everyone makes", "I tried {t} for {n} days", "{n} {t} ideas in under {m} minutes",
    "Nobody talks about this {t} trick", "{T} for beginners, step by step", "The truth about {t}",
    "Why {t} is suddenly everywhere", "Watch this before your next {t}", "POV: {t} at 5 am",
    "This {t} took me {n} hours", "{T} Q&A: you asked, I'm answering", "Rating {n} viral {t} hacks",
    "{T} on a ${n} budget", "What {n} years of {t} taught me", "Stop scrolling: {t} done right",
    "{T} – \"can it really work?\"", "Day {n} of {t} until it clicks", "The calmest {t} video you'll see today",
)  # fmt: skip
_PITCHES = (
    "Everything I would tell a friend about {t}.", "Filmed in one take, no cuts.", "Full list of materials below.",
    "New upload every week. Tell me what to try next.", "Part {n} of the series on {t}.",
)  # fmt: skip


@dataclass(frozen=True)
class CatalogChannel:
    """A channel of the catalogue; `baseline_views` is what its usual upload ends at."""

    seed: int
    subject: str
    index: int
    id: str
    title: str
    handle: str
    country: str
    category_id: str
    form: str
    subscribers: int
    hides_subscribers: bool
    baseline_views: float
    interval: timedelta
    started_at: datetime

    @property
    def uploads_playlist(self) -> str:
        return "UU" + self.id[2:]

    def published_at(self, number: int) -> datetime:
        jitter = seeded_rng(self.seed, self.id, number, "time").uniform(0.0, 0.5)
        instant = self.started_at + (number + jitter) * self.interval
        return instant.replace(microsecond=0)

    def newest_number(self, now: datetime) -> int:
        """Number of the last upload at `now`, counted from 0; -1 when there is none yet."""
        number = math.floor((now - self.started_at) / self.interval)
        while number >= 0 and self.published_at(number) > now:
            number -= 1
        return number


@dataclass(frozen=True)
class Statistics:
    """Counters at one instant; None where the uploader hides them."""

    views: int
    likes: int | None
    comments: int | None


@dataclass(frozen=True)
class CatalogVideo:
    """One upload of a catalogue channel."""

    id: str
    channel: CatalogChannel
    number: int

    @cached_property
    def published_at(self) -> datetime:
        return self.channel.published_at(self.number)

    @cached_property
    def title(self) -> str:
        rng = seeded_rng(self.channel.seed, self.id, "title")
        phrase = display_words(self.channel.subject)
        title = rng.choice(_TITLES).format(
            t=phrase, T=phrase[:1].upper() + phrase[1:], n=rng.randint(3, 90), m=rng.randint(2, 15)
        )
        if self.duration_s < 60 and rng.random() < 0.5:
            title += " #shorts"
        return title[:100]

    @cached_property
    def description(self) -> str:
        rng = seeded_rng(self.channel.seed, self.id, "description")
        phrase = display_words(self.channel.subject)
        lines = [pitch.format(t=phrase, n=rng.randint(2, 30)) for pitch in rng.sample(_PITCHES, 2)]
        return "\n".join([*lines, "", " ".join("#" + word for word in self.tags[:3])])

    @cached_property
    def tags(self) -> list[str]:
        words = [re.sub(r"\W", "", word) for word in display_words(self.channel.subject).split()]
        extra = seeded_rng(self.channel.seed, self.id, "tags").sample(
            ("viral", "howto", "satisfying", "diy", "learn", "tips", "asmr", "review", "story", "challenge"),
            3,
        )
        return [word for word in dict.fromkeys([*words, *extra]) if word]

    @cached_property
    def duration_s(self) -> int:
        rng = seeded_rng(self.channel.seed, self.id, "duration")
        forms = list(_FORMS)
        form = (
            self.channel.form if rng.random() < 0.8 else rng.choices(forms, [_FORMS[f][0] for f in forms])[0]
        )
        return rng.randint(*_FORMS[form][1:])

    @cached_property
    def is_creative_commons(self) -> bool:
        return seeded_rng(self.channel.seed, self.id, "license").random() < 0.06

    @cached_property
    def pull(self) -> float:
        """How far its views lie above its channel's usual, at any age."""
        return _draw_pull(seeded_rng(self.channel.seed, self.id, "statistics"))

    def statistics(self, now: datetime) -> Statistics:
        """Counters at `now`: they rise fast in the first days and never fall."""
        rng = seeded_rng(self.channel.seed, self.id, "statistics")
        pull = _draw_pull(rng)
        hours = max(0.0, (now - self.published_at).total_seconds() / 3600)
        settling = rng.uniform(18, 80)
        reached = 1 - math.exp(-((hours / settling) ** 0.8)) + 0.12 * math.log1p(hours / 720)
        views = int(self.channel.baseline_views * pull * reached)
        like_rate, comment_rate = rng.uniform(0.012, 0.08), rng.uniform(0.0006, 0.006)
        hides_likes, hides_comments = rng.random() < 0.03, rng.random() < 0.04
        return Statistics(
            views=views,
            likes=None if hides_likes else int(views * like_rate),
            comments=None if hides_comments else int(views * comment_rate),
        )


class Catalog:
    """All of it, for one seed. `remember(code, subject)` and `recall(code)` keep a subject's wording over restarts."""

    def __init__(
        self, seed: int, *, remember: Callable[[str, str], None], recall: Callable[[str], str | None]
    ) -> None:
        self._seed = seed
        self._remember = remember
        self._recall = recall
        self._channels: dict[tuple[str, int], CatalogChannel] = {}

    def channels(self, subject: str) -> list[CatalogChannel]:
        """Channels of a subject (see `subject_of`), made known so that their ids can be looked up later."""
        self._remember(f"{_subject_code(self._seed, subject):06x}", subject)
        return [self._channel(subject, index) for index in range(CHANNELS_PER_SUBJECT)]

    def published(
        self, channel: CatalogChannel, after: datetime, before: datetime, now: datetime
    ) -> Iterator[CatalogVideo]:
        """Uploads of one channel in [after, before), newest first, none from the future."""
        number = channel.newest_number(min(before, now))
        while number >= 0:
            published_at = channel.published_at(number)
            if published_at < after:
                return
            if published_at < before:
                yield self._video(channel, number)
            number -= 1

    def search(
        self, subject: str, after: datetime | None, before: datetime | None, now: datetime
    ) -> list[CatalogVideo]:
        """Videos on a subject in [after, before), in no order that means anything."""
        end = before or now + timedelta(seconds=1)
        start = after or end - DEFAULT_LOOKBACK
        return [
            video for channel in self.channels(subject) for video in self.published(channel, start, end, now)
        ]

    def uploads(self, channel: CatalogChannel, now: datetime, limit: int) -> Sequence[CatalogVideo]:
        """The newest uploads of a channel, newest first; each is made up when it is looked at."""
        newest = channel.newest_number(now)
        return _Uploads(self._video, channel, range(newest, max(-1, newest - limit), -1))

    def channel(self, channel_id: str) -> CatalogChannel | None:
        """The channel with this id, if it belongs to a subject that came up before."""
        value = _decode(channel_id[2:], 132) if channel_id.startswith("UC") else None
        if value is None:
            return None
        head = value >> _CHANNEL_FILL_BITS
        index = head & ((1 << _CHANNEL_BITS) - 1)
        subject = self._recall(f"{head >> _CHANNEL_BITS:06x}")
        if subject is None or index >= CHANNELS_PER_SUBJECT:
            return None
        channel = self._channel(subject, index)
        return channel if channel.id == channel_id else None

    def video(self, video_id: str, now: datetime) -> CatalogVideo | None:
        """The video with this id, if its subject came up before and it is out by `now`."""
        value = _decode(video_id, _VIDEO_BITS)
        if value is None:
            return None
        number = (value >> _CHECK_BITS) & ((1 << _NUMBER_BITS) - 1)
        index = (value >> (_CHECK_BITS + _NUMBER_BITS)) & ((1 << _CHANNEL_BITS) - 1)
        subject = self._recall(f"{value >> (_VIDEO_BITS - _SUBJECT_BITS):06x}")
        if subject is None or index >= CHANNELS_PER_SUBJECT:
            return None
        video = self._video(self._channel(subject, index), number)
        return video if video.id == video_id and video.published_at <= now else None

    def _video(self, channel: CatalogChannel, number: int) -> CatalogVideo:
        code = _subject_code(self._seed, channel.subject)
        check = _hash_bits(_CHECK_BITS, self._seed, channel.id, number)
        value = ((code << _CHANNEL_BITS | channel.index) << _NUMBER_BITS | number) << _CHECK_BITS | check
        return CatalogVideo(id=_encode(value, _VIDEO_BITS), channel=channel, number=number)

    def _channel(self, subject: str, index: int) -> CatalogChannel:
        known = self._channels.get((subject, index))
        if known is None:
            known = self._channels[(subject, index)] = _make_channel(self._seed, subject, index)
        return known


class _Uploads(Sequence[CatalogVideo]):
    """A page of fifty would otherwise wait for the other hundred and fifty."""

    def __init__(
        self, make: Callable[[CatalogChannel, int], CatalogVideo], channel: CatalogChannel, numbers: range
    ) -> None:
        self._make = make
        self._channel = channel
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> CatalogVideo: ...

    @overload
    def __getitem__(self, at: slice) -> list[CatalogVideo]: ...

    def __getitem__(self, at: int | slice) -> CatalogVideo | list[CatalogVideo]:
        if isinstance(at, slice):
            return [self._make(self._channel, number) for number in self._numbers[at]]
        return self._make(self._channel, self._numbers[at])


def _draw_pull(rng: random.Random) -> float:
    pull = math.exp(NormalDist(0, 0.55).inv_cdf(rng.uniform(0.001, 0.999)))
    return pull * rng.uniform(4, 30) if rng.random() < OUTLIER_CHANCE else pull


def subject_of(query: str) -> str:
    """What a search is about: its words in lower case, without quotes, alternatives (`|`) and exclusions (`-word`)."""
    words = re.split(r"[\s|\"]+", query.lower())
    kept = [word for word in words if word and not word.startswith("-")]
    return " ".join(kept)[:60].strip() or "popular"


def display_words(subject: str) -> str:
    """Words of a subject; what follows an `@` only tells regional charts apart."""
    return subject.split("@")[0]


def _make_channel(seed: int, subject: str, index: int) -> CatalogChannel:
    rng = seeded_rng(seed, "channel", subject, index)
    code = _subject_code(seed, subject)
    fill = _hash_bits(_CHANNEL_FILL_BITS, seed, "channel", subject, index)
    channel_id = "UC" + _encode((code << _CHANNEL_BITS | index) << _CHANNEL_FILL_BITS | fill, 132)
    title = rng.choice(_CHANNEL_NAMES).format(
        first=rng.choice(_FIRST_NAMES), last=rng.choice(_LAST_NAMES), topic=display_words(subject).title()
    )
    subscribers = int(10 ** rng.uniform(2.9, 6.3))
    forms = list(_FORMS)
    return CatalogChannel(
        seed=seed,
        subject=subject,
        index=index,
        id=channel_id,
        title=title,
        handle="@" + re.sub(r"\W", "", title.lower()) + f"{rng.randint(1, 99)}",
        country=rng.choice(_COUNTRIES),
        category_id=_CATEGORIES[code % len(_CATEGORIES)],
        form=rng.choices(forms, [_FORMS[f][0] for f in forms])[0],
        subscribers=subscribers,
        hides_subscribers=rng.random() < 0.04,
        baseline_views=subscribers * rng.uniform(0.03, 0.45) + rng.uniform(50, 400),
        interval=timedelta(hours=rng.uniform(14, 110)),
        started_at=FIRST_START + timedelta(days=rng.uniform(0, 400)),
    )


def _subject_code(seed: int, subject: str) -> int:
    return _hash_bits(_SUBJECT_BITS, seed, "subject", subject)


def _hash_bits(bits: int, *parts: object) -> int:
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest) & ((1 << bits) - 1)


def _encode(value: int, bits: int) -> str:
    """`bits` bits as bits / 6 characters, scrambled so that neighbours do not look alike."""
    scrambled = value * _SCRAMBLER % (1 << bits)
    return "".join(_ALPHABET[(scrambled >> shift) & 63] for shift in range(bits - 6, -1, -6))


def _decode(text: str, bits: int) -> int | None:
    if len(text) != bits // 6 or any(character not in _ALPHABET for character in text):
        return None
    scrambled = 0
    for character in text:
        scrambled = scrambled << 6 | _ALPHABET.index(character)
    return scrambled * pow(_SCRAMBLER, -1, 1 << bits) % (1 << bits)
