"""A store by its URL, and what is refused before anything is connected to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from comity.errors import ConfigError
from node.config import FILE, NodeConfig
from node.store.choose import DEFAULT, StoreAt

# A run without the driver: its import fails, as it does where the extra is not installed.
WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
from pathlib import Path
import node.__main__, node.app
from comity.errors import ConfigError
from node.store.choose import StoreAt
StoreAt.parse("sqlite:store", Path("state"))
try:
    StoreAt.parse("postgresql://127.0.0.1/d", Path("state"))
except ConfigError as e:
    print(e.reason, "comity[postgres]" in str(e))
"""


def test_files_are_under_the_state_folder_unless_told_otherwise(tmp_path: Path) -> None:
    assert NodeConfig.__dataclass_fields__["store"].default == DEFAULT
    assert StoreAt.parse(DEFAULT, tmp_path).folder == tmp_path / "store"
    assert StoreAt.parse(f"sqlite:{tmp_path}/x", Path("elsewhere")).folder == tmp_path / "x"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("sqlite:", "BAD_STORE_URL", id="no folder"),
        pytest.param("sqlite://host/x", "BAD_STORE_URL", id="a host for files"),
        pytest.param("store", "BAD_STORE_URL", id="no scheme"),
        pytest.param("mysql://127.0.0.1/d", "BAD_STORE_URL", id="another engine"),
        pytest.param("postgresql://u:p@127.0.0.1/d", "PASSWORD_IN_URL", id="a password"),
        pytest.param("postgresql://db.example/d?sslmode=allow", "TLS_REQUIRED", id="clear text over a network"),
    ],
)
def test_a_url_that_names_no_store_is_refused(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as e:
        StoreAt.parse(url, tmp_path)
    assert e.value.reason == reason


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        pytest.param("hush", 0o644, "KEY_EXPOSED", id="others may read it"),
        pytest.param("", 0o600, "BAD_PASSWORD_FILE", id="nothing in it"),
        pytest.param("two\nlines", 0o600, "BAD_PASSWORD_FILE", id="two lines"),
        pytest.param("h" * 2000, 0o600, "FILE_TOO_LARGE", id="no password is so long"),
    ],
)
def test_a_password_file_that_is_none_is_refused(tmp_path: Path, content: str, mode: int, reason: str) -> None:
    path = tmp_path / "password"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError) as e:
        StoreAt.parse("postgresql://127.0.0.1/d", tmp_path, password_file="password")
    assert (e.value.reason, "hush" in str(e.value)) == (reason, False)


def test_a_password_is_read_from_its_file_and_shown_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hush\n")
    path.chmod(0o600)
    at = StoreAt.parse("postgresql://u@127.0.0.1/d", tmp_path, password_file="password")
    assert at.address is not None
    assert (at.address.password, "hush" in f"{at!r}{at.words}") == ("hush", False)


def test_a_node_in_files_needs_no_driver_and_one_in_a_database_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_DRIVER], capture_output=True, text=True, check=True)
    assert done.stdout == "NO_DRIVER True\n"


def test_node_toml_names_the_store(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('identity = "i"\nbrokers = ["b:1"]\nstore = "postgresql://127.0.0.1/d"\n')
    assert NodeConfig.load(tmp_path).store == "postgresql://127.0.0.1/d"
