"""Voice-over: what is spoken, by whom, at what price, and where it stands in the rendition.

ElevenLabs speaks where its key is set, else the local voice, which is named as such wherever its result goes. A text
is made once for a voice and a model and then found under `media/voices/`; a paid request is claimed there before it is
sent.
`library.py` and the command line call `narrate`; the mix with the source's sound is `voice_mix.py`'s.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.clock import Clock, rfc3339, utc_now
from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.renders import local_voice
from ettametta_pipelines.renders.caption_drawing import examine
from ettametta_pipelines.renders.captions import Cue, Word, group_words, retimed
from ettametta_pipelines.renders.formats import SOUND
from ettametta_pipelines.renders.recipe import Recipe, VoiceOver
from ettametta_pipelines.renders.speech import (
    Mastered,
    Speech,
    master,
    words_by_character,
    words_by_event,
)
from ettametta_pipelines.renders.tempo import TimeMap, time_map
from ettametta_pipelines.renders.voice_mix import Interval
from ettametta_pipelines.state.budget import Purchase, Wallet
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.objects import ObjectExists, ObjectStore
from ettametta_pipelines.untrusted import plain_text

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.vendors.elevenlabs import ElevenLabsClient, ElevenLabsSpeech

MAX_CHARACTERS = 5_000
MAX_FILE_BYTES = 64 * 1024
DEFAULT_LANGUAGE = "en"
ELEVENLABS = "elevenlabs"
HOUSE = "agency"
# What claims on an account's money say it was spent for.
PURPOSE = "voice_over"
NO_KEY = "no ElevenLabs key: local voice"
NOT_IN_PLAN = "the account's tier has no ElevenLabs voice: local voice"
# Faster than this a voice sounds hurried.
MAX_TEMPO = 1.15
# Left free after the last word.
ENDING_S = 0.3
# No voice is faster, in characters a second; scripts that write a syllable with one sign are slower.
FASTEST = 22.0
FASTEST_BY_LANGUAGE = {"zh": 7.0, "ja": 10.0, "ko": 9.0}
# Raised whenever the same answer of an engine would be kept as other bytes or words.
SPEECH_REVISION = 1
# Raised whenever the same speech would be mixed in another way: part of the render key where there is a voice.
MIX_REVISION = 1
# A request that nobody has heard of for so long died with its process.
CLAIM_ABANDONED_S = 600


@dataclass(frozen=True)
class VoiceWish:
    """A text to be spoken, and its language where somebody stated one.

    `again` buys once more what an earlier request, whose answer was lost, may have been charged for.
    """

    text: str
    language: str | None = None
    again: bool = False


@dataclass(frozen=True)
class Narration:
    """A speech placed in a rendition: where it begins and how much faster it runs. `made` says whether just now."""

    speech: Speech
    part: VoiceOver
    start_s: float
    tempo: float
    made: bool
    fallback: str | None = None
    path: Path | None = None

    @property
    def seconds(self) -> float:
        return self.speech.seconds / self.tempo

    @property
    def spoken(self) -> tuple[Interval, ...]:
        """Where the voice sounds, in seconds of the rendition."""
        return tuple((self._placed(start), self._placed(end)) for start, end in self.speech.spoken)

    def fetched(self, store: ObjectStore, workdir: Path) -> "Narration":
        """The same, with its sound in a local file of `workdir`."""
        path = workdir / "voice.flac"
        store.download(self.speech.object_key, path)
        return replace(self, path=path)

    def captions(self, times: TimeMap) -> tuple[Cue, ...]:
        """Its words as captions, in seconds of the source: where `times` will put them back beside the voice."""
        words = [Word(w.text, self._placed(w.start_s), self._placed(w.end_s)) for w in self.speech.words]
        return retimed(group_words(words), times.source_time)

    def document(self) -> dict[str, Any]:
        """What the rendition's row says of it."""
        speech = self.speech
        return {
            "engine": speech.engine,
            "voice": speech.voice,
            "model": speech.model,
            "language": speech.language,
            "object_key": speech.object_key,
            "sha256": speech.sha256,
            "words": len(speech.words),
            "seconds": round(self.seconds, 3),
            "start_s": round(self.start_s, 3),
            "tempo": round(self.tempo, 4),
            "voice_lufs": SOUND.target_lufs + self.part.level_db,
            "ducked_db": self.part.duck_db,
            "characters": speech.characters,
            "cost_microusd": speech.cost_microusd,
            "synthetic": speech.synthetic,
            "fallback": self.fallback,
        }

    def _placed(self, seconds: float) -> float:
        return self.start_s + seconds / self.tempo


