"""Makes a program's state folder; serving never does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from identity import files


def make_config(state: Path, name: str, values: Mapping[str, str | int | Sequence[str]]) -> None:
    """`state` is a folder, mode 0700, with a new configuration `name` in TOML.

    Raises:
        ConfigError: FILE_EXISTS or FILE_UNWRITABLE.
    """
    files.make_folder(state)
    # JSON's texts, numbers and lists of texts are TOML's too.
    lines = [f"{key} = {orjson.dumps(value).decode()}\n" for key, value in values.items()]
    files.write_new(state / name, "".join(lines).encode(), mode=files.PRIVATE)
