"""Veo and what follows it at Google: requests to wishes, answers to deliveries.

The wire is `vendors/google_video.py`'s.
"""

from functools import partial

from ettametta_pipelines.synthesis.engines.remote import Delivery
from ettametta_pipelines.synthesis.prices import ModelTerms
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines.vendors.google_video import GoogleVideoClient, VideoWish


class VeoEngine:
    """One of Google's video models."""

    engine = "veo"

    def __init__(self, client: GoogleVideoClient, terms: ModelTerms, *, poll_s: float) -> None:
        self.client = client
        self.model = client.model
        self.mode: str = client.endpoint.mode
        self.standing = client.endpoint.standing
        self.poll_s = poll_s
        self._terms = terms

    def submit(self, request: ClipRequest, image: bytes | None) -> str:
        return self.client.submit(
            VideoWish(
                request.prompt, request.width, request.height, round(request.seconds), request.seed,
                request.negative_prompt, image,
            )
        )  # fmt: skip

    def look(self, operation_id: str, request: ClipRequest) -> Delivery | None:
        found = self.client.look(operation_id)
        if found is None:
            return None
        fetch = partial(self.client.download, found)
        facts: dict[str, str] = {"backend": self.client.backend}
        if found.output_tokens is not None and self._terms.output_mtok is not None:
            cost = -(-found.output_tokens * self._terms.output_mtok // 1_000_000)
            facts |= {"output_tokens": str(found.output_tokens), "reckoned_by": "tokens of the answer"}
            return Delivery(fetch, lambda _: cost, facts)
        # Whole seconds of video are sold; a clip is a frame longer or shorter.
        size = f"{request.width}x{request.height}"
        facts |= {"reckoned_by": "seconds at list price"}
        return Delivery(fetch, lambda seconds: self._terms.price(size, round(seconds)), facts)
