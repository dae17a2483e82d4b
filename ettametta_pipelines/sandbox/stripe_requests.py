"""How a request to the sandboxed Stripe is read: key and version, bracketed forms, idempotency, pages, refusals.

Knows Stripe's conventions and none of its objects. Called by `sandbox/stripe.py`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.stripe_books import BOOKS_OPENED, Json, epoch

TEST_KEY = re.compile(r"(?:(?:sk|rk)_test_|sandbox-)[A-Za-z0-9_-]+")
API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(?:\.[a-z]+)?")
MAX_IDEMPOTENCY_KEY = 255


class Refusal(Exception):
    """An error answer in Stripe's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str = "",
        param: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message}}
        if code:
            self.body["error"] |= {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code}"}
        if param:
            self.body["error"]["param"] = param


@dataclass(frozen=True)
class Call:
    """One authorised request: nested parameters, the id in its path, the second it happened in."""

    params: Json
    id: str
    now: int

    @property
    def end(self) -> int:
        """Exclusive end of what has been created so far."""
        return self.now + 1


def authorise(request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Refusal(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        )
    if not TEST_KEY.fullmatch(key):
        shown = f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 20 else "*" * len(key)
        raise Refusal(401, f"Invalid API Key provided: {shown}")
    version = request.headers.get("stripe-version", "")
    if version and not API_VERSION.fullmatch(version):
        raise Refusal(400, f"Invalid Stripe API version: {version}", param="stripe_version")


def stored_answer(store: SandboxStore, key: str, fingerprint: str) -> Json | None:
    if len(key) > MAX_IDEMPOTENCY_KEY:
        raise Refusal(400, "Idempotency keys can be at most 255 characters long.", kind="idempotency_error")
    stored = store.get("stripe_idempotency", key)
    if stored is not None and stored["fingerprint"] != fingerprint:
        raise Refusal(
            400,
            "Keys for idempotent requests can only be used with the same parameters they were first used with. "
            f"Try using a key other than '{key}' if you meant to execute a different request.",
            kind="idempotency_error",
        )
    return stored


def nested(pairs: Iterable[tuple[str, str]]) -> Json:
    """Stripe's bracketed form as one object: `items[0][price]=p` is `{"items": [{"price": "p"}]}`."""
    root: Json = {}
    for name, value in pairs:
        head, *rest = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name) or [name]
        node, part = root, head
        for following in rest:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise Refusal(400, f"Invalid parameter name: {name}", param=name)
            part = following or str(len(node))
        node[part] = value
    return {name: _with_lists(value) for name, value in root.items()}


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_with_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _with_lists(inner) for key, inner in value.items()}


def whole(
    params: Json, name: str, default: int | None = None, *, low: int = 0, high: int = 99_999_999
) -> int:
    """An integer parameter within bounds, refused with Stripe's codes."""
    text = params.get(name)
    if text is None and default is not None:
        return default
    if not isinstance(text, str) or not re.fullmatch(r"-?\d{1,12}", text):
        raise Refusal(400, f"Invalid integer: {text}", code="parameter_invalid_integer", param=name)
    if not low <= int(text) <= high:
        raise Refusal(
            400, f"This value must be between {low} and {high} (it currently is '{text}').", param=name,
            code="parameter_invalid_integer",
        )  # fmt: skip
    return int(text)


def created_range(call: Call) -> tuple[int, int]:
    """`created`, a second or a range of gt/gte/lt/lte, as [start, end) of what exists by now."""
    wanted = call.params.get("created")
    start, end = epoch(BOOKS_OPENED), call.end
    if isinstance(wanted, dict):
        unknown = set(wanted) - {"gt", "gte", "lt", "lte"}
        if unknown:
            raise Refusal(
                400, f"Received unknown parameter: created[{min(unknown)}]", code="parameter_unknown"
            )
        bound = {name: whole(wanted, name, high=2**40) for name in wanted}
        start = max([start, *(bound[n] + (n == "gt") for n in ("gt", "gte") if n in bound)])
        end = min([end, *(bound[n] + (n == "lte") for n in ("lt", "lte") if n in bound)])
    elif wanted is not None:
        start = whole(call.params, "created", high=2**40)
        end = min(end, start + 1)
    return start, end


def page(call: Call, url: str, items: list[Json]) -> Json:
    """One page of `items` (newest first) after or before a cursor, in Stripe's list envelope."""
    limit = whole(call.params, "limit", 10, low=1, high=100)
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    ids = [item["id"] for item in items]
    for name, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor is not None and cursor not in ids:
            raise Refusal(400, f"No such object: '{cursor}'", code="resource_missing", param=name)
    if before is not None:
        stop = ids.index(before)
        start = max(0, stop - limit)
        return {"object": "list", "data": items[start:stop], "has_more": start > 0, "url": url}
    start = ids.index(after) + 1 if after is not None else 0
    return {
        "object": "list",
        "data": items[start : start + limit],
        "has_more": len(ids) > start + limit,
        "url": url,
    }


def missing(name: str, identifier: str, param: str = "id") -> Refusal:
    status = 404 if param == "id" else 400
    return Refusal(status, f"No such {name}: '{identifier}'", code="resource_missing", param=param)


def expansions(call: Call, possible: set[str]) -> set[str]:
    wanted = call.params.get("expand", [])
    wanted = set(wanted if isinstance(wanted, list) else [wanted])
    for name in sorted(wanted - possible):
        raise Refusal(400, f"This property cannot be expanded ({name}).", param="expand")
    return wanted
