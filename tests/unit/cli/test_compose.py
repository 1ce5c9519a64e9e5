"""From what is typed to what is signed, and the draft file between an investigator and a supervisor."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli.compose import Asked, SignedInquiry, compose, legal_basis_of, read_draft, write_draft
from comity.errors import ComityError, ConfigError, InvalidInput
from comity.purpose import Act, Authority, LegalBasis, PurposeOfUse
from comity.query import PlateQuery
from identity.folder import IdentityFolder
from identity.inquiry import verify_inquiry
from tests.unit.comity import scene
from tests.unit.comity.scene import DAY, NOW
from tests.unit.identity.world import ALDER, FEDERATION, World, name


@pytest.fixture(scope="session")
def me(world: World) -> IdentityFolder:
    return world.folder(world.alder, name(ALDER, "person", "t-reyes"), role="investigator")


def asked(**changes: Any) -> Asked:
    content: dict[str, Any] = {
        "query": PlateQuery(plate=scene.PLATE),
        "federation": FEDERATION,
        "purpose": PurposeOfUse(code="stolen-vehicle", legal_basis=LegalBasis.CRIMINAL),
        "case_number": scene.CASE,
        "beneficiary": "",
        "authority": Authority.NONE,
        "authority_reference": "",
        "act": Act.EXACT,
        "begin": NOW - 7 * DAY,
        "end": NOW,
        "targets": (),
    }
    return Asked(**(content | changes))


def test_what_is_composed_is_what_a_node_would_verify(me: IdentityFolder, world: World) -> None:
    made = compose(asked(authority=Authority.JUDICIAL_WARRANT, authority_reference="W-17"), me, NOW, draft=False)
    given = [d.to_message() for d in made.disclosures]
    verified = verify_inquiry(made.envelope, given, world.directory(), NOW)
    assert (verified.disclosed.query, verified.disclosed.authority_reference) == (asked().query, "W-17")
    assert verified.inquiry.beneficiary == ALDER
    assert verified.inquiry.expires_at - NOW == dt.timedelta(minutes=5)
    assert b"7ABC123" not in made.envelope.encode()
    assert "7ABC123" not in repr(made)
    assert "7ABC123" not in repr(asked())


def test_two_searches_for_one_plate_share_no_salt_nonce_or_id(me: IdentityFolder) -> None:
    first, second = (compose(asked(), me, NOW, draft=False) for _ in range(2))
    a, b = first.inquiry, second.inquiry
    assert a.inquiry_id != b.inquiry_id
    assert a.nonce != b.nonce
    assert a.query_commitment != b.query_commitment


def test_only_what_is_composed_to_be_previewed_says_so(me: IdentityFolder) -> None:
    assert compose(asked(), me, NOW, draft=False, preview=True).inquiry.preview
    assert not compose(asked(), me, NOW, draft=False).inquiry.preview


def test_a_draft_waits_a_day(me: IdentityFolder) -> None:
    assert compose(asked(), me, NOW, draft=True).inquiry.expires_at == NOW + DAY


BAD: dict[str, dict[str, Any]] = {
    "a case number of 65 characters": {"case_number": "x" * 65},
    "a case number with a line end": {"case_number": "PA\n26"},
    "a reference with an escape": {"authority": Authority.COURT_ORDER, "authority_reference": "\x1b[2J"},
    "a window that ends tomorrow": {"end": NOW + DAY},
    "a target twice": {"targets": ("alder-1", "alder-1")},
    "a beneficiary that is no id": {"beneficiary": "The Agency"},
    "a purpose that is no code": {"purpose": PurposeOfUse(code="", legal_basis=LegalBasis.CRIMINAL)},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_what_the_broker_would_refuse_is_not_signed(changes: dict[str, Any], me: IdentityFolder) -> None:
    with pytest.raises(InvalidInput) as e:
        compose(asked(**changes), me, NOW, draft=False)
    assert e.value.violations


PURPOSES = {"any-purpose": "", "criminal": "any-purpose", "administrative": "any-purpose", "parking": "administrative"}


@pytest.mark.parametrize(
    ("purpose", "basis"),
    [
        ("criminal", LegalBasis.CRIMINAL),
        ("parking", LegalBasis.ADMINISTRATIVE),
        ("immigration-civil", LegalBasis.CIVIL),
        ("unheard-of", LegalBasis.CRIMINAL),
    ],
)
def test_a_purpose_has_its_usual_legal_basis(purpose: str, basis: LegalBasis) -> None:
    assert legal_basis_of(purpose, PURPOSES) is basis


def test_a_tree_with_a_cycle_is_climbed_to_its_end() -> None:
    assert legal_basis_of("a", {"a": "b", "b": "a"}) is LegalBasis.CRIMINAL


# Drafts


@pytest.fixture
def draft(me: IdentityFolder, tmp_path: Path) -> tuple[Path, SignedInquiry]:
    path, made = tmp_path / "q.json", compose(asked(), me, NOW, draft=True)
    write_draft(path, made)
    return path, made


def test_a_draft_is_read_back_and_is_its_owner_s_alone(draft: tuple[Path, SignedInquiry]) -> None:
    path, made = draft
    assert read_draft(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_draft(path).disclosed.query == PlateQuery(plate=scene.PLATE)


def test_a_draft_is_never_written_over_by_a_new_one_and_only_replaced_on_purpose(
    draft: tuple[Path, SignedInquiry], me: IdentityFolder
) -> None:
    path, made = draft
    other = compose(asked(), me, NOW, draft=True)
    with pytest.raises(ConfigError):
        write_draft(path, other)
    assert read_draft(path) == made
    write_draft(path, other, replace=True)
    assert read_draft(path) == other
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_draft_cut_off_anywhere_is_refused(draft: tuple[Path, SignedInquiry]) -> None:
    path, _ = draft
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInput) as e:
            read_draft(path)
        assert e.value.reason == "BAD_DRAFT"


def edited(**changes: Any) -> Any:
    return lambda raw: raw | changes


TAMPERED: dict[str, Any] = {
    "another format": edited(format="comity-draft-2"),
    "an unknown key": edited(more=1),
    "an envelope that is no text": edited(envelope=7),
    "an envelope that is no base64": edited(envelope="?"),
    "an envelope of something else": edited(envelope=base64.b64encode(b"\xff\xff").decode()),
    "disclosures that are no list": edited(disclosures=7),
    "a disclosure that is text": edited(disclosures=["query"]),
    "a disclosure without its salt": edited(disclosures=[{"label": "query", "value": ""}]),
    "a list": lambda raw: [raw],
    "a number": lambda raw: 7,
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_draft_that_is_none_is_refused(change: Any, draft: tuple[Path, SignedInquiry]) -> None:
    path, _ = draft
    path.write_bytes(orjson.dumps(change(orjson.loads(path.read_bytes()))))
    with pytest.raises(InvalidInput):
        read_draft(path)


def test_a_plate_changed_in_a_draft_no_longer_fits_what_was_signed(draft: tuple[Path, SignedInquiry]) -> None:
    path, _ = draft
    raw = orjson.loads(path.read_bytes())
    other = base64.b64encode(base64.b64decode(raw["disclosures"][0]["value"]).replace(b"7ABC123", b"8XYZ789"))
    raw["disclosures"][0]["value"] = other.decode()
    path.write_bytes(orjson.dumps(raw))
    with pytest.raises(ComityError) as e:
        _ = read_draft(path).disclosed
    assert e.value.reason == "DISCLOSURE_MISMATCH"


def test_a_draft_of_many_megabytes_is_not_read(draft: tuple[Path, SignedInquiry]) -> None:
    path, _ = draft
    path.write_bytes(b" " * (300 * 1024))
    with pytest.raises(ComityError):
        read_draft(path)


def test_a_draft_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_draft(tmp_path / "none.json")
