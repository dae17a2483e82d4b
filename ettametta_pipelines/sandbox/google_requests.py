"""Checks a request against Google's own description of the API, and phrases refusals the way Google does.

The rules come from the discovery document that ships with google-api-python-client: which methods exist, which
parameters they take and how, what a body may hold. Nothing of YouTube's behaviour is here; that is `youtube.py`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from fastapi.responses import JSONResponse

# Google's own sentence, shown when neither a key nor a token came along.
NO_CALLER = (
    "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
    "form of API consumer identity to call this API."
)
BAD_CREDENTIALS = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential."
)

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class GoogleRefusal(Exception):
    """An answer that says no. `location` names the parameter or header at fault, as older reasons do."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: str | None = None,
        location_type: str = "parameter",
        details: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        error: dict[str, Any] = {"message": message, "domain": domain, "reason": reason}
        if location is not None:
            error |= {"location": location, "locationType": location_type}
        self.body: dict[str, Any] = {
            "error": {
                "code": status,
                "message": message,
                "errors": [error],
                "status": _STATUS_NAMES.get(status, "UNKNOWN"),
            }
        }
        if details:
            self.body["error"]["details"] = list(details)

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, status_code=self.status)


@dataclass(frozen=True)
class ApiMethod:
    """One method of the discovery document."""

    id: str
    http_method: str
    path: str
    parameters: Mapping[str, Mapping[str, Any]]
    scopes: frozenset[str]
    request_schema: str | None
    response_schema: str | None
    media: Mapping[str, Any] | None


@dataclass(frozen=True)
class ApiCall:
    """A request that passed the checks: parameters by name (lists split), the body as sent."""

    method: ApiMethod
    parameters: Mapping[str, list[str]]
    body: dict[str, Any] = field(default_factory=dict)

    def values(self, name: str) -> list[str]:
        return self.parameters.get(name, [])

    def one(self, name: str) -> str | None:
        """Value as sent, or the default the document gives."""
        sent = self.parameters.get(name)
        if sent:
            return sent[0]
        default = self.method.parameters.get(name, {}).get("default")
        return str(default) if default is not None else None

    def integer(self, name: str) -> int:
        return int(self.one(name) or 0)

    def flag(self, name: str) -> bool:
        return self.one(name) == "true"

    def instant(self, name: str) -> datetime | None:
        value = self.one(name)
        return parse_instant(value) if value else None

    @property
    def parts(self) -> list[str]:
        return self.values("part")


