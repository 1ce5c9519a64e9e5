"""What monitoring reads of a running program: counts and states as the Prometheus text format, no plate, no person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

KIND = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
COUNTER, GAUGE = "counter", "gauge"
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name, counter or gauge, with a value for each set of labels. A counter begins anew with the process."""

    name: str
    kind: str
    means: str
    values: Mapping[Labels, float]


def counter(name: str, means: str, values: Mapping[Labels, float]) -> Metric:
    """What only grows."""
    return Metric(name=name, kind=COUNTER, means=means, values=values)


def gauge(name: str, means: str, value: float | None) -> Metric:
    """What goes up and down; None: not known now, and so not shown."""
    return Metric(name=name, kind=GAUGE, means=means, values={} if value is None else {(): value})


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The metrics as text, in the order given.

    Source: Prometheus text-based exposition format 0.0.4.
    """
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.means}", f"# TYPE {metric.name} {metric.kind}"]
        for labels, value in sorted(metric.values.items()):
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
            lines.append(f"{metric.name}{'{' + inside + '}' if inside else ''} {_number(value)}")
    return ("\n".join(lines) + "\n").encode()


def _number(value: float) -> str:
    # A count of a hundred million must not lose its last digits.
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
