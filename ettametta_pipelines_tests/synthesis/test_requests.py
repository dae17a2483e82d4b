"""The name of a clip says what was asked, not where its inputs lie."""

from dataclasses import replace

import pytest

from ettametta_pipelines.synthesis.requests import ClipRequest, request_key

REQUEST = ClipRequest(
    prompt="a paper boat on a rainy street", seconds=4.0, width=768, height=512, fps=24, seed=7,
    image_key="media/stills/a.png", image_sha256="ab" * 32,
)  # fmt: skip


def test_the_same_picture_elsewhere_is_the_same_clip() -> None:
    moved = replace(REQUEST, image_key="media/stills/b.png")
    assert request_key("ltx", "m", moved) == request_key("ltx", "m", REQUEST)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a paper boat"}, {"negative_prompt": "text"}, {"seconds": 4.5}, {"width": 512}, {"height": 768},
        {"fps": 25}, {"seed": 8}, {"image_sha256": "cd" * 32},
    ],
)  # fmt: skip
def test_whatever_changes_the_clip_changes_its_name(change: dict[str, object]) -> None:
    assert request_key("ltx", "m", replace(REQUEST, **change)) != request_key("ltx", "m", REQUEST)  # type: ignore[arg-type]


def test_another_engine_or_model_makes_another_clip() -> None:
    names = {request_key(engine, model, REQUEST) for engine in ("ltx", "wan") for model in ("m", "n")}
    assert len(names) == 4
