"""An open-model driver: requests leave at fixed instants however slow the answers are, over kept-alive connections.

A latency counts from the instant a request was due, so that a stall is seen by all it delays. Connections are raw:
an HTTP client would itself take the processor the load is meant for.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

TIMEOUT_S = 20.0
# Shorter than the gateway keeps an idle connection: one that is just being closed would count as an error of its.
KEPT_S = 30.0


@dataclass(frozen=True)
class Ask:
    """One request. `name` is what it is counted under, `wanted` the statuses that are no error.

    `sign` makes headers of the body in the moment it is sent: a signature is good for minutes only.
    """

    name: str
    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    wanted: frozenset[int] = frozenset({200})
    sign: Callable[[bytes], Mapping[str, str]] | None = None


@dataclass
class Seen:
    """What the driver saw: (due instant, latency in seconds) by name, its own lateness, and what was no success."""

    times: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    lateness: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    begun: float = 0.0
    is_cut_short: bool = False

    def latencies(self, without: Iterable[str] = ()) -> list[float]:
        left_out = set(without)
        return [took for name, seen in self.times.items() if name not in left_out for _, took in seen]

    @property
    def count(self) -> int:
        return sum(map(len, self.times.values()))


def percentile_ms(values: Sequence[float], share: float) -> float:
    """Milliseconds below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000


class Connections:
    """Kept-alive HTTP/1.1 connections to one port, as many as are used at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.perf_counter() - since < KEPT_S:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def send(self, ask: Ask) -> int:
        reader, writer = await self._connection()
        try:
            lines = {
                "Host": f"127.0.0.1:{self._port}",
                **ask.headers,
                **(ask.sign(ask.body) if ask.sign else {}),
            }
            if ask.body:
                lines["Content-Length"] = str(len(ask.body))
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            writer.write(f"{ask.method} {ask.path} HTTP/1.1\r\n{head}\r\n".encode() + ask.body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            await reader.readexactly(int(answer.split("content-length: ")[1].split("\r\n")[0]))
        except BaseException:
            writer.close()
            raise
        self._idle.append((time.perf_counter(), reader, writer))
        return int(answer.split(" ", 2)[1])

    def close(self) -> None:
        for _, _, writer in self._idle:
            writer.close()


async def drive(ports: Sequence[int], asks: Iterable[Ask], rates: Sequence[tuple[float, float]]) -> Seen:
    """Send `asks` one after the other at `rates`, each (requests a second, seconds); stops when either is used up.

    The ports take turns, as a load balancer lets its pods. Cancelled, as by Ctrl-C, it sends what it has taken of the
    asks, waits for the answers, and returns what it saw.
    """
    seen, targets = Seen(begun=time.perf_counter() + 0.1), [Connections(port) for port in ports]

    async def one(due: float, ask: Ask, connections: Connections) -> None:
        seen.lateness.append(time.perf_counter() - due)
        try:
            status = await asyncio.wait_for(connections.send(ask), TIMEOUT_S)
            if status not in ask.wanted:
                seen.errors[f"{ask.name} {status}"] += 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            seen.errors[f"{ask.name} {type(error).__name__}"] += 1
        seen.times[ask.name].append((due - seen.begun, time.perf_counter() - due))

    running = set()
    for number, (offset, ask) in enumerate(zip(_instants(rates), asks, strict=False)):
        due = seen.begun + offset
        try:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        except asyncio.CancelledError:
            seen.is_cut_short = True
        task = asyncio.create_task(one(due, ask, targets[number % len(targets)]))
        running.add(task)
        task.add_done_callback(running.discard)
        if seen.is_cut_short:
            break
    await asyncio.gather(*running)
    for target in targets:
        target.close()
    return seen


def _instants(rates: Iterable[tuple[float, float]]) -> Iterable[float]:
    begun = 0.0
    for rate, seconds in rates:
        for number in range(round(rate * seconds)):
            yield begun + number / rate
        begun += seconds


def recovery_s(seen: Seen, ended_at: float, bar_ms: float, share: float = 0.95) -> float:
    """Seconds from `ended_at` until the requests of every later second meet the bar at this share."""
    by_second: dict[int, list[float]] = defaultdict(list)
    for times in seen.times.values():
        for due, took in times:
            if due >= ended_at:
                by_second[int(due - ended_at)].append(took)
    slow = [second for second, values in by_second.items() if percentile_ms(values, share) >= bar_ms]
    return float(max(slow) + 1) if slow else 0.0
