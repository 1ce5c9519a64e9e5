"""The files of an identity: created with their mode, written whole or not at all, read within a limit."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from comity.errors import ConfigError

PRIVATE = 0o600
PUBLIC = 0o644


def make_folder(path: Path) -> None:
    """`path` is a folder, made with mode 0700 if it was not there.

    Raises:
        ConfigError: FILE_UNWRITABLE.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"cannot make the folder {path}: {e.strerror}", reason="FILE_UNWRITABLE") from None


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """`path` holds `data` durably; the mode is there from the first instant, and an existing file is not touched.

    Raises:
        ConfigError: FILE_EXISTS or FILE_UNWRITABLE.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already: choose another place or move it away", reason="FILE_EXISTS"
        ) from None
    except OSError as e:
        raise ConfigError(f"cannot create {path}: {e.strerror}", reason="FILE_UNWRITABLE") from None
    try:
        with open(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        _sync_folder(path.parent)
    except OSError as e:
        path.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {e.strerror}", reason="FILE_UNWRITABLE") from None


def replace(path: Path, data: bytes, *, mode: int) -> None:
    """`path` holds `data` durably; a reader sees the old file or the new one, never a part.

    Raises:
        ConfigError: FILE_UNWRITABLE.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_new(draft, data, mode=mode)
    try:
        draft.replace(path)
        _sync_folder(path.parent)
    except OSError as e:
        draft.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {e.strerror}", reason="FILE_UNWRITABLE") from None


def read(path: Path, *, max_bytes: int, private: bool = False) -> bytes:
    """The whole of a regular file. `private`: refused if anybody but the owner may read or write it.

    Raises:
        ConfigError: FILE_UNREADABLE, FILE_TOO_LARGE or KEY_EXPOSED.
    """
    try:
        # The mode is asked of the opened file, so that it cannot be swapped between the check and the read.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as f:
            mode = os.fstat(f.fileno()).st_mode
            data = f.read(max_bytes + 1) if stat.S_ISREG(mode) else None
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}", reason="FILE_UNREADABLE") from None
    if data is None:
        raise ConfigError(f"cannot read {path}: not a regular file", reason="FILE_UNREADABLE")
    if private and mode & 0o077:
        raise ConfigError(
            f"{path} may be read or written by others (mode {stat.S_IMODE(mode):04o}): run chmod 600 on it, "
            "and take a new key if it was on a shared machine",
            reason="KEY_EXPOSED",
        )
    if len(data) > max_bytes:
        raise ConfigError(f"{path} is larger than {max_bytes} bytes", reason="FILE_TOO_LARGE")
    return data


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
