"""The sandbox as one ASGI app: every vendor mounted under its name, the control API, faults around it all.

Knows no vendor's rules (those are in the vendor modules) and no port (that is `server.py`).
"""

from pathlib import Path

from fastapi import FastAPI

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.sandbox import (
    elevenlabs,
    gemini,
    google_video,
    openai,
    pexels,
    shopify,
    siliconflow,
    stripe,
    tiktok,
    youtube,
)
from ettametta_pipelines.sandbox.core import FaultMiddleware, Faults, SandboxStore, control_router
from ettametta_pipelines.sandbox.webhooks import webhook_control

DEFAULT_SEED = 20_260

VENDOR_ROUTERS = {
    "youtube": youtube.router,
    "gemini": gemini.router,
    "openai": openai.openai_router,
    "groq": openai.groq_router,
    "tiktok": tiktok.router,
    "stripe": stripe.router,
    "shopify": shopify.router,
    "pexels": pexels.router,
    "elevenlabs": elevenlabs.router,
    "siliconflow": siliconflow.router,
    "vertex": google_video.vertex_router,
}


def create_app(
    home: Path,
    *,
    public_url: str,
    clock: Clock = utc_now,
    seed: int = DEFAULT_SEED,
    latency_s: float = 0.0,
) -> FastAPI:
    """App whose state lives under `home/sandbox`. `public_url` (no trailing slash) is what its own links start with."""
    store = SandboxStore(home / "sandbox")
    faults = Faults()
    app = FastAPI(title="ettametta sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store = store
    app.state.faults = faults
    app.include_router(control_router(store, faults, home=home))
    app.include_router(webhook_control(store, clock))
    for name, make_router in VENDOR_ROUTERS.items():
        app.include_router(
            make_router(store, public_url=public_url, clock=clock, seed=seed), prefix=f"/{name}"
        )
    app.include_router(
        google_video.interactions_router(store, public_url=public_url, clock=clock, seed=seed),
        prefix="/gemini",
    )
    app.add_middleware(FaultMiddleware, store=store, faults=faults, clock=clock, latency_s=latency_s)
    return app
