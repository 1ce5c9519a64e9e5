"""`comity audit prove | tiles | reconcile | export`: a log shown to somebody who believes nobody."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import orjson
from google.protobuf.message import DecodeError

from audit import form, tlog_proof
from audit.cosignature import WitnessKey, witness_vkeys
from audit.entry import MAX_ENTRY_BYTES
from audit.evidence import envelope_of
from audit.export import export
from audit.hashes import hashes_of_log, reading
from audit.listing import decode
from audit.note import Checkpoint, VerifierKey
from audit.reconcile import Reconciliation, reconcile
from audit.sealing import open_auditor_key, unsealed
from audit.seen import newest_cosigned, seen_heads
from audit.tiles import COSIGNED, TileFolder, publish, publish_cosigned
from audit.tlog_proof import TlogProof
from cli.compose import read_draft
from cli.progress import Bar
from cli.shown import console
from cli.words import plain
from comity.commitment import QUERY
from comity.errors import ConfigError, InvalidInput
from comity.inquiry import Disclosure, Inquiry
from comity.query import query_of
from comity.v1 import inquiry_pb2
from identity import files
from identity.directory import Directory
from identity.folder import FEDERATION_FILE

LOG = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
LEAF, PROOF, DISCLOSURES = "leaf", "decision.tlog-proof", "disclosures.json"
_MAX_VKEY_BYTES = 1024

VKEY = click.option("--vkey", type=FILE, help="The log's verifier key, from elsewhere than the log's own folder.")
DIRECTORY = click.option("--directory", type=FILE, help="The federation's directory: pins the logs' keys.")
ANCHOR = click.option(
    "--anchor", type=FILE, help=f"The federation's certificate; {FEDERATION_FILE} beside the directory if left out."
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
WITNESSED = click.option(
    "--witnessed",
    multiple=True,
    type=LOG,
    help="Heads that others saw: a witness's witness.db, or a signed note; may be repeated. Copy them before the log.",
)


@click.command()
@click.argument("log", type=LOG, required=False)
@click.argument("inquiry_id", required=False)
@click.option("--node", help="The node that the decision is of.")
@click.option("--out", type=FOLDER, help="The folder for the three files; it must not hold them yet.")
@click.option("--disclosures", type=FILE, help="The investigator's draft: its values are disclosed with the decision.")
@click.option("--key", type=FILE, help="An auditor's key: sealed values are disclosed with the decision.")
@click.option(
    "--field", "fields", multiple=True, help="Disclose only this one: query, case_number, authority_reference."
)
@click.option("--tiles", type=FOLDER, help="The log's tiles, which make the proof at once; else all hashes are read.")
@click.option("--check", "checked", type=FOLDER, help="Verify the files in this folder instead, without the log.")
@VKEY
@DIRECTORY
@ANCHOR
@JSON
def prove(
    log: Path | None, inquiry_id: str | None, checked: Path | None, vkey: Path | None, as_json: bool, **options: Any
) -> None:
    """Prove that a log holds one decision, without showing any other; or check such a proof, offline.

    Example: comity audit prove ./broker 01890a5d-ac96-774b-bcce-b302099a8057 --node alder-1 --out ./proof

    Example: comity audit prove --check ./proof --vkey log.vkey

    Exit codes: 0 proven, 1 not recorded or not proven, 2 wrong usage.
    """
    known = known_directory(options.pop("directory"), options.pop("anchor"))
    pinned = pinned_key(vkey)
    if checked is not None:
        if log is not None or not (pinned or known):
            raise click.UsageError("--check takes the folder and --vkey or --directory, and no log")
        _check(checked, pinned, known, as_json)
        return
    if log is None or inquiry_id is None or not options["node"] or options["out"] is None:
        raise click.UsageError("name the log, the inquiry, --node and --out")
    if not form.inquiry_id(inquiry_id):
        raise click.BadParameter("must be an inquiry's id", param_hint="INQUIRY_ID")
    _prove(log, inquiry_id, pinned, as_json, **options)


def _prove(
    log: Path,
    inquiry_id: str,
    pinned: str | None,
    as_json: bool,
    *,
    node: str,
    out: Path,
    disclosures: Path | None,
    key: Path | None,
    fields: tuple[str, ...],
    tiles: Path | None,
) -> None:
    if key is not None and (disclosures is not None or not fields):
        raise click.UsageError("--key takes the --field to disclose, and no --disclosures")
    with reading(log) as reader, Bar("hashing") as bar:
        vkey = reader.key(pinned)
        index, leaf = tlog_proof.find_decision(reader, inquiry_id, node)
        if tiles is not None:
            note = TileFolder(tiles).checkpoint()
            hashes = TileFolder(tiles).hashes(Checkpoint.parse(note).size)
        else:
            size, note = reader.head()
            hashes = hashes_of_log(reader, size, bar)
        proof = tlog_proof.prove(index, leaf, hashes, note, vkey)
        opened = unsealed(reader, reader.find_inquiry(inquiry_id) or 0, open_auditor_key(key)) if key else None
        inquiry = decode(index, reader.entry(opened.index)) if opened else {}
    value = decode(index, leaf)
    shown = tlog_proof.disclosures_json(value)
    if opened is not None:
        shown = tlog_proof.disclosures_json(value, envelope_of(inquiry).payload, _chosen(opened.disclosures, fields))
    if disclosures is not None:
        draft = read_draft(disclosures)
        shown = tlog_proof.disclosures_json(value, draft.envelope.payload, _chosen(draft.disclosures, fields))
    files.make_folder(out)
    made = {LEAF: leaf, PROOF: proof.encode(), DISCLOSURES: shown}
    for name, data in made.items():
        files.write_new(out / name, data, mode=files.PRIVATE)
    total = sum(map(len, made.values()))
    if as_json:
        click.echo(orjson.dumps({"index": index, "out": str(out), "bytes": total, "origin": vkey.name}))
    else:
        click.echo(f"Decision {index} of {vkey.name}: {', '.join(made)} in {out}, {total} bytes.")


def _chosen(disclosures: Sequence[Disclosure], fields: tuple[str, ...]) -> list[Disclosure]:
    chosen = [d for d in disclosures if not fields or d.label in fields]
    if len(chosen) < len(set(fields)):
        raise InvalidInput("not all of the fields named are there to be disclosed", reason="BAD_DISCLOSURES")
    return chosen


def _check(folder: Path, pinned: str | None, known: Directory | None, as_json: bool) -> None:
    leaf = files.read(folder / LEAF, max_bytes=MAX_ENTRY_BYTES)
    proof = TlogProof.parse(files.read(folder / PROOF, max_bytes=tlog_proof.MAX_PROOF_BYTES))
    disclosures = files.read(folder / DISCLOSURES, max_bytes=tlog_proof.MAX_DISCLOSURES_BYTES)
    key = VerifierKey.parse(pinned) if pinned else _known_key(proof, known)
    found = tlog_proof.check(leaf, proof, disclosures, key)
    disclosed = {name: _words(found.inquiry, name, value) for name, value in found.disclosed}
    requester = found.inquiry.requester if found.inquiry else None
    if as_json:
        head = {"origin": found.head.origin, "size": found.head.size, "root": found.head.root.hex()}
        shown = {"index": found.index, "head": head, "entry": found.value, "requester": requester}
        click.echo(orjson.dumps({**shown, "disclosed": disclosed}))
        return
    value = found.value
    click.echo(
        f"Proven: entry {found.index} of {found.head.origin}, under its signed head of {found.head.size} entries."
    )
    click.echo(f"{value['at']} {value['pep']}: {value['effect']} at {value['node']} ({value['reason_code']})")
    click.echo(f"rules {' '.join(value['rules']) or '-'}, policy {value['policy_digest'] or '-'}")
    if requester:
        click.echo(f"asked by {plain(requester)}, says the inquiry whose hash the decision cites")
    for name, text in disclosed.items():
        click.echo(f"disclosed {name}: {plain(text)}")
    if not disclosed:
        click.echo(tlog_proof.NOTHING_DISCLOSED)


@click.command()
@click.argument("log", type=LOG)
@click.argument("out", type=FOLDER)
@click.option("--rebuild", is_flag=True, help="Write every tile anew.")
@VKEY
@DIRECTORY
@ANCHOR
@JSON
def tiles(
    log: Path,
    out: Path,
    rebuild: bool,
    vkey: Path | None,
    directory: Path | None,
    anchor: Path | None,
    as_json: bool,
) -> None:
    """Write a log as C2SP tiles into the folder OUT, or bring the tiles there up to date.

    Any verifier of C2SP tlog-tiles reads them. OUT shows every entry: keep it as the log. With a directory the keys of
    the log's witnesses are written too, and the newest head that its entries show as cosigned by them.

    Example: comity audit tiles ./broker ./tiles --directory ./me/directory.json

    Exit codes: 0 OUT is the log as of its newest head; 1 failure, or the log is not the one published there; 2 wrong
    usage.
    """
    known, pinned = known_directory(directory, anchor), pinned_key(vkey)
    with reading(log) as reader:
        origin = reader.key(pinned).name
    if known is not None and pinned is None:
        if origin not in known.logs:
            raise InvalidInput("the directory names no log of this origin", reason="UNKNOWN_LOG")
        pinned = str(VerifierKey.of(origin, known.logs[origin].key))
    witnesses = witness_vkeys(known, origin) if known is not None else None
    with Bar("writing tiles") as bar:
        done = publish(log, out, vkey=pinned, witnesses=witnesses, rebuild=rebuild, progress=bar)
    head = done.head
    note = _cosigned(log, known, origin, witnesses) if known is not None and witnesses else b""
    if note:
        publish_cosigned(out, head, note)
    seen = Checkpoint.parse(note).size if note else None
    if as_json:
        said = {"origin": head.origin, "size": head.size, "root": head.root.hex(), "begun_at": done.begun_at}
        click.echo(orjson.dumps({**said, "files": done.files, "cosigned": seen, "out": str(out)}))
    else:
        click.echo(f"{head.origin}: {head.size} entries in {out}; {done.files} tiles written.")
        if seen is not None:
            click.echo(f"{COSIGNED}: the first {seen} entries, as witnesses have signed them.")


def _cosigned(log: Path, known: Directory, origin: str, witnesses: Sequence[str]) -> bytes:
    pinned = known.logs[origin]
    quorum = known.federation.quorum if pinned.program == "broker" else 1
    keys = [WitnessKey.parse(text) for text in witnesses]
    with reading(log) as reader:
        return newest_cosigned(reader, VerifierKey.of(origin, pinned.key), keys, quorum)


@click.command("reconcile")
@click.argument("broker_log", type=LOG)
@click.argument("node_logs", metavar="NODE_LOG...", type=LOG, nargs=-1, required=True)
@WITNESSED
@DIRECTORY
@ANCHOR
@JSON
def reconcile_(
    broker_log: Path,
    node_logs: tuple[Path, ...],
    witnessed: tuple[Path, ...],
    directory: Path | None,
    anchor: Path | None,
    as_json: bool,
) -> None:
    """Compare a broker's log with nodes' logs, and name everything on which they disagree.

    Take the copies while no search is under way: one that is half recorded is reported too.

    Example: comity audit reconcile ./broker ./nodes/alder-1 ./nodes/brazos-1 --directory ./me/directory.json

    Exit codes: 0 they agree, 1 discrepancies or a failure, 2 wrong usage.
    """
    seen = [note for path in witnessed for note in seen_heads(path)]
    with Bar("reading") as bar:
        known = known_directory(directory, anchor)
        result = reconcile(broker_log, node_logs, directory=known, progress=bar, seen=seen)
    if as_json:
        for d in result.discrepancies:
            click.echo(orjson.dumps({"event": "discrepancy", **dataclasses.asdict(d), "fields": list(d.fields)}))
        click.echo(orjson.dumps(_summary(result)))
    else:
        _print(result)
    if result.discrepancies:
        sys.exit(1)


@click.command("export")
@click.argument("log", type=LOG)
@click.option("--out", type=FILE, required=True, help="A .jsonl file, or .parquet if pyarrow is installed.")
@click.option("--proofs", is_flag=True, help="With each entry's inclusion proof.")
@VKEY
@JSON
def export_(log: Path, out: Path, proofs: bool, vkey: Path | None, as_json: bool) -> None:
    """Write every entry of a log to a file, with its hash, after a line of counts and the signed checkpoint.

    Example: comity audit export ./broker --out broker.jsonl --proofs

    Exit codes: 0 written, 1 failure, 2 wrong usage.
    """
    with Bar("exporting") as bar:
        done = export(log, out, proofs=proofs, vkey=pinned_key(vkey), progress=bar)
    if as_json:
        said = {"origin": done.head.origin, "size": done.head.size, "root": done.head.root.hex()}
        click.echo(orjson.dumps({**said, "counts": done.counts, "out": str(out)}))
    else:
        counts = ", ".join(f"{count} {name}" for name, count in done.counts.items())
        click.echo(f"{done.head.size} entries of {done.head.origin} in {out}: {counts or 'none'}.")


def _words(inquiry: Inquiry | None, name: str, value: bytes) -> str:
    """A disclosed value for a person; a query as what it asks for."""
    if name == QUERY and inquiry is not None:
        with contextlib.suppress(InvalidInput, DecodeError):
            return query_of(inquiry.act, inquiry_pb2.Query.FromString(value)).words
    return value.decode(errors="replace")


COMMANDS = (prove, tiles, reconcile_, export_)


def known_directory(path: Path | None, anchor: Path | None) -> Directory | None:
    """The directory in `path`, if one was given; `anchor` is the federation's certificate if not beside it.

    Raises:
        ConfigError: NO_FEDERATION, or as `Directory.load`.
    """
    if path is None:
        return None
    beside = anchor or path.with_name(FEDERATION_FILE)
    if not beside.is_file():
        raise ConfigError(
            f"there is no {beside}: the directory is verified with the federation's certificate; name it with --anchor",
            reason="NO_FEDERATION",
        )
    return Directory.load(path, beside)


def pinned_key(path: Path | None) -> str | None:
    """The text of the verifier key in `path`, if one was given.

    Raises:
        ConfigError: it cannot be read.
    """
    return files.read(path, max_bytes=_MAX_VKEY_BYTES).decode("ascii", errors="replace") if path else None


def _known_key(proof: TlogProof, directory: Directory | None) -> VerifierKey:
    origin = Checkpoint.parse(proof.checkpoint).origin
    known = directory.logs.get(origin) if directory else None
    if known is None:
        raise InvalidInput("the directory names no log of this origin", reason="UNKNOWN_LOG")
    return VerifierKey.of(origin, known.key)


def _summary(result: Reconciliation) -> dict[str, Any]:
    return {
        "event": "summary",
        "ok": not result.discrepancies,
        "discrepancies": len(result.discrepancies),
        "exchanges": result.exchanges,
        "skewed": [{"inquiry_id": i, "node": n} for i, n in result.skewed],
        "lost": result.lost,
        "cut_off": result.cut_off,
        "elsewhere": result.elsewhere,
        "unpinned": result.unpinned,
        "warnings": result.warnings,
    }


def _print(result: Reconciliation) -> None:
    out = console()
    for warning in result.warnings:
        out.print(f"note: {warning}", style="yellow")
    for d in result.discrepancies:
        at = [f"{who} {i}" for who, i in (("broker", d.broker_index), ("node", d.node_index)) if i >= 0]
        where = " ".join(filter(None, (d.node, d.inquiry_id, f"[{', '.join(at)}]" if at else "")))
        more = f" (and {d.count - 1} more that follow from it)" if d.count > 1 else ""
        out.print(f"{d.kind.value} {where}: {d.sentence}{more}", style="red")
    out.print(
        f"{result.exchanges} exchanges compared: {len(result.discrepancies)} discrepancies. {result.lost} answers were "
        f"lost on their way, {result.cut_off} searches cut off by a stop, {len(result.skewed)} decided under another "
        f"policy, {result.elsewhere} concern logs that were not given."
    )
    for origin, count in result.unpinned.items():
        if count:
            out.print(f"{origin}: the last {count} entries are under no head that others hold.", style="dim")
