"""OpenTelemetry traces of the gateway and the render node: requests, calls to vendors, statements of the state.

FastAPI makes its spans itself, httpx's and SQLAlchemy's come from their instrumentation; here they get somewhere to go.
Off unless OTEL_EXPORTER_OTLP_ENDPOINT or its twin for traces is set; what else there is to set is the SDK's own
(`OTEL_*`). Called by the servers before they make their application. No span holds the query of an address: OAuth
codes, postback tokens and signatures of links stand there.
"""

import os
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import NeedsPersonError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
ADDRESSES = ("url.full", "http.url", "http.target")
QUERY = "url.query"


def start_tracing(service: str, exporter: "SpanExporter | None" = None) -> bool:
    """Trace this process from now on, if that is wanted; whether it is. Once in a process.

    `service` is what it is called where OTEL_SERVICE_NAME is not set. Raises NeedsPersonError `tracing_not_installed`.
    """
    is_wanted = exporter is not None or any(os.environ.get(name) for name in ENDPOINTS)
    if not is_wanted or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
        from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise NeedsPersonError(
            f"Traces are asked for ({ENDPOINTS[1]}), but {error.name} is not installed.",
            code="tracing_not_installed",
            remedy="Install ettametta_pipelines[tracing], or unset the variable.",
        ) from error

    class WithoutQueries(SpanProcessor):
        def on_start(self, span: Span, parent_context: object = None) -> None:
            said = span.attributes or {}
            for name in ADDRESSES:
                if name in said:
                    span.set_attribute(name, str(said[name]).partition("?")[0])
            if said.get(QUERY):
                span.set_attribute(QUERY, "left out")

    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    provider = TracerProvider()
    provider.add_span_processor(WithoutQueries())
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    HTTPXClientInstrumentor().instrument()
    # It says that it is for SQLAlchemy before 2.1; of it, it uses events that 2.1 has too, as a test shows.
    SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
    return True
