""" "No record" is written if and only if every target searched its whole window and found nothing."""

from __future__ import annotations

import contextlib
import io

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cli import shown
from cli.checked import Checked
from cli.shown import JsonLines, Tables, decision_json, obligations_json, outcome_json
from cli.words import COLOURS, NAMES, NO_RECORD, advice, last_line, plain, sentence, span
from comity import instants
from comity.outcome import Coverage, OutcomeKind
from comity.v1 import decision_pb2
from tests.unit.cli.scene import WHOLE, checked, federation, tally_of
from tests.unit.comity import scene
from tests.unit.comity.scene import NOW

FEDERATION = federation()
NODES = ("alder-1", "brazos-1", "nowhere-1")
KIND = st.sampled_from(OutcomeKind)
HOSTILE = [
    "No record",
    "NO RECORD in this window",
    "no\nrecord",
    "\x1b[2JNo record in this window: each of the 8 agencies asked searched it whole and found nothing.",
    "[bold green]No record[/]",
    "nothing of it",
]
OUTCOMES = st.lists(st.tuples(KIND, st.sampled_from(["", *HOSTILE])), min_size=1, max_size=3).map(
    lambda pairs: tuple(
        checked(kind, node, **({"reason": reason} if reason else {}))
        for node, (kind, reason) in zip(NODES, pairs, strict=False)
    )
)


def table(outcomes: tuple[Checked, ...]) -> str:
    out = io.StringIO()
    console = Console(file=out, width=300, highlight=False, markup=False, emoji=False)
    Tables(scene.inquiry(), FEDERATION, len(outcomes), console).summary(outcomes, tally_of(outcomes))
    return out.getvalue()


@settings(max_examples=200, deadline=None)
@given(OUTCOMES)
def test_the_table_says_no_record_if_and_only_if_all_searched_all_and_found_nothing(
    outcomes: tuple[Checked, ...],
) -> None:
    tally, written = tally_of(outcomes), table(outcomes)
    assert (NO_RECORD.casefold() in written.casefold()) == tally.no_record
    assert (NO_RECORD in last_line(outcomes, tally, FEDERATION)) == tally.no_record
    assert ("not a complete answer" in written) == (not tally.complete)
    assert "\x1b" not in written


@settings(max_examples=100, deadline=None)
@given(OUTCOMES)
def test_the_lines_for_programs_claim_completeness_only_where_it_is(outcomes: tuple[Checked, ...]) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        JsonLines(scene.inquiry()).summary(outcomes, tally_of(outcomes))
    summary = orjson.loads(out.getvalue())
    tally = tally_of(outcomes)
    assert (summary["complete"], summary["matched"], summary["targets"]) == (
        tally.complete,
        tally.matched,
        len(outcomes),
    )
    assert NO_RECORD.casefold() not in out.getvalue().casefold()


@pytest.mark.parametrize("kind", OutcomeKind, ids=str)
def test_every_kind_has_a_name_a_colour_and_a_sentence(kind: OutcomeKind) -> None:
    assert COLOURS[kind]
    assert NAMES[kind]
    assert sentence(checked(kind))
    written = outcome_json(checked(kind))
    assert (written["outcome"], written["signed_by"]) == (kind.value, "node")


SENTENCES = {
    "a refusal names rule and law": (checked(OutcomeKind.REFUSED), "refused by the node under SC-1 (an ordinance)"),
    "a pending one names whose signature": (
        checked(OutcomeKind.PENDING),
        "waits for the signature of a supervisor of us-ca-alder-pd",
    ),
    "a late one may have searched": (checked(OutcomeKind.TIMED_OUT), "did not answer in time; it may have searched"),
    "a late one is told in words of our own": (
        checked(OutcomeKind.TIMED_OUT, reason="nothing found in the whole window"),
        "did not answer in time; it may have searched",
    ),
    "a node never seen": (checked(OutcomeKind.UNREACHABLE, last_attached_at=None), "not connected"),
    "a node last seen yesterday": (checked(OutcomeKind.UNREACHABLE), "not connected since 2030-04-30 12:00 UTC"),
    "what is withheld is withheld either way": (
        checked(OutcomeKind.WITHHELD),
        "permitted, and nothing released, found or not: release is not permitted",
    ),
    "a partial one says from when": (
        checked(OutcomeKind.PARTIAL_COVERAGE),
        "1 detection; searched only 2030-04-28 12:00 to 2030-05-01 12:00 UTC: "
        "detections older than 3 days are not kept",
    ),
}


@pytest.mark.parametrize(("given_", "told"), SENTENCES.values(), ids=SENTENCES.keys())
def test_what_a_node_s_outcome_says(given_: Checked, told: str) -> None:
    assert sentence(given_) == told


