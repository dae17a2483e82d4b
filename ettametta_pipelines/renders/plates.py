"""The plate: one black picture with an alpha plane that carries vignette and letterbox of a format.

Painted once per render and laid over every frame: a single overlay costs a seventh of what ffmpeg's per-frame
vignette filter does, and keeps chroma right, which multiplying luma alone does not.
"""

from pathlib import Path

from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.recipe import Recipe

BLACK_LUMA, NEUTRAL_CHROMA = 16, 128
# The middle stays untouched up to this share of the distance to the corner.
CLEAR_RADIUS = 0.35


def needs_plate(recipe: Recipe) -> bool:
    return recipe.vignette is not None or recipe.letterbox is not None


def bar_height(recipe: Recipe, format: Format) -> int:
    """Pixels of each letterbox bar; even, so that it ends between chroma samples."""
    return 2 * round(recipe.letterbox.height * format.height / 2) if recipe.letterbox else 0


def paint_plate(path: Path, recipe: Recipe, format: Format, seed: int) -> None:
    """Write one raw yuva420p frame of the format's size.

    The fade is dithered by the seed: 256 steps over a dark sky would show as rings.
    """
    import numpy as np

    width, height, bar = format.width, format.height, bar_height(recipe, format)
    alpha = np.zeros((height, width))
    if recipe.vignette is not None:
        shown = height - 2 * bar
        across = np.abs(np.arange(width) - (width - 1) / 2) / (width / 2)
        down = np.abs(np.arange(height) - (height - 1) / 2) / (shown / 2)
        radius = np.hypot(across[np.newaxis, :], down[:, np.newaxis]) / np.sqrt(2)
        fade = np.clip((radius - CLEAR_RADIUS) / (1 - CLEAR_RADIUS), 0, 1) ** 2
        alpha = 255 * recipe.vignette.strength * fade
        alpha += np.where(alpha > 0, np.random.default_rng(seed).random(alpha.shape), 0)
    if bar:
        alpha[:bar] = alpha[-bar:] = 255
    with path.open("wb") as file:
        file.write(bytes([BLACK_LUMA]) * (width * height))
        file.write(bytes([NEUTRAL_CHROMA]) * (2 * ((width + 1) // 2) * ((height + 1) // 2)))
        file.write(np.clip(alpha, 0, 255).astype(np.uint8).tobytes())
