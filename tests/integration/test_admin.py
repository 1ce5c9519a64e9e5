"""The admin port: what operators and their tools ask of a running program, from the same machine only."""

from __future__ import annotations

import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from broker.config import BrokerConfig
from comity.errors import ConfigError
from node.config import NodeConfig
from tests.integration.calls import SEEN, Person
from tests.integration.world import World

SERVICES = ("comity.v1.SearchService", "comity.v1.NodeLinkService")


@pytest.fixture
def channel(federation: World) -> Iterator[grpc.Channel]:
    address = tomllib.loads((federation.broker.state / "broker.toml").read_text())["admin"]
    with grpc.insecure_channel(address) as opened:
        yield opened


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_a_serving_broker_says_so_of_each_of_its_services(channel: grpc.Channel, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_of_a_service_that_is_not_there_is_not_known(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="none"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_names_the_services(channel: grpc.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    answer = next(stub.ServerReflectionInfo(iter([request]), timeout=60))
    assert set(SERVICES) <= {s.name for s in answer.list_services_response.service}


def test_channelz_shows_the_servers_for_investigators_for_nodes_and_for_operators(channel: grpc.Channel) -> None:
    stub = channelz_pb2_grpc.ChannelzStub(channel)
    assert len(stub.GetServers(channelz_pb2.GetServersRequest(), timeout=60).server) == 3


def test_the_admin_port_offers_no_search(channel: grpc.Channel) -> None:
    search: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/comity.v1.SearchService/Search")
    with pytest.raises(grpc.RpcError) as caught:
        list(search(b"", timeout=60))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "broker.example", "[::]"])
def test_an_admin_port_that_others_could_reach_is_refused(tmp_path: Path, host: str) -> None:
    (tmp_path / "broker.toml").write_text(f'identity = "me"\nadmin = "{host}:7445"\n')
    (tmp_path / "node.toml").write_text(f'identity = "me"\nbrokers = ["127.0.0.1:7444"]\nadmin = "{host}:7445"\n')
    for config in (BrokerConfig, NodeConfig):
        with pytest.raises(ConfigError, match="loopback"):
            config.load(tmp_path)


def test_the_metrics_of_a_broker_count_searches_by_how_they_ended(federation: World) -> None:
    before = metrics_of(federation)
    person = Person.of(federation)
    assert person.search(person.ask(plate=SEEN)).code == "OK"
    after = metrics_of(federation)
    name = 'comity_searches_total{complete="%s"}'
    assert sum(after[name % c] - before[name % c] for c in ("true", "false")) == 1
    assert after["comity_nodes_attached"] > 0
    assert after["comity_log_entries"] > before["comity_log_entries"]
    assert SEEN not in "".join(after)


def metrics_of(federation: World) -> dict[str, float]:
    address = tomllib.loads((federation.broker.state / "broker.toml").read_text())["admin"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (ln.rsplit(" ", 1) for ln in lines if not ln.startswith("#"))}
