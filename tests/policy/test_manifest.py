"""Manifests: signed, worked out again and compared; and the matrix as rows and as a page."""

from __future__ import annotations

import csv
import datetime as dt
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec

from cli.policy import policy
from comity import jcs
from comity.errors import ComityError, InvalidInput, NotAuthentic
from comity.federation import Agreement
from identity import keys
from identity.dsse import sign_with_key
from policies.manifest import (
    COLUMNS,
    KEYS,
    MANIFEST_TYPE,
    csv_rows,
    differences,
    in_words,
    make_statement,
    open_manifest,
    page_of,
    registry_digest,
    sign_statement,
)
from policies.matrix import Matrix
from policies.reach import RESHARE, Reach
from policies.setting import Setting
from tests.policy.requests import DAY, SETTING, compile_rows

SHERIFF, CITY, ICE = "us-ca-sequoia-so", "us-ca-millbrook-pd", "us-ice-ero"
KEY, OTHER = keys.new_signing_key(), keys.new_signing_key()
PAPER = Agreement(kind=RESHARE, from_agency=SHERIFF, to_agency=ICE, expires=dt.date(2030, 1, 1))
SHARING = replace(SETTING, federation=replace(SETTING.federation, agreements=(*SETTING.federation.agreements, PAPER)))


def pinned(key: ec.EllipticCurvePrivateKey = KEY, agency: str = SHERIFF) -> dict[str, tuple[ec.EllipticCurvePublicKey]]:
    return {agency: (key.public_key(),)}


def test_a_statement_keeps_the_five_roles_apart() -> None:
    s = make_statement(SHARING, SHERIFF, DAY)
    assert s.keys() == KEYS
    assert [h["node"] for h in s["hosts"]] == ["sequoia-1"]
    assert s["contributes"] == [{"node": "sequoia-1", "cameras": 34}]
    assert any("port-alder-1" in q["nodes"] and "stolen-vehicle" in q["purposes"] for q in s["queries"])
    assert s["reshares"] == [{"to": ICE, "through": [SHERIFF], "until": "2030-01-01"}]
    assert s["receives"] == []
    assert make_statement(SHARING, ICE, DAY)["receives"] == [
        {"from": SHERIFF, "through": [SHERIFF], "until": "2030-01-01"}
    ]


def test_an_agency_that_only_queries_hosts_and_contributes_nothing() -> None:
    s = make_statement(SETTING, "us-ca-bayview-pd", DAY)
    assert (s["hosts"], s["contributes"], s["seen_by"], s["reshares"]) == ([], [], [], [])
    assert s["queries"]
    assert s["alerts"]


def test_who_sees_an_agencys_data_is_in_it_with_the_way_that_the_data_takes() -> None:
    seen = make_statement(SHARING, SHERIFF, DAY)["seen_by"]
    ways = {(p["how"], *p["through"]) for s in seen if ICE in s["agencies"] for p in s["paths"]}
    assert ("host", SHERIFF) in ways
    assert not any("immigration-civil" in s["purposes"] for s in make_statement(SETTING, SHERIFF, DAY)["seen_by"])


def test_what_was_signed_is_read_back_and_is_true() -> None:
    statement = make_statement(SETTING, SHERIFF, DAY)
    opened = open_manifest(sign_statement(statement, KEY), pinned())
    assert opened == statement
    assert differences(opened, SETTING) == []


TRUE = make_statement(SETTING, SHERIFF, DAY)
SIGNED = sign_statement(TRUE, KEY)
OF_CITY = sign_statement(make_statement(SETTING, CITY, DAY), KEY)


def signed(payload: bytes) -> bytes:
    return sign_with_key(MANIFEST_TYPE, payload, KEY)


@pytest.mark.parametrize(
    ("data", "keys_pinned", "error", "reason"),
    [
        pytest.param(SIGNED[:-9], pinned(), InvalidInput, "BAD_ENVELOPE", id="a part of one"),
        pytest.param(sign_statement(TRUE, OTHER), pinned(), NotAuthentic, "UNKNOWN_KEY", id="another key"),
        pytest.param(SIGNED, {}, NotAuthentic, "NO_PINNED_KEY", id="no key pinned"),
        pytest.param(OF_CITY, pinned(), NotAuthentic, "NO_PINNED_KEY", id="for an agency that is not the key's"),
        pytest.param(signed(b'{"agency":"us-ca-sequoia-so"}'), pinned(), InvalidInput, "BAD_MANIFEST", id="too little"),
        pytest.param(signed(b"[1]"), pinned(), InvalidInput, "BAD_MANIFEST", id="a list"),
        pytest.param(signed(b"\xff"), pinned(), InvalidInput, "BAD_MANIFEST", id="no text"),
        pytest.param(signed(jcs.encode(TRUE | {"day": "soon"})), pinned(), InvalidInput, "BAD_MANIFEST", id="no day"),
    ],
)
def test_a_manifest_that_proves_nothing_is_refused(
    data: bytes, keys_pinned: dict[str, tuple[ec.EllipticCurvePublicKey]], error: type[ComityError], reason: str
) -> None:
    with pytest.raises(error) as e:
        open_manifest(data, keys_pinned)
    assert e.value.reason == reason


