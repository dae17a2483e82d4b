"""`/postbacks/{network}`: affiliate networks call it once per sale, and again when they decide about the commission.

Networks sign nothing: a call is believed for the token in it, which each network has of its own
(ETTAMETTA_POSTBACK_TOKENS) and which is compared in constant time and not kept. What a network calls its parameters is
said in the networks file. A call is stored like a webhook, once however often it is made, and answered; the sensor
`webhook_inbox` books it. Whatever else a network sends is left out, since people may be in it.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ettametta_pipelines.commerce.networks import load_networks
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.gateway.group_commit import GroupCommit
from ettametta_pipelines.gateway.webhook_sources import NotAccepted
from ettametta_pipelines.gateway.webhooks import json_object, limited_body
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.session import StateDatabase

SOURCE = "postback"
MAX_CHARS = 500


def postback_routes(settings: Settings, db: StateDatabase) -> APIRouter:
    """Not behind the operators' door, since networks call it."""
    routes = APIRouter()
    writer = GroupCommit(db)

    @routes.api_route("/postbacks/{network}", methods=["GET", "POST"])
    async def receive(network: str, request: Request) -> Response:
        try:
            said = dict(request.query_params) | await _in_body(request)
            _check_token(settings.postback_tokens_of(network), said.pop("token", ""))
            message = _message(settings, network, said)
            return JSONResponse({"stored": await writer.store(message)})
        except NotAccepted as refusal:
            return JSONResponse({"error": refusal.code, "message": refusal.said}, refusal.status)
        except PipelineError as error:
            return JSONResponse({"error": error.code}, 503)

    return routes


def _check_token(tokens: tuple[str, ...], given: str) -> None:
    """An unknown network and a wrong token look alike."""
    fits = [hmac.compare_digest(token.encode(), given.encode("utf-8", "replace")) for token in tokens]
    if not any(fits):
        raise NotAccepted(403, "wrong_token", "The token is missing or wrong for this network.")


def _message(settings: Settings, network: str, said: Mapping[str, str]) -> inbox.Message:
    known = load_networks(settings).by_name.get(network)
    if known is None:
        raise NotAccepted(404, "unknown_network", "The networks file has no such network.")
    fields = {ours: said.get(theirs, "").strip() for ours, theirs in known.postback.names().items()}
    if any(len(text) > MAX_CHARS for text in fields.values()):
        raise NotAccepted(400, "unreadable", f"A value has {MAX_CHARS} characters at most.")
    if not fields["transaction_id"]:
        raise NotAccepted(400, "unreadable", f"{known.postback.transaction_id} is missing.")
    fields["status"] = known.postback.statuses.get(fields["status"].lower(), fields["status"])
    body = json.dumps(fields, sort_keys=True)
    return inbox.Message(SOURCE, hashlib.sha256(f"{network}\n{body}".encode()).hexdigest(), network, body)


async def _in_body(request: Request) -> dict[str, str]:
    """Parameters in the body of a POST, as a form or as a JSON object; what is nested in one is left out."""
    body = await limited_body(request)
    if request.method == "GET" or not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        return {name: str(value) for name, value in json_object(body).items() if _is_plain(value)}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)
