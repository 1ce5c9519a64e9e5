"""`comity audit show --unseal` and `comity audit erase`: what is sealed beside a log, opened or erased."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
from rich.text import Text

from audit import form
from audit.erasure import erase
from audit.read import LogReader
from audit.sealing import Clear, Unsealer, open_auditor_key
from cli.shown import console
from cli.words import plain
from comity import instants
from comity.errors import InvalidInput, LogFault, NotAllowed
from identity.folder import IdentityFolder

FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Told:
    """What can be said of an entry's sealed part, and its values if it was opened.

    `state` is `none`, `sealed`, `erased`, `unsealed`, `refused` or `fault`.
    """

    state: str
    sentence: str
    values: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"state": self.state, "says": self.sentence, "values": dict(self.values)}


class Opener:
    """Tells what is sealed with each entry, with a key or without."""

    def __init__(self, reader: LogReader, key: Path | None) -> None:
        self._reader = reader
        self._unsealer = Unsealer(reader, open_auditor_key(key)) if key else None
        self._erased = {e.key_id for e in reader.epoch_keys() if e.erased}
        self.faults = 0

    def tell(self, index: int, value: Mapping[str, Any]) -> Told | None:
        """What there is to say of an entry; None if it stands for no clear values."""
        if value["type"] != "inquiry":
            return None
        if "sealed" not in value:
            return Told("none", "nothing was sealed: the values stay with those who searched", {})
        part = self._reader.sealed_part(index)
        if part is None or (self._unsealer is None and not (part.erased or part.key_id in self._erased)):
            return self._not_opened(part is not None, index)
        if self._unsealer is None:
            return Told("erased", "erased: an erasure entry says by whom and why", {})
        try:
            return Told("unsealed", "unsealed, and what was committed to", values_of(self._unsealer.clear(index)))
        except (InvalidInput, NotAllowed) as e:
            state = "erased" if e.reason == "ERASED" else "refused"
            return Told(state, f"{e} [{e.reason}]", {})
        except LogFault as e:
            self.faults += 1
            return Told(FAULT, f"NOT WHAT WAS RECORDED: {e} [{e.reason}]", {})

    def _not_opened(self, there: bool, index: int) -> Told:
        if there:
            return Told("sealed", "sealed: --unseal --key shows it to an auditor to whom it is sealed", {})
        self.faults += 1
        return Told(FAULT, f"NOT WHAT WAS RECORDED: the sealed part of entry {index} is gone [SEALED_MISSING]", {})


def values_of(clear: Clear) -> dict[str, str]:
    """The values by name, in words."""
    values = {"query": clear.query.words, "plate": clear.plate, "state": clear.state, "case_number": clear.case_number}
    return values | ({"authority_reference": clear.authority_reference} if clear.authority_reference else {})


def print_told(told: Told | None) -> None:
    """The sealed part of one entry for a person; nothing if it stands for no values."""
    if told is None:
        return
    out = console()
    out.print(Text(f"sealed part: {told.sentence}", style="bold red" if told.state == FAULT else "yellow"))
    for name, value in told.values.items():
        if value:
            out.print(Text(f"  UNSEALED {name}: {plain(value)}"))


@click.command("erase")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--inquiry", "inquiries", multiple=True, metavar="ID", help="The values of this inquiry; may be repeated."
)
@click.option("--month", default="", metavar="YYYY-MM", help="Everything sealed in that month.")
@click.option("--reason", required=True, help="The rule or order; it stands in the log for good: no name, no plate.")
@click.option("--identity", "identity_path", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Who erases and signs for it: an auditor's or a supervisor's identity folder.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def erase_(log: Path, inquiries: tuple[str, ...], month: str, reason: str, identity_path: Path, as_json: bool) -> None:
    """Erase sealed values of a stopped program's log by overwriting their keys. There is no way back.

    The entries stay, every proof holds, and an erasure entry, signed, says who erased what, and why. Of a node's log
    it must be somebody of its own agency. Copies of the log that were made before still hold the keys: erase there too.

    Example: comity audit erase ./broker --month 2026-01 --reason retention-2-years --identity ./me

    Exit codes: 0 erased, 1 refused or failed: what was not erased is named, 2 wrong usage.
    """
    if bool(inquiries) == bool(month):
        raise click.UsageError("name either --inquiry or --month")
    if not all(map(form.inquiry_id, inquiries)):
        raise click.BadParameter("must be an inquiry's id", param_hint="--inquiry")
    who = IdentityFolder.load(identity_path)
    if who.spiffe.kind != "person":
        raise click.BadParameter("must be a person's", param_hint="--identity")
    done = erase(
        log,
        inquiries=inquiries,
        month=month,
        signer=who.signer,
        directory=who.directory(),
        rule=reason,
        clock=instants.now,
    )
    if as_json:
        said = {"entries": done.entries, "keys": done.keys, "index": done.first_index, "size": done.head.size}
        click.echo(orjson.dumps(said))
    else:
        what = f"everything sealed in {month}" if month else ", ".join(f"the values of {i}" for i in inquiries)
        click.echo(f"Erased: {what}. Recorded from entry {done.first_index} on.")


COMMANDS = (erase_,)
