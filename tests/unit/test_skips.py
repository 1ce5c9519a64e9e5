"""A test that was skipped without leave fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import ALLOWED, parse, unexpected

ROOT = Path(__file__).parent.parent.parent
SUITE = """
import pytest

def test_runs(): assert True

@pytest.mark.xfail(reason="known")
def test_known(): assert False

def test_skips(): pytest.skip("no engine answers: refused")
"""
PLUGIN = """
from tests.skips import SkipGate

def pytest_configure(config):
    config.pluginmanager.register(SkipGate({allowed!r}, strict={strict}))
"""


def run(suite: Path) -> subprocess.CompletedProcess[str]:
    """A run of pytest alone over the suite in that folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(suite), "-p", "no:cacheprovider", str(suite)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=suite,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("allowed", "strict", "fails"),
    [
        pytest.param({}, True, True, id="a skip that is not on the list"),
        pytest.param({"test_one.py::test_skips": "no engine"}, True, False, id="a skip on the list"),
        pytest.param({"test_one.py::test_skips": "no network"}, True, True, id="a skip for another reason"),
        pytest.param({"test_two.py::test_skips": "no engine"}, True, True, id="a skip of another test"),
        pytest.param({}, False, False, id="outside continuous integration"),
    ],
)
def test_a_run_fails_exactly_when_a_test_was_skipped_without_leave(
    tmp_path: Path, allowed: dict[str, str], strict: bool, fails: bool
) -> None:
    (tmp_path / "test_one.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(PLUGIN.format(allowed=allowed, strict=strict))
    ran = run(tmp_path)
    assert ran.returncode == int(fails), ran.stdout
    assert ("not in .ci/allowed-skips.txt" in ran.stdout) == (fails or not strict)


def test_a_module_skipped_as_a_whole_counts_too(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import pytest\npytest.skip('never', allow_module_level=True)\n")
    (tmp_path / "test_two.py").write_text("def test_runs(): assert True\n")
    (tmp_path / "conftest.py").write_text(PLUGIN.format(allowed={}, strict=True))
    ran = run(tmp_path)
    assert ran.returncode == 1, ran.stdout


@pytest.mark.parametrize("text", ["tests/a.py::test_b\n", "t::a why\nt::a why\n"], ids=["no reason", "named twice"])
def test_a_list_that_gives_no_reason_or_names_a_test_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed-skips"):
        parse(text)


def test_every_test_on_the_committed_list_exists() -> None:
    for test in parse(ALLOWED.read_text("utf-8")):
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text("utf-8")


def test_only_what_is_listed_with_its_reason_is_expected() -> None:
    skipped = [("a", "no engine: x"), ("b", "no engine"), ("a", "tired")]
    assert unexpected(skipped, {"a": "no engine"}) == ["b: no engine", "a: tired"]
