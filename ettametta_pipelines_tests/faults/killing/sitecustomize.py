"""Kills the process at one step: on PYTHONPATH of processes that a sweep starts, read by Python before anything else.

`ETTAMETTA_TEST_KILL` is `module:function when flag`: before or after that function the process ends by signal 9. The
first to make the file `flag` does; every process that is started later goes by unharmed.
"""

import importlib
import os
import signal
from typing import Any


def _strike(flag: str) -> None:
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(point: str, when: str, flag: str) -> None:
    module, _, path = point.partition(":")
    *holders, name = path.split(".")
    holder: Any = importlib.import_module(module)
    for each in holders:
        holder = getattr(holder, each)
    plain = getattr(holder, name)

    def struck(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            _strike(flag)
        told = plain(*arguments, **named)
        if when == "after":
            _strike(flag)
        return told

    setattr(holder, name, struck)


if os.environ.get("ETTAMETTA_TEST_KILL"):
    _arm(*os.environ["ETTAMETTA_TEST_KILL"].split(" "))
