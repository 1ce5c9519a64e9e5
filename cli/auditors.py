"""`comity identity auditor-key` and `pseudonym-key`: what auditors need to read what is sealed to them."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from comity.errors import ConfigError
from comity.federation import IDENTIFIER
from identity import auditors, files
from identity.auditors import Recipient
from identity.pseudonym_key import MAX_FILE_BYTES, SealedPseudonymKey

FILE = click.Path(path_type=Path, dir_okay=False)
EXISTING = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("auditor-key")
@click.argument("key", type=FILE)
@click.argument("public", type=FILE)
def auditor_key(key: Path, public: Path) -> None:
    """Make the key that opens what logs seal to an auditor: KEY is secret (mode 0600), PUBLIC goes into the directory.

    Logs seal to the new key once their programs have started with a directory that names it. Keep the old one: what was
    sealed before opens with it alone.

    Example: comity identity auditor-key ./auditor.key ./auditor.pub

    Exit codes: 0 made, 1 refused: a file is there already, 2 wrong usage.
    """
    made = X25519PrivateKey.generate()
    auditors.write_auditor_key(key, made)
    files.write_new(public, auditors.public_pem(made.public_key()), mode=files.PUBLIC)
    click.echo(f"{key} is secret; give {public} to the federation's operator, who names it in the directory.")


@click.command("pseudonym-key")
@click.option("--federation", required=True, help="The federation's id.")
@click.option("--auditor", "public", multiple=True, type=EXISTING, required=True, help="A public key; may be repeated.")
@click.option("--from", "previous", type=EXISTING, help="Share the key in this file instead of making one.")
@click.option("--key", type=EXISTING, help="With --from: the key of an auditor who has it.")
@click.option("--out", type=FILE, required=True, help="The sealed key; replaced if there.")
def pseudonym_key(
    federation: str, public: tuple[Path, ...], previous: Path | None, key: Path | None, out: Path
) -> None:
    """Make the key of plates' pseudonyms, sealed to auditors, or share it with others: an auditor's work.

    Nobody has it in clear afterwards but those to whom it is sealed. The directory carries the file.

    Example: comity identity pseudonym-key --federation pacific-exchange --auditor auditor.pub --out pseudonym-key.json

    Exit codes: 0 written, 1 refused: not an auditor's key, or not one to which it was sealed, 2 wrong usage.
    """
    if (previous is None) != (key is None):
        raise click.UsageError("--from and --key go together")
    if not IDENTIFIER.match(federation):
        raise click.BadParameter("must be a federation's id", param_hint="--federation")
    to = [Recipient(name="", key=auditors.load_public(path), logs=None) for path in public]
    if previous is not None and key is not None:
        held = SealedPseudonymKey.read(files.read(previous, max_bytes=MAX_FILE_BYTES))
        sealed = held.shared(auditors.open_auditor_key(key), federation, to)
    else:
        sealed = SealedPseudonymKey.fresh(federation, to)
    files.replace(out, orjson.dumps(sealed.as_json(), option=orjson.OPT_INDENT_2), mode=files.PUBLIC)
    click.echo(f"{out}: pseudonym key {sealed.id}, sealed to {len(sealed.sealed)} auditors.")


def recipients(named: tuple[str, ...], logs: tuple[str, ...]) -> list[Recipient]:
    """The auditors in `SPIFFE_ID=FILE`, each for the logs in `SPIFFE_ID=ORIGIN`, or for every log.

    Raises:
        ConfigError: a file holds no auditor's public key (BAD_KEY), or a log is given to nobody named (BAD_AUDITOR).
    """
    of: dict[str, set[str]] = {}
    for name, origin in _pairs("--auditor-log", logs):
        of.setdefault(name, set()).add(origin)
    pairs = _pairs("--auditor", named)
    if strangers := set(of) - {name for name, _ in pairs}:
        raise ConfigError(f"{min(strangers)} is not named with --auditor", reason="BAD_AUDITOR")
    return [
        Recipient(name=n, key=auditors.load_public(Path(path)), logs=frozenset(of[n]) if n in of else None)
        for n, path in pairs
    ]


def _pairs(option: str, values: tuple[str, ...]) -> list[tuple[str, str]]:
    out = [(name, value) for name, equals, value in (v.partition("=") for v in values) if name and equals and value]
    if len(out) != len(values) or (option == "--auditor" and len(dict(out)) != len(out)):
        raise click.UsageError(f"{option} must be SPIFFE_ID=VALUE, and each auditor once")
    return out


COMMANDS = (auditor_key, pseudonym_key)
