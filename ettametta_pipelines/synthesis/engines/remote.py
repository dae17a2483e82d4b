"""What every engine behind a vendor's API offers: submit once, look as often as wanted, fetch what is finished.

None of them repeats a submission or keeps a record of it: `state/clip_orders.py` does, and `making.py` calls both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ettametta_pipelines.synthesis.requests import ClipRequest


@dataclass(frozen=True)
class Delivery:
    """A clip that waits at the vendor: how to fetch it to a path, and what the answer says of it.

    `cost_of` gives what it cost, in millionths of a US dollar, for the seconds of video that were delivered; an answer
    that tells what was used is reckoned by that instead.
    """

    fetch: Callable[[Path], None]
    cost_of: Callable[[float], int]
    provenance: Mapping[str, str] = field(default_factory=dict)


class RemoteEngine(Protocol):
    """One model of one vendor. `mode` is sandbox or live, `poll_s` the pause between two looks."""

    engine: str
    model: str
    mode: str
    standing: str
    poll_s: float

    def submit(self, request: ClipRequest, image: bytes | None) -> str:
        """Order one clip and return the vendor's name for it. Sent once; OutcomeUnknownError when it may be ordered."""

    def look(self, operation_id: str, request: ClipRequest) -> Delivery | None:
        """The clip if it is finished, None while it is made. Raises PermanentError when it will not come."""
