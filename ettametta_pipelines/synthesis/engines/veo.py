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
        # What is paid for is seconds of video, or tokens where the model counts those.
        cost = self._terms.price(f"{request.width}x{request.height}", request.seconds)
        facts = {"backend": self.client.backend, "reckoned_by": "seconds at list price"}
        if found.output_tokens is not None and self._terms.output_mtok is not None:
            cost = -(-found.output_tokens * self._terms.output_mtok // 1_000_000)
            facts |= {"output_tokens": str(found.output_tokens), "reckoned_by": "tokens of the answer"}
        return Delivery(partial(self.client.download, found), cost, facts)