@dataclass(frozen=True)
class VoiceStudio:
    """Who speaks, and where speech is kept. `paid` makes ElevenLabs' client; None means the local voice, and why.

    `wallet` pays for `source_id`, or for nothing in particular; nothing is bought without one.
    """

    store: ObjectStore
    scratch: Path
    default_voice: str = ""
    model: str = ""
    paid: "Callable[[], ElevenLabsClient] | None" = None
    clock: Clock = utc_now
    why_local: str = NO_KEY
    wallet: Wallet | None = None
    source_id: str | None = None
    niche: str | None = None

    def speech(
        self, text: str, voice: str | None, language: str, *, again: bool = False
    ) -> tuple[Speech, bool]:
        """The text spoken, and whether it was made just now. Raises by the engine's table, or what `_claim` says."""
        if self.paid is None:
            named, model = (
                local_voice.describe_voice().voice_for(language),
                local_voice.describe_voice().version,
            )
            engine = local_voice.ENGINE
        else:
            named, model, engine = voice or self.default_voice, self.model, ELEVENLABS
        key = speech_key(text, engine, named, model, language)
        if (found := self._kept(key)) is not None:
            return found, False
        with private_dir(self.scratch, "voice") as workdir:
            if self.paid is None:
                return self._spoken_here(text, named, model, language, key, workdir), True
            return self._bought(self.paid(), text, named, language, key, workdir, again)

    def _kept(self, key: str) -> Speech | None:
        record = _record_key(key)
        return _speech_from(self.store.get(record)) if self.store.exists(record) else None

    def _spoken_here(
        self, text: str, voice: str, model: str, language: str, key: str, workdir: Path
    ) -> Speech:
        sound, events = local_voice.speak_locally(text, voice, workdir)
        mastered = master(sound, "wav", workdir)
        words = words_by_event(text, events, mastered)
        bare = _bare(key, local_voice.ENGINE, voice, model, language, mastered, words)
        return self._keep(bare, mastered)

    def _bought(
        self,
        client: "ElevenLabsClient",
        text: str,
        voice: str,
        language: str,
        key: str,
        workdir: Path,
        again: bool,
    ) -> tuple[Speech, bool]:
        if again:
            self._drop_answer(key)
        answer = self._answer(key)
        if answer is None:
            self._claim(key, again)
            if (found := self._kept(key)) is not None:
                # Whoever held the claim before finished in between.
                self.store.delete(_claim_key(key))
                return found, False
            answer = self._ask(client, text, voice, language, key)
        (workdir / "answer.mp3").write_bytes(answer.audio)
        mastered = master(workdir / "answer.mp3", "mp3", workdir)
        words = words_by_character(text, answer.times, mastered)
        made = replace(
            _bare(key, ELEVENLABS, voice, client.model, language, mastered, words),
            characters=answer.charged_characters,
            cost_microusd=answer.cost_microusd,
            request_id=answer.request_id,
        )
        self._keep(made, mastered)
        self._drop_answer(key)
        return made, True

    def _ask(
        self, client: "ElevenLabsClient", text: str, voice: str, language: str, key: str
    ) -> "ElevenLabsSpeech":
        """The claimed request. Its answer is stored before anything is done with it: it is paid for."""
        assert self.wallet is not None
        bought = Purchase(
            client.highest_cost(text), ELEVENLABS, client.model, PURPOSE, key, self.niche, self.source_id
        )
        try:
            answer = self.wallet.pay(
                bought,
                lambda: client.speak(text, voice, language=language.split("-")[0]),
                lambda spoken: spoken.cost_microusd,
            )
        except OutcomeUnknownError as error:
            note = {"state": "lost", "at": rfc3339(self.clock()), "why": error.code}
            self.store.put(_claim_key(key), json.dumps(note).encode(), content_type="application/json")
            raise
        except PipelineError:
            self.store.delete(_claim_key(key))
            raise
        about = asdict(answer)
        self.store.put(_answer_key(key), about.pop("audio"), content_type="audio/mpeg")
        self.store.put(
            _answer_key(key) + ".json", json.dumps(about).encode(), content_type="application/json"
        )
        self.store.delete(_claim_key(key))
        return answer

    def _answer(self, key: str) -> "ElevenLabsSpeech | None":
        """An answer that was paid for and not yet made into speech: its process ended in between."""
        from ettametta_pipelines.vendors.elevenlabs import CharacterTime, ElevenLabsSpeech

        if not self.store.exists(_answer_key(key) + ".json"):
            return None
        about = json.loads(self.store.get(_answer_key(key) + ".json"))
        times = tuple(CharacterTime(**time) for time in about.pop("times"))
        return ElevenLabsSpeech(audio=self.store.get(_answer_key(key)), times=times, **about)

    def _drop_answer(self, key: str) -> None:
        # The description first: it vouches for the sound.
        self.store.delete(_answer_key(key) + ".json")
        self.store.delete(_answer_key(key))

    def _claim(self, key: str, again: bool) -> None:
        """Note that this text is about to be paid for; nobody else can while the note is there."""
        claim = _claim_key(key)
        if again and self.store.exists(claim) and self._standing(claim)[0] != "asked":
            self.store.delete(claim)
        note = json.dumps({"state": "asked", "at": rfc3339(self.clock())}).encode()
        try:
            self.store.create(claim, note, content_type="application/json")
        except ObjectExists:
            state, why = self._standing(claim)
            if state == "asked":
                raise TransientError(
                    "Another run is having the same voice-over made.",
                    code="voice_being_made",
                    remedy="It is tried again by itself.",
                    retry_after_s=30,
                ) from None
            raise NeedsPersonError(
                f"The voice-over was asked for before and may have been paid for, but is not here ({why}).",
                code="voice_outcome_unknown",
                remedy="Look into the history at elevenlabs.io; to have it made once more, set `remake_voice` "
                "(--remake-voice).",
            ) from None

    def _standing(self, claim: str) -> tuple[str, str]:
        """(`asked` or `lost`, why) of a claim that is there."""
        note = json.loads(self.store.get(claim))
        if note["state"] == "lost":
            return "lost", str(note["why"])
        age_s = (self.clock() - self.store.head(claim).modified_at).total_seconds()
        return ("asked", "") if age_s < CLAIM_ABANDONED_S else ("lost", "its process ended before the answer")

    def _keep(self, speech: Speech, mastered: Mastered) -> Speech:
        self.store.put_file(speech.object_key, mastered.path, content_type="audio/flac")
        # After the sound: a record vouches for it.
        self.store.put(
            _record_key(speech.key), _speech_adapter().dump_json(speech), content_type="application/json"
        )
        return speech


