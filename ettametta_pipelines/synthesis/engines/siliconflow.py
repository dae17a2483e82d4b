"""Wan2.2 at SiliconFlow: requests to submissions, states to deliveries. The wire is `vendors/siliconflow.py`'s."""

from pathlib import Path

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.synthesis.engines.remote import Delivery
from ettametta_pipelines.synthesis.prices import ModelTerms
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines.vendors.siliconflow import SiliconFlowClient, VideoState, refusal_of
from ettametta_pipelines.vendors.video_files import FileGone


class SiliconFlowEngine:
    """One of SiliconFlow's video models."""

    engine = "siliconflow"

    def __init__(self, client: SiliconFlowClient, model: str, terms: ModelTerms, *, poll_s: float) -> None:
        self.client = client
        self.model = model
        self.mode: str = client.endpoint.mode
        self.standing = client.endpoint.standing
        self.poll_s = poll_s
        self._terms = terms

    def submit(self, request: ClipRequest, image: bytes | None) -> str:
        return self.client.submit(
            self.model,
            request.prompt,
            f"{request.width}x{request.height}",
            negative_prompt=request.negative_prompt,
            seed=request.seed,
            image=image,
        )

    def look(self, operation_id: str, request: ClipRequest) -> Delivery | None:
        state = self.client.state(operation_id)
        if state.state == "Failed":
            raise refusal_of(state.reason)
        if state.state != "Succeed":
            return None
        facts = {"reckoned_by": "clips at list price"}
        if state.seed is not None:
            facts["seed_told"] = str(state.seed)
        if state.inference_s is not None:
            facts["inference_s"] = f"{state.inference_s:g}"
        cost = self._terms.price(f"{request.width}x{request.height}", request.seconds)
        return Delivery(lambda path: self._fetch(operation_id, state, path), lambda _: cost, facts)

    def _fetch(self, operation_id: str, state: VideoState, path: Path) -> None:
        """Addresses live an hour; a fresh one is asked for once, for as long as the vendor keeps the file."""
        try:
            self.client.download(state.url, path)
        except FileGone:
            fresh = self.client.state(operation_id)
            try:
                self.client.download(fresh.url or state.url, path)
            except FileGone:
                raise PermanentError(
                    f"SiliconFlow does not keep the finished clip {operation_id} any more.",
                    code="clip_expired",
                    remedy="Order the clip again with ask_again; it was fetched too late.",
                ) from None
