"""The documents as tests read them: fenced blocks, code spans, links, tables, sections; and the program's commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from broker.__main__ import broker
from cli.__main__ import cli
from node.__main__ import node

ROOT = Path(__file__).parents[2]
DOCUMENTS = tuple(
    p.relative_to(ROOT).as_posix() for p in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
)
PROGRAMS = {"broker": broker, "node": node}  # started as programs of their own, so `comity` cannot show their options
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"(?<![\w-])(\d) ")


def text_of(document: str) -> str:
    """The whole document."""
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """Its fenced blocks of that language."""
    return [body for kind, body in _FENCE.findall(text_of(document)) if kind == language]


def prose(document: str) -> str:
    """The document without its fenced blocks."""
    return _FENCE.sub("", text_of(document))


def spans(document: str) -> list[str]:
    """Its code spans outside fenced blocks."""
    return _SPAN.findall(prose(document))


def links(document: str) -> list[str]:
    """The targets of its links."""
    return _LINK.findall(prose(document))


def sections(document: str, level: int) -> dict[str, str]:
    """Heading -> what follows it up to the next heading of that level or a higher one."""
    parts = re.split(rf"^(#{{1,{level}}}) (.+)\n", text_of(document), flags=re.MULTILINE)[1:]
    return {
        title: body
        for marks, title, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        if len(marks) == level
    }


def rows(text: str) -> list[list[str]]:
    """The cells of its tables' rows, without heads and rules."""
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    rules = [i for i, row in enumerate(cells) if row and set(row[0]) == {"-"}]
    heads = {i - 1 for i in rules}
    return [row for i, row in enumerate(cells) if i not in rules and i not in heads]


def first_code(text: str) -> list[str]:
    """The code span that each table row begins with."""
    return [row[0].strip("`") for row in rows(text) if row[0].startswith("`")]


def shell_commands(document: str) -> list[str]:
    """Every simple command of its `sh` blocks."""
    lines = (line for block in blocks(document, "sh") for line in block.replace("\\\n", " ").splitlines())
    return [part.strip() for line in lines for part in re.split(r"(?:;|&&|\|)\s+", line) if part.strip()]


def words(command: str) -> list[str]:
    """A command's words; `$(...)` and `$NAME` are one word each."""
    return shlex.split(re.sub(r"\$\([^)]*\)", "VALUE", command), comments=True)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and group of the program, `comity` first, by its whole name."""
    yield from _under("comity", cli)


def later(command: click.Command) -> bool:
    """True if it only refuses, because a later version brings it."""
    return re.search(r"\bnot (in this version )?yet\b", command.help or "", re.IGNORECASE) is not None and all(
        not isinstance(p, click.Option) for p in command.params
    )


def resolve(name: list[str]) -> tuple[str, click.Command, list[str]]:
    """The command that these words begin with, its name, and the rest of the words."""
    known = dict(commands())
    longest = next(n for n in range(len(name), 0, -1) if " ".join(name[:n]) in known)
    found = " ".join(name[:longest])
    return found, known[found], name[longest:]


def options(command: click.Command) -> set[str]:
    """The long names of its options, `--help` aside."""
    return {o for p in command.params if isinstance(p, click.Option) for o in p.opts if o != "--help"}


def exit_codes(text: str) -> set[int]:
    """The codes in the paragraph `Exit codes: ...`."""
    paragraph = re.search(r"Exit codes:(.*?)(?:\n\s*\n|\Z)", text, re.DOTALL)
    return {int(n) for n in _CODE.findall(paragraph[1])} if paragraph else set()


def _under(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for sub in command.list_commands(context):
            found = PROGRAMS.get(sub) if name == "comity" else None
            below = found or command.get_command(context, sub)
            assert below is not None, f"{name} {sub}"
            yield from _under(f"{name} {sub}", below)
