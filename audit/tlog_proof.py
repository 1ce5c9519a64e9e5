"""One decision proven, and shown, without the others: an entry, its proof in the tree, and values behind commitments.

    leaf                   the entry, byte for byte what was hashed
    decision.tlog-proof    its index, the hashes up to the root, and the signed checkpoint
    disclosures.json       salt, name and value of what is disclosed, with the signed inquiry that holds its commitment

Source: C2SP tlog-proof v1.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from audit.entry import MAX_ENTRY_BYTES
from audit.hashes import Hashes, HashReader
from audit.listing import decode
from audit.note import MAX_NOTE_BYTES, Checkpoint, VerifierKey, unbase64, verify_checkpoint
from audit.proof import Proof, inclusion_proof, verify_inclusion
from audit.tree import HASH_BYTES, leaf_hash
from comity.commitment import AUTHORITY_REFERENCE, CASE_NUMBER, QUERY, matches
from comity.errors import InvalidInput, LogFault
from comity.inquiry import MAX_TARGETS, Disclosure, Inquiry

HEADER = "c2sp.org/tlog-proof@v1"
DISCLOSURES_FORMAT = "comity-disclosures-1"
MAX_HASHES = 53
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 8 * 1024
MAX_DISCLOSURES_BYTES = 128 * 1024
NOTHING_DISCLOSED = "Nothing is disclosed: the commitments in the inquiry stand for its values."
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})\Z")
_EXTRA = "extra "
MOST_NAMED = 20  # nodes in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """That an entry stands at `index` under the signed note `checkpoint`."""

    index: int
    hashes: Proof
    checkpoint: bytes

    def encode(self) -> bytes:
        """The `.tlog-proof` file."""
        lines = [HEADER, f"index {self.index}", *(base64.b64encode(h).decode() for h in self.hashes)]
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> TlogProof:
        """The proof in a `.tlog-proof` file, nothing verified. Extra data, which nothing authenticates, is let be.

        Raises:
            LogFault: not well-formed (BAD_PROOF).
        """
        bad = LogFault("not a well-formed .tlog-proof file", reason="BAD_PROOF")
        head, separator, note = data.partition(b"\n\n")
        if len(data) > MAX_PROOF_BYTES or not separator:
            raise bad
        try:
            header, *lines = head.decode("ascii").split("\n")
            if lines and lines[0].startswith(_EXTRA):
                unbase64(lines.pop(0).removeprefix(_EXTRA))
            index = _INDEX.match(lines[0])
            hashes = tuple(map(unbase64, lines[1:]))
        except (ValueError, IndexError):
            raise bad from None
        if header != HEADER or not index or len(hashes) > MAX_HASHES or any(len(h) != HASH_BYTES for h in hashes):
            raise bad
        return cls(index=int(index[1]), hashes=hashes, checkpoint=note)

    def verify(self, leaf: bytes, key: VerifierKey) -> Checkpoint:
        """The signed head under which the entry `leaf` stands at the index.

        Raises:
            LogFault: BAD_CHECKPOINT, WRONG_ORIGIN, NOT_SIGNED, BAD_SIGNATURE, BAD_PROOF or WRONG_ROOT.
        """
        head = verify_checkpoint(self.checkpoint, key)
        verify_inclusion(self.index, head.size, leaf_hash(leaf), self.hashes, head.root)
        return head


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a proof was found to prove: the decision `value` and, if the inquiry is shown, what was asked.

    `disclosed` holds name and exact bytes of each value that fits its commitment.
    """

    head: Checkpoint
    index: int
    value: Mapping[str, Any]
    inquiry: Inquiry | None
    disclosed: tuple[tuple[str, bytes], ...] = field(repr=False)


def find_decision(reader: HashReader, inquiry_id: str, node: str) -> tuple[int, bytes]:
    """Index and bytes of the decision on that node; it stands among the entries after the inquiry's.

    Raises:
        InvalidInput: the inquiry, or a decision on this node, is not recorded (NO_ENTRY).
    """
    first = reader.find_inquiry(inquiry_id)
    if first is None:
        raise InvalidInput("this log has not recorded that inquiry", reason="NO_ENTRY")
    others = []
    for index, entry in enumerate(reader.entries(first, first + MAX_TARGETS + 1), first):
        if inquiry_id.encode() in entry:
            value = decode(index, entry)
            if value["type"] == "decision" and value["inquiry_id"] == inquiry_id:
                if value["node"] == node:
                    return index, entry
                others.append(str(value["node"]))
    there = f"; it has those on {', '.join(others[:MOST_NAMED])}" if others else ""
    raise InvalidInput(f"this log has no decision of that inquiry on this node{there}", reason="NO_ENTRY")


