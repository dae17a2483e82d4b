"""Traces: off unless asked for, from the request to the statement when they are, and without anybody's secrets."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ettametta_pipelines.commands.devserver import project_root
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.tracing import ENDPOINTS, start_tracing

# In a process of its own: what traces it once does so to its end.
TRACED = """
import json, sys
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ettametta_pipelines.tracing import start_tracing
seen = InMemorySpanExporter()
assert start_tracing("ettametta-gateway", seen)
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.vendors.http import http_client, send
settings = get_settings()
url = "http://127.0.0.1:8000"
with TestClient(create_gateway(settings, url=url), base_url=url, client=("127.0.0.1", 4000)) as client:
    assert client.get("/publications/" + "0" * 32 + "?code=hush-code").status_code == 404
with http_client(settings.endpoint("stripe")) as client:
    send(client, "GET", "/_control/requests?key=hush-key", vendor="Stripe", doing="say")
trace.get_tracer_provider().force_flush()
json.dump([json.loads(span.to_json()) for span in seen.get_finished_spans()], sys.stdout)
"""


def spans(program: str, **environment: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(project_root()), *sys.path])} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_request_is_traced_to_its_statements_and_vendors_and_no_query_is_told(
    settings_env: Settings,
) -> None:
    found = spans(TRACED)
    assert "hush" not in json.dumps(found)
    (request,) = [
        span for span in found if span["attributes"].get("http.route") == "/publications/{publication_id}"
    ]
    assert request["resource"]["attributes"]["service.name"] == "ettametta-gateway"
    of_it = [span for span in found if span["context"]["trace_id"] == request["context"]["trace_id"]]
    assert any("FROM publications" in str(span["attributes"].get("db.statement")) for span in of_it)
    called = [str(span["attributes"].get("http.url") or span["attributes"].get("url.full")) for span in found]
    assert any(url.endswith("/_control/requests") for url in called)


def test_nothing_is_traced_unless_somebody_says_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert not start_tracing("ettametta-gateway")
    monkeypatch.setenv(ENDPOINTS[1], "http://collector:4318")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not start_tracing("ettametta-gateway")


def test_traces_that_are_wanted_and_cannot_be_made_are_no_silent_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENDPOINTS[1], "http://collector:4318")
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.httpx", None)
    with pytest.raises(NeedsPersonError) as failure:
        start_tracing("ettametta-gateway")
    assert failure.value.code == "tracing_not_installed"
