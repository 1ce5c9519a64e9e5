"""`comity identity` as a person types it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from cli.identity import identity
from comity.errors import ComityError
from identity import certificates
from identity.folder import IdentityFolder, replace_chain
from tests.unit.identity.world import ALDER, FEDERATION, World, forge, name


def run(*arguments: object) -> Result:
    return CliRunner().invoke(identity, [str(a) for a in arguments])


def refusal(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, ComityError), result.output
    return result.exception.reason


@pytest.fixture
def own(tmp_path: Path) -> World:
    return World.make(tmp_path, dt.datetime.now(dt.UTC))


def issue(own: World, *more: object, out: str = "me", role: str = "investigator") -> tuple[object, ...]:
    authority = own.root / ALDER
    return ("issue", "person", "t-reyes", "--role", role, "--authority", authority, "--out", own.root / out, *more)


def with_directory(own: World, **changes: object) -> tuple[object, ...]:
    (own.root / "directory.json").write_bytes(own.signed_directory(**changes))
    return ("--federation-ca", own.root / FEDERATION / "ca.pem", "--directory", own.root / "directory.json")


def test_an_authority_is_made_and_a_second_one_in_its_place_refused(tmp_path: Path) -> None:
    made = run("ca", tmp_path / "ca", "--id", ALDER, "--name", "Alder Police")
    assert made.exit_code == 0
    assert ALDER in made.output
    assert refusal("ca", tmp_path / "ca", "--id", ALDER) == "FILE_EXISTS"


def test_a_person_is_issued_and_shown_as_verified(own: World) -> None:
    assert run(*issue(own, *with_directory(own))).exit_code == 0
    shown = run("show", own.root / "me", "--json")
    facts = json.loads(shown.output)
    assert shown.exit_code == 0
    assert (facts["spiffe_id"], facts["role"]) == (f"spiffe://{ALDER}/person/t-reyes", "investigator")
    assert (facts["valid_now"], facts["verified"], facts["reason"]) == (True, True, "")


def test_show_says_in_words_who_it_is_and_never_shows_the_key(own: World) -> None:
    run(*issue(own))
    shown = run("show", own.root / "me")
    assert shown.exit_code == 0
    assert f"spiffe://{ALDER}/person/t-reyes" in shown.output
    assert "not checked" in shown.output
    key_lines = (own.root / "me" / "key.pem").read_text().splitlines()
    assert not any(line in shown.output for line in key_lines)


def test_show_reads_a_bare_certificate(own: World) -> None:
    run(*issue(own))
    facts = json.loads(run("show", own.root / "me" / "chain.pem", "--json").output)
    assert facts["id"] == "t-reyes"
    assert facts["verified"] is None


def test_a_role_that_the_directory_lacks_is_refused_and_nothing_is_written(own: World) -> None:
    assert refusal(*issue(own, *with_directory(own), role="chief")) == "WRONG_ROLE"
    assert "right is investigator, supervisor" in str(run(*issue(own, *with_directory(own), role="chief")).exception)
    assert not (own.root / "me").exists()


def test_a_renewed_certificate_has_the_same_key_name_role_and_a_later_end(own: World) -> None:
    run(*issue(own))
    before = IdentityFolder.load(own.root / "me")
    renewed = run("renew", own.root / "me", "--authority", own.root / ALDER, "--ttl", "2d")
    after = IdentityFolder.load(own.root / "me")
    assert renewed.exit_code == 0
    assert after.signer.key.public_key() == before.signer.key.public_key()
    assert after.spiffe == before.spiffe
    assert after.chain[0].subject == before.chain[0].subject
    assert after.chain[0].not_valid_after_utc > before.chain[0].not_valid_after_utc


def test_a_brokers_host_names_survive_renewal(own: World) -> None:
    out, authority = own.root / "b1", own.root / FEDERATION
    run("issue", "broker", "b1", "--host", "localhost", "--host", "::1", "--authority", authority, "--out", out)
    assert run("renew", out, "--authority", authority).exit_code == 0
    assert json.loads(run("show", out, "--json").output)["hosts"] == ["localhost", "::1"]


def test_another_authority_does_not_renew(own: World) -> None:
    run(*issue(own))
    assert refusal("renew", own.root / "me", "--authority", own.root / FEDERATION) == "WRONG_AUTHORITY"


def test_a_certificate_that_was_edited_to_a_higher_role_is_not_renewed(own: World) -> None:
    run(*issue(own))
    held = IdentityFolder.load(own.root / "me")
    edited = forge(own.brazos, [str(held.spiffe)], key=held.signer.key, role="supervisor", at=own.at)
    replace_chain(held.path, (x509.load_der_x509_certificate(edited), own.alder.certificate))
    assert refusal("renew", held.path, "--authority", own.root / ALDER) == "WRONG_AUTHORITY"


def test_a_revoked_certificate_is_not_renewed(own: World) -> None:
    run(*issue(own, *with_directory(own)))
    held = IdentityFolder.load(own.root / "me")
    denied = certificates.fingerprint(held.signer.chain[0])
    (held.path / "directory.json").write_bytes(own.signed_directory(version=8, denied=[denied]))
    assert refusal("renew", held.path, "--authority", own.root / ALDER) == "CERTIFICATE_REVOKED"
    shown = run("show", held.path, "--json")
    assert shown.exit_code == 3
    assert json.loads(shown.output)["reason"] == "CERTIFICATE_REVOKED"


def test_an_expired_identity_is_shown_as_such_and_can_be_renewed(own: World) -> None:
    past = own.at - dt.timedelta(days=2)
    held = own.folder(own.alder, name(ALDER, "person", "t-reyes"), role="investigator", at=past)
    shown = run("show", held.path)
    assert shown.exit_code == 3
    assert "NO" in shown.output
    assert run("renew", held.path, "--authority", own.root / ALDER).exit_code == 0
    assert run("show", held.path).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("issue", "badge", "x"), id="an unknown kind"),
        pytest.param(("issue", "person", "x"), id="no authority"),
        pytest.param(("renew", "x", "--authority", "y", "--ttl", "soon"), id="a span in words"),
        pytest.param(("renew", "x", "--authority", "y", "--ttl", "-1h"), id="a span below nought"),
        pytest.param(("show", "/nowhere"), id="a path that is not there"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", [(), ("ca",), ("issue",), ("renew",), ("show",)], ids=str)
def test_every_help_has_an_example_and_the_exit_codes(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Example: comity identity" in result.output
    assert "Exit codes:" in result.output