def open_studio(
    settings: "Settings",
    store: ObjectStore,
    *,
    may_buy: bool = True,
    wallet: "Callable[[], Wallet] | None" = None,
    source_id: str | None = None,
    niche: str | None = None,
) -> VoiceStudio:
    """The studio of these settings: ElevenLabs where it is set up and may be paid, else the local voice.

    `wallet` opens the money of whoever pays; by default that of the house, whose cost no video's is.
    """
    endpoint = settings.endpoint("elevenlabs")
    scratch = settings.home_dir / "scratch"
    if endpoint.mode == "sandbox":
        return VoiceStudio(store, scratch)
    if not may_buy:
        return VoiceStudio(store, scratch, why_local=NOT_IN_PLAN)

    def client() -> "ElevenLabsClient":
        from ettametta_pipelines.vendors.elevenlabs import ElevenLabsClient

        return ElevenLabsClient(endpoint, settings.elevenlabs_model)

    return VoiceStudio(
        store,
        scratch,
        settings.elevenlabs_voice,
        settings.elevenlabs_model,
        client,
        wallet=wallet() if wallet else house_wallet(settings),
        source_id=source_id,
        niche=niche,
    )


def house_wallet(settings: "Settings") -> Wallet:
    """The money of the agency itself, for work that no account ordered."""
    from ettametta_pipelines.billing.spend_caps import open_wallet
    from ettametta_pipelines.state.session import open_state

    return open_wallet(settings, open_state(settings), HOUSE, "live")


