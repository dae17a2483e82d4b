"""Groq, which speaks OpenAI's protocol: what differs, and nothing else. The client is `openai.py`'s."""

from ettametta_pipelines.vendors.openai import Dialect, reasons_of

GROQ = Dialect(
    provider="groq",
    vendor="Groq",
    key_field="groq_api_key",
    most_pictures=5,
    reasons=reasons_of("groq", "Groq", "console.groq.com"),
)
