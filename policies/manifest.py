"""What is handed out about who sees whose data: an agency's signed statement, and the matrix as rows and as a page.

The statement says what the agency contributes, may query, receives, re-shares and hosts, and who may see its data.
Everything in it follows from the directory and the policies whose digests it names, so that whoever has those can
work it out again, offline, and compare; the signature says that the agency stands by it.

format, federation, agency, name, day
registry     SHA-256 of the directory's registry as canonical JSON
policies     node -> digest of its policy; the federation's own under the empty name
hosts        its nodes            contributes  those with cameras
queries      its own searches     alerts       those that may be standing ones
receives     by agreements        reshares     by agreements
seen_by      who reaches its nodes' data, on every path
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from comity import jcs
from comity.errors import InvalidInput, NotAuthentic
from comity.federation import Federation
from comity.purpose import Act, Authority
from identity.dsse import dsse_json_decode, sign_with_key, verify_with_keys
from policies.matrix import Matrix, Way, grouped
from policies.reach import Cell, Group, Onward, Path, Reach, conditions, shown
from policies.retention import DAY_S
from policies.setting import Setting

MAX_NAMES = 8
COLUMNS = (
    *("requester", "node", "agency", "purpose", "how", "through", "asked_by", "until", "conditions", "authorities"),
    *("case_number", "approval", "window_days", "searchable_days", "redaction", "policy_digest"),
)
MANIFEST_TYPE = "application/vnd.comity.manifest.v1+json"
FORMAT = 1
KEYS = frozenset(
    (
        *("format", "federation", "agency", "name", "day", "registry", "policies", "hosts", "contributes"),
        *("queries", "alerts", "receives", "reshares", "seen_by"),
    )
)


def make_statement(setting: Setting, agency: str, day: dt.date) -> dict[str, Any]:
    """The statement of `agency` under the policies of `setting`, loaded for `day`. Holds only canonical JSON's types.

    Raises:
        InvalidInput: no such agency (NOT_REGISTERED).
    """
    federation = setting.federation
    matrix = Matrix(setting, day)
    reach = Reach(matrix, agencies=[agency])
    own = sorted(n.id for n in federation.nodes.values() if n.agency == agency)
    digests = {n: p.digest if p else "" for n, p in setting.node_policies.items()}
    asked = [(g, _own_search(g.paths)) for g in reach.groups()]
    onward = {to: sources[agency] for to, sources in reach.sources.items() if agency in sources}
    return {
        "format": FORMAT,
        "federation": federation.id,
        "agency": agency,
        "name": federation.agencies[agency].name,
        "day": day.isoformat(),
        "registry": registry_digest(federation),
        "policies": {"": setting.federation_policy.digest, **digests},
        "hosts": [{"node": n, "source": federation.nodes[n].source, "retention_s": setting.kept_s(n)} for n in own],
        "contributes": [
            {"node": n, "cameras": federation.nodes[n].cameras} for n in own if federation.nodes[n].cameras
        ],
        "queries": [{**_where(g), "ways": [shown(w) for w in p.ways]} for g, p in asked if p],
        "alerts": [_where(g) for g, p in asked if p and any(not w.acts or Act.ALERT in w.acts for w in p.ways)],
        "receives": [{"from": a, **_onward(o)} for a, o in sorted(reach.sources[agency].items())],
        "reshares": [{"to": a, **_onward(o)} for a, o in sorted(onward.items())],
        "seen_by": _seen_by(matrix, own),
    }


def sign_statement(statement: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> bytes:
    """The manifest: a DSSE JSON file of the statement, signed with the agency's policy key."""
    return sign_with_key(MANIFEST_TYPE, jcs.encode(dict(statement)), key)


