"""Fingerprints in the object store, and which other video of an account shows the same as this one.

A fingerprint's digest is part of its name, so that one listing finds the candidates without reading any; only those
are fetched and compared in full. Asked by the `media_analysis` asset. Copies are found where they run from beginning
to end at the same pace: a cut one is another video.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ettametta_pipelines.media.fingerprint import (
    Distance,
    digest,
    distance,
    from_bytes,
    from_digest,
    to_bytes,
)
from ettametta_pipelines.storage.objects import ObjectStore

if TYPE_CHECKING:
    from ettametta_pipelines.media.fingerprint import Samples

FOLDER = "media/fingerprints"
# Samples two of the same length may differ by: rounding, and a few frames at the end.
LENGTH_TOLERANCE = 3


@dataclass(frozen=True)
class Resemblance:
    """Another source video that shows the same."""

    source_id: str
    distance: Distance

    @property
    def in_words(self) -> str:
        turned = ", mirrored" if self.distance.mirrored else ""
        return f"{self.source_id} ({self.distance.bits:g} of 64 bits differ{turned})"


def fingerprint_key(source_id: str, samples: "Samples") -> str:
    account, content = source_id.rsplit("--", 1)
    return f"{FOLDER}/{account}/{content}.{digest(samples)}"


def keep_fingerprint(store: ObjectStore, source_id: str, samples: "Samples") -> str:
    """Store it; returns its key, which the same fingerprint always has."""
    key = fingerprint_key(source_id, samples)
    store.put(key, to_bytes(samples), content_type="application/octet-stream")
    return key


def find_resembling(store: ObjectStore, source_id: str, key: str) -> Resemblance | None:
    """The other video of the account most like the one with this fingerprint, None where none shows the same."""
    own = from_bytes(store.get(key))
    account = source_id.rsplit("--", 1)[0]
    brief, found = from_digest(key.rsplit(".", 1)[1]), []
    for info in store.list(f"{FOLDER}/{account}/"):
        content, text = info.key.rsplit("/", 1)[1].rsplit(".", 1)
        other = f"{account}--{content}"
        if other == source_id or not distance(brief, from_digest(text)).resembles:
            continue
        samples = from_bytes(store.get(info.key))
        far = distance(own, samples)
        if far.resembles and abs(len(own) - len(samples)) <= LENGTH_TOLERANCE:
            found.append(Resemblance(other, far))
    return min(found, key=lambda one: one.distance.bits, default=None)
