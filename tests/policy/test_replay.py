"""Replay: past decisions reproduced under their own digests, differences found, and what new policies would change."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from audit.entry import Draft, clear_fields, decision_entry
from cli.policy import policy
from comity.decision import Decision, Pep
from comity.envelope import BUNDLE_TYPE, INQUIRY_TYPE, Envelope
from comity.errors import InvalidInput, PolicyError
from comity.inquiry import Inquiry, new_inquiry_id
from comity.instants import to_text
from comity.purpose import Authority, LegalBasis, PurposeOfUse
from identity import keys
from identity.dsse import sign_with_key
from policies.bundle import make_bundle
from policies.decide import Decider, Question
from policies.engine import Policy
from policies.packs import load_packs
from policies.replay import NO_CASE, Past, Replay, Report, read_bundle, replay
from policies.request import has_case
from policies.seal import HEADER, seal
from policies.setting import Setting
from tests.golden.audit import samples
from tests.policy.requests import SETTING, compile_rows
from tests.unit.audit.sample import HandClock, build, inquiry, inquiry_draft

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
SHERIFF, ICE = "us-ca-sequoia-so", "us-ice-ero"
CIVIL = PurposeOfUse(code="immigration-civil", legal_basis=LegalBasis.CIVIL)
CLOSED = "OWN-1,any-node,police,any-role,stolen-vehicle,any-act,deny,always,-,council order"


def asked(agency: str = SHERIFF, at: dt.datetime = NOW, **changes: Any) -> Inquiry:
    content: dict[str, Any] = {
        "federation": SETTING.federation.id,
        "requester": f"spiffe://{agency}/person/t-reyes",
        "beneficiary": agency,
        "begin": at - dt.timedelta(days=30),
        "inquiry_id": new_inquiry_id(at),
    }
    return inquiry(at, **(content | changes))


def decided(
    made: Inquiry,
    node: str,
    *,
    case: str = "PA-26-1",
    at: dt.datetime = NOW,
    pep: Pep = Pep.BROKER,
    setting: Setting = SETTING,
    **changes: Any,
) -> Decision:
    """What broker or node decide at `at`, by the engine itself."""
    decider = Decider(setting.federation, setting.federation_policy, pep, new_id=lambda: str(uuid.UUID(int=1)))
    fields: dict[str, Any] = {
        "requester_agency": made.requester.split("/")[2],
        "role": "investigator",
        "beneficiary": made.beneficiary,
        "purpose": made.purpose.code,
        "legal_basis": made.purpose.legal_basis,
        "authority": made.authority,
        "act": made.act,
        "has_case": has_case(case),
        "lookback_days": -((made.begin - at) // dt.timedelta(days=1)),
        "approved": False,
        "day": at.date(),
        "offence": made.purpose.offence,
        "person": made.requester,
    }
    return decider.decide(Question(**(fields | changes)), [(node, setting.node_policies[node])])[0]


def entries(made: Inquiry, *decisions: Decision, at: dt.datetime = NOW) -> list[dict[str, Any]]:
    """The entries of one search, as a log gives them back."""
    body = clear_fields(made)
    body["requester"]["role"] = "investigator"
    stamp = {"at": to_text(at)}
    out = [{**body, **stamp, "type": "inquiry", "inquiry_hash": "ab" * 32}]
    for d in decisions:
        draft = decision_entry(d, inquiry_id=made.inquiry_id, inquiry_hash=bytes.fromhex("ab" * 32))
        out.append({**draft.body, **stamp, "type": "decision"})
    return out


def replayed(log: Sequence[Mapping[str, Any]], new: Setting = SETTING, known: Sequence[Policy | None] = ()) -> Report:
    return replay(enumerate(log), lambda _: None, Replay(new, known))


def of_sample(policies: Mapping[str, Policy | None]) -> Setting:
    return replace(SETTING, node_policies={**SETTING.node_policies, **policies})


@pytest.mark.parametrize("pep", list(Pep))
@pytest.mark.parametrize(
    ("made", "case"),
    [
        pytest.param(asked(), "PA-26-1", id="a search that most permit"),
        pytest.param(asked(), " ", id="one without a case number"),
        pytest.param(
            asked(authority=Authority.JUDICIAL_WARRANT, authority_reference_commitment=b"c" * 32),
            "1",
            id="with a warrant",
        ),
        pytest.param(asked(ICE, purpose=CIVIL), "1", id="one that most refuse"),
        pytest.param(asked(beneficiary=ICE), "PA-26-1", id="on behalf of another"),
        pytest.param(asked("us-fbi", begin=NOW - dt.timedelta(days=3000)), "1", id="without an offence named"),
        pytest.param(asked(beneficiary="us-nobody"), "1", id="a name that is not registered"),
    ],
)
def test_every_decision_is_reproduced_under_the_policies_it_names(made: Inquiry, case: str, pep: Pep) -> None:
    decisions = [decided(made, node, case=case, pep=pep) for node in SETTING.federation.nodes]
    report = replayed(entries(made, *decisions))
    assert (report.decisions, report.reproduced, report.different) == (8, 8, 0)
    assert report.changes == []


def test_a_missing_case_number_is_told_from_the_decision() -> None:
    made = asked()
    without = decided(made, "brazos-bend-1", case="")
    assert NO_CASE in [f"{r.layer.value}:{r.rule}" for r in without.rules]
    (_, entry) = entries(made, without)
    readings = Past(index=1, decision=entry, inquiry=entries(made)[0]).readings(node_facts=False)
    assert next(readings).has_case is False


def test_a_decision_made_when_a_further_day_had_begun_is_reproduced_from_the_moments_on_record() -> None:
    setting = of_sample(
        {
            "sequoia-1": compile_rows(
                "OWN-1,any-node,any-agency,any-role,any-purpose,any-act,deny,lookback>30,-,x", "us-ca"
            )
        }
    )
    made, later = asked(), NOW + dt.timedelta(milliseconds=900)
    as_issued = decided(made, "sequoia-1", at=NOW, setting=setting)
    as_received = decided(made, "sequoia-1", at=later, setting=setting)
    assert as_issued.permitted
    assert not as_received.permitted
    for decision in (as_issued, as_received):
        report = replayed(entries(made, decision, at=later), setting)
        assert (report.reproduced, report.different) == (1, 0)


def test_what_the_node_knew_of_its_detections_is_found_where_a_rule_rests_on_it() -> None:
    setting = of_sample(
        {
            "sequoia-1": compile_rows(
                "OWN-1,any-node,any-agency,any-role,any-purpose,any-act,deny,mobile-camera,-,x", "us-ca"
            )
        }
    )
    made = asked()
    for found in (frozenset[str](), frozenset({"mobile-camera"})):
        decision = decided(made, "sequoia-1", pep=Pep.NODE, setting=setting, node_facts=found)
        assert replayed(entries(made, decision), setting).reproduced == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"effect": "permit", "reason_code": "PERMITTED"}, id="a refusal turned into a permit"),
        pytest.param({"rules": ["federation:FED-7"]}, id="rules left out"),
        pytest.param({"obligations": {"window_days": 9}}, id="another duty"),
        pytest.param({"reason_code": "NO_RULE_ALLOWS"}, id="another reason"),
    ],
)
def test_a_decision_that_its_own_policies_do_not_give_is_a_difference(change: dict[str, Any]) -> None:
    made = asked(ICE, purpose=CIVIL)
    log = entries(made, decided(made, "port-alder-1"), decided(made, "llano-1"))
    log[1] |= change
    report = replayed(log)
    assert (report.reproduced, report.different) == (1, 1)
    (difference,) = report.differences
    assert (difference.index, difference.node) == (1, "port-alder-1")
    assert "refused [DENIED_BY_RULE]" in difference.gives


def test_a_policy_that_is_not_at_hand_is_said_and_counted_and_nothing_is_claimed() -> None:
    old = of_sample({"sequoia-1": compile_rows(CLOSED, "us-ca")})
    made = asked()
    decision = decided(made, "sequoia-1", setting=old)
    report = replayed(entries(made, decision))
    assert (report.decisions, report.reproduced, report.different) == (1, 0, 0)
    assert dict(report.unknown) == {decision.policy_digest: 1}
    again = replayed(entries(made, decision), known=[old.node_policies["sequoia-1"]])
    assert (again.reproduced, again.unknown) == (1, {})


def test_a_decision_whose_inquiry_is_not_on_record_is_counted_apart() -> None:
    made = asked()
    log = entries(made, decided(made, "sequoia-1"))
    assert replayed(log[1:]).orphans == 1
    log[0]["inquiry_hash"] = "cd" * 32
    assert replayed(log).orphans == 1
    recalled = replay(
        enumerate(entries(made, decided(made, "sequoia-1"))[1:]), lambda _: entries(made)[0], Replay(SETTING, ())
    )
    assert (recalled.orphans, recalled.reproduced) == (0, 1)


def test_what_new_policies_would_change_is_grouped_with_its_reason_and_counted() -> None:
    log = [
        e
        for _ in range(5)
        for made in (asked(),)
        for e in entries(made, decided(made, "sequoia-1"), decided(made, "llano-1"))
    ]
    report = replayed(
        log, of_sample({"sequoia-1": compile_rows(CLOSED, "us-ca")}), [SETTING.node_policies["sequoia-1"]]
    )
    assert (report.reproduced, report.judged) == (10, 10)
    (change,) = report.changes
    assert (change.count, change.requester, change.node, change.was, change.would_be) == (
        5,
        SHERIFF,
        "sequoia-1",
        "permitted",
        "refused",
    )
    assert "OWN-1 (council order)" in change.why
    assert change.examples == (1, 4, 7)


def test_a_stricter_duty_is_a_change_though_both_permit() -> None:
    made = asked()
    limit = compile_rows(
        "OWN-1,any-node,any-agency,any-role,any-purpose,any-act,limit,always,window_days<=7,x", "us-ca"
    )
    (change,) = replayed(entries(made, decided(made, "sequoia-1")), of_sample({"sequoia-1": limit})).changes
    assert (change.was, change.would_be) == ("permitted", "permitted with window_days=7")


MOBILE = "OWN-1,any-node,any-agency,any-role,any-purpose,any-act,{},{},-,x"


@pytest.mark.parametrize(
    ("row", "would_be"),
    [
        pytest.param(MOBILE.format("deny", "mobile-camera"), [], id="the other cameras still answer"),
        pytest.param(MOBILE.format("deny", "unless mobile-camera"), [], id="mobile cameras still answer"),
        pytest.param(MOBILE.format("deny", "unless hot-list-match"), ["refused"], id="no plate is on a hot list"),
    ],
)
def test_a_new_rule_on_what_the_node_knows_is_decided_as_the_node_does(row: str, would_be: list[str]) -> None:
    made = asked()
    log = entries(made, decided(made, "sequoia-1", pep=Pep.NODE))
    report = replayed(log, of_sample({"sequoia-1": compile_rows(row, "us-ca")}), [SETTING.node_policies["sequoia-1"]])
    assert (report.reproduced, [c.would_be for c in report.changes]) == (1, would_be)


def test_a_node_that_stated_no_mobile_cameras_would_refuse_again() -> None:
    setting = of_sample({"sequoia-1": compile_rows(MOBILE.format("deny", "mobile-camera"), "us-ca")})
    made = asked()
    refused = decided(made, "sequoia-1", pep=Pep.NODE, setting=setting)
    assert refused.reason_code == "INDETERMINATE"
    report = replayed(entries(made, refused), setting)
    assert (report.reproduced, report.changes) == (1, [])


def test_a_node_that_is_gone_would_refuse() -> None:
    made = asked()
    log = entries(made, decided(made, "sequoia-1"))
    log[1]["node"] = "sequoia-9"
    (change,) = replayed(log).changes
    assert change.would_be == "refused"


def bundle(own: str, version: int = 2, node: str = "sequoia-1") -> bytes:
    rules = seal(f"{HEADER}\n{own}\n")
    payload = make_bundle(
        federation=SETTING.federation,
        node=node,
        version=version,
        valid_from=NOW,
        valid_to=NOW + dt.timedelta(days=1),
        packs=["us-ca"],
        policy=load_packs(["us-ca"], own_rules=rules),
        usage_policy=SETTING.usage_policies.get(node),
    )
    return sign_with_key(BUNDLE_TYPE, payload, keys.new_signing_key())


def test_an_expired_bundle_is_read_for_what_it_once_said() -> None:
    read, policy_then = read_bundle(bundle(CLOSED), SETTING)
    assert (read.node, read.version) == ("sequoia-1", 2)
    assert "OWN-1" in {r.id for r in policy_then.rules}


@pytest.mark.parametrize("payload", [b"{}", b"[]", b'{"valid_from":"soon"}', b"\xff"])
def test_what_is_no_bundle_is_refused(payload: bytes) -> None:
    with pytest.raises((PolicyError, InvalidInput)) as e:
        read_bundle(sign_with_key(BUNDLE_TYPE, payload, keys.new_signing_key()), SETTING)
    assert e.value.reason in ("BUNDLE_MALFORMED", "BAD_ENVELOPE")


def draft(made: Inquiry) -> Draft:
    signature = samples.ENVELOPE.signatures[0]
    return inquiry_draft(made, Envelope(payload_type=INQUIRY_TYPE, payload=made.encode(), signatures=(signature,)))


async def log_of(folder: Path, setting: Setting = SETTING) -> Path:
    """A log with one search of two nodes."""
    made = asked()
    asked_draft = draft(made)
    hash_ = bytes.fromhex(asked_draft.body["inquiry_hash"])
    decisions = [
        decision_entry(decided(made, n, setting=setting), inquiry_id=made.inquiry_id, inquiry_hash=hash_)
        for n in ("sequoia-1", "llano-1")
    ]
    await build(folder, [[asked_draft, *decisions]], HandClock(NOW))
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(policy, ("replay", *arguments, "--at", "2026-07-01"))


async def test_a_log_is_replayed_on_the_command_line(tmp_path: Path) -> None:
    folder = await log_of(tmp_path / "log")
    done = run(str(folder))
    assert (done.exit_code, "2 of 2 decisions are what" in done.output) == (0, True)
    new = tmp_path / "new.json"
    new.write_bytes(bundle(CLOSED))
    changed = run(str(folder), "--bundle", f"sequoia-1={new}", "--json")
    shown = orjson.loads(changed.output)
    assert (changed.exit_code, shown["reproduced"], shown["changed"]) == (0, 2, 1)
    assert shown["changes"][0]["would_be"] == "refused"


async def test_a_log_under_an_unknown_policy_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    folder = await log_of(tmp_path / "log", of_sample({"sequoia-1": compile_rows(CLOSED, "us-ca")}))
    done = run(str(folder))
    assert (done.exit_code, "not at hand" in done.output) == (3, True)


async def test_of_several_bundles_of_a_node_the_newest_counts_and_all_are_known(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_bytes(bundle(CLOSED, version=2))
    new.write_bytes(bundle(CLOSED.replace("deny", "limit").replace(",-,", ",window_days<=7,"), version=3))
    _, then = read_bundle(old.read_bytes(), SETTING)
    folder = await log_of(tmp_path / "log", of_sample({"sequoia-1": then}))
    shown = orjson.loads(
        run(str(folder), "--bundle", f"sequoia-1={new}", "--bundle", f"sequoia-1={old}", "--json").output
    )
    assert (shown["reproduced"], [c["would_be"] for c in shown["changes"]]) == (2, ["permitted with window_days=7"])


@pytest.mark.parametrize("given", ["sequoia-1", "sequoia-9=x"])
def test_a_bundle_that_names_no_node_is_wrong_usage(tmp_path: Path, given: str) -> None:
    assert run(str(tmp_path), "--bundle", given).exit_code == 2
