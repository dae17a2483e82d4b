"""Sandbox router of tiktok."""

from fastapi import APIRouter

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    return APIRouter()
