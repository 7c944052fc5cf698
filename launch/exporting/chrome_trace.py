"""Timelines as a Chrome trace, which Perfetto (https://ui.perfetto.dev) and chrome://tracing open."""

from collections.abc import Iterable, Sequence
from typing import Any

from basinet.sim.clock.timeline import Activity

__all__ = ["chrome_trace"]

_NAMES = {
    "compute": "compute",
    "communication": "wait for the network",
    "idle": "wait for slower agents",
    "send": "send",
}


def chrome_trace(activities: Iterable[Activity], names: Sequence[str], hosts: Sequence[int]) -> dict[str, Any]:
    """Describe what agents do as complete events.

    A process stands for a machine of a replica, and a thread for an agent. What it sends, which overlaps with the rest,
    has a thread of its own.

    Args:
        activities: What agents do.
        names: Names of the agents [K].
        hosts: Machine of each agent [K].

    Returns:
        What the file holds as JSON.
    """
    machines = max(hosts) + 1
    events: list[dict[str, Any]] = []
    known: dict[tuple[int, int], str] = {}
    for one in activities:
        process = one.replica * machines + hosts[one.agent]
        sends = one.doing == "send"
        thread = 2 * one.agent + sends
        known[process, thread] = f"agent {names[one.agent]}{' sends' if sends else ''}"
        event = {"name": _NAMES[one.doing], "cat": one.doing, "ph": "X", "pid": process, "tid": thread}
        events.append(event | {"ts": one.start / 1e3, "dur": (one.end - one.start) / 1e3, "args": {"step": one.step}})
    processes = {process: f"replica {process // machines}, machine {process % machines}" for process, _ in known}
    about = [_named("process_name", name, process, 0) for process, name in processes.items()]
    about += [_named("thread_name", name, *place) for place, name in known.items()]
    return {"traceEvents": about + events, "displayTimeUnit": "ms"}


def _named(what: str, name: str, process: int, thread: int) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