def narrated(
    studio: VoiceStudio,
    wish: VoiceWish | None,
    recipe: Recipe,
    seed: int,
    source_duration_s: float,
    captions: Sequence[Cue],
) -> tuple[Narration | None, Sequence[Cue]]:
    """The voice-over of a render, None where recipe or wish have none, and the captions to be drawn.

    Where the recipe draws captions and there are none, they are the voice's own words.
    """
    if recipe.voice_over is None or wish is None:
        return None, captions
    times = time_map(recipe, seed)
    if recipe.captions is not None and not captions:
        # Before anything is spent: words that cannot be drawn would stop the render after it.
        examine(recipe.captions, [Cue(0.0, 1.0, check_text(wish.text))], source_duration_s)
    narration = narrate(studio, wish, recipe.voice_over, times.output_time(source_duration_s))
    if recipe.captions is not None and not captions:
        captions = narration.captions(times)
    return narration, captions


def mix_key(narration: Narration | None) -> str | None:
    """What of a voice, beside the recipe, decides the sound: its part of the render key, None without one."""
    if narration is None:
        return None
    return hashlib.sha256(f"{narration.speech.sha256} {MIX_REVISION}".encode()).hexdigest()


def narrate(studio: VoiceStudio, wish: VoiceWish, part: VoiceOver, lasts_s: float) -> Narration:
    """The wish spoken and placed in a rendition of `lasts_s` seconds.

    Raises PermanentError `voice_over_empty`, `voice_over_too_long` (before anything is spent, where an estimate already
    shows it), or what the engine raises.
    """
    text = check_text(wish.text)
    room_s = lasts_s - part.start_s - ENDING_S
    language = part.language or wish.language or DEFAULT_LANGUAGE
    _check_estimate(text, language, room_s)
    speech, made = studio.speech(text, part.voice, language, again=wish.again)
    tempo = max(1.0, speech.seconds / room_s)
    if tempo > MAX_TEMPO:
        fit = int(len(text.split()) * room_s * MAX_TEMPO / speech.seconds)
        raise _too_long(f"It takes {speech.seconds:.1f} s", room_s, fit)
    takes_s = speech.seconds / tempo
    free_s = room_s - takes_s
    start_s = {"start": 0.0, "middle": free_s / 2, "end": free_s}[part.position] + part.start_s
    fallback = studio.why_local if studio.paid is None else None
    return Narration(speech, part, round(start_s, 3), tempo, made, fallback)


