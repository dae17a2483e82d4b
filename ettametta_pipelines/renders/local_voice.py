"""The voice of a machine without a key: espeak-ng from its wheel, in a confined child, the same bytes every time.

It sounds like a machine and is named so wherever it is used. `voiceover.py` calls it, `ettametta doctor` asks for it.
"""

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ettametta_pipelines.confinement.running import Ended, Limits, run_confined
from ettametta_pipelines.failures import PermanentError, TransientError

ENGINE = "espeak-ng"
CHILD = Path(__file__).with_name("espeak_child.py")
# Its own 175 is hurried for a listener who also watches.
WORDS_PER_MINUTE = 160
# Tags whose best voice goes by another name; any other tag is tried whole, then by its language.
VOICES = {"en": "en-us", "zh": "cmn", "no": "nb", "fr": "fr-fr", "pt-br": "pt-br", "en-gb": "en-gb-x-rp"}


@dataclass(frozen=True)
class LocalVoice:
    """What speaks: version and language tags of the installed espeak-ng."""

    version: str
    languages: tuple[str, ...]

    @property
    def in_words(self) -> str:
        return f"{ENGINE} {self.version}, {len(self.languages)} languages"

    def voice_for(self, language: str) -> str:
        """Its voice for a tag such as `en` or `pt-BR`. Raises PermanentError `voice_language_unknown`."""
        tag = language.lower()
        base = tag.split("-")[0]
        for name in (VOICES.get(tag), tag, VOICES.get(base), base):
            if name in self.languages:
                return name
        raise PermanentError(
            f"The local voice does not speak {language!r}.",
            code="voice_language_unknown",
            remedy="Use a language code such as en, de or pt-BR, or set ELEVENLABS_API_KEY.",
        )


@dataclass(frozen=True)
class SpokenWord:
    """Where a word stands in the text, in characters, and when it begins, in seconds of the sound."""

    position: int
    length: int
    start_s: float


@lru_cache(maxsize=1)
def describe_voice() -> LocalVoice:
    """Raises PermanentError `local_voice_missing` where espeak-ng is not installed or does not start."""
    ended = _run_child([], Path("/"), timeout_s=20)
    if ended.returncode != 0:
        raise _unusable(ended)
    document = json.loads(ended.stdout)
    return LocalVoice(document["version"], tuple(document["languages"]))


def speak_locally(text: str, voice: str, workdir: Path) -> tuple[Path, list[SpokenWord]]:
    """Speak a text by a voice of `LocalVoice.voice_for`: a WAV file in `workdir`, and when each word begins."""
    (workdir / "text.txt").write_text(text, encoding="utf-8")
    ended = _run_child([voice, str(WORDS_PER_MINUTE)], workdir, timeout_s=30 + len(text) / 50)
    if ended.returncode in (-9, -15):
        raise TransientError(
            "The local voice was killed, most likely for want of memory.",
            code="local_voice_killed",
            remedy="Give the worker more memory, or run fewer renders at once.",
        )
    if ended.returncode != 0 or ended.timed_out:
        raise _unusable(ended)
    words = json.loads((workdir / "words.json").read_text())
    return workdir / "voice.wav", [SpokenWord(at, length, ms / 1000) for at, length, ms in words]


def _run_child(arguments: list[str], workdir: Path, *, timeout_s: float) -> Ended:
    try:
        import espeakng_loader
    except ImportError as error:
        raise _missing("its package is not installed") from error
    limits = Limits(wall_s=timeout_s, cpu_s=timeout_s, memory_bytes=1 << 30, file_bytes=512 << 20)
    paths = [espeakng_loader.get_library_path(), espeakng_loader.get_data_path()]
    return run_confined(
        Path(sys.executable), ["-I", "-B", str(CHILD), *paths, *arguments], limits=limits, workdir=workdir
    )


def _unusable(ended: Ended) -> PermanentError:
    last = ended.stderr.strip().splitlines()[-1:]
    return _missing(last[0][:200] if last else f"it ended with status {ended.returncode}")


def _missing(why: str) -> PermanentError:
    return PermanentError(
        f"The local voice {ENGINE} cannot be used: {why}.",
        code="local_voice_missing",
        remedy="Install the espeakng-loader package, or set ELEVENLABS_API_KEY.",
    )
