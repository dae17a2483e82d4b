"""Local stand-ins for the outside services, which the unmodified vendor SDKs talk to over HTTP.

Imported by its own entry point, the demo and tests only; no domain and no vendor client imports it.
"""