def check_text(text: str) -> str:
    """The text as it is spoken: one line of visible characters. Raises PermanentError."""
    spoken = plain_text(text, 4 * MAX_CHARACTERS)
    if not re.search(r"\w", spoken):
        raise PermanentError(
            "The voice-over holds no words.",
            code="voice_over_empty",
            remedy="Give it a text, or leave it out.",
        )
    if len(spoken) > MAX_CHARACTERS:
        raise PermanentError(
            f"The voice-over has {len(spoken)} characters, at most {MAX_CHARACTERS} are spoken.",
            code="voice_over_too_long",
            remedy="Shorten it.",
        )
    return spoken


def read_text(given: str) -> str:
    """A text as given on the command line: itself, or the content of the file named after an `@`."""
    if not given.startswith("@"):
        return given
    with Path(given[1:]).open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    try:
        if len(data) <= MAX_FILE_BYTES:
            return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    raise PermanentError(
        f"{given[1:]} is not UTF-8 text of at most {MAX_FILE_BYTES} bytes.",
        code="voice_over_unreadable",
        remedy="Save the text as UTF-8.",
    )


def speech_key(text: str, engine: str, voice: str, model: str, language: str) -> str:
    """32 hex digits that name a speech: the same text, voice and model are made once."""
    parts = [SPEECH_REVISION, engine, voice, model, language, text]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def voice_facts(narration: Narration, url: Callable[[str], Any]) -> Mapping[str, Any]:
    """For operators; `url` makes a link of an object's key."""
    speech = narration.speech
    facts: dict[str, Any] = {
        "voice_engine": speech.engine,
        "voice": f"{speech.voice} ({speech.model}, {speech.language})",
        "voice_listen": url(speech.object_key),
        "voice_words": len(speech.words),
        "voice_seconds": round(narration.seconds, 2),
        "voice_levels": f"{SOUND.target_lufs + narration.part.level_db:g} LUFS before mastering, over sound "
        f"taken down by {narration.part.duck_db:g} dB",
        "voice_cost_microusd": speech.cost_microusd,
        "voice_paid_now": narration.made and speech.cost_microusd > 0,
    }
    if narration.tempo > 1:
        facts["voice_sped_up"] = round(narration.tempo, 3)
    if narration.fallback:
        facts["voice_fallback"] = narration.fallback
    return facts


def _check_estimate(text: str, language: str, room_s: float) -> None:
    fastest = FASTEST_BY_LANGUAGE.get(language.split("-")[0].lower(), FASTEST) * MAX_TEMPO
    if len(text) <= fastest * room_s:
        return
    words = text.split()
    raise _too_long(
        f"It takes at least {len(text) / fastest:.1f} s",
        room_s,
        # At an ordinary pace, which is about two thirds of the fastest.
        int(len(words) * max(0.0, fastest * room_s) / len(text) / 1.5),
    )


def _too_long(takes: str, room_s: float, words: int) -> PermanentError:
    return PermanentError(
        f"The voice-over is too long: {takes}, the rendition has room for {max(0.0, room_s):.1f} s.",
        code="voice_over_too_long",
        remedy=f"Shorten it to about {max(0, words)} words, or let it start earlier.",
    )


def _bare(
    key: str, engine: str, voice: str, model: str, language: str, mastered: Mastered, words: Sequence[Word]
) -> Speech:
    """A speech that cost nothing."""
    return Speech(
        key=key,
        sha256=file_sha256(mastered.path),
        engine=engine,
        voice=voice,
        model=model,
        language=language,
        characters=0,
        cost_microusd=0,
        seconds=round(mastered.seconds, 6),
        lufs=mastered.loudness.lufs,
        spoken=mastered.spoken,
        words=tuple(words),
    )


def _record_key(key: str) -> str:
    return f"media/voices/{key}.json"


def _answer_key(key: str) -> str:
    return f"media/voices/{key}.answer.mp3"


def _claim_key(key: str) -> str:
    return f"media/voices/{key}.claim.json"


def _speech_adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Speech)


def _speech_from(data: bytes) -> Speech:
    speech: Speech = _speech_adapter().validate_json(data)
    return speech
