"""Sandboxes of Google's two ways to order a video: interactions of the Gemini API, and long-running Veo on Vertex.

Interactions hand out an address of the file, Vertex the bytes themselves, each as the real one does by default.
"""

import base64
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.clips import clip_file, find_order, has, look_at_order, take_order
from ettametta_pipelines.sandbox.core import SandboxStore

INTERACTIONS, VERTEX = "interactions", "vertex"
OMNI_MODELS = ("gemini-omni-1.1-flash", "gemini-omni-1.2-flash")
VEO_MODELS = ("veo-3.1-generate-001", "veo-3.1-fast-generate-001")
FPS = 24
# Tokens of a second of video, by lines of picture: what makes the list price of a second at 17.50 USD a million.
TOKENS_A_SECOND = {"360p": 2286, "720p": 6857, "1080p": 10286, "4k": 20000}
SIDES = {"360p": 360, "720p": 720, "1080p": 1080, "4k": 2160}


def interactions_router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """`/gemini/{version}/interactions` and the files below it."""
    api = APIRouter()

    @api.post("/{version}/interactions")
    async def create(version: str, request: Request) -> Response:
        if not request.headers.get("x-goog-api-key"):
            return _no(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
        asked = await request.json()
        wish = asked.get("response_format") or {}
        prompt = " ".join(_texts(asked.get("input")))
        if asked.get("model") not in OMNI_MODELS:
            return _no(404, "NOT_FOUND", f"models/{asked.get('model')} is not found or no longer available.")
        resolution, aspect = wish.get("resolution", "720p"), wish.get("aspect_ratio", "16:9")
        seconds = str(wish.get("duration") or "8s").removesuffix("s")
        if resolution not in SIDES or aspect not in ("16:9", "9:16") or not seconds.isdigit():
            return _no(400, "INVALID_ARGUMENT", "Invalid value at 'response_format'.")
        if not prompt:
            return _no(400, "INVALID_ARGUMENT", "input must not be empty.")
        if has(prompt, "refused"):
            return _no(400, "INVALID_ARGUMENT", "The prompt was blocked by our safety filters.")
        short, long = SIDES[resolution], SIDES[resolution] * 16 // 9
        width, height = (short, long) if aspect == "9:16" else (long, short)
        name = take_order(
            store,
            INTERACTIONS,
            {
                "prompt": prompt, "seed": (asked.get("generation_config") or {}).get("seed"), "width": width,
                "height": height, "seconds": int(seconds), "fps": FPS, "audio": True, "resolution": resolution,
                "model": asked["model"],
            },
        )  # fmt: skip
        return JSONResponse(
            {"id": name, "object": "interaction", "status": "in_progress", "model": asked["model"]}
        )

    @api.get("/{version}/interactions/{name}")
    async def get(version: str, name: str) -> Response:
        order = look_at_order(store, INTERACTIONS, name)
        if order is None:
            return _no(404, "NOT_FOUND", "Interaction not found.")
        body: dict[str, Any] = {
            "id": name,
            "object": "interaction",
            "status": "in_progress",
            "model": order["model"],
        }
        if order["is_done"]:
            body |= _finished(order, f"{public_url}/gemini/{version}/files/{name}:download?alt=media")
        return JSONResponse(body)

    @api.get("/{version}/files/{name}:download")
    async def download(version: str, name: str, request: Request) -> Response:
        if not request.headers.get("x-goog-api-key"):
            return _no(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
        order = find_order(store, INTERACTIONS, name)
        if order is None or has(order["prompt"], "link-gone"):
            return _no(404, "NOT_FOUND", "File not found.")
        return FileResponse(await run_in_threadpool(clip_file, store, order), media_type="video/mp4")

    return api


def _finished(order: Mapping[str, Any], uri: str) -> dict[str, Any]:
    for trick, message in (
        ("fails-late", "Internal error encountered."),
        ("filtered", "The video was blocked by safety filters."),
    ):
        if has(order["prompt"], trick):
            # As seen: finished by its status, and an error where the video should be.
            step = {"type": "model_output", "content": [], "error": {"code": 13, "message": message}}
            return {"status": "completed", "steps": [step], "usage": {"total_output_tokens": 0}}
    tokens = TOKENS_A_SECOND[order["resolution"]] * order["seconds"]
    video = {"type": "video", "uri": uri, "mime_type": "video/mp4"}
    return {
        "status": "completed",
        "steps": [{"type": "model_output", "content": [video]}],
        "usage": {"total_output_tokens": tokens * 5 // 4 if has(order["prompt"], "dear") else tokens},
    }


def vertex_router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """`/vertex/{version}/projects/.../models/{veo}:predictLongRunning` and `:fetchPredictOperation`."""
    api = APIRouter()
    model_path = "/{version}/projects/{project}/locations/{location}/publishers/google/models/{call}"

    @api.post(model_path)
    async def call(version: str, project: str, location: str, call: str, request: Request) -> Response:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return _no(401, "UNAUTHENTICATED", "Request is missing required authentication credential.")
        model, _, action = call.partition(":")
        if model not in VEO_MODELS:
            return _no(
                404, "NOT_FOUND", f"Publisher Model `{model}` was not found or is no longer available."
            )
        asked = await request.json()
        if action == "predictLongRunning":
            prefix = f"projects/{project}/locations/{location}/publishers/google/models/{model}/operations"
            return _predict(store, asked, prefix)
        if action == "fetchPredictOperation":
            return await run_in_threadpool(_fetch, store, str(asked.get("operationName")))
        return _no(404, "NOT_FOUND", f"Method {action} not found.")

    return api


def _predict(store: SandboxStore, asked: Mapping[str, Any], prefix: str) -> Response:
    (instance, *_), wish = asked.get("instances") or [{}], asked.get("parameters") or {}
    prompt = str(instance.get("prompt") or "")
    if wish.get("durationSeconds") not in (4, 6, 8) or wish.get("resolution") not in ("720p", "1080p"):
        return _no(400, "INVALID_ARGUMENT", "durationSeconds must be 4, 6 or 8, resolution 720p or 1080p.")
    if not prompt or has(prompt, "refused"):
        return _no(
            400, "INVALID_ARGUMENT", "The prompt could not be submitted: it violates our safety policy."
        )
    short = SIDES[wish["resolution"]]
    width, height = (
        (short, short * 16 // 9) if wish.get("aspectRatio") == "9:16" else (short * 16 // 9, short)
    )
    name = take_order(
        store,
        VERTEX,
        {
            "prompt": prompt, "seed": wish.get("seed"), "width": width, "height": height,
            "seconds": wish["durationSeconds"], "fps": FPS, "audio": True,
        },
    )  # fmt: skip
    return JSONResponse({"name": f"{prefix}/{name}"})


def _fetch(store: SandboxStore, operation: str) -> Response:
    order = look_at_order(store, VERTEX, operation.rpartition("/")[2])
    if order is None:
        return _no(404, "NOT_FOUND", f"Operation {operation} not found.")
    body: dict[str, Any] = {"name": operation}
    if not order["is_done"]:
        return JSONResponse(body)
    body["done"] = True
    if has(order["prompt"], "fails-late"):
        return JSONResponse(body | {"error": {"code": 13, "message": "Video generation failed."}})
    if has(order["prompt"], "filtered"):
        told = {
            "raiMediaFilteredCount": 1,
            "raiMediaFilteredReasons": ["58061214: the video was not safe to show"],
        }
        return JSONResponse(body | {"response": told})
    encoded = base64.b64encode(clip_file(store, order).read_bytes()).decode()
    return JSONResponse(
        body | {"response": {"videos": [{"bytesBase64Encoded": encoded, "mimeType": "video/mp4"}]}}
    )


def _texts(said: Any) -> list[str]:
    """Every text in an input, which the SDK wraps in steps of its own."""
    if isinstance(said, str):
        return [said]
    if isinstance(said, list):
        return [text for part in said for text in _texts(part)]
    if isinstance(said, dict):
        if said.get("type") == "text":
            return [str(said.get("text") or "")]
        return _texts(said.get("content") or [])
    return []


def _no(code: int, status: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "status": status}}, code)