def parse_instant(text: str) -> datetime:
    """RFC 3339 instant; ValueError without an offset."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return instant


@lru_cache(maxsize=4)
def load_api(name: str) -> "GoogleApi":
    """An API by the file name of its packaged document, e.g. `youtube.v3`."""
    from importlib.resources import files

    packaged = files("googleapiclient").joinpath("discovery_cache", "documents", f"{name}.json")
    return GoogleApi(json.loads(packaged.read_text("utf-8")))


class GoogleApi:
    """Methods and schemas of one API. Paths are matched whole: the methods served here have none with variables."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = document["schemas"]
        self._shared: Mapping[str, Any] = document["parameters"]
        self.methods: dict[tuple[str, str], ApiMethod] = {}
        self._collect(document["resources"])

    def _collect(self, resources: Mapping[str, Any]) -> None:
        for resource in resources.values():
            for method in resource.get("methods", {}).values():
                found = ApiMethod(
                    id=method["id"],
                    http_method=method["httpMethod"],
                    path=method["path"],
                    parameters=method.get("parameters", {}),
                    scopes=frozenset(method.get("scopes", ())),
                    request_schema=method.get("request", {}).get("$ref"),
                    response_schema=method.get("response", {}).get("$ref"),
                    media=method.get("mediaUpload"),
                )
                self.methods[(found.http_method, found.path)] = found
            self._collect(resource.get("resources", {}))

    def method(self, http_method: str, path: str) -> ApiMethod:
        """The method at this address; refusal 404 for an unknown path, 405 for a known one asked otherwise."""
        found = self.methods.get((http_method, path))
        if found:
            return found
        if any(known == path for _, known in self.methods):
            raise GoogleRefusal(405, "httpMethodNotAllowed", f"{http_method} is not allowed here.")
        raise GoogleRefusal(404, "notFound", "The requested URL was not found on this server.")

    def check_parameters(self, method: ApiMethod, query: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        """Parameters of the method, each checked; shared ones (`key`, `alt`, `fields` ...) are checked and left out."""
        given: dict[str, list[str]] = {}
        for name, value in query:
            given.setdefault(name, []).append(value)
        checked: dict[str, list[str]] = {}
        for name, values in given.items():
            rule = method.parameters.get(name) or self._shared.get(name)
            if rule is None:
                raise _invalid_argument(
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                    f"Field '{name}' could not be found in request message.",
                    reason="unexpectedParameter",
                    field_name=name,
                )
            if rule.get("repeated"):
                values = [item for value in values for item in value.split(",") if item]
            elif len(values) > 1:
                raise _bad_parameter(name, f"Parameter {name} may be given once, not {len(values)} times.")
            for value in values:
                _check_value(name, value, rule)
            if name in method.parameters:
                checked[name] = values
        self._check_required(method, checked)
        self._check_parts(method, checked.get("part", []))
        return checked

    def _check_required(self, method: ApiMethod, checked: Mapping[str, list[str]]) -> None:
        for name, rule in method.parameters.items():
            # Some newer methods say so in prose only.
            wanted = rule.get("required") or rule.get("description", "").startswith("Required.")
            if wanted and not any(checked.get(name, [])):
                raise GoogleRefusal(
                    400,
                    "missingRequiredParameter",
                    f"Required parameter: {name}",
                    domain="youtube.parameter",
                    location=name,
                )

    def _check_parts(self, method: ApiMethod, parts: list[str]) -> None:
        known = self._part_names(method)
        for part in parts:
            if known and part not in known:
                raise GoogleRefusal(400, "unknownPart", f"'{part}'", domain="youtube.part", location="part")

    def _part_names(self, method: ApiMethod) -> frozenset[str]:
        """Properties of the resource a method returns, which is what `part` may name."""
        if "part" not in method.parameters or method.response_schema is None:
            return frozenset()
        schema = self._schemas[method.response_schema]
        items = schema["properties"].get("items")
        if items and "$ref" in items.get("items", {}):
            schema = self._schemas[items["items"]["$ref"]]
        return frozenset(schema["properties"]) - {"kind", "etag"}

    def check_body(self, method: ApiMethod, body: object) -> dict[str, Any]:
        """The body, checked field by field against the method's schema and without its read-only fields."""
        if method.request_schema is None:
            return {}
        if not isinstance(body, dict):
            raise _invalid_argument("Invalid JSON payload received. Expected an object.")
        return self._check_object(body, self._schemas[method.request_schema], "resource")

    def _check_object(
        self, value: Mapping[str, Any], schema: Mapping[str, Any], where: str
    ) -> dict[str, Any]:
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        checked = {}
        for name, item in value.items():
            rule = properties.get(name) or extra
            if rule is None:
                raise _invalid_argument(
                    f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field.",
                    field_name=f"{where}.{name}",
                )
            if rule.get("readOnly") or item is None:
                continue
            checked[name] = self._check_field(item, rule, f"{where}.{name}")
        return checked

    def _check_field(self, value: object, rule: Mapping[str, Any], where: str) -> object:
        if "$ref" in rule:
            rule = self._schemas[rule["$ref"]]
        kind = rule.get("type", "any")
        if kind == "object":
            if not isinstance(value, dict):
                raise _wrong_type(where, kind, value)
            return self._check_object(value, rule, where)
        if kind == "array":
            if not isinstance(value, list):
                raise _wrong_type(where, kind, value)
            return [self._check_field(item, rule["items"], f"{where}[{n}]") for n, item in enumerate(value)]
        accepts = _JSON_TYPES.get(kind, (object,))
        # bool is an int to Python, not to JSON; 64-bit integers travel as strings and may come back as numbers.
        numeric_string = kind == "string" and rule.get("format") in ("int64", "uint64")
        if isinstance(value, bool) != (kind == "boolean") and kind != "any":
            raise _wrong_type(where, kind, value)
        if not isinstance(value, accepts) and not (numeric_string and isinstance(value, int)):
            raise _wrong_type(where, kind, value)
        if "enum" in rule and value not in rule["enum"]:
            raise _wrong_type(where, "enum", value)
        if rule.get("format") in ("date-time", "google-datetime") and not _is_instant(value):
            raise _wrong_type(where, "Timestamp", value)
        return value


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def _check_value(name: str, value: str, rule: Mapping[str, Any]) -> None:
    if "enum" in rule and value not in rule["enum"]:
        raise _bad_parameter(
            name, f"Invalid string value: '{value}'. Allowed values: [{', '.join(rule['enum'])}]"
        )
    if rule["type"] == "boolean" and value not in ("true", "false"):
        raise _bad_parameter(name, f"Invalid boolean value: '{value}'.")
    if rule["type"] == "integer":
        _check_integer(name, value, rule)
    if rule.get("format") == "google-datetime" and not _is_instant(value):
        raise _bad_parameter(name, f"Invalid value '{value}'. Expected an RFC 3339 date-time.")


def _check_integer(name: str, value: str, rule: Mapping[str, Any]) -> None:
    try:
        number = int(value)
    except ValueError:
        raise _bad_parameter(name, f"Invalid value '{value}'. Values must be whole numbers.") from None
    low, high = (int(rule[bound]) if bound in rule else None for bound in ("minimum", "maximum"))
    if (low is not None and number < low) or (high is not None and number > high):
        raise _bad_parameter(
            name, f"Invalid value '{number}'. Values must be within the range: [{low}, {high}]"
        )


def _is_instant(value: object) -> bool:
    try:
        parse_instant(str(value))
    except ValueError:
        return False
    return True


def _bad_parameter(name: str, message: str) -> GoogleRefusal:
    return GoogleRefusal(400, "invalidParameter", message, location=name)


def _wrong_type(where: str, kind: str, value: object) -> GoogleRefusal:
    return _invalid_argument(
        f"Invalid value at '{where}' (TYPE_{kind.upper()}), {json.dumps(value)}", field_name=where
    )


def _invalid_argument(message: str, *, reason: str = "badRequest", field_name: str = "") -> GoogleRefusal:
    violation = {"description": message} | ({"field": field_name} if field_name else {})
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
    return GoogleRefusal(400, reason, message, details=details)
