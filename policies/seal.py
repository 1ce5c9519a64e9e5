"""The trailer that tells a whole policy text from a part of one: `#end rows=N sha256=HEX`.

It guards against accidents such as a half-written file; against an attacker, bundles are signed.
Run as `python -m policies.seal FILE...` to seal files after an edit.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path

from comity.errors import ComityError, PolicyError

MAX_BYTES = 1024 * 1024
HEADER = "rule,node,who,role,purpose,act,eft,when,duty,basis"
_TRAILER = re.compile(r"#end rows=(0|[1-9][0-9]*) sha256=([0-9a-f]{64})\n\Z")


def seal(body: str) -> str:
    """`body` with its trailer; a trailer that is there already is replaced.

    Raises:
        PolicyError: a character that no policy may hold.
    """
    check_characters(body, "policy")
    if body and not body.endswith("\n"):
        body += "\n"
    lines = body.splitlines(keepends=True)
    if lines and lines[-1].startswith("#end "):
        lines.pop()
    body = "".join(lines)
    return f"{body}#end rows={_rows(body)} sha256={hashlib.sha256(body.encode()).hexdigest()}\n"


def unseal(text: str, file: str = "") -> str:
    """`text` without its trailer, once that is proven.

    Raises:
        PolicyError: no trailer at the very end, another row count or another hash than it says, too long, or a
            character that no policy may hold.
    """
    if len(text) > MAX_BYTES:
        raise PolicyError(f"longer than {MAX_BYTES} bytes", file=file)
    check_characters(text, file)
    found = _TRAILER.search(text)
    last = text.count("\n") or 1
    if found is None or not (found.start() == 0 or text[found.start() - 1] == "\n"):
        raise PolicyError(
            "does not end with its seal, so part of it may be missing; right is a last line '#end rows=N sha256=HEX'"
            " as `comity policy seal` writes it",
            file=file,
            line=last,
        )
    body = text[: found.start()]
    if hashlib.sha256(body.encode()).hexdigest() != found[2]:
        raise PolicyError("was changed after it was sealed: the hash differs", file=file, line=last)
    if _rows(body) != int(found[1]):
        raise PolicyError(f"has {_rows(body)} rows, its seal says {found[1]}", file=file, line=last)
    return body


def check_characters(text: str, file: str) -> None:
    """Return if `text` is printable ASCII in lines that end with a single line feed, without quotation marks.

    Casbin's own reader skips a line it does not understand: one invisible character, and a deny is gone.

    Raises:
        PolicyError: at the first other character.
    """
    for number, line in enumerate(text.split("\n"), 1):
        for column, char in enumerate(line, 1):
            if " " <= char <= "~" and char != '"':
                continue
            what = "a quotation mark" if char == '"' else f"character U+{ord(char):04X}"
            raise PolicyError(
                f"{what} is not allowed; right is plain printable ASCII without quotation marks",
                file=file,
                line=number,
                column=column,
            )


def seal_file(path: Path) -> int:
    """Seal the file in place, whole or not at all. Returns the number of its rows.

    Raises:
        PolicyError: it cannot be read as text, has not the header of rules, or holds a character that no policy may
            hold.
    """
    try:
        body = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise PolicyError(f"cannot be read: {type(e).__name__}", file=path.name) from e
    # The file is replaced, and everybody may read it then: a key that is named by mistake must stay what it is.
    number, first = next(((n, t) for n, t in enumerate(body.splitlines(), 1) if not t.startswith("#")), (1, ""))
    if first != HEADER:
        raise PolicyError(
            f"is no table of rules, and stays as it is; right is first the header {HEADER}", file=path.name, line=number
        )
    sealed = seal(body)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii", newline="\n") as out:
            out.write(sealed)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)  # a policy is published, and mkstemp makes it private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return _rows(sealed)


def _rows(body: str) -> int:
    return sum(1 for line in body.splitlines() if line and not line.startswith("#") and line != HEADER)


def main(arguments: list[str]) -> int:
    """Seal every named file. Returns the exit code: 0, 1 if one could not be sealed, 2 if none was named."""
    if not arguments:
        sys.stderr.write("usage: python -m policies.seal FILE...\n")
        return 2
    try:
        for name in arguments:
            sys.stdout.write(f"{name}: sealed, {seal_file(Path(name))} rows\n")
    except ComityError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
