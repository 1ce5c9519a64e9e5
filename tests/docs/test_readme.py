"""README and documents held to the program: what they name exists, and what they list is complete."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from audit import tiles, tlog_proof
from audit.discrepancy import Kind
from audit.form import BODIES, ENTRIES
from broker.config import BrokerConfig
from broker.state.redis import TLS_OPTIONS
from cli import audit_proofs
from cli.demo.story import STEPS
from comity.decision import KNOWN_OBLIGATIONS, Decision, Redaction
from comity.errors import InvalidInput
from comity.federation import Agency, Agreement, Federation, Node, Training
from comity.outcome import BROKER_ONLY, NODE_ONLY, OutcomeKind
from comity.v1 import (
    decision_pb2,
    envelope_pb2,
    ingest_service_pb2,
    inquiry_pb2,
    node_link_service_pb2,
    outcome_pb2,
    policy_service_pb2,
    search_service_pb2,
)
from identity import folder
from node.config import NodeConfig
from node.formats.csv import COLUMNS
from node.reasons import WORDS
from policies.bundle import Bundle
from policies.conditions import FACTS
from policies.load import ACTS, EFFECTS
from policies.seal import HEADER
from tests.docs import documents as d

COMMANDS = dict(d.commands())
READY = {name: command for name, command in COMMANDS.items() if not d.later(command)}
LEAVES = {name: command for name, command in READY.items() if not isinstance(command, click.Group)}
REFERENCE = "docs/reference/commands.md"
FORMATS = "docs/reference/log-formats.md"
MODEL = "docs/reference/policy-model.md"
WIRE = (
    decision_pb2,
    envelope_pb2,
    ingest_service_pb2,
    inquiry_pb2,
    node_link_service_pb2,
    outcome_pb2,
    policy_service_pb2,
    search_service_pb2,
)
TOP = {p.name for p in d.ROOT.iterdir()}
TYPED = [(doc, line) for doc in d.DOCUMENTS for line in d.shell_commands(doc) if line.split()[0] == "comity"]
NAMED = [(doc, span) for doc in d.DOCUMENTS for span in d.spans(doc) if re.match(r"comity [a-z]", span)]
SEARCH_NEEDS = {"--purpose", "--case"}
each_document = pytest.mark.parametrize("document", d.DOCUMENTS)


@pytest.mark.parametrize(("document", "line"), TYPED, ids=[f"{doc}: {line}" for doc, line in TYPED])
def test_a_command_in_a_block_is_one_that_the_program_takes(document: str, line: str) -> None:
    name, command, rest = d.resolve(d.words(line))
    assert name in LEAVES, f"{name} is a group, or comes with a later version"
    context = click.Context(command, info_name=name)
    values, left, _ = command.make_parser(context).parse_args(list(rest))
    assert left == []
    for param in command.params:
        value = values.get(param.name or "")
        given = value not in (None, (), []) and not _unset(value)
        assert given or not param.required, f"{param.name} is missing"
        if given and isinstance(param.type, (click.Choice, click.IntRange, click.FloatRange)):
            param.type_cast_value(context, value)
    if name == "comity search" and "--send" not in rest:
        assert set(rest) >= SEARCH_NEEDS
        by_place = bool({"--near", "--camera"} & set(rest))
        assert by_place or (values["plate"] and not _unset(values["plate"]))
        assert by_place or "--state" in rest or "partial" in rest


@pytest.mark.parametrize(("document", "span"), NAMED, ids=[f"{doc}: {span}" for doc, span in NAMED])
def test_a_command_named_in_prose_exists_with_the_options_named(document: str, span: str) -> None:
    name, command, rest = d.resolve(d.words(span))
    known = {o for p in command.params for o in p.opts} | {"--help"}
    assert name != "comity", f"no such command: {span}"
    assert {w for w in rest if w.startswith("-") and w != "-"} <= known
    assert not (isinstance(command, click.Group) and rest[:1] and not rest[0].startswith("-")), f"no such: {span}"


@each_document
def test_every_make_target_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", d.text_of("Makefile"), re.MULTILINE))
    code = [*d.spans(document), *d.shell_commands(document)]
    named = {m[1] for m in (re.match(r"make ([a-z][a-z-]*)", c) for c in code) if m}
    assert named <= targets


@each_document
def test_every_relative_link_leads_to_a_file_and_its_heading(document: str) -> None:
    for link in d.links(document):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = (d.ROOT / document).parent / path if path else d.ROOT / document
        assert target.exists(), link
        if heading:
            assert heading in _anchors(target), link


@each_document
def test_every_path_of_the_repository_named_exists(document: str) -> None:
    for span in d.spans(document):
        path = span.removesuffix("*")
        if re.fullmatch(r"[\w./-]+", path) and ("/" in path or path.isupper()) and path.split("/")[0] in TOP:
            assert (d.ROOT / path).exists(), span


def test_the_readme_tells_the_steps_of_the_story_in_their_order() -> None:
    told = d.sections("README.md", 2)["What the demo shows"]
    assert re.findall(r"^\d+\. \*\*(.+?)\*\*", told, re.MULTILINE) == [s.title for s in STEPS]


def test_the_readme_names_the_nodes_and_detections_that_the_demo_has() -> None:
    demo = COMMANDS["comity demo run"]
    (reads,) = (p.default for p in demo.params if p.name == "reads")
    readme = d.text_of("README.md")
    assert f"{reads:,} detections by default" in readme
    assert "one broker, eight nodes" in readme
    assert len(STEPS[0].expect) == 8


def test_the_reference_has_a_section_for_each_command_that_works_and_no_other() -> None:
    assert sorted(d.sections(REFERENCE, 3)) == sorted(LEAVES)


def test_the_reference_names_each_command_that_does_not_work_yet() -> None:
    said = d.sections(REFERENCE, 2)["Not yet"]
    assert set(re.findall(r"`(comity [a-z]+ [a-z-]+)`", said)) == set(COMMANDS) - set(READY)


@pytest.mark.parametrize("name", LEAVES)
def test_the_reference_lists_exactly_a_command_s_options(name: str) -> None:
    section = d.sections(REFERENCE, 3)[name]
    assert {code.split()[0] for code in d.first_code(section)} == d.options(LEAVES[name])


@pytest.mark.parametrize("name", LEAVES)
def test_the_reference_lists_exactly_the_exit_codes_that_help_does(name: str) -> None:
    said = d.exit_codes(LEAVES[name].help or "")
    assert said
    assert d.exit_codes(d.sections(REFERENCE, 3)[name]) == said


@pytest.mark.parametrize("name", READY)
def test_the_help_of_every_command_has_an_example_and_the_exit_codes(name: str) -> None:
    text = READY[name].help or ""
    assert "Example: comity " in text
    assert {0, 1, 2} <= d.exit_codes(text)


@pytest.mark.parametrize("name", READY)
def test_the_example_in_a_command_s_help_is_one_that_the_program_takes(name: str) -> None:
    example = re.search(r"Example: (.+?)(?:\n\s*\n|\Z)", READY[name].help or "", re.DOTALL)
    assert example
    for line in re.split(r";\s+", " ".join(example[1].split())):
        called, command, rest = d.resolve(d.words(line))
        assert called in LEAVES
        command.make_parser(click.Context(command, info_name=called)).parse_args(list(rest))


@pytest.mark.parametrize(("heading", "config"), [("broker.toml", BrokerConfig), ("node.toml", NodeConfig)])
def test_the_configuration_reference_lists_each_key_with_its_default(heading: str, config: type[Any]) -> None:
    table = d.rows(d.sections("docs/reference/configuration.md", 2)[heading])
    listed = [(row[0].strip("`"), row[1].strip("`")) for row in table]
    assert listed == [(f.name, _toml(f.default)) for f in dataclasses.fields(config)]
    assert all(row[2] for row in table), "a key without a unit"


def test_the_log_reference_has_a_section_for_each_entry_type() -> None:
    assert list(d.sections("docs/reference/log.md", 3)) == list(BODIES)


@pytest.mark.parametrize("kind", BODIES)
def test_the_log_reference_lists_exactly_the_fields_of_an_entry(kind: str) -> None:
    listed = d.first_code(d.sections("docs/reference/log.md", 3)[kind])
    assert set(listed) == {*BODIES[kind].required, *BODIES[kind].optional}
    assert len(listed) == len(set(listed))


def test_the_log_reference_lists_exactly_what_every_entry_has() -> None:
    common = set.intersection(*({*f.required, *f.optional} for f in ENTRIES.values()))
    assert set(d.first_code(d.sections("docs/reference/log.md", 2)["In every entry"])) == common


def test_the_log_formats_list_each_kind_of_discrepancy() -> None:
    assert d.first_code(d.sections(FORMATS, 2)["Discrepancies"]) == list(Kind)


def test_the_log_formats_name_the_files_that_tiles_and_proofs_consist_of() -> None:
    assert {tiles.CHECKPOINT, tiles.VKEY, tiles.WITNESSES} <= set(d.first_code(d.sections(FORMATS, 2)["Tiles"]))
    assert f"`{tiles.tile_path(0, 1_234_067)}`" in d.text_of(FORMATS)
    proof = d.sections(FORMATS, 2)["Proof of one decision"]
    assert d.first_code(proof)[:3] == [audit_proofs.LEAF, audit_proofs.PROOF, audit_proofs.DISCLOSURES]
    assert {tlog_proof.HEADER, tlog_proof.DISCLOSURES_FORMAT} <= set(d.spans(FORMATS))


def test_the_policy_model_lists_each_column_fact_duty_and_key_of_a_bundle() -> None:
    said = d.sections(MODEL, 2)
    assert d.first_code(said["Columns"]) == HEADER.split(",")
    facts = {row[0].strip("`"): row[1] for row in d.rows(said["Conditions"])}
    assert facts == {name: holder.value for name, holder in FACTS.items()}
    duties = {re.split("[<=]", code)[0] for code in d.first_code(said["Duties"])}
    assert duties == KNOWN_OBLIGATIONS
    assert d.first_code(said["Bundles"]) == ["format", *(f.name for f in dataclasses.fields(Bundle))]


def test_the_policy_model_names_every_effect_kind_of_search_and_level_of_redaction() -> None:
    said = set(d.spans(MODEL))
    assert {*EFFECTS, *ACTS, *(level.word for level in Redaction)} <= said


def test_the_policy_model_lists_every_reason_of_a_decision() -> None:
    listed = d.first_code(d.sections(MODEL, 2)["Reasons of a decision"])
    assert set(listed) == set(re.findall(r"[A-Z]+(?:_[A-Z]+)+|PERMITTED|INDETERMINATE", Decision.__doc__ or ""))


def test_the_glossary_is_in_the_order_of_the_alphabet_and_says_each_word_once() -> None:
    listed = [row[0].strip("*").lower() for row in d.rows(d.text_of("docs/glossary.md"))]
    assert listed == sorted(set(listed))


def test_the_threat_model_says_of_each_attempt_what_catches_it_or_what_does_not() -> None:
    table = d.rows(d.sections("docs/explanation/threat-model.md", 2)["Who may cheat"])
    assert all(tried and (caught or missed) for _, tried, caught, missed in table)


def test_the_changelog_names_every_entry_type_of_the_log() -> None:
    said = d.sections("CHANGELOG.md", 3)
    assert set(BODIES) <= set(re.findall(r"`([a-z]+)`", said["Log format"]))
    assert "Policy" in said


def test_the_wire_reference_lists_every_message_in_its_file() -> None:
    listed = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in _wire("Messages")}
    assert listed == {Path(m.DESCRIPTOR.name).name: set(m.DESCRIPTOR.message_types_by_name) for m in WIRE}


def test_the_wire_reference_lists_every_call_of_every_service() -> None:
    services = [s for m in WIRE for s in m.DESCRIPTOR.services_by_name.values()]
    listed = {(row[0].strip("`"), row[1].strip("`")) for row in _wire("Services")}
    assert listed == {(s.name, method.name) for s in services for method in s.methods}


def _registry(heading: str) -> list[str]:
    return d.first_code(d.sections("docs/reference/registry.md", 2)[heading])


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("[[agency]]", Agency), ("[[node]]", Node), ("[[agreement]]", Agreement), ("[[training]]", Training)],
)
def test_the_registry_reference_lists_exactly_the_keys_of_a_table(heading: str, kind: type[Any]) -> None:
    in_file = {"from_agency": "from", "to_agency": "to"}
    assert set(_registry(heading)) == {in_file.get(f.name, f.name) for f in dataclasses.fields(kind)}


@pytest.mark.parametrize("heading", ["[federation]", "[[agency]]", "[[node]]", "[[agreement]]", "[[training]]"])
def test_the_registry_takes_every_key_that_its_reference_lists(heading: str) -> None:
    table = dict.fromkeys(_registry(heading), "x")
    name = heading.strip("[]")
    with pytest.raises(InvalidInput) as refused:
        Federation.parse({name: [table] if heading.startswith("[[") else table})
    said = [v.description for v in refused.value.violations if v.field.startswith(name)]
    assert said
    assert "unknown key" not in said


def test_the_ingest_reference_lists_every_reason_and_every_name_of_a_column() -> None:
    said = d.sections("docs/reference/ingest.md", 2)
    listed = {row[0].strip("`"): row[1] for row in d.rows(said["What could not be read in"])}
    assert listed == WORDS
    names = {name for row in d.rows(said["Columns"]) for name in re.findall("`([a-z_]+)`", row[1])}
    assert names == {name for names in COLUMNS.values() for name in names}


def test_the_redis_reference_names_each_option_of_its_address() -> None:
    listed = d.rows(d.sections("docs/reference/redis.md", 2)["The address"])
    assert {name for row in listed for name in re.findall("`([a-z_]+)`", row[0])} == TLS_OPTIONS


def test_the_identity_reference_lists_the_files_of_a_folder() -> None:
    files = {value for name, value in vars(folder).items() if name.endswith("_FILE")}
    assert set(d.first_code(d.sections("docs/reference/identity.md", 2)["The identity folder"])) == files


def test_the_architecture_says_of_each_outcome_who_may_sign_it() -> None:
    table = d.rows(d.sections("docs/architecture.md", 2)["Outcomes"])
    assert [row[0].strip("`") for row in table] == list(OutcomeKind)
    for row in table:
        kind = OutcomeKind(row[0].strip("`"))
        signer = "node" if kind in NODE_ONLY else "broker" if kind in BROKER_ONLY else "node or broker"
        assert row[1] == signer, kind


def test_every_decision_is_in_the_list_under_its_own_title() -> None:
    listed = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| (.+) \|$", d.text_of("docs/decisions/README.md"), re.MULTILINE)
    records = [doc for doc in d.DOCUMENTS if re.match(r"docs/decisions/\d{4}-", doc)]
    assert [f"docs/decisions/{path}" for _, path, _ in listed] == records
    for number, path, title in listed:
        assert d.text_of(f"docs/decisions/{path}").startswith(f"# {number}. {title}\n")
        assert int(path[:4]) == int(number)
        assert {"Context", "Decision", "Consequences"} <= set(d.sections(f"docs/decisions/{path}", 2))


@each_document
def test_python_in_a_document_can_be_read_and_imports_what_exists(document: str) -> None:
    for block in d.blocks(document, "python"):
        for imported in (n for n in ast.walk(ast.parse(block)) if isinstance(n, ast.ImportFrom)):
            module = importlib.import_module(imported.module or "")
            assert {a.name for a in imported.names} <= set(dir(module))


@each_document
def test_no_document_names_a_path_of_somebody_s_machine(document: str) -> None:
    assert not re.search(r"(?<![\w.:])/(home|root|work|tmp|Users)/", d.text_of(document))


def test_every_document_is_reached_from_the_readme() -> None:
    reached, next_ = set[str](), ["README.md"]
    while next_:
        document = next_.pop()
        if document in reached:
            continue
        reached.add(document)
        at = (d.ROOT / document).parent
        paths = ((at / link.partition("#")[0]).resolve() for link in d.links(document) if ":" not in link)
        next_ += [p.relative_to(d.ROOT).as_posix() for p in paths if p.suffix == ".md"]
    assert set(d.DOCUMENTS) <= reached


def _wire(heading: str) -> list[list[str]]:
    return d.rows(d.sections("docs/reference/wire.md", 2)[heading])


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def _toml(default: object) -> str:
    if default is dataclasses.MISSING:
        return "required"
    if default == ():
        return "[]"
    return f'"{default}"' if isinstance(default, str) else str(default)


def _unset(value: object) -> bool:
    """True for what newer versions of click put where nothing was given."""
    return getattr(sys.modules.get("click._utils"), "UNSET", None) is value
