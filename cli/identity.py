"""`comity identity`: authorities, and certificates for persons, nodes, cameras and brokers."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import click
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from comity.errors import ConfigError, NotAuthentic
from identity import certificates, files, keys
from identity.authority import Authority
from identity.directory import MAX_DIRECTORY_BYTES, Directory
from identity.folder import DIRECTORY_FILE, FEDERATION_FILE, IdentityFolder, name_in, replace_chain, write_identity
from identity.names import KINDS, SpiffeId
from identity.verify import verify_chain

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
NOT_VALID = 3


def duration(text: str) -> dt.timedelta:
    """The time span in `30m`, `12h` or `7d`.

    Raises:
        click.BadParameter: anything else.
    """
    unit = {"m": "minutes", "h": "hours", "d": "days"}.get(text[-1:])
    if unit is None or not text[:-1].isascii() or not text[:-1].isdigit() or len(text) > 6:
        raise click.BadParameter("must be a whole number with m, h or d, such as 12h")
    return dt.timedelta(**{unit: int(text[:-1])})


TTL = click.option(
    "--ttl", type=duration, metavar="SPAN", default="12h", show_default=True, help="How long it is valid: 30m, 12h, 7d."
)
AUTHORITY = click.option("--authority", "authority_path", type=FOLDER, required=True, help="The authority's folder.")


@click.group()
def identity() -> None:
    """Certificates for persons, nodes, cameras and brokers, and the authorities that issue them.

    Example: comity identity show ./me

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage; show: 3 not valid now.
    """


@identity.command()
@click.argument("folder", type=FOLDER)
@click.option("--id", "trust_domain", required=True, help="The agency's or the federation's id in the directory.")
@click.option("--name", default="", help="A name for people; the id if left out.")
def ca(folder: Path, trust_domain: str, name: str) -> None:
    """Make a new authority in FOLDER: its key (mode 0600) and its certificate, valid for ten years.

    Example: comity identity ca ./agency-ca --id us-ca-port-alder-pd --name "Port Alder Police Department"

    Exit codes: 0 made, 1 refused (there is one already, or a bad id), 2 wrong usage.
    """
    made = Authority.create(folder, trust_domain, at=_now(), name=name)
    click.echo(f"authority   {made.trust_domain}")
    click.echo(f"fingerprint {certificates.fingerprint(certificates.der(made.certificate))}")
    click.echo(
        f"Give {folder / 'ca.pem'} to the federation's operator, or, as the federation's own, to every participant. "
        "The key never leaves this folder."
    )


@identity.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("id_", metavar="ID")
@AUTHORITY
@click.option("--out", type=FOLDER, required=True, help="The identity folder to make.")
@click.option("--role", default="", help="A person's role, such as investigator.")
@click.option("--host", "hosts", multiple=True, help="DNS name or IP address of a broker or node; may be repeated.")
@click.option("--federation-ca", type=FILE, help="The federation's certificate, to put into the folder.")
@click.option(
    "--directory", "directory_path", type=FILE, help="The directory, to check against and put into the folder."
)
@TTL
def issue(
    kind: str,
    id_: str,
    authority_path: Path,
    out: Path,
    role: str,
    hosts: tuple[str, ...],
    federation_ca: Path | None,
    directory_path: Path | None,
    ttl: dt.timedelta,
) -> None:
    """Make a key and a certificate for KIND ID, in a new identity folder.

    With --directory nothing is written unless the directory accepts the certificate.

    Example: comity identity issue person t-reyes --role investigator --authority ./agency-ca --out ./me

    Exit codes: 0 made, 1 refused, 2 wrong usage.
    """
    if directory_path is not None and federation_ca is None:
        raise click.UsageError("--directory needs --federation-ca, to verify it with.")
    authority = Authority.load(authority_path)
    name = SpiffeId.parse(f"spiffe://{authority.trust_domain}/{kind}/{id_}")
    key, at = keys.new_signing_key(), _now()
    leaf = authority.issue(name, key.public_key(), at=at, role=role, hosts=hosts, ttl=ttl)
    directory_bytes, federation_pem = b"", b""
    if federation_ca is not None:
        pem = files.read(federation_ca, max_bytes=certificates.MAX_PEM_BYTES)
        anchor, *_ = certificates.from_pem(pem, what=str(federation_ca))
        federation_pem = certificates.pem(anchor)
        if directory_path is not None:
            directory_bytes = files.read(directory_path, max_bytes=MAX_DIRECTORY_BYTES)
            verify_chain((certificates.der(leaf),), Directory.parse(directory_bytes, anchor), at, kind=kind)
    write_identity(out, key, (leaf, authority.certificate), federation_pem=federation_pem)
    if directory_bytes:
        files.replace(out / DIRECTORY_FILE, directory_bytes, mode=files.PUBLIC)
    _print_leaf(leaf)


@identity.command()
@click.argument("folder", type=FOLDER)
@AUTHORITY
@TTL
def renew(folder: Path, authority_path: Path, ttl: dt.timedelta) -> None:
    """Give the identity in FOLDER a new certificate: same key, same name, same role, by the same authority.

    A certificate that the folder's directory denies is not renewed.

    Example: comity identity renew ./me --authority ./agency-ca

    Exit codes: 0 renewed, 1 refused, 2 wrong usage.
    """
    authority, held = Authority.load(authority_path), IdentityFolder.load(folder)
    old = held.chain[0]
    try:
        # Only what the authority itself once signed is copied: an edited chain.pem would else choose its own role.
        old.verify_directly_issued_by(authority.certificate)
        denied = certificates.fingerprints(old)
    except (*certificates.BAD_DER, InvalidSignature):
        raise ConfigError(
            "another authority issued this certificate: name its folder", reason="WRONG_AUTHORITY"
        ) from None
    if (folder / DIRECTORY_FILE).exists():
        directory = held.directory()
        if any(directory.is_denied(f) for f in denied):
            raise ConfigError("this certificate is revoked: issue a new identity", reason="CERTIFICATE_REVOKED")
    role, hosts = _role_and_hosts(old)
    public_key = held.signer.key.public_key()
    leaf = authority.issue(held.spiffe, public_key, at=_now(), role=role, hosts=hosts, ttl=ttl)
    replace_chain(folder, (leaf, authority.certificate))
    _print_leaf(leaf)


@identity.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(path: Path, as_json: bool) -> None:
    """Say who PATH is: an identity folder, or certificates in PEM (the first counts). Its key is never shown.

    In a folder with directory.json and federation-ca.pem the certificate is also verified.

    Example: comity identity show ./me --json

    Exit codes: 0 valid now, 1 not readable, 2 wrong usage, 3 expired, not valid yet or refused by the directory.
    """
    folder = path if path.is_dir() else None
    if folder is not None:
        chain: tuple[x509.Certificate, ...] = IdentityFolder.load(folder).chain
    else:
        chain = certificates.from_pem(files.read(path, max_bytes=certificates.MAX_PEM_BYTES), what=str(path))
    leaf, at = chain[0], _now()
    facts = _facts(leaf)
    valid = leaf.not_valid_before_utc <= at < leaf.not_valid_after_utc
    facts["valid_now"] = valid
    facts["verified"], facts["reason"] = _verified(folder, chain, at)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print_facts(facts)
    if not valid or facts["verified"] is False:
        raise SystemExit(NOT_VALID)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _verified(folder: Path | None, chain: tuple[x509.Certificate, ...], at: dt.datetime) -> tuple[bool | None, str]:
    """True or False with the reason; None if there is no directory to ask."""
    if folder is None or not all((folder / name).exists() for name in (DIRECTORY_FILE, FEDERATION_FILE)):
        return None, "NO_DIRECTORY"
    directory = Directory.load(folder / DIRECTORY_FILE, folder / FEDERATION_FILE)
    try:
        verify_chain([certificates.der(c) for c in chain], directory, at)
    except NotAuthentic as e:
        return False, e.reason
    return True, ""


def _role_and_hosts(leaf: x509.Certificate) -> tuple[str, tuple[str, ...]]:
    titles = leaf.subject.get_attributes_for_oid(NameOID.TITLE)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (str(titles[0].value) if titles else ""), ()
    addresses = (str(a) for a in names.get_values_for_type(x509.IPAddress))
    return (str(titles[0].value) if titles else ""), (*names.get_values_for_type(x509.DNSName), *addresses)


def _facts(leaf: x509.Certificate) -> dict[str, object]:
    name = name_in(leaf)
    role, hosts = _role_and_hosts(leaf)
    return {
        "spiffe_id": str(name),
        "kind": name.kind,
        "agency": name.trust_domain,
        "id": name.id,
        "role": role,
        "hosts": list(hosts),
        "not_before": leaf.not_valid_before_utc.isoformat().replace("+00:00", "Z"),
        "not_after": leaf.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        "fingerprint": certificates.fingerprint(certificates.der(leaf)),
    }


def _print_leaf(leaf: x509.Certificate) -> None:
    facts = _facts(leaf)
    for key in ("spiffe_id", "role", "not_after", "fingerprint"):
        if facts[key]:
            click.echo(f"{key.replace('_', ' '):<12}{facts[key]}")


def _print_facts(facts: dict[str, object]) -> None:
    hosts, verified = facts["hosts"], facts["verified"]
    words = {
        **facts,
        "hosts": ", ".join(map(str, hosts)) if isinstance(hosts, list) else "",
        "valid_now": "yes" if facts["valid_now"] else "NO",
        "verified": "not checked: no directory beside it" if verified is None else "yes, by the directory",
        "reason": "",
    }
    if verified is False:
        words["verified"] = f"NO ({facts['reason']})"
    for key, word in words.items():
        if word:
            click.echo(f"{key.replace('_', ' '):<12}{word}")
