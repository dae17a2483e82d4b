"""Makes the pictures of docs/handbook: the operators' day is walked in a browser, and what it leaves is made small.

Run by `make handbook`. Pictures are reduced to a palette and, where a page goes on with what is this machine's own
(paths of files), cut above it.
"""

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

DAY = "ettametta_pipelines_tests/browser/test_operators_day.py"
BUDGET = 100_000
# Name -> height in pixels that is kept.
CUT = {"approval-run": 333}
# Runs that only repeat what another picture shows.
LEFT_OUT = {"launchpad-publish_video"}


def palette_within(picture: Image.Image, budget: int) -> bytes:
    """PNG with as many colours as fit into `budget` bytes; raises SystemExit where none do."""
    for colours in (256, 128, 64, 32, 16):
        data = BytesIO()
        picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
        if data.tell() <= budget:
            return data.getvalue()
    raise SystemExit(f"A picture does not fit into {budget} bytes.")


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as made:
        asked = os.environ | {"HANDBOOK_PICTURES": made}
        subprocess.run([sys.executable, "-m", "pytest", DAY], env=asked, check=True)
        for file in sorted(Path(made).glob("*.png")):
            if file.stem not in LEFT_OUT:
                picture = Image.open(file)
                picture = picture.crop((0, 0, picture.width, CUT.get(file.stem, picture.height)))
                (target / file.name).write_bytes(palette_within(picture, BUDGET))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
