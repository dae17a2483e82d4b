"""Follows a pod's log line by line while it grows, through cut connections, without losing or repeating a line.

It only carries words and messages; whether the pod works is read from its status by `pod_watch.py`, which never
waits for this longer than it wants to.
"""

import codecs
import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

log = logging.getLogger(__name__)

# A worker that loads a model is silent longer than this; the connection is then made anew, which costs nothing, while
# one that is dead without anybody noticing would be waited on for ever.
SILENCE_S = 60.0
OVERLAP_S = 60
RETRY_S = 0.5
KEPT_LINES = 100
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00) ")


class LogFollower:
    """One pod's log. `on_line` is called in this object's own thread, once a line."""

    def __init__(
        self, api: "CoreV1Api", namespace: str, pod: str, container: str, on_line: Callable[[str], None]
    ) -> None:
        self._api, self._namespace, self._pod, self._on_line = api, namespace, pod, on_line
        self._container = container
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._closed = threading.Event()
        self._last: tuple[str, str] | None = None
        self._last_at = 0.0
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def start(self) -> None:
        """Begin, once; further calls do nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name=f"log of {self._pod}", daemon=True)
            self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """The pod has ended: read what is left, for at most `timeout_s`."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def close(self) -> None:
        self._closed.set()

    def tail(self, count: int) -> str:
        """The last lines, for a failure's sentence."""
        return " | ".join([line for line in self._lines if line][-count:])

    def _follow(self) -> None:
        while not self._closed.is_set():
            # Only a reading begun after the end is sure to have seen everything.
            is_last = self._ended.is_set()
            if self._read_on() and is_last:
                return
            (self._closed if is_last else self._ended).wait(RETRY_S)

    def _read_on(self) -> bool:
        """Read from where we are until the stream ends; True if it ended as it should, or the pod is gone."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        since = None if self._last is None else int(time.monotonic() - self._last_at) + OVERLAP_S
        try:
            response = self._api.read_namespaced_pod_log(
                self._pod,
                self._namespace,
                container=self._container,
                follow=True,
                timestamps=True,
                since_seconds=since,
                _preload_content=False,
                _request_timeout=(5.0, SILENCE_S),
            )
        except ApiException as error:
            return bool(error.status == 404)
        except HTTPError:
            return False
        try:
            self._take(response)
        except (HTTPError, OSError) as error:
            log.debug("the log of %s broke off: %s", self._pod, error)
            return False
        finally:
            response.release_conn()
        return True

    def _take(self, response: object) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        seen_before, rest = self._last, ""
        for chunk in response.stream(1 << 16):  # type: ignore[attr-defined]
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                self._line(line, seen_before)
            if self._closed.is_set():
                return
        # What is cut off in the middle comes whole with the next reading; only an ended pod has a last half line.
        if rest and self._ended.is_set():
            self._line(rest, seen_before)

    def _line(self, line: str, seen_before: tuple[str, str] | None) -> None:
        match = _STAMP.match(line)
        text = line[match.end() :] if match else line
        if match:
            moment = (match[1], (match[2] or "").ljust(9, "0"))
            if seen_before is not None and moment <= seen_before:
                return
            self._last, self._last_at = moment, time.monotonic()
        if text:
            self._lines.append(_words(text))
            self._on_line(text)


def _words(line: str) -> str:
    """A line as a person reads it: of a message of Pipes, what it says."""
    try:
        message = json.loads(line)
        return str(message["params"]["message"]) if message["method"] == "log" else ""
    except (ValueError, KeyError, TypeError):
        return line
