"""`comity policy publish`: makes a signed policy known to the federation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import grpc
import orjson

from cli.calling import MAX_MESSAGE_BYTES, broker_address, call_failed
from comity import instants
from comity.v1 import policy_service_pb2 as pb2
from comity.v1 import policy_service_pb2_grpc as pb2_grpc
from identity import files
from identity.folder import IdentityFolder
from identity.tls import client_credentials
from policies.published import MAX_BUNDLE_BYTES, open_published

DEADLINE_S = 15.0
ASK_AGAIN_S = 0.5
SAY_AFTER_S = 2.0
NOT_YET = 3


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--node", required=True, help="Whose policy it is.")
@click.option("--revoke-older", is_flag=True, help="Also revoke every lower version, for good.")
@click.option("--wait", type=click.FloatRange(0, 600), default=5.0, show_default=True, help="s for the node to agree.")
@click.option("--identity", type=click.Path(path_type=Path), envvar="COMITY_IDENTITY", help="Your identity folder.")
@click.option("--broker", metavar="HOST:PORT", help="Default: broker.addr in the identity folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def publish(
    ctx: click.Context,
    bundle: Path,
    node: str,
    revoke_older: bool,
    wait: float,
    identity: Path | None,
    broker: str | None,
    as_json: bool,
) -> None:
    """Make the signed policy in BUNDLE known to the federation, which decides by it from now on.

    For a supervisor or node operator of the node's own agency. The node itself takes its policy from its state folder
    alone: until the same bundle is there, it refuses whatever this one permits, and says so (POLICY_CHANGED).

    Exit codes: 0 published, and the node stands under it; 3 published, and the node does not stand under it yet;
    1 refused or failed, nothing has changed; 2 wrong usage.

    Example: comity policy publish policy.bundle.json --node port-alder-1 --identity me
    """
    if identity is None:
        raise click.UsageError("name your identity folder with --identity or in COMITY_IDENTITY")
    folder = IdentityFolder.load(identity)
    directory = folder.directory()
    if node not in directory.federation.nodes:
        known = ", ".join(sorted(directory.federation.nodes))
        raise click.UsageError(f"no node {node!r} in the directory; it has {known}")
    data = files.read(bundle, max_bytes=MAX_BUNDLE_BYTES)
    open_published(data, directory, node, instants.now())
    request = pb2.PublishRequest(node=node, bundle=data, revoke_older=revoke_older)
    address = broker_address(folder, broker)
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_retries", 0)]
    with grpc.secure_channel(address, client_credentials(folder), options=options) as channel:
        stub = pb2_grpc.PolicyServiceStub(channel)

        def call() -> pb2.PublishResponse:
            try:
                return stub.Publish(request, timeout=DEADLINE_S)
            except grpc.RpcError as error:
                raise call_failed(error, address) from None

        answer = _agreed(call, wait)
    click.echo(orjson.dumps(_json(node, answer)) if as_json else _words(node, answer))
    ctx.exit(0 if answer.shown.digest == answer.digest else NOT_YET)


def _agreed(call: Callable[[], pb2.PublishResponse], wait_s: float) -> pb2.PublishResponse:
    """The first answer in which the node stands under the same, or the last: publishing again changes nothing."""
    began, said = time.monotonic(), False
    while True:
        answer = call()
        waited = time.monotonic() - began
        if answer.shown.digest == answer.digest or waited + ASK_AGAIN_S > wait_s:
            return answer
        if waited > SAY_AFTER_S and not said:
            said = True
            click.echo("published; waiting for the node to stand under it", err=True)
        time.sleep(ASK_AGAIN_S)


def _json(node: str, a: pb2.PublishResponse) -> dict[str, object]:
    shown = {"version": a.shown.version, "digest": a.shown.digest} if a.HasField("shown") else None
    return {
        "node": node,
        "version": a.version,
        "digest": a.digest,
        "minimum": a.minimum,
        "shown": shown,
        "agree": a.shown.digest == a.digest,
    }


def _words(node: str, a: pb2.PublishResponse) -> str:
    out = f"{node}: version {a.version}, digest {a.digest[:12]}, is published"
    if a.minimum:
        out += f"; versions below {a.minimum} are revoked"
    if a.shown.digest == a.digest:
        return f"{out}; the node stands under it"
    if not a.HasField("shown"):
        return f"{out}; the node is not attached, and says under which it stands when it is"
    refuses = "refuses whatever this one permits until the same bundle is in its state folder"
    return f"{out}; the node stands under version {a.shown.version} and {refuses}"