def open_manifest(data: bytes, policy_keys: Mapping[str, Iterable[ec.EllipticCurvePublicKey]]) -> dict[str, Any]:
    """The statement in a manifest, signed by the key that is pinned for the agency it speaks for; nothing else of it
    is believed yet.

    Raises:
        InvalidInput: BAD_ENVELOPE (not a whole signed file), BAD_MANIFEST (not a statement).
        NotAuthentic: NO_PINNED_KEY (none is pinned for that agency), UNKNOWN_KEY, BAD_SIGNATURE, DUPLICATE_SIGNER.
    """
    payload = dsse_json_decode(data, payload_type=MANIFEST_TYPE).payload
    try:
        statement = orjson.loads(payload)
        whole = jcs.encode(statement) == payload and statement.keys() == KEYS and statement["format"] == FORMAT
        agency = str(statement["agency"])
        dt.date.fromisoformat(statement["day"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise InvalidInput("the manifest is not a statement of this format", reason="BAD_MANIFEST")
    keys = tuple(policy_keys.get(agency, ()))
    if not keys:
        raise NotAuthentic("no policy key is pinned for the agency that it speaks for", reason="NO_PINNED_KEY")
    verify_with_keys(data, keys, payload_type=MANIFEST_TYPE)
    assert isinstance(statement, dict)
    return statement


def differences(statement: Mapping[str, Any], setting: Setting) -> list[str]:
    """What the statement says and `setting`, loaded for its day, does not; none if it is true to the last word.

    Raises:
        InvalidInput: it is another federation's (WRONG_FEDERATION), or its agency is not registered (NOT_REGISTERED).
    """
    if statement["federation"] != setting.federation.id:
        raise InvalidInput("the manifest is of another federation", reason="WRONG_FEDERATION")
    true = make_statement(setting, statement["agency"], dt.date.fromisoformat(statement["day"]))
    out = []
    if statement["registry"] != true["registry"]:
        out.append("it was made from another directory")
    said, held = statement["policies"], true["policies"]
    if said != held:
        whose = sorted(n for n in {*said, *held} if said.get(n) != held.get(n)) if isinstance(said, dict) else ["all"]
        out.append(f"it was made under another policy of {', '.join(n or 'the federation' for n in whose)}")
    sections = sorted(KEYS - {"registry", "policies"})
    return out + [
        f"{s} is not what follows from the directory and the policies" for s in sections if statement[s] != true[s]
    ]


def registry_digest(federation: Federation) -> str:
    """SHA-256, in hex, of everything that the registry says, as canonical JSON."""
    return hashlib.sha256(jcs.encode(_plain(federation))).hexdigest()


def in_words(statement: Mapping[str, Any]) -> Iterator[str]:
    """The statement as lines to read."""
    s = statement
    yield f"{s['name']} ({s['agency']}), federation {s['federation']}, {s['day']}"
    yield f"registry {s['registry']}"
    nodes = ", ".join(f"{h['node']} ({h['source']}, kept {h['retention_s'] / 86400:g} days)" for h in s["hosts"])
    yield f"hosts: {nodes or 'no node'}"
    cameras = ", ".join(f"{c['node']} ({c['cameras']} cameras)" for c in s["contributes"])
    yield f"contributes: {cameras or 'nothing'}"
    yield f"may query: {'' if s['queries'] else 'nothing'}"
    for q in s["queries"]:
        ways = "; or ".join(", ".join(w["conditions"]) or "without conditions" for w in q["ways"])
        yield f"  {', '.join(q['nodes'])}: {', '.join(q['purposes'])}: {ways}"
    alerts = sorted({f"{n} ({', '.join(a['purposes'])})" for a in s["alerts"] for n in a["nodes"]})
    yield f"may receive alerts from: {'; '.join(alerts) or 'no node'}"
    yield f"receives from others: {_papers(s['receives'], 'from')}"
    yield f"re-shares with others: {_papers(s['reshares'], 'to')}"
    yield f"its data is seen by: {'' if s['seen_by'] else 'nobody'}"
    for seen in s["seen_by"]:
        how = sorted(
            {" through ".join([p["how"], *[", ".join(p["through"])] * bool(p["through"])]) for p in seen["paths"]}
        )
        where = f"{', '.join(seen['agencies'])} at {', '.join(seen['nodes'])}"
        yield f"  {where}: {', '.join(seen['purposes'])} ({'; '.join(how)})"


def _papers(entries: Iterable[Mapping[str, Any]], end: str) -> str:
    said = (f"{e[end]} (through {', '.join(e['through'])}, until {e['until']})" for e in entries)
    return "; ".join(said) or "nobody"


def _seen_by(matrix: Matrix, own: list[str]) -> list[dict[str, Any]]:
    if not own:
        return []
    groups = (g for g in Reach(matrix, nodes=own).groups() if g.paths)
    return [{"agencies": list(g.agencies), **_where(g), "paths": [p.as_json() for p in g.paths]} for g in groups]


def _own_search(paths: Cell) -> Path | None:
    return next((p for p in paths if p.how == "search" and not p.through), None)


def _where(group: Group) -> dict[str, Any]:
    return {"nodes": list(group.nodes), "purposes": list(group.purposes)}


def _onward(onward: Onward) -> dict[str, Any]:
    return {"through": list(onward.through), "until": onward.until.isoformat()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, frozenset):
        return sorted(_plain(v) for v in value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value.isoformat() if isinstance(value, dt.date) else value


def names(every: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(every) - MAX_NAMES} more" if len(every) > MAX_NAMES else ""
    return ", ".join(every[:MAX_NAMES]) + more


def in_ways(ways: Iterable[Way]) -> str:
    """The ways in one line."""
    return "; or ".join(", ".join(conditions(w)) or "without conditions" for w in ways)


def said(paths: Cell) -> str:
    """The paths in words, a line each."""
    out = []
    for p in paths:
        lead = ""
        if p.through:
            lead = f"from {' and then '.join(p.through)}, which {'hosts it' if p.how == 'host' else 'may search'}"
        if p.how == "on-behalf":
            lead += f"{', ' if lead else ''}asked for by {names(p.requesters)}"
        until = f" (until {p.until})" if p.until else ""
        out.append(": ".join(filter(None, (lead + until if lead else "", in_ways(p.ways)))) + ("" if lead else until))
    return "\n".join(out)


def csv_rows(reach: Reach, agency: str, node: str, purpose: str) -> Iterator[tuple[object, ...]]:
    """The rows of one cell, in the order of COLUMNS: one for each path and way; one that says so if it is refused."""
    n = reach.federation.nodes[node]
    policy = reach.matrix.setting.node_policies[node]
    digest = policy.digest if policy else ""
    kept = reach.matrix.setting.kept_s(node) // DAY_S
    cell = reach.cell(agency, node, purpose)
    if not cell:
        yield (agency, node, n.agency, purpose, "refused", *[""] * (len(COLUMNS) - 6), digest)
    for p in cell:
        where = (agency, node, n.agency, purpose, p.how, " > ".join(p.through), " ".join(p.requesters), p.until or "")
        if not p.ways:
            yield (*where, *[""] * (len(COLUMNS) - len(where) - 1), digest)
        for w in p.ways:
            o = w.obligations
            days = min(kept, o.window_days) if o.window_days is not None else kept
            asked = ("; ".join(conditions(w)), " ".join(w.authorities), w.cases == (True,), o.approval)
            yield (*where, *asked, "" if o.window_days is None else o.window_days, days, o.redaction.word, digest)


def page_of(reach: Reach, notes: Iterable[str]) -> Iterator[str]:
    """A page that needs nothing beside itself, to read and to print: a table a node. `notes` stand at its head."""
    federation, setting = reach.federation, reach.matrix.setting
    yield f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Who can see whose data</title>
<style>{_STYLE}</style></head><body><h1>Who can see whose data</h1>
<p>Federation {escape(federation.id)}, {reach.matrix.day}. Registry {registry_digest(federation)}.
Federation policy {setting.federation_policy.digest}.</p><h2>Legend</h2><dl class="legend">"""
    for mark, words in _LEGEND.items():
        yield f'<dt class="{_CLASS[mark]}">{mark}</dt><dd>{words}</dd>'
    yield "</dl><p>Numbers refer to the notes under each table. An agency holds its own nodes' data in any case.</p>"
    for note in notes:
        yield f"<p>{escape(note)}</p>"
    for node in reach.nodes:
        yield from _section(reach, node)
    yield "</body></html>\n"


def _section(reach: Reach, node: str) -> Iterator[str]:
    setting = reach.matrix.setting
    n, policy, packs = reach.federation.nodes[node], setting.node_policies[node], setting.packs_of(node)
    owner, days = reach.federation.agencies[n.agency], setting.kept_s(node) / DAY_S
    yield f"""<section><h2>{escape(node)}: {escape(owner.name)}</h2><p>{n.source}; kept {days:g} days;
packs {escape(", ".join(packs)) or "none"}; policy {policy.digest if policy else "none: every search is refused"}
.</p>
<table><thead><tr><th scope="col">requester</th>"""
    yield "".join(f'<th scope="col">{escape(p)}</th>' for p in reach.purposes) + "</tr></thead><tbody>"
    notes: dict[str, int] = {}
    rows = grouped(reach.agencies, lambda a: tuple(reach.cell(a, node, p) for p in reach.purposes))
    for agencies in rows:
        yield f'<tr><th scope="row">{escape(", ".join(agencies))}</th>'
        for purpose in reach.purposes:
            cell = reach.cell(agencies[0], node, purpose)
            number = notes.setdefault(said(cell), len(notes) + 1) if cell else ""
            mark = _mark(cell)
            yield f'<td class="{_CLASS[mark]}">{mark}<sup>{number}</sup></td>'
        yield "</tr>"
    yield "</tbody></table><ol>"
    yield "".join(f"<li>{escape(words).replace(chr(10), '<br>')}</li>" for words in notes)
    yield "</ol></section>"


def _mark(cell: Cell) -> str:
    own = [w for p in cell if p.how == "search" and not p.through for w in p.ways]
    if not own:
        return THROUGH if cell else NEVER
    plain = any(w.suffices(Authority.NONE) and not w.obligations.approval for w in own)
    return (OPEN if plain else BOUND) + (THROUGH if any(p.through or p.how != "search" for p in cell) else "")


OPEN, BOUND, THROUGH, NEVER = "●", "◐", "⇢", "–"
_LEGEND = {
    OPEN: "may search by itself, under the conditions in the note",
    BOUND: "may search by itself, with a warrant, an order or a second signature only",
    THROUGH: "gets it through another agency; the note says which way",
    NEVER: "refused, whatever is shown",
}
# Okabe and Ito's colours, which differ for every kind of sight; the marks say the same without any.
_CLASS = {OPEN: "open", BOUND: "bound", THROUGH: "through", NEVER: "never"}
_CLASS |= {OPEN + THROUGH: "open through", BOUND + THROUGH: "bound through"}
_STYLE = """body{font:14px/1.4 sans-serif;margin:2em;color:#000}table{border-collapse:collapse;width:100%}
th,td{border:1px solid #666;padding:.2em .4em;text-align:left}thead th{writing-mode:vertical-rl}td{text-align:center}
.open{background:#cfe6f5}.bound{background:#fbe6bf}.through{outline:3px solid #cc79a7;outline-offset:-3px}
.never{color:#555}.legend dt{float:left;clear:left;width:2em;text-align:center}.legend dd{margin-left:3em}
@media print{@page{size:landscape;margin:12mm}body{margin:0;font-size:10px}section{break-inside:avoid}
thead{display:table-header-group}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}"""
