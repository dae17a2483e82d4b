"""The stills that clips start from: a frame of the account's own footage, a photo of Pexels, or one that is named.

A still is kept by its content under `media/stills/`, with what is known of its rights beside it as JSON; both travel
with the plan, so that a clip names what it was made of. Own footage comes first, since it needs nobody's licence.
Called by `planning.py` through `assets.py`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.rights import publishing_obstacle
from ettametta_pipelines.renders.ffmpeg import DEMUXER_WHITELIST, run_ffmpeg
from ettametta_pipelines.storage.objects import ObjectExists, ObjectMissing, ObjectStore

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.pexels import PexelsClient

FOLDER = "media/stills/"
# Frames that are looked at; the sharpest is taken.
LOOKS = (0.15, 0.3, 0.45, 0.6, 0.75)


@dataclass(frozen=True)
class Still:
    """A picture in the store. `right` is that of what it was taken from, `origin` where that is; `credit` is shown."""

    object_key: str
    sha256: str
    origin: str
    right: str
    licence: str | None = None
    credit: str | None = None
    standing: str = "own"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def keep_still(store: ObjectStore, data: bytes, **known: Any) -> Still:
    """Store a picture by its content, and what is known of its rights beside it."""
    sha256 = hashlib.sha256(data).hexdigest()
    still = Still(f"{FOLDER}{sha256}.jpg", sha256, **known)
    with suppress(ObjectExists):
        store.create(still.object_key, data, content_type="image/jpeg")
    store.put(f"{FOLDER}{sha256}.json", json.dumps(still.as_dict()).encode(), content_type="application/json")
    return still


def named_still(store: ObjectStore, key: str, right: str) -> Still:
    """A picture somebody put into the store, under the right they declare for it.

    Raises PermanentError `still_missing`, or what `still_of_footage` raises for a right that is none.
    """
    _require_right(key, right, None)
    try:
        data = store.get(key)
    except ObjectMissing:
        raise PermanentError(
            f"There is no picture at {key}.", code="still_missing", remedy="Upload it, or name another one."
        ) from None
    return keep_still(store, data, origin=key, right=right)


def still_of_footage(store: ObjectStore, source: Mapping[str, Any], scratch: Path) -> Still:
    """The sharpest of a few frames of an accepted source (a row of `source_media`).

    Raises PermanentError `still_right_missing` where nobody declared a right, or `decode_failed`.
    """
    import cv2
    import numpy as np

    _require_right(source["source_id"], source["rights"], source.get("attribution"))
    best, sharpest = b"", -1.0
    with private_dir(scratch, "still") as workdir:
        footage = fetch(store, source["object_key"], workdir)
        for share in LOOKS:
            out = workdir / "still.jpg"
            run_ffmpeg(
                [
                    "-protocol_whitelist", "file", "-format_whitelist", DEMUXER_WHITELIST, "-f", source["container"],
                    "-ss", f"{share * source['duration_s']:.3f}", "-i", f"file:{footage}", "-frames:v", "1",
                    "-q:v", "2", "-f", "image2", "-update", "1", f"file:{out}",
                ],
                doing=f"taking a still of {source['source_id']}",
                workdir=workdir,
                timeout_s=60,
            )  # fmt: skip
            data = out.read_bytes()
            grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
            sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var()) if grey is not None else -1.0
            if sharpness > sharpest:
                best, sharpest = data, sharpness
    return keep_still(
        store, best, origin=source["source_id"], right=source["rights"], credit=source.get("attribution")
    )


def still_of_pexels(
    store: ObjectStore, pexels: "PexelsClient", keywords: Sequence[str], *, upright: bool, seed: int
) -> Still:
    """A photo for the first keyword that finds any; which of the best is the seed's choice.

    Raises PermanentError `still_not_found`, or what Pexels raises.
    """
    from ettametta_pipelines.vendors.pexels import LICENCE

    for keyword in keywords:
        found = pexels.search_photos(keyword, orientation="portrait" if upright else "landscape")
        if not found:
            continue
        photo = found[seed % min(len(found), 6)]
        return keep_still(
            store,
            pexels.download_photo(photo),
            origin=photo.url,
            right="licensed",
            licence=LICENCE,
            credit=f"Photo by {photo.photographer} on Pexels",
            standing=pexels.mode,
        )
    raise PermanentError(
        f"Pexels has no photo for {', '.join(keywords) or 'no keyword at all'}.",
        code="still_not_found",
        remedy="Name a still, or use other keywords.",
    )


def first_still(tries: Sequence[Any]) -> tuple[Still | None, list[PipelineError]]:
    """The first still that one of `tries` (functions without arguments) gives, and why those before it gave none."""
    failed: list[PipelineError] = []
    for attempt in tries:
        try:
            return attempt(), failed
        except PipelineError as error:
            failed.append(error)
    return None, failed


def _require_right(name: str, right: str, credit: str | None) -> None:
    obstacle = publishing_obstacle(right, credit)
    if obstacle is not None:
        raise PermanentError(
            f"{name} may not be shown: {obstacle}",
            code="still_right_missing",
            remedy="Declare its right first.",
        )
