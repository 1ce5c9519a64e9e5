"""What every benchmark prints: a table of rows, the machine, and with `--json` one object on the last line."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

TICKS_TO_S = 1e-9  # schedstat counts nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `target` is words, for people; `met` is None where nothing was measured or nothing is asked."""

    metric: str
    value: float | None
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


def against(metric: str, value: float, unit: str, peer: str, peer_value: float, *, most: float | None = None) -> Row:
    """A figure beside its peer's; `most` is the largest ratio that meets the target."""
    ratio = value / peer_value
    return Row(
        metric=metric,
        value=value,
        unit=unit,
        peer=peer,
        peer_value=peer_value,
        ratio=ratio,
        target="" if most is None else f"<= {most:g}x",
        met=None if most is None else ratio <= most,
    )


def bounded(metric: str, value: float, unit: str, most: float) -> Row:
    """A figure that has a limit of its own."""
    return Row(metric=metric, value=value, unit=unit, target=f"<= {most:g} {unit}", met=value <= most)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was really seen."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def machine() -> dict[str, Any]:
    """What the figures were taken on. No host name, no path."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("grpcio", "protobuf", "uvloop", "pycasbin")},
    }


def show(name: str, on: dict[str, Any], rows: Sequence[Row], *, as_json: bool) -> None:
    """Print the table; with `as_json` one object after it, on the last line."""
    print(f"\n{name}: {on['cpus']} x {on['cpu']}, Python {on['python']}, load before {on['load_before']}")
    width = max(len(r.metric) for r in rows)
    print(f"{'':{width}}  {'value':>10} {'unit':<12} {'peer':>10} {'ratio':>6}  target        met")
    for r in rows:
        met = {True: "yes", False: "NO", None: "-"}[r.met]
        ratio = "" if r.ratio is None else f"{r.ratio:.2f}"
        print(
            f"{r.metric:{width}}  {_number(r.value):>10} {r.unit:<12} {_number(r.peer_value):>10} {ratio:>6}"
            f"  {r.target:<13} {met}"
        )
    peers = sorted({r.peer for r in rows if r.peer})
    for peer in peers:
        print(f"peer: {peer}")
    if as_json:
        print(json.dumps({"name": name, "machine": on, "rows": [asdict(r) for r in rows]}))


def cpu_s(pid: int) -> float:
    """Seconds of processor time that all threads of the process have had, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that has ended
            continue
    return total * TICKS_TO_S


def private_bytes(pid: int) -> int:
    """Resident memory of the process that no file backs."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell RssAnon")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