def test_a_signature_for_other_words_is_refused() -> None:
    other = orjson.loads(sign_statement(make_statement(SHARING, SHERIFF, DAY), KEY))
    with pytest.raises(NotAuthentic) as e:
        open_manifest(jcs.encode(orjson.loads(SIGNED) | {"payload": other["payload"]}), pinned())
    assert e.value.reason == "BAD_SIGNATURE"


def test_a_statement_that_leaves_out_who_sees_the_data_is_found_out() -> None:
    lie = make_statement(SHARING, SHERIFF, DAY) | {"seen_by": [], "reshares": []}
    found = differences(open_manifest(sign_statement(lie, KEY), pinned()), SHARING)
    assert [f.split()[0] for f in found] == ["reshares", "seen_by"]


def test_a_policy_or_directory_that_has_changed_since_is_named() -> None:
    statement = make_statement(SETTING, SHERIFF, DAY)
    own = compile_rows("OWN-1,any-node,us-fbi,any-role,any-purpose,any-act,deny,always,-,x", "us-ca")
    changed = replace(SHARING, node_policies={**SETTING.node_policies, "sequoia-1": own})
    found = differences(statement, changed)
    assert found[0] == "it was made from another directory"
    assert found[1] == "it was made under another policy of sequoia-1"
    assert registry_digest(SETTING.federation) != registry_digest(SHARING.federation)


def test_another_federations_manifest_is_refused() -> None:
    with pytest.raises(InvalidInput) as e:
        differences(make_statement(SETTING, SHERIFF, DAY) | {"federation": "atlantic-exchange"}, SETTING)
    assert e.value.reason == "WRONG_FEDERATION"


def test_the_words_name_every_role_and_every_reader() -> None:
    text = "\n".join(in_words(make_statement(SHARING, SHERIFF, DAY)))
    for said in (
        "hosts: sequoia-1",
        "contributes: sequoia-1 (34 cameras)",
        f"re-shares with others: {ICE}",
        "may query:",
    ):
        assert said in text
    assert "seen by: nobody" not in text
    assert "host through us-ca-sequoia-so" in text


def test_a_refused_cell_is_a_row_that_says_refused() -> None:
    reach = Reach(Matrix(SETTING, DAY))
    (row,) = csv_rows(reach, ICE, "port-alder-1", "immigration-civil")
    assert dict(zip(COLUMNS, row, strict=True)) == dict.fromkeys(COLUMNS, "") | {
        "requester": ICE,
        "node": "port-alder-1",
        "agency": "us-ca-port-alder-pd",
        "purpose": "immigration-civil",
        "how": "refused",
        "policy_digest": SETTING.node_policies["port-alder-1"].digest,  # type: ignore[union-attr]
    }


@pytest.mark.parametrize(
    ("node", "purpose", "days"),
    [("port-alder-1", "amber-alert", 30), ("sequoia-1", "stolen-vehicle", 365), ("granite-1", "amber-alert", 0)],
)
def test_days_that_can_be_searched_are_the_least_of_duty_and_retention(node: str, purpose: str, days: int) -> None:
    rows = csv_rows(Reach(Matrix(SETTING, DAY)), SHERIFF, node, purpose)
    assert {dict(zip(COLUMNS, r, strict=True))["searchable_days"] for r in rows} == {days}


