"""Keeps secrets out of what a failed tick leaves: Dagster stores the exception of a sensor or schedule, and shows it.

Steps have `failure_policy` for that; ticks have this, put around all of them at once where definitions are assembled.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import dagster as dg

from ettametta_pipelines.redaction import without_secrets

Automation = TypeVar("Automation", bound=dg.SensorDefinition | dg.ScheduleDefinition)


def safe_ticks(automations: Iterable[Automation]) -> list[Automation]:
    """The same sensors or schedules; what their evaluation raises says no secret from now on."""
    kept = list(automations)
    for one in kept:
        # Some live as long as their module, and definitions are built more than once.
        if not hasattr(one.evaluate_tick, "__wrapped__"):
            one.evaluate_tick = _safe(one.evaluate_tick)  # type: ignore[method-assign]
    return kept


def _safe(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(evaluate)
    def evaluated(context: Any) -> Any:
        try:
            return evaluate(context)
        except Exception as error:
            if safe := without_secrets(error):
                raise safe from None
            raise

    return evaluated
