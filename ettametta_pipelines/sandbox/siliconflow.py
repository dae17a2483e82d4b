"""Sandbox of SiliconFlow's video API: submit, status (asked with POST) and the file under an address of its own.

Refusals have the real one's odd shapes: a bare JSON string for a wrong key, a number for a reason.
"""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.clips import clip_file, find_order, has, look_at_order, take_order
from ettametta_pipelines.sandbox.core import SandboxStore

VENDOR = "siliconflow"
# Model -> whether it starts from a picture.
MODELS = {"Wan-AI/Wan2.2-T2V-A14B": False, "Wan-AI/Wan2.2-I2V-A14B": True}
SIZES = ("1280x720", "720x1280", "960x960")
SECONDS, FPS = 5, 16
KEY = re.compile(r"Bearer [A-Za-z0-9._-]{16,80}")
FIELDS = frozenset({"model", "prompt", "image_size", "negative_prompt", "seed", "image"})


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """`/siliconflow/v1/video/...` and the files under `/siliconflow/files/`."""
    api = APIRouter()

    @api.get("/v1/models")
    async def models(request: Request) -> Response:
        return _keyless(request) or JSONResponse(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]}
        )

    @api.post("/v1/video/submit")
    async def submit(request: Request) -> Response:
        if refusal := _keyless(request):
            return refusal
        asked = await request.json()
        problem = _problem(asked)
        if problem:
            return JSONResponse({"code": 20012, "message": problem, "data": None}, 400)
        width, height = (int(side) for side in asked["image_size"].split("x"))
        name = take_order(
            store,
            VENDOR,
            {
                "prompt": asked["prompt"], "seed": asked.get("seed") or 0, "width": width, "height": height,
                "seconds": SECONDS, "fps": FPS,
            },
        )  # fmt: skip
        return JSONResponse({"requestId": name}, headers={"x-siliconcloud-trace-id": f"ti_{name}"})

    @api.post("/v1/video/status")
    async def status(request: Request) -> Response:
        if refusal := _keyless(request):
            return refusal
        name = str((await request.json()).get("requestId"))
        order = look_at_order(store, VENDOR, name)
        if order is None:
            return JSONResponse({"code": 20015, "message": "request id not found", "data": None}, 400)
        if not order["is_done"]:
            return JSONResponse({"status": "InQueue" if order["looks"] == 1 else "InProgress", "reason": ""})
        for trick, said in (
            ("fails-late", "internal error"),
            ("filtered", "the content violates the safety policy"),
        ):
            if has(order["prompt"], trick):
                return JSONResponse({"status": "Failed", "reason": said, "results": None})
        results = {
            "videos": [{"url": f"{public_url}/siliconflow/files/{name}/{order['looks']}.mp4"}],
            "timings": {"inference": 31.5},
            "seed": order["seed"],
        }
        return JSONResponse({"status": "Succeed", "reason": "", "results": results})

    @api.get("/files/{name}/{looks}.mp4")
    async def file(name: str, looks: int) -> Response:
        order = find_order(store, VENDOR, name)
        if order is None or has(order["prompt"], "link-gone"):
            return Response("<Error><Code>NoSuchKey</Code></Error>", 404, media_type="application/xml")
        # Of addresses that expire only the newest works, once the state was asked for again.
        if has(order["prompt"], "link-expires") and looks < 3:
            return Response("<Error><Code>AccessDenied</Code></Error>", 403, media_type="application/xml")
        return FileResponse(await run_in_threadpool(clip_file, store, order), media_type="video/mp4")

    return api


def _keyless(request: Request) -> Response | None:
    return (
        None
        if KEY.fullmatch(request.headers.get("authorization", ""))
        else JSONResponse("Invalid token", 401)
    )


def _problem(asked: Any) -> str:
    if not isinstance(asked, dict) or set(asked) - FIELDS:
        return "Unknown field"
    if asked.get("model") not in MODELS:
        return "Model does not exist. Please check it carefully."
    if not str(asked.get("prompt") or "").strip():
        return "prompt is required"
    if asked.get("image_size") not in SIZES:
        return "image_size is invalid"
    if MODELS[asked["model"]] != bool(asked.get("image")):
        return "image is required" if MODELS[asked["model"]] else "image is not allowed"
    if has(asked["prompt"], "refused"):
        return "The prompt contains sensitive content."
    return ""
