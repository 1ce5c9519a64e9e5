"""A program's configuration: a frozen dataclass filled from one TOML table, every key checked, none unknown."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from comity.errors import ConfigError

C = TypeVar("C")


def parse(kind: type[C], text: str, *, file: str) -> C:
    """The configuration in `text`. Fields may be str, int, float, bool, Path or a tuple of str; `~` is not expanded.

    Raises:
        ConfigError: not TOML, or naming every key that is unknown, missing or of another type.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{file} is not TOML: {e}") from None
    assert dataclasses.is_dataclass(kind)
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    bad = [f"{key} is not a key of it" for key in sorted(set(data) - set(fields))]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in data:
            if field.default is dataclasses.MISSING:
                bad.append(f"{name} is missing")
            continue
        fits, value = _fit(data[name], hints[name])
        if fits:
            values[name] = value
        else:
            bad.append(f"{name} must be {_name(hints[name])}")
    if bad:
        raise ConfigError(f"{file}: " + "; ".join(bad))
    return kind(**values)


def address(text: str, *, key: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; port 0 lets the system choose.

    Raises:
        ConfigError: anything else.
    """
    host, colon, port = text.rpartition(":")
    if not host or not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{key} must be HOST:PORT")
    return host, int(port)


def _fit(value: Any, hint: Any) -> tuple[bool, Any]:
    if get_origin(hint) is tuple:
        fits = isinstance(value, list) and all(type(v) is get_args(hint)[0] for v in value)
        return fits, tuple(value) if fits else None
    if hint is Path:
        return type(value) is str and bool(value), Path(value) if type(value) is str else None
    if hint is float:
        return type(value) in (int, float), value
    return type(value) is hint, value


def _name(hint: Any) -> str:
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}.get(
        hint, "a list of texts"
    )
