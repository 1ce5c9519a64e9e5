"""The entry form: golden bytes, what a draft refuses, and that nothing personal is in clear."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson
import pytest
import rfc8785

from audit import entry, form
from audit.entry import MAX_ENTRY_BYTES, Draft, seal
from comity.commitment import commit
from comity.errors import InvalidInput
from comity.outcome import OutcomeKind
from comity.purpose import Authority
from tests.golden.audit import samples
from tests.golden.audit.samples import DRAFTS, HERE, STAMP
from tests.unit.audit.sample import cited

FILES = samples.files()


@pytest.mark.parametrize("name", FILES)
def test_the_bytes_of_the_format_are_those_on_record(name: str) -> None:
    assert FILES[name] == (HERE / name).read_bytes()


def test_every_entry_type_has_a_golden_sample_and_no_golden_file_is_left_over() -> None:
    assert {d.type for d in DRAFTS.values()} == set(form.BODIES)
    assert {p.name for p in HERE.iterdir() if p.suffix != ".py" and p.is_file()} == set(FILES)


@pytest.mark.parametrize("name", samples.entries())
def test_an_entry_is_what_the_reference_implementation_of_rfc_8785_writes(name: str) -> None:
    data = samples.entries()[name]
    assert rfc8785.dumps(json.loads(data)) == data


@pytest.mark.parametrize("name", samples.entries())
def test_an_entry_is_in_the_closed_form_of_its_type(name: str) -> None:
    assert form.entry_fault(orjson.loads(samples.entries()[name])) is None


def test_the_golden_commitments_hold_for_whoever_recomputes_them() -> None:
    vectors = json.loads((HERE / "commitments.json").read_bytes())
    assert [v["label"] for v in vectors] == ["query", "case_number", "authority_reference"]
    for v in vectors:
        made = commit(v["label"], bytes.fromhex(v["salt"]), bytes.fromhex(v["value"]))
        assert made.hex() == v["commitment"]


def test_a_decisions_prose_is_not_kept_and_its_rules_name_their_layer() -> None:
    body = DRAFTS["decision"].body
    assert "reason" not in body
    assert body["rules"] == ["federation:FED-7", "node:SC-4"]


def test_an_absent_authority_has_no_commitment_at_all() -> None:
    none = dataclasses.replace(samples.INQUIRY, authority=Authority.NONE, authority_reference_commitment=b"")
    assert set(entry.clear_fields(none)["commitments"]) == {"query", "case_number"}


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "a field too many": ("decision", {"plate": "7ABC123"}),
    "a field too few": ("decision", {"node": ...}),
    "a node that is no identifier": ("decision", {"node": "Alder 1"}),
    "a hash in capitals": ("decision", {"inquiry_hash": "AB" * 32}),
    "a rule without its layer": ("decision", {"rules": ["SC-2"]}),
    "an unknown effect": ("decision", {"effect": "maybe"}),
    "a number for a flag": ("decision", {"approved": 1}),
    "a flag for a number": ("outcome", {"count": True}),
    "a float": ("outcome", {"count": 1.0}),
    "a number of 2^53": ("outcome", {"count": 2**53}),
    "an unknown outcome": ("outcome", {"outcome": "found"}),
    "a time without its zone": ("inquiry", {"issued_at": "2030-05-01T12:00:00.123"}),
    "a day that does not exist": ("inquiry", {"issued_at": "2030-02-30T12:00:00.123Z"}),
    "a commitment of 31 bytes": ("inquiry", {"commitments": {"query": "AA==", "case_number": "AA=="}}),
    "an envelope of another type": ("inquiry", {"envelope": DRAFTS["review"].body["envelope"]}),
    "an inquiry id of another version": ("receipt", {"inquiry_id": "0190b5a4-7a1a-4c3a-9d52-0f4b1f7f3a10"}),
    "an escape sequence": ("receipt", {"checkpoint": "\x1b[2J"}),
    "a control character": ("start", {"reason": "a\nb"}),
    "an unknown program": ("start", {"program": "console"}),
}


@pytest.mark.parametrize(("kind", "changes"), BAD.values(), ids=BAD)
def test_a_draft_is_refused_with(kind: str, changes: dict[str, Any]) -> None:
    body = {k: v for k, v in (DRAFTS[kind].body | changes).items() if v is not ...}
    with pytest.raises(InvalidInput) as refused:
        Draft(kind, body)
    assert refused.value.reason == "BAD_ENTRY"
    assert "7ABC123" not in str(refused.value)


def test_a_draft_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        Draft("note", {})
    assert refused.value.reason == "BAD_ENTRY"


@pytest.mark.parametrize(("kind", "count"), [(k, 1) for k in OutcomeKind if k not in ("match", "partial_coverage")])
def test_only_a_match_or_a_partial_answer_counts_detections(kind: OutcomeKind, count: int) -> None:
    with pytest.raises(InvalidInput):
        entry.outcome_entry(**cited(DRAFTS["inquiry"]), node="alder-1", outcome=kind, count=count)


def test_a_match_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput):
        entry.outcome_entry(**cited(DRAFTS["inquiry"]), node="alder-1", outcome=OutcomeKind.MATCH)


def test_an_inquiry_that_is_not_the_envelopes_is_refused() -> None:
    other = dataclasses.replace(samples.INQUIRY, beneficiary="us-ice")
    with pytest.raises(InvalidInput) as refused:
        entry.inquiry_entry(
            inquiry=other, envelope=samples.ENVELOPE, role="investigator", approvers=[], directory_version=7,
            preview=False, received_from="spiffe://a/person/b",
        )  # fmt: skip
    assert refused.value.reason == "BAD_ENTRY"


@pytest.mark.parametrize(
    ("origin", "index", "checkpoint"),
    [("node.example/log", 12, samples.CHECKPOINT), ("other", 1, samples.CHECKPOINT), ("node.example/log", 1, b"no")],
    ids=["smaller than its index", "another log's", "malformed"],
)
def test_a_receipt_is_refused_whose_checkpoint_is(origin: str, index: int, checkpoint: bytes) -> None:
    with pytest.raises(InvalidInput):
        entry.receipt_entry(
            inquiry_id=samples.INQUIRY_ID, node="alder-1", origin=origin, index=index, leaf_hash=b"h" * 32,
            checkpoint=checkpoint,
        )  # fmt: skip


def _review_of(size: int) -> Draft:
    """A review whose sealed entry has exactly that many bytes."""
    body = DRAFTS["review"].body
    body = body | {"envelope": body["envelope"] | {"payload": "AAAA" * 13_000}, "sampled": [10**15] * 400}
    short = size - len(seal(Draft("review", body), STAMP))
    many, rest = short // 17 - 1, short % 17 + 17  # a number of 16 digits and its comma take 17 bytes
    fill = [10**15] * many + [10 ** (rest // 2 - 2), 10 ** (rest - rest // 2 - 2)]
    return Draft("review", body | {"sampled": body["sampled"] + fill})


def test_an_entry_at_the_limit_is_kept_and_one_byte_more_is_refused() -> None:
    assert len(seal(_review_of(MAX_ENTRY_BYTES), STAMP)) == MAX_ENTRY_BYTES
    with pytest.raises(InvalidInput) as refused:
        seal(_review_of(MAX_ENTRY_BYTES + 1), STAMP)
    assert refused.value.reason == "ENTRY_TOO_LARGE"


def test_text_that_is_not_unicode_is_refused() -> None:
    body = DRAFTS["start"].body | {"reason": "\ud800"}
    with pytest.raises(InvalidInput) as refused:
        seal(Draft("start", body), STAMP)
    assert refused.value.reason == "BAD_ENTRY"
