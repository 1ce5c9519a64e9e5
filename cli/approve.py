"""`comity approve`: a supervisor's further signature on a drafted inquiry."""

from __future__ import annotations

from pathlib import Path

import click

from cli.compose import read_draft, write_draft
from cli.words import plain
from comity import instants
from comity.errors import NotAllowed
from identity.folder import IdentityFolder
from identity.inquiry import APPROVER_ROLE, verify_inquiry
from identity.verify import verify_chain


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--identity", type=click.Path(path_type=Path), envvar="COMITY_IDENTITY", help="Your identity folder.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def approve(file: Path, identity: Path | None, yes: bool) -> None:
    """Look at the inquiry drafted in FILE, and sign it too.

    Example: comity approve q.json --identity ./me

    Exit codes: 0 signed; 1 refused: it is not valid, or not yours to approve; 2 wrong usage.
    """
    if identity is None:
        raise click.UsageError("name your identity folder with --identity or in COMITY_IDENTITY")
    folder = IdentityFolder.load(identity)
    directory = folder.directory()
    now = instants.now()
    signed = read_draft(file)
    # Everything that the broker and the nodes will check is checked before a supervisor puts a name to it.
    verified = verify_inquiry(signed.envelope, [d.to_message() for d in signed.disclosures], directory, now)
    me = verify_chain(folder.signer.chain, directory, now, kind="person")
    if me.role != APPROVER_ROLE or me.agency != verified.requester.agency or me.spiffe == verified.requester.spiffe:
        raise NotAllowed(
            f"only a {APPROVER_ROLE} of {verified.requester.agency} who did not ask may approve this",
            reason="WRONG_APPROVER",
        )
    inquiry, disclosed = verified.inquiry, verified.disclosed
    for name, value in (
        ("inquiry", inquiry.inquiry_id),
        ("requester", inquiry.requester),
        ("for", inquiry.beneficiary),
        ("purpose", f"{inquiry.purpose.code} ({inquiry.purpose.legal_basis.value})"),
        ("offence", inquiry.purpose.offence or "none named"),
        ("case", disclosed.case_number),
        ("authority", f"{inquiry.authority.value} {disclosed.authority_reference}".strip()),
        ("asks for", disclosed.query.words),
        ("search", f"{inquiry.act.value}, {instants.to_text(inquiry.begin)} to {instants.to_text(inquiry.end)}"),
        ("nodes", ", ".join(inquiry.targets) or "every node"),
        ("expires", instants.to_text(inquiry.expires_at)),
    ):
        # A line end in a case number would put a false row before the supervisor's eyes.
        click.echo(f"{name:<10} {plain(value)}")
    if not yes:
        click.confirm("Sign it?", abort=True)
    approved = type(signed)(envelope=folder.signer.countersign(signed.envelope), disclosures=signed.disclosures)
    write_draft(file, approved, replace=True)
    click.echo(f"Signed. Next: the requester runs comity search --send {file}")
