"""What a supervisor sees before signing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from click.testing import CliRunner

from cli.approve import approve
from cli.compose import Asked, compose, write_draft
from comity import instants
from comity.purpose import Act, Authority, LegalBasis, PurposeOfUse
from tests.unit.cli.scene import QUERY
from tests.unit.identity.world import ALDER, FEDERATION, World, name


def test_a_supervisor_sees_everything_that_policy_decides_on(tmp_path: Path) -> None:
    now = instants.now()
    world = World.make(tmp_path / "world", at=now)
    directory = world.signed_directory()
    asker = world.folder(world.alder, name(ALDER, "person", "t-reyes"), directory, role="investigator", at=now)
    approver = world.folder(world.alder, name(ALDER, "person", "s-okafor"), directory, role="supervisor", at=now)
    asked = Asked(
        query=QUERY,
        federation=FEDERATION,
        purpose=PurposeOfUse(code="stolen-vehicle", legal_basis=LegalBasis.CRIMINAL, offence="arson"),
        case_number="PA-26-0101",
        beneficiary="",
        authority=Authority.JUDICIAL_WARRANT,
        authority_reference="W-77",
        act=Act.EXACT,
        begin=now - dt.timedelta(days=1),
        end=now,
        targets=("alder-1",),
    )
    draft = tmp_path / "q.json"
    write_draft(draft, compose(asked, asker, now, draft=True))
    done = CliRunner().invoke(approve, [str(draft), "--identity", str(approver.path), "--yes"])
    assert done.exit_code == 0, done.output
    for word in ("stolen-vehicle", "arson", "PA-26-0101", "judicial-warrant W-77", "alder-1", ALDER, "t-reyes"):
        assert word in done.output, word
