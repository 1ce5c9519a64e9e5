"""Camera files and streams into a node that serves: what is bad is set aside, what is not ours is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import grpc
import orjson
import pytest

from comity import instants
from comity.v1 import ingest_service_pb2 as pb2
from comity.v1 import ingest_service_pb2_grpc
from identity import keys
from identity.authority import Authority
from identity.folder import IdentityFolder, write_identity
from identity.names import SpiffeId
from identity.tls import client_credentials
from tests.integration.calls import Person, comity, told_of
from tests.integration.conftest import INGEST_NODE
from tests.integration.world import World

AGENCY = "us-ca-sequoia-so"
OPENALPR = pb2.RECORD_FORMAT_OPENALPR


def camera(
    world: World, folder: Path, name: str, *, by: str = AGENCY, claims: str = "", role: str = ""
) -> IdentityFolder:
    """A camera's identity, or another's, issued by the authority of `by`, which plays `claims`."""
    authority = replace(Authority.load(world.layout.authority(by)), trust_domain=claims or by)
    key = keys.new_signing_key()
    leaf = authority.issue(SpiffeId.parse(name), key.public_key(), at=instants.now(), role=role)
    write_identity(folder, key, [leaf, authority.certificate])
    return IdentityFolder.load(folder)


@pytest.fixture
def ours(federation: World, tmp_path: Path) -> IdentityFolder:
    return camera(federation, tmp_path / "camera", f"spiffe://{AGENCY}/camera/sq-901")


def read(plate: str, number: int) -> bytes:
    """One camera result of a minute ago."""
    at = instants.to_ms(instants.now() - dt.timedelta(minutes=1))
    result = {
        "data_type": "alpr_results",
        "version": 2,
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
        "camera_id": "sq-901",
        "epoch_time": at,
        "results": [{"plate": plate, "confidence": 97.0, "region": "us-ca"}],
    }
    return orjson.dumps(result)


def send(
    world: World, folder: IdentityFolder, requests: Sequence[pb2.IngestRequest]
) -> tuple[list[pb2.IngestResponse], str, str]:
    """The acknowledgements, and the code and reason of the end."""
    credentials = client_credentials(folder, roots=world.directory.authorities_of(AGENCY))
    got: list[pb2.IngestResponse] = []
    with grpc.secure_channel(world.ingest_address, credentials) as channel:
        try:
            for response in ingest_service_pb2_grpc.IngestServiceStub(channel).Ingest(iter(requests), timeout=60):
                got.append(response)
        except grpc.RpcError as error:
            told = told_of(cast(grpc.Call, error), [])
            return got, told.code, told.reason
    return got, "OK", ""


def batch(sequence: int, *records: bytes, format_: pb2.RecordFormat.ValueType = OPENALPR) -> pb2.IngestRequest:
    return pb2.IngestRequest(sequence=sequence, format=format_, records=records)


def test_a_cameras_batch_is_kept_searchable_and_kept_once(federation: World, ours: IdentityFolder) -> None:
    records = [read("8NGS001", 1), read("8NGS002", 2)]
    got, code, _ = send(federation, ours, [batch(1, *records), batch(2, *records)])
    assert code == "OK"
    assert [(r.sequence, r.accepted, r.duplicates) for r in got] == [(1, 2, 0), (2, 0, 2)]
    person = Person.of(federation)
    assert person.search(person.ask(INGEST_NODE, plate="8NGS001", days=1)).kinds == {INGEST_NODE: "match"}


def test_bad_records_of_a_batch_are_set_aside_and_the_good_ones_are_kept(
    federation: World, ours: IdentityFolder
) -> None:
    whole = read("8NGS003", 3)
    got, code, _ = send(federation, ours, [batch(1, whole[: len(whole) // 2], whole, b"", read("7SТL", 4))])
    assert code == "OK"
    assert (got[0].accepted, {r.index for r in got[0].rejected}) == (1, {0, 2, 3})
    assert all(r.reason for r in got[0].rejected)


@pytest.mark.parametrize("sequence", [0, 2, 7], ids=lambda s: f"a stream that begins with {s} is refused")
def test_a_batch_out_of_sequence_is_refused(federation: World, ours: IdentityFolder, sequence: int) -> None:
    assert send(federation, ours, [batch(sequence, read("8NGS004", 5))]) == ([], "INVALID_ARGUMENT", "OUT_OF_SEQUENCE")
    person = Person.of(federation)
    assert person.search(person.ask(INGEST_NODE, plate="8NGS004", days=1)).kinds == {INGEST_NODE: "no_match"}


def test_a_batch_that_comes_twice_under_its_number_is_refused(federation: World, ours: IdentityFolder) -> None:
    got, code, reason = send(federation, ours, [batch(1, read("8NGS005", 6)), batch(1, read("8NGS006", 7))])
    assert ([r.sequence for r in got], code, reason) == ([1], "INVALID_ARGUMENT", "OUT_OF_SEQUENCE")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(batch(1, read("8NGS007", 8), format_=pb2.RECORD_FORMAT_UNSPECIFIED), id="of no format"),
        pytest.param(batch(1), id="without records"),
        pytest.param(batch(1, *[b"{}"] * 1001), id="of a thousand and one"),
    ],
)
def test_a_batch_that_is_none_is_refused(federation: World, ours: IdentityFolder, request_: pb2.IngestRequest) -> None:
    assert send(federation, ours, [request_]) == ([], "INVALID_ARGUMENT", "BAD_BATCH")


def test_another_agencys_camera_does_not_get_past_tls(federation: World, tmp_path: Path) -> None:
    other = camera(federation, tmp_path / "x", "spiffe://us-ca-port-alder-pd/camera/pa-901", by="us-ca-port-alder-pd")
    got, code, _ = send(federation, other, [batch(1, read("8NGS008", 9))])
    assert (got, code) == ([], "UNAVAILABLE")


def test_a_camera_that_its_authority_names_another_agencys_is_refused(federation: World, tmp_path: Path) -> None:
    false = camera(
        federation,
        tmp_path / "x",
        "spiffe://us-ca-port-alder-pd/camera/pa-901",
        by=AGENCY,
        claims="us-ca-port-alder-pd",
    )
    assert send(federation, false, [batch(1, read("8NGS009", 10))]) == ([], "UNAUTHENTICATED", "WRONG_AUTHORITY")


@pytest.mark.parametrize("kind", ["person", "node"])
def test_who_is_no_camera_sends_nothing(federation: World, tmp_path: Path, kind: str) -> None:
    name, role = (INGEST_NODE, "") if kind == "node" else ("investigator-1", "investigator")
    folder = camera(federation, tmp_path / "x", f"spiffe://{AGENCY}/{kind}/{name}", role=role)
    assert send(federation, folder, [batch(1, read("8NGS010", 11))]) == ([], "UNAUTHENTICATED", "WRONG_KIND")


@pytest.mark.parametrize("kind", ["results.jsonl", "groups-v1.jsonl", "groups-v2.jsonl", "reads.csv"])
def test_a_camera_file_cut_in_half_costs_its_torn_record_alone_while_the_node_serves(
    federation: World, tmp_path: Path, kind: str
) -> None:
    whole = federation.root / "cameras" / INGEST_NODE / f"{INGEST_NODE}-{kind}"
    data = whole.read_bytes()
    torn = tmp_path / f"torn-{kind}"
    torn.write_bytes(data[: data.index(b"\n", len(data) // 2) - 20])
    printed = comity("node", "ingest", str(federation.nodes[INGEST_NODE].state), str(torn), "--json")
    assert printed.code == 3
    (tally,) = printed.lines
    assert (tally["accepted"], tally["rejected"], tally["reasons"]) == (0, 1, {"TORN": 1})
    assert tally["duplicates"] > 0, "what came before the cut was known already"
    person = Person.of(federation)
    assert person.search(person.ask(INGEST_NODE)).kinds == {INGEST_NODE: "no_match"}


def test_a_bulk_load_while_the_node_serves_brings_what_is_new_once_and_says_so(
    federation: World, tmp_path: Path
) -> None:
    known = (federation.root / "cameras" / INGEST_NODE / f"{INGEST_NODE}-reads.csv").read_text().splitlines()
    header, *reads = known
    plate = header.split(",").index("plate")
    fields = reads[-1].split(",")
    fields[plate] = "8BLK001"
    loaded = tmp_path / "past.csv"
    loaded.write_text("\n".join([header, *reads, ",".join(fields)]) + "\n")
    for accepted in (1, 0):
        printed = comity("node", "ingest", str(federation.nodes[INGEST_NODE].state), str(loaded), "--bulk", "--json")
        assert printed.code == 0
        tally, told = printed.lines
        assert (tally["accepted"], tally["duplicates"]) == (len(reads) + 1, 0)
        assert told == {"bulk": True, "accepted": accepted, "duplicates": len(reads) + 1 - accepted}
