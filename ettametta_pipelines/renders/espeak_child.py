"""Speaks a text with espeak-ng inside a confined child: a C library that crashes takes no worker along.

Started by path as `python -I espeak_child.py LIBRARY DATA VOICE RATE`, in a directory that holds `text.txt` (UTF-8). It
writes `voice.wav` and `words.json` there and imports the standard library only. `local_voice.py` is the only caller.
"""

import ctypes
import json
import sys
import wave
from pathlib import Path
from typing import Any, ClassVar

# speak_lib.h of espeak-ng 1.52.
AUDIO_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POS_CHARACTER = 1
RATE = 1
EVENT_END, EVENT_WORD = 0, 1


class Event(ctypes.Structure):
    """espeak_EVENT; times in milliseconds, positions in characters from 1."""

    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


class Voice(ctypes.Structure):
    """The fields of espeak_VOICE that are read."""

    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    ]


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Event))


def load(library: str, data: str) -> tuple[Any, int]:
    """The library, and the sample rate it speaks at."""
    speech = ctypes.CDLL(library)
    speech.espeak_Initialize.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    speech.espeak_SetVoiceByName.argtypes = (ctypes.c_char_p,)
    speech.espeak_Synth.argtypes = (
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p,
    )  # fmt: skip
    speech.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(Voice))
    speech.espeak_ListVoices.argtypes = (ctypes.c_void_p,)
    speech.espeak_Info.restype = ctypes.c_char_p
    speech.espeak_Info.argtypes = (ctypes.c_void_p,)
    rate = speech.espeak_Initialize(AUDIO_SYNCHRONOUS, 0, data.encode(), INITIALIZE_DONT_EXIT)
    if rate <= 0:
        sys.exit("espeak-ng cannot be started")
    return speech, rate


def describe(speech: Any) -> None:
    """Version and languages, as JSON on stdout."""
    found = []
    voices = speech.espeak_ListVoices(None)
    place = 0
    while voices[place]:
        # A priority byte, then the tag.
        found.append(voices[place].contents.languages[1:].decode("ascii", "replace").split("\0")[0])
        place += 1
    version = speech.espeak_Info(None).decode("ascii", "replace").split()[0]
    print(json.dumps({"version": version, "languages": sorted(set(found))}))  # noqa: T201


def speak(speech: Any, rate: int, voice: str, words_per_minute: int) -> None:
    """Speak `text.txt` into `voice.wav`; `words.json` gets [position, length, milliseconds] of each word."""
    if speech.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice {voice}")
    speech.espeak_SetParameter(RATE, words_per_minute, 0)
    text = Path("text.txt").read_bytes() + b"\0"
    words: list[tuple[int, int, int]] = []
    with wave.open("voice.wav", "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)

        def take(samples: int | None, count: int, events: Any) -> int:
            if samples and count > 0:
                sound.writeframes(ctypes.string_at(samples, 2 * count))
            place = 0
            while events[place].type != EVENT_END:
                event = events[place]
                if event.type == EVENT_WORD:
                    words.append((event.text_position - 1, event.length, event.audio_position))
                place += 1
            return 0

        callback = CALLBACK(take)
        speech.espeak_SetSynthCallback(callback)
        # Neither SSML nor phonemes: what the text holds is read out, never obeyed.
        status = speech.espeak_Synth(text, len(text), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
        speech.espeak_Synchronize()
    if status != 0:
        sys.exit(f"espeak-ng failed with {status}")
    Path("words.json").write_text(json.dumps(words))


def main() -> None:
    library, data, *rest = sys.argv[1:]
    speech, rate = load(library, data)
    if rest:
        speak(speech, rate, rest[0], int(rest[1]))
    else:
        describe(speech)


if __name__ == "__main__":
    main()