class Page(HTMLParser):
    """The tags and attributes of a page, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("href", "src") or k.startswith("on")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(setting: Setting, **only: list[str]) -> str:
    return "".join(page_of(Reach(Matrix(setting, DAY), **only), ["pack <b>x</b> is not law"]))


def test_a_page_stands_alone_and_is_well_formed() -> None:
    parsed = Page(page(SETTING))
    assert parsed.open == []
    assert parsed.links == []
    assert "script" not in parsed.tags
    assert parsed.tags.count("section") == len(SETTING.federation.nodes)


def test_a_page_says_what_it_was_made_of_and_what_its_marks_mean() -> None:
    text = page(SETTING, nodes=["port-alder-1"])
    policy_digest = SETTING.node_policies["port-alder-1"].digest  # type: ignore[union-attr]
    for said in (str(DAY), registry_digest(SETTING.federation), policy_digest, "Legend", "refused", "@media print"):
        assert said in text
    assert "pack &lt;b&gt;x&lt;/b&gt; is not law" in text


def test_what_comes_through_another_is_marked_apart_from_a_search_and_from_a_refusal() -> None:
    only = {"nodes": ["sequoia-1"], "agencies": [ICE], "purposes": ["immigration-civil"]}
    assert "⇢<sup>1</sup>" in page(SHARING, **only)
    assert "from us-ca-sequoia-so, which hosts it" in page(SHARING, **only)
    assert '<td class="never">–<sup></sup></td>' in page(SETTING, **only)
    assert '<td class="bound">◐' in page(
        SETTING, nodes=["port-alder-1"], agencies=["us-fbi"], purposes=["criminal-felony"]
    )
    assert '<td class="open">●' in page(SETTING, nodes=["sequoia-1"], agencies=[SHERIFF], purposes=["stolen-vehicle"])


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(policy, arguments)


def test_a_manifest_is_written_and_verified_on_the_command_line(tmp_path: Path) -> None:
    key, public, out = tmp_path / "policy.pem", tmp_path / "policy.pub", tmp_path / "manifest.json"
    keys.write_key(key, KEY)
    public.write_bytes(keys.public_pem(KEY.public_key()))
    written = run("manifest", "--agency", SHERIFF, "--key", str(key), "--out", str(out))
    assert (written.exit_code, "signed" in written.output) == (0, True)
    verified = run("manifest", "--verify", str(out), "--agency", SHERIFF, "--policy-key", str(public))
    assert (verified.exit_code, "true to the last word" in verified.output) == (0, True)
    lie = orjson.loads(open_manifest_payload(out)) | {"seen_by": []}
    out.write_bytes(sign_statement(lie, KEY))
    found = run("manifest", "--verify", str(out), "--agency", SHERIFF, "--policy-key", str(public), "--json")
    assert (found.exit_code, orjson.loads(found.output)["differences"]) == (
        1,
        ["seen_by is not what follows from the directory and the policies"],
    )


def open_manifest_payload(path: Path) -> bytes:
    return jcs.encode(open_manifest(path.read_bytes(), pinned()))


def test_without_pinned_keys_nothing_is_verified(tmp_path: Path) -> None:
    out = tmp_path / "manifest.json"
    out.write_bytes(sign_statement(make_statement(SETTING, SHERIFF, DAY), KEY))
    refused = run("manifest", "--verify", str(out))
    assert isinstance(refused.exception, ComityError)
    assert "true" not in refused.output


def test_the_matrix_is_written_as_rows_and_page_and_shown_as_json(tmp_path: Path) -> None:
    table, shown = tmp_path / "m.csv", tmp_path / "m.html"
    only = ("--node", "sequoia-1", "--agency", ICE, "--agency", SHERIFF)
    assert run("matrix", *only, "--csv", str(table), "--html", str(shown)).exit_code == 0
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert {r["requester"] for r in rows} == {ICE, SHERIFF}
    assert {r["purpose"] for r in rows if r["how"] == "refused" and r["requester"] == ICE} >= {"immigration-civil"}
    assert shown.read_text().startswith("<!DOCTYPE html>")
    lines = [orjson.loads(x) for x in run("matrix", *only, "--json").output.splitlines()]
    assert sum(len(x["requesters"]) * len(x["nodes"]) * len(x["purposes"]) for x in lines) == 2 * len(
        SETTING.vocabulary.purpose.leaves
    )


def test_reach_shows_open_nodes_and_the_rule_that_closes_the_others() -> None:
    told = run("reach", "--agency", ICE, "--purpose", "immigration-civil")
    assert told.exit_code == 0
    assert "SC-1" in told.output
    assert "1 of 8 nodes are open" in told.output
    lines = [
        orjson.loads(x)
        for x in run("reach", "--agency", ICE, "--purpose", "immigration-civil", "--json").output.splitlines()
    ]
    assert [x["node"] for x in lines if x["status"] == "open"] == ["brazos-bend-1"]
