"""Tells orderers that a job has ended: one signed POST, repeated until it is taken or given up.

The signature is hex HMAC-SHA256 of `timestamp.nonce.body` under RENDER_NODE_SECRET. A repeated notice has a new
timestamp and the same nonce: a receiver refuses what is old and knows again what it has.
"""

import hashlib
import hmac
import json
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


def signed_headers(secret: str, nonce: str, body: bytes) -> dict[str, str]:
    """The one signature header, as the gateway's webhooks have it: `t=<unix>,n=<nonce>,v1=<hex>`."""
    timestamp = str(int(time.time()))
    signature = sign(secret, timestamp, nonce, body)
    return {
        "Content-Type": "application/json",
        "X-Ettametta-Timestamp": timestamp,
        "X-Ettametta-Nonce": nonce,
        "X-Ettametta-Signature": f"t={timestamp},n={nonce},v1={signature}",
    }


def nonce_of(job: RenderJob) -> str:
    """Names one ending of one job, so that a receiver knows a repeated notice again."""
    return hashlib.sha256(f"{job.id}:{job.attempt}:{job.state}".encode()).hexdigest()[:32]


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
            delivered = client.post(
                url, content=body, headers=signed_headers(secret, nonce_of(job), body)
            ).is_success
        except httpx.TransportError:
            delivered = False
        jobs.note_notice(db, job, delivered=delivered)
        taken += delivered
    return taken
