"""`comity identity directory` and `policy-key`: what the federation's operator and an agency's policy officer need."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.cosignature import WitnessKey
from audit.note import VerifierKey
from cli.auditors import COMMANDS, recipients
from cli.identity import identity
from cli.lacking import lacking, left_out
from comity import instants
from comity.errors import ComityError, ConfigError
from identity import certificates, files, keys
from identity.authority import Authority
from identity.directory import MAX_DIRECTORY_BYTES, Directory, LogKey
from identity.pseudonym_key import MAX_FILE_BYTES, SealedPseudonymKey
from identity.publish import sign_directory

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
MAX_TABLES_BYTES = 16 * 1024 * 1024


@identity.command()
@click.option("--authority", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True)
@click.option("--tables", type=FILE, required=True, help="The registry: directory.toml.")
@click.option("--version", type=click.IntRange(1, 2**53 - 1), required=True, help="Higher than the one in force.")
@click.option("--ca", "cas", multiple=True, metavar="AGENCY=FILE", help="An agency's ca.pem; may be repeated.")
@click.option("--policy-key", "policy_keys", multiple=True, metavar="AGENCY=FILE", help="Its public policy key.")
@click.option("--log", "logs", multiple=True, type=FILE, help="A broker's or node's log.vkey; may be repeated.")
@click.option("--auditor", "auditors", multiple=True, metavar="SPIFFE_ID=FILE", help="May unseal: their public key.")
@click.option(
    "--auditor-log", "auditor_logs", multiple=True, metavar="SPIFFE_ID=ORIGIN",
    help="An auditor may unseal this log, and no other unless named too; without it, every log.",
)  # fmt: skip
@click.option("--pseudonym-key", "pseudonym_file", type=FILE, help="The sealed key that an auditor has made.")
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    metavar="NODE=FILE",
    help="A witness's witness.vkey: a node's, or a broker's as broker/ID=FILE; may be repeated.",
)
@click.option("--deny", "denied", multiple=True, metavar="SHA256", help="Fingerprint of a revoked certificate.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="directory.json; replaced if there.")
def directory(
    authority: Path,
    tables: Path,
    version: int,
    cas: tuple[str, ...],
    policy_keys: tuple[str, ...],
    logs: tuple[Path, ...],
    witnesses: tuple[str, ...],
    denied: tuple[str, ...],
    auditors: tuple[str, ...],
    auditor_logs: tuple[str, ...],
    pseudonym_file: Path | None,
    out: Path,
) -> None:
    """Sign the federation's directory with its AUTHORITY: who is who, which keys are pinned, what is revoked.

    Example: comity identity directory --authority ./federation-ca --tables directory.toml --version 2
    --ca us-ca-port-alder-pd=pa/ca.pem --policy-key us-ca-port-alder-pd=pa/policy.pub --log pa/log.vkey
    --out directory.json

    What it does not pin yet, packs that do not fit its words, and what it denies no more are told on standard error.

    Exit codes: 0 signed, 1 refused: what is wrong is named, 2 wrong usage.
    """
    try:
        data = tomllib.loads(files.read(tables, max_bytes=MAX_TABLES_BYTES).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{tables} is not TOML: {e}") from None
    pinned: dict[str, list[x509.Certificate]] = {}
    for agency, path in _pairs("--ca", cas):
        found = certificates.from_pem(files.read(path, max_bytes=certificates.MAX_PEM_BYTES), what=str(path))
        pinned.setdefault(agency, []).extend(found)
    policy: dict[str, list[ec.EllipticCurvePublicKey]] = {}
    for agency, path in _pairs("--policy-key", policy_keys):
        policy.setdefault(agency, []).append(_public_key(path))
    top = Authority.load(authority)
    signed = sign_directory(
        top,
        version=version,
        issued_at=instants.now(),
        federation=data,
        authorities=pinned,
        policy_keys=policy,
        logs=[_log_key(path) for path in logs],
        witnesses={who: witness_key(path) for who, path in _pairs("--witness", witnesses, "NODE=FILE")},
        denied=denied,
        auditors=recipients(auditors, auditor_logs),
        pseudonym_key=SealedPseudonymKey.read(files.read(pseudonym_file, max_bytes=MAX_FILE_BYTES))
        if pseudonym_file
        else None,
    )
    made, replaced = Directory.parse(signed, top.certificate), _replaced(out, top.certificate)
    files.replace(out, signed, mode=files.PUBLIC)
    click.echo(f"{out}: version {version}, {len(pinned)} agencies, {len(logs)} logs. Copy it to every participant.")
    for sentence in (*left_out(made, replaced), *lacking(made, tables.parent / "packs")):
        click.echo(f"note: {sentence}", err=True)


@identity.command(name="policy-key")
@click.argument("key", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("public", type=click.Path(path_type=Path, dir_okay=False))
def policy_key(key: Path, public: Path) -> None:
    """Make the key that signs an agency's policies: KEY is secret (mode 0600), PUBLIC goes into the directory.

    Example: comity identity policy-key ./policy.pem ./policy.pub

    Exit codes: 0 made, 1 refused: a file is there already, 2 wrong usage.
    """
    made = keys.new_signing_key()
    keys.write_key(key, made)
    files.write_new(public, keys.public_pem(made.public_key()), mode=files.PUBLIC)
    click.echo(f"{key} is secret; give {public} to the federation's operator, who pins it in the directory.")


for _command in COMMANDS:
    identity.add_command(_command)


def _replaced(out: Path, federation: x509.Certificate) -> Directory | None:
    """The directory that is at `out` now; None if there is none, or it is not this federation's."""
    if not out.exists():
        return None
    try:
        return Directory.parse(files.read(out, max_bytes=MAX_DIRECTORY_BYTES), federation)
    except ComityError:
        return None


def _pairs(option: str, values: tuple[str, ...], form: str = "AGENCY=FILE") -> list[tuple[str, Path]]:
    out = []
    for value in values:
        agency, equals, path = value.partition("=")
        if not equals or not agency or not path:
            raise click.UsageError(f"{option} must be {form}")
        out.append((agency, Path(path)))
    return out


def witness_key(path: Path) -> Ed25519PublicKey:
    """The public key in a `witness.vkey`.

    Raises:
        ConfigError: FILE_UNREADABLE or FILE_TOO_LARGE.
        InvalidInput: BAD_VKEY.
    """
    vkey = WitnessKey.parse(files.read(path, max_bytes=1024).decode("ascii", errors="replace"))
    return Ed25519PublicKey.from_public_bytes(vkey.key)


def _public_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(files.read(path, max_bytes=16 * 1024))
    except ValueError:
        key = None
    if not keys.is_p256(key):
        raise ConfigError(f"{path} is not a public ECDSA key on P-256 in PEM", reason="BAD_KEY")
    return key


def _log_key(path: Path) -> LogKey:
    vkey = VerifierKey.parse(files.read(path, max_bytes=1024).decode("ascii", errors="replace"))
    parts = vkey.name.split("/")
    if len(parts) != 3 or parts[1] not in ("broker", "node"):
        raise ConfigError(f"{path} is not the key of a broker's or node's log", reason="BAD_VKEY")
    key = Ed25519PublicKey.from_public_bytes(vkey.key)
    return LogKey(origin=vkey.name, key=key, program=parts[1], id=parts[2])