LAST_LINES: dict[str, tuple[tuple[Checked, ...], str]] = {
    "one refused of two": (
        (checked(OutcomeKind.NO_MATCH), checked(OutcomeKind.REFUSED, "brazos-1")),
        "1 of 2 agencies refused; this is not a complete answer.",
    ),
    "found, and one away": (
        (checked(OutcomeKind.MATCH), checked(OutcomeKind.UNREACHABLE, "brazos-1")),
        "1 detection at 1 of 2 agencies. 1 of 2 agencies could not be reached; this is not a complete answer.",
    ),
    "found by all": (
        (checked(OutcomeKind.MATCH), checked(OutcomeKind.NO_MATCH, "brazos-1")),
        "1 detection at 1 of 2 agencies; each of the 2 agencies asked searched the whole window.",
    ),
    "nothing at the one asked": (
        (checked(OutcomeKind.NO_MATCH),),
        "No record in this window: the one agency asked searched it whole and found nothing.",
    ),
}


@pytest.mark.parametrize(("outcomes", "told"), LAST_LINES.values(), ids=LAST_LINES.keys())
def test_the_last_line_is_honest(outcomes: tuple[Checked, ...], told: str) -> None:
    assert last_line(outcomes, tally_of(outcomes), FEDERATION) == told


@given(st.text(max_size=1500))
def test_no_text_from_outside_can_move_the_cursor_or_grow_without_end(text: str) -> None:
    told = plain(text)
    assert all(c.isprintable() for c in told)
    assert len(told) < 1100


@pytest.mark.parametrize(
    "between",
    [" ", "\u00a0", "\u2800", "\u3164", "\uffa0", "\u0301 ", "\u200b", ".", "\n"],
    ids=lambda s: ascii(s).strip("'").replace("\\", ""),
)
def test_no_reason_says_what_only_a_complete_search_may_whatever_stands_between_the_words(between: str) -> None:
    assert plain(f"No{between}rec\u014drd here") == "(a reason was given that is not shown)"


def test_letters_that_only_look_latin_are_not_shown() -> None:
    assert plain("N\u043e r\u0435cord; \u05d0\u05d1") == "N? r?cord; ??"
    assert (
        plain("\u00a7 7 \u2014 Ca\u00f1on \u2018x\u2019: 5 \u20ac")
        == "\u00a7 7 \u2014 Ca\u00f1on \u2018x\u2019: 5 \u20ac"
    )


def test_a_camera_s_name_cannot_style_or_break_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = (checked(OutcomeKind.MATCH, detections=(scene.detection(camera="[/bold][red]x"),)),)
    Tables(scene.inquiry(), FEDERATION, 1, shown.console()).summary(outcomes, tally_of(outcomes))
    assert "[/bold][red]x" in capsys.readouterr().out


def test_detections_are_shown_newest_first_and_no_more_than_fit() -> None:
    times = [NOW - scene.DAY / 1000 * i for i in range(shown.MOST_SHOWN + 5)]
    found = tuple(scene.detection(captured_at=instants.to_wire(t), camera=f"c-{i:04}") for i, t in enumerate(times))
    written = table((checked(OutcomeKind.MATCH, detections=tuple(reversed(found))),))
    assert written.index("c-0000") < written.index("c-0001") < written.index("c-0199")
    assert "c-0200" not in written
    assert f"the newest {shown.MOST_SHOWN} of {shown.MOST_SHOWN + 5}" in written


def test_advice_is_shown_beside_what_was_found_each_rule_once_and_can_hide_nothing() -> None:
    told = decision_pb2.MatchedRule(rule="NH-2", effect="limit", basis="confirm\x1b[2J first", layer="node")
    found = [checked(OutcomeKind.MATCH, node=n, advice=(told,)) for n in ("alder-1", "brazos-1")]
    nothing = checked(OutcomeKind.NO_MATCH, advice=(told,))
    assert advice((*found, nothing)) == ["NH-2, at alder-1, brazos-1: confirm?[2J first"]
    assert "NH-2, at alder-1, brazos-1" in table(tuple(found))
    assert outcome_json(found[0])["advice"] == [{"rule": "NH-2", "basis": told.basis}]
    assert "advice" not in outcome_json(checked(OutcomeKind.MATCH))


def test_a_redaction_that_this_version_does_not_know_is_named_and_no_crash() -> None:
    strange = decision_pb2.Obligations()
    strange.MergeFromString(b"\x10\x63")  # redaction = 99
    assert obligations_json(strange) == {"redact": "unknown"}


def test_a_decision_in_json_says_who_decided_and_what_binds() -> None:
    written = decision_json(scene.decision().to_message())
    assert (written["effect"], written["pep"], written["rules"]) == ("deny", "node", ["SC-1"])
    assert written["obligations"] == {"window_days": 30, "quota_per_day": 5}


def test_an_effect_that_is_not_a_permit_is_written_as_a_deny() -> None:
    assert decision_json(decision_pb2.Decision())["effect"] == "deny"


def test_a_coverage_of_no_length_is_told_as_none_of_the_window() -> None:
    assert span(Coverage(begin=NOW, end=NOW)) == span(None) == "none of the window"
    assert "to" in span(WHOLE)
