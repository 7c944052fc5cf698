"""The state of runs in the text format of Prometheus, as the textfile collector of its node exporter reads it.

References:
    Prometheus, Exposition formats <https://prometheus.io/docs/instrumenting/exposition_formats/>.
"""

from collections.abc import Iterator, Sequence

from basinet.launch.status.run_states import RunState

__all__ = ["prometheus_text"]

_FAMILIES = {
    "basinet_run_state": ("gauge", "1 for the state that the run is in."),
    "basinet_run_step": ("gauge", "Last step that the run has reached."),
    "basinet_run_steps": ("gauge", "Number of steps of the run."),
    "basinet_run_seconds_left": ("gauge", "Time left at the speed so far."),
    "basinet_run_silence_seconds": ("gauge", "Time since the last sign of life of the run."),
    "basinet_run_metric": ("gauge", "Main metric, averaged over the replicas."),
    "basinet_run_step_seconds": ("gauge", "Mean wall time of a step of a worker since the last evaluation."),
    "basinet_run_waiting_seconds": ("gauge", "Part of this time that it waits for other workers."),
    "basinet_run_sent_bytes_total": ("counter", "Bytes that a worker has sent to others since it started."),
    "basinet_run_memory_bytes": ("gauge", "Memory of a worker: reserved on its GPU, or resident."),
}
"""Type and meaning of each family of samples."""

_OF_WORKERS = {
    "basinet_run_step_seconds": "step_seconds",
    "basinet_run_waiting_seconds": "waiting_seconds",
    "basinet_run_sent_bytes_total": "sent_bytes",
    "basinet_run_memory_bytes": "memory_bytes",
}
"""Families with a sample per worker, and its value in what the worker uses."""

_Sample = tuple[str, dict[str, str], float | None]


def prometheus_text(runs: Sequence[RunState]) -> str:
    """Write the state of runs for Prometheus.

    Args:
        runs: The runs.

    Returns:
        A text with a sample a line; values that are not known are left out.
    """
    samples: dict[str, list[str]] = {name: [] for name in _FAMILIES}
    for run in runs:
        for name, labels, value in _samples(run):
            if value is not None:
                inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
                samples[name].append(f"{name}{{{inner}}} {float(value)!r}\n")
    return "".join(
        f"# HELP {name} {about}\n# TYPE {name} {kind}\n{''.join(samples[name])}"
        for name, (kind, about) in _FAMILIES.items()
        if samples[name]
    )


def _samples(run: RunState) -> Iterator[_Sample]:
    labels = {"run": run.name}
    yield "basinet_run_state", labels | {"state": run.state}, 1
    yield "basinet_run_step", labels, run.step
    yield "basinet_run_steps", labels, run.steps
    yield "basinet_run_seconds_left", labels, run.seconds_left
    yield "basinet_run_silence_seconds", labels, run.silence
    if run.metric is not None:
        yield "basinet_run_metric", labels | {"metric": run.metric}, run.value
    for worker in run.workers:
        named = labels | {"worker": str(worker["rank"]), "host": worker["host"]}
        for name, key in _OF_WORKERS.items():
            yield name, named, worker[key]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
