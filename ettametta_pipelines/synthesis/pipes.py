"""Pipes sessions of GPU jobs: words and figures of the worker reach the run, results do not.

What counts is looked up in the object store, so a step that used Pipes returns what it likes. Used by `pod.py` and
`local.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster import PipesContextInjector, PipesMessageReader, PipesSession, open_pipes_session

Context = dg.AssetExecutionContext | dg.OpExecutionContext


class _NoResults:
    """A step's context from which Pipes cannot demand that the step returns Pipes' results."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_requires_typed_event_stream(self, *, error_message: str | None = None) -> None:
        return


@contextmanager
def open_session(
    context: Context, injector: PipesContextInjector, reader: PipesMessageReader
) -> Iterator[PipesSession]:
    """Dagster's session of this step, for messages only."""
    step: Any = _NoResults(context)
    with open_pipes_session(step, context_injector=injector, message_reader=reader) as session:
        yield session


def current_context() -> Context | None:
    """The context of the step that is being executed; None outside of one."""
    from dagster._core.execution.context.compute import current_execution_context

    context = current_execution_context.get()
    return context if isinstance(context, dg.AssetExecutionContext | dg.OpExecutionContext) else None
