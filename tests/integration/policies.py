"""Policies as agencies sign them in the sample federation, and calls of PolicyService as anyone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc

from cli.demo.build import SAMPLE
from comity import instants
from comity.envelope import BUNDLE_TYPE
from comity.v1 import policy_service_pb2 as pb2
from comity.v1 import policy_service_pb2_grpc as pb2_grpc
from identity import keys
from identity.dsse import sign_with_key
from policies.bundle import make_bundle
from policies.packs import load_packs
from policies.seal import HEADER, seal
from policies.usage import usage_policies
from tests.integration.calls import Person, told_of
from tests.integration.world import World

OWN = "OWN-{},any-node,any-agency,any-role,any-purpose,any-act,limit,always,window_days<=9999,a test"


def bundle(world: World, node: str, version: int, packs: Sequence[str] = (), *, by: str = "", **changes: Any) -> bytes:
    """A bundle of `packs` (the directory's, if none is named), signed by the node's agency, or by that of `by`.

    Each version has a rule of its own, which limits next to nothing, so that no two have the same digest.
    """
    federation, now = world.layout.federation, instants.now()
    packs = tuple(packs) or federation.nodes[node].presets
    content: dict[str, Any] = {
        "federation": federation,
        "node": node,
        "version": version,
        "valid_from": now - dt.timedelta(minutes=1),
        "valid_to": now + dt.timedelta(days=30),
        "packs": packs,
        "policy": load_packs(packs, own_rules=seal(f"{HEADER}\n{OWN.format(version)}\n"), on=now.date()),
        "usage_policy": usage_policies(SAMPLE.parent, federation).get(node),
    }
    key = keys.load_signing_key(world.layout.authority(by or federation.nodes[node].agency) / "policy.pem")
    return sign_with_key(BUNDLE_TYPE, make_bundle(**(content | changes)), key)


def called(person: Person, ask: Callable[[pb2_grpc.PolicyServiceStub], Any]) -> tuple[str, str, Any]:
    """Code, reason and answer of one call."""
    with person.channel() as channel:
        try:
            return "OK", "", ask(pb2_grpc.PolicyServiceStub(channel))
        except grpc.RpcError as error:
            told = told_of(cast(grpc.Call, error), [])
            return told.code, told.reason, None


def publish(person: Person, node: str, data: bytes, *, revoke_older: bool = False) -> tuple[str, str, Any]:
    """The raw call, whoever the person is and whatever the data."""
    request = pb2.PublishRequest(node=node, bundle=data, revoke_older=revoke_older)
    return called(person, lambda stub: stub.Publish(request, timeout=60))
