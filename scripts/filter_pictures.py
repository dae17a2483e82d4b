"""Makes the pictures of docs/filters.md: for each treatment the frame without it and with it, from a drawn sample.

Run by `make handbook`. The program's own engine renders them; the same build gives the same pictures.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
from PIL import Image

from ettametta_pipelines.media.analysis import analyse
from ettametta_pipelines.media.pictures import jpeg_within
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.samples import make_samples
from ettametta_pipelines.renders.broll import Cutaway
from ettametta_pipelines.renders.captions import Cue
from ettametta_pipelines.renders.engine import render
from ettametta_pipelines.renders.graph import RenderPlan
from ettametta_pipelines.renders.recipe import Recipe
from ettametta_pipelines.storage.addressing import file_sha256

SEED = 3
HEIGHT = 300
BUDGET = 60 * 1024
SECOND = 1.4
CAPTION = (Cue(0.5, 2.5, "Words as they are spoken", ()),)
# Name of the picture: recipe, format, and what the reader should look for.
TREATMENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "mirror": ({"originality": {"mirror": True}}, "16x9", "Left and right change places."),
    "zoom": ({"originality": {"zoom": 1.08}}, "16x9", "Enlarged about the centre, here by 8 percent."),
    "colour": (
        {"originality": {"colour": {"hue_degrees": 8, "saturation": 1.25, "contrast": 1.1, "warmth": 0.8}}},
        "16x9",
        "Hue, saturation, contrast, brightness and warmth.",
    ),
    "grayscale": ({"grayscale": True}, "16x9", "No colour is left."),
    "letterbox": ({"letterbox": {"height": 0.1}}, "16x9", "Black bars above and below."),
    "vignette": ({"vignette": {"strength": 0.7}}, "16x9", "Corners fade towards black."),
    "grain": ({"grain": {"strength": 18}}, "16x9", "Noise on brightness that changes with every frame."),
    "jitter": ({"jitter": {"strength": 0.03}}, "16x9", "The picture sways; no edge ever shows."),
    "glitch": (
        {"glitch": {"strength": 1, "every_s": 1}},
        "16x9",
        "Bursts of slipped colours, slices and blocks.",
    ),
    "captions": (
        {"captions": {"style": "bold_outline"}},
        "9x16",
        "Inside the part of the frame platforms keep free.",
    ),
    "blur": ({"fit": "blur"}, "9x16", "The whole picture over a blurred copy, instead of a part of it."),
    "broll": ({}, "16x9", "A cutaway to other footage; the sound goes on."),
}


def frame_of(video: Path, second: float) -> Image.Image:
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= second:
                picture = frame.to_image()
                return picture.resize((round(HEIGHT * picture.width / picture.height), HEIGHT))
    raise SystemExit(f"{video.name} ends before {second} s.")


def main(target: Path, wanted: list[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as made:
        folder = Path(made)
        source, other, _ = make_samples(folder / "samples")
        probe, clip = require_probe(source), require_probe(other)
        seen = analyse(source, probe, folder)
        for name in wanted or TREATMENTS:
            settings, format, _ = TREATMENTS[name]
            recipe = Recipe.model_validate({"name": name, **settings})
            second = SECOND
            if recipe.glitch:
                plan = RenderPlan(source, probe, recipe, SEED, [])
                second = plan.bursts[0].times(plan.rate)[0] + 0.02
            options: dict[str, Any] = {"loudness": seen.loudness, "subject": seen.subject}
            plain = Recipe(name="plain")
            (before,) = render(source, probe, plain, [format], SEED, folder / "before", **options)
            options |= {"captions": CAPTION} if recipe.captions else {}
            options |= (
                {"cutaways": [Cutaway(other, clip, file_sha256(other), 1.0, 1.0, 2.5)]}
                if name == "broll"
                else {}
            )
            (after,) = render(source, probe, recipe, [format], SEED, folder / "after", **options)
            pictures = [frame_of(one.path, second) for one in (before, after)]
            width = sum(picture.width for picture in pictures) + 6
            pair = Image.new("RGB", (width, HEIGHT), "white")
            pair.paste(pictures[0], (0, 0))
            pair.paste(pictures[1], (width - pictures[1].width, 0))
            (target / f"{name}.jpg").write_bytes(jpeg_within(pair, BUDGET))
    page = [
        "# The treatments of a recipe",
        "",
        "Each without (left) and with it (right). `make handbook` makes the pictures.",
        "",
    ]
    for name, (_, format, meaning) in TREATMENTS.items():
        page += [f"## {name}", "", meaning, "", f"![{name}, {format}](filters/{name}.jpg)", ""]
    page += [
        "## speed_ramp", "",
        "Seen only in motion: speed swells between 0.95 and 1.05, sound and captions follow within 40 ms.", "",
        "## voice_over", "", "Heard only: a text is spoken and the footage's own sound taken down meanwhile.", "",
    ]  # fmt: skip
    (target.parent / "filters.md").write_text("\n".join(page))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
