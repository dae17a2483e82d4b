"""Generated footage with the statistics of filmed footage, for what has to be known again: tests, benchmarks.

Textures with a 1/f spectrum and hard-edged things on them, seen by a moving camera over a few shots; notes, beats and
breaths for sound. A seed makes the same footage every time, and other footage than every other seed.
"""

import math
import subprocess
import wave
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from ettametta_pipelines.renders.ffmpeg import ffmpeg_path

RATE = 25
SOUND_RATE = 16_000
SHOT_S = 2.5
Picture = Any


def film(
    path: Path, seed: int, *, seconds: float = 8.0, size: tuple[int, int] = (640, 360), studio: int = 0
) -> Path:
    """A film of `seconds` at `path`; with `studio` all of it in one room, which another seed may share."""
    with TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.wav"
        with wave.open(str(sound), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SOUND_RATE)
            file.writeframes((32_000 * _sound(seed, seconds)).astype("<i2").tobytes())
        coder = subprocess.Popen(
            [
                str(ffmpeg_path()), "-hide_banner", "-v", "error", "-nostdin", "-y", "-f", "rawvideo",
                "-pix_fmt", "bgr24", "-s", f"{size[0]}x{size[1]}", "-r", str(RATE), "-i", "pipe:0",
                "-i", str(sound), "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "18",
                "-threads", "1", "-c:a", "aac", "-b:a", "128k",
                str(path),
            ],
            stdin=subprocess.PIPE,
        )  # fmt: skip
        assert coder.stdin is not None
        for picture in _pictures(seed, round(seconds * RATE), size, studio):
            coder.stdin.write(picture.tobytes())
        coder.stdin.close()
        assert coder.wait() == 0
    return path


def _pictures(seed: int, count: int, size: tuple[int, int], studio: int) -> Any:
    shot_frames = round(SHOT_S * RATE)
    shots = -(-count // shot_frames)
    for shot in range(shots):
        rng = np.random.default_rng([seed, shot])
        room = np.random.default_rng([studio, 0xF00]) if studio else rng
        world = _world(room, size)
        things = [_thing(rng, size) for _ in range(3)]
        for number in range(min(shot_frames, count - shot * shot_frames)):
            at = (number + (shot * shot_frames if studio else 0)) / RATE
            yield _seen(world, things, at, size, still=bool(studio), drift=(seed % 7 + shot) % 5)


def _world(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """A wall of texture, wider and higher than the picture, with edges and lettering of its own."""
    width, height = round(size[0] * 1.6), round(size[1] * 1.6)
    planes = [_texture(rng, width, height) for _ in range(2)]
    tint = rng.uniform(0.3, 1, (2, 3))
    picture = sum(plane[..., None] * tint[number] for number, plane in enumerate(planes)) / 1.6
    world = np.ascontiguousarray(np.clip(255 * picture, 0, 255).astype(np.uint8))
    for _ in range(24):
        corner = rng.uniform(0, 1, 2) * (width, height)
        reach = rng.uniform(0.03, 0.16) * height
        turns = np.sort(rng.uniform(0, math.tau, rng.integers(3, 8)))
        outline = (corner + reach * np.stack([np.cos(turns), np.sin(turns)], 1)).astype(np.int32)
        colour = [int(value) for value in rng.integers(10, 245, 3)]
        cv2.fillPoly(world, [outline], colour, lineType=cv2.LINE_AA)
    return world


def _texture(rng: np.random.Generator, width: int, height: int) -> Picture:
    across, down = np.fft.fftfreq(width)[None, :], np.fft.fftfreq(height)[:, None]
    spectrum = np.hypot(across, down)
    spectrum[0, 0] = 1
    waves = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) / spectrum**1.3).real
    return np.clip(0.5 + 0.22 * (waves - waves.mean()) / waves.std(), 0, 1)


def _thing(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Picture, Picture, Any]:
    """Something that moves: its picture, its mask and the numbers of its path."""
    side = round(rng.uniform(0.2, 0.4) * size[1])
    picture = _world(rng, (side, side))[:side, :side]
    mask = np.zeros((side, side), np.uint8)
    cv2.ellipse(
        mask,
        (side // 2, side // 2),
        (side // 2 - 2, side // 3),
        rng.uniform(0, 180),
        0,
        360,
        255,
        -1,
        cv2.LINE_AA,
    )
    return picture, mask, rng.uniform(0, 1, 6)


def _seen(
    world: Picture, things: Any, at: float, size: tuple[int, int], *, still: bool, drift: int
) -> Picture:
    spare = np.array([world.shape[1] - size[0], world.shape[0] - size[1]]) / 2
    swing = 0 if still else 0.9 * np.array([math.sin(0.5 * at + drift), math.cos(0.4 * at + 2 * drift)])
    left, top = spare * (1 + swing)
    camera = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
    picture = cv2.warpAffine(world, camera, size, flags=cv2.INTER_LINEAR)
    for looks, mask, path in things:
        side = looks.shape[0]
        across = (size[0] - side) * (0.5 + 0.45 * math.sin(path[0] * 6 + at * (0.4 + path[1])))
        down = (size[1] - side) * (0.5 + 0.45 * math.cos(path[2] * 6 + at * (0.4 + path[3])))
        place = picture[round(down) : round(down) + side, round(across) : round(across) + side]
        share = (mask / 255.0)[..., None]
        place[:] = (looks * share + place * (1 - share)).astype(np.uint8)
    if still:
        # A lamp's flicker, without which what nobody passes would be a frozen picture.
        picture = cv2.convertScaleAbs(picture, alpha=0.97 + 0.03 * math.sin(9 * at))
    return picture


def _sound(seed: int, seconds: float) -> Any:
    """Notes on a scale of its own, a beat of its own, and bursts of filtered noise like speech."""
    rng = np.random.default_rng([seed, 0x50])
    length = round(seconds * SOUND_RATE)
    heard = np.zeros(length)
    root = rng.uniform(110, 240)
    at = 0.0
    while at < seconds:
        lasts = rng.choice([0.18, 0.25, 0.37, 0.5])
        start, end = round(at * SOUND_RATE), min(length, round((at + 1.2 * lasts) * SOUND_RATE))
        clock = np.arange(end - start) / SOUND_RATE
        pitch = root * 2 ** (rng.choice([0, 2, 3, 5, 7, 8, 10, 12, 15]) / 12)
        tone = sum(
            strength * np.sin(math.tau * pitch * harmonic * clock)
            for harmonic, strength in zip((1, 2, 3, 5), rng.uniform(0.1, 1, 4), strict=True)
        )
        heard[start:end] += 0.15 * tone * np.exp(-4 * clock / lasts)
        if rng.uniform() < 0.6:
            noise = rng.standard_normal(end - start)
            hue = rng.uniform(300, 2500)
            voice = np.convolve(
                noise, np.cos(math.tau * hue * np.arange(160) / SOUND_RATE) * np.hanning(160), "same"
            )
            heard[start:end] += (
                0.25 * voice / (np.abs(voice).max() + 1e-9) * np.sin(math.pi * clock / clock[-1])
            )
        at += lasts
    return np.clip(heard, -1, 1)
