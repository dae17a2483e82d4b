"""Tells orderers that a job has ended: one signed POST, repeated until it is taken or given up.

The signature is hex HMAC-SHA256 of `timestamp.nonce.body` under RENDER_NODE_SECRET; every try has a timestamp and a
nonce of its own, so that a receiver can refuse what is old and what it has seen.
"""

import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING

from ettametta_pipelines.state.models import RenderJob
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.synthesis.render_node import jobs

if TYPE_CHECKING:
    import httpx

EVENT = "render_job_ended"


def sign(secret: str, timestamp: str, nonce: str, body: bytes) -> str:
    """The signature of a webhook, as its receiver computes it too."""
    return hmac.new(secret.encode(), f"{timestamp}.{nonce}.".encode() + body, hashlib.sha256).hexdigest()


def signed_headers(secret: str, body: bytes) -> dict[str, str]:
    timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
    return {
        "Content-Type": "application/json",
        "X-Ettametta-Timestamp": timestamp,
        "X-Ettametta-Nonce": nonce,
        "X-Ettametta-Signature": sign(secret, timestamp, nonce, body),
    }


def notice_of(job: RenderJob) -> bytes:
    """What is said of a job; the same bytes at every try."""
    said = {
        "event": EVENT,
        "job_id": job.id,
        "idempotency_key": job.idempotency_key,
        "state": job.state,
        "attempt": job.attempt,
    }
    return json.dumps(said, sort_keys=True).encode()


def send_due(db: StateDatabase, client: "httpx.Client", url: str, secret: str) -> int:
    """Send every notice that is due; how many were taken."""
    import httpx

    taken = 0
    for job in jobs.due_notices(db):
        body = notice_of(job)
        try:
            delivered = client.post(url, content=body, headers=signed_headers(secret, body)).is_success
        except httpx.TransportError:
            delivered = False
        jobs.note_notice(db, job, delivered=delivered)
        taken += delivered
    return taken