def prove(index: int, leaf: bytes, hashes: Hashes, checkpoint: bytes, key: VerifierKey) -> TlogProof:
    """The proof that `leaf` stands at `index` under `checkpoint`, verified: derived hashes are not believed.

    Raises:
        InvalidInput: the checkpoint does not cover the index yet (BAD_RANGE).
        LogFault: as `TlogProof.verify`, where hashes, entry or checkpoint are not what was signed.
    """
    size = verify_checkpoint(checkpoint, key).size
    proof = TlogProof(index=index, hashes=inclusion_proof(index, size, hashes.subtree), checkpoint=checkpoint)
    proof.verify(leaf, key)
    return proof


def disclosures_json(leaf: Mapping[str, Any], payload: bytes = b"", disclosures: Sequence[Disclosure] = ()) -> bytes:
    """The file of what is disclosed with a decision: the signed inquiry's payload is in it if there is one.

    Raises:
        InvalidInput: of another inquiry than the decision's (OTHER_INQUIRY), or not fitting its commitments
            (DISCLOSURE_MISMATCH).
    """
    document: dict[str, Any] = {"format": DISCLOSURES_FORMAT, "disclosures": []}
    if payload:
        inquiry = _inquiry_of(leaf, payload)
        document["inquiry"] = base64.b64encode(payload).decode()
        for d in disclosures:
            _check_disclosure(inquiry, d)
            salt, value = (base64.b64encode(part).decode() for part in (d.salt, d.value))
            document["disclosures"].append({"salt": salt, "name": d.label, "value": value})
    if not document["disclosures"]:
        document["note"] = NOTHING_DISCLOSED
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def check(leaf: bytes, proof: TlogProof, disclosures: bytes, key: VerifierKey) -> Checked:
    """What the three files prove to whoever trusts `key`, without the log and offline.

    The log's operator recorded this decision; that the inquiry's author signed it is in the inquiry's own entry.

    Raises:
        LogFault: the proof does not hold, or the entry is no decision (BAD_FORM).
        InvalidInput: the disclosures are malformed (BAD_DISCLOSURES), of another inquiry (OTHER_INQUIRY) or do not
            fit its commitments (DISCLOSURE_MISMATCH).
    """
    if len(leaf) > MAX_ENTRY_BYTES:
        raise LogFault(f"the entry has more than {MAX_ENTRY_BYTES} bytes", index=proof.index, reason="TOO_LARGE")
    head = proof.verify(leaf, key)
    value = decode(proof.index, leaf)
    if value["type"] != "decision":
        raise LogFault("the entry that is proven is no decision", index=proof.index, reason="BAD_FORM")
    payload, shown = _parse_disclosures(disclosures)
    if shown and not payload:
        raise InvalidInput("values are disclosed without the inquiry that they belong to", reason="BAD_DISCLOSURES")
    inquiry = _inquiry_of(value, payload) if payload else None
    for d in shown:
        assert inquiry is not None
        _check_disclosure(inquiry, d)
    disclosed = tuple((d.label, d.value) for d in shown)
    return Checked(head=head, index=proof.index, value=value, inquiry=inquiry, disclosed=disclosed)


def _inquiry_of(decision: Mapping[str, Any], payload: bytes) -> Inquiry:
    if sha256(payload).hexdigest() != decision["inquiry_hash"]:
        raise InvalidInput("the decision is of another inquiry than the one shown", reason="OTHER_INQUIRY")
    return Inquiry.parse(payload)


def _check_disclosure(inquiry: Inquiry, d: Disclosure) -> None:
    commitments = {
        QUERY: inquiry.query_commitment,
        CASE_NUMBER: inquiry.case_number_commitment,
        AUTHORITY_REFERENCE: inquiry.authority_reference_commitment,
    }
    if not matches(commitments.get(d.label, b""), d.label, d.salt, d.value):
        raise InvalidInput("a disclosed value does not fit its commitment", reason="DISCLOSURE_MISMATCH")


def _parse_disclosures(data: bytes) -> tuple[bytes, tuple[Disclosure, ...]]:
    try:
        document = orjson.loads(data)
        known = {"format", "disclosures", "inquiry", "note"}
        if len(data) > MAX_DISCLOSURES_BYTES or document["format"] != DISCLOSURES_FORMAT or set(document) - known:
            raise ValueError
        disclosures = tuple(
            Disclosure(label=d["name"], salt=unbase64(d["salt"]), value=unbase64(d["value"]))
            for d in document["disclosures"]
        )
        if len({d.label for d in disclosures}) != len(disclosures):
            raise ValueError
        return unbase64(document.get("inquiry", "")), disclosures
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise InvalidInput("not a file of disclosures", reason="BAD_DISCLOSURES") from None
