"""Where the store in PostgreSQL is: what its address may say, and what is never shown of it."""

from __future__ import annotations

import pytest

from comity.errors import ConfigError
from node.store.interface import StoreError
from node.store.postgres_address import PostgresAddress
from node.store.postgres_pool import connect, faults


@pytest.mark.parametrize(
    ("url", "host", "sslmode"),
    [
        pytest.param("postgresql:///comity", "", "prefer", id="the local socket"),
        pytest.param("postgresql://u@127.0.0.1:5433/d", "127.0.0.1", "prefer", id="loopback"),
        pytest.param("postgresql://u@[::1]/d", "::1", "prefer", id="loopback of IPv6"),
        pytest.param("postgresql:///d?host=/run/postgresql", "/run/postgresql", "prefer", id="a socket's folder"),
        pytest.param("postgresql://u@db.example/d", "db.example", "verify-full", id="over a network, always verified"),
    ],
)
def test_what_leaves_the_machine_is_encrypted_to_a_verified_server(url: str, host: str, sslmode: str) -> None:
    settings = dict(PostgresAddress.parse(url).settings)
    assert (settings.get("host", ""), settings["sslmode"]) == (host, sslmode)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("postgresql://u:secret@127.0.0.1/d", "PASSWORD_IN_URL", id="a password"),
        pytest.param("postgresql://u@127.0.0.1/d?password=secret", "PASSWORD_IN_URL", id="a password as an option"),
        pytest.param("postgresql://db.example/d?sslmode=require", "TLS_REQUIRED", id="encrypted to whoever answers"),
        pytest.param("postgresql://db.example/d?sslmode=disable", "TLS_REQUIRED", id="in clear"),
        pytest.param("postgresql://127.0.0.1,db.example/d?sslmode=prefer", "TLS_REQUIRED", id="one host of two"),
        pytest.param("postgresql:///d?host=db.example&sslmode=prefer", "TLS_REQUIRED", id="a host as an option"),
        pytest.param("postgresql:///d?options=-csynchronous_commit%3Doff", "BAD_STORE_URL", id="settings of its own"),
        pytest.param("postgresql://127.0.0.1:port/d", "BAD_STORE_URL", id="no port"),
        pytest.param("mysql://127.0.0.1/d", "BAD_STORE_URL", id="another engine"),
    ],
)
def test_a_url_that_would_leak_or_be_unsafe_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as e:
        PostgresAddress.parse(url)
    assert (e.value.reason, "secret" in str(e.value)) == (reason, False)


def test_a_password_shows_in_nothing_that_is_printed(address: PostgresAddress) -> None:
    wrong = PostgresAddress.parse("postgresql://comity@127.0.0.1:1/d", password="hush-hush")
    with pytest.raises(StoreError) as e, faults():
        connect(wrong, "x")
    assert "hush" not in f"{wrong!r} {wrong.words} {e.value!r} {e.value.__cause__!r}"
    assert "look at `store` in node.toml" in str(e.value)
