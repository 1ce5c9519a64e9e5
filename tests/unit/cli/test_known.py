"""Names that a person types are held against the directory at hand before anything is signed or sent."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.known import require_policy_key, require_purpose
from cli.policy import policy
from cli.search import search
from comity.errors import ComityError, ConfigError
from comity.federation import Federation
from identity import files, keys
from identity.folder import DIRECTORY_FILE, FEDERATION_FILE
from policies.setting import SAMPLE, load_federation
from tests.unit.identity.world import ALDER, BRAZOS, World, name

NODE, OWNER, OTHER = "port-alder-1", "us-ca-port-alder-pd", "us-ca-sequoia-so"


@pytest.fixture(scope="module")
def typist(world: World) -> Path:
    """An investigator's identity folder."""
    spiffe = name(ALDER, "person", "typist")
    return world.folder(world.alder, spiffe, world.signed_directory(), role="investigator").path


def asked(identity: Path, *arguments: str) -> Result:
    """What `comity search` says; there is no broker to send anything to."""
    common = ["7ABC123", "--state", "CA", "--case", "PA-1", "--broker", "127.0.0.1:1", "--identity", str(identity)]
    return CliRunner().invoke(search, [*common, *arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--purpose", "stolen-vehicl"), "did you mean stolen-vehicle?", id="a misspelt purpose"),
        pytest.param(("--purpose", "any-purpose"), "is a group; name one purpose of it: stolen-", id="a group"),
        pytest.param(("--purpose", "xyzzy"), "right is stolen-vehicle (if it is new", id="a purpose like none"),
        pytest.param(
            ("--purpose", "stolen-vehicle", "--for", "us-tx-brazo-pd"), f"did you mean {BRAZOS}?", id="an agency"
        ),
        pytest.param(("--purpose", "stolen-vehicle", "--node", "alder-2"), "did you mean alder-1?", id="a node"),
    ],
)
def test_a_slip_is_told_with_what_is_nearest_and_nothing_is_sent(
    typist: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = asked(typist, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_what_is_not_a_person_s_identity_is_told_which_to_take(world: World) -> None:
    node = world.folder(world.alder, name(ALDER, "node", "alder-1"), world.signed_directory())
    error = asked(node.path, "--purpose", "stolen-vehicle").exception
    assert isinstance(error, ConfigError)
    assert error.reason == "WRONG_KIND"
    assert "the identity of a node" in str(error)
    assert "--role investigator" in str(error)


def test_every_purpose_that_stands_for_no_others_may_be_named() -> None:
    federation: Federation = load_federation(SAMPLE)
    for purpose in set(federation.purposes) - set(federation.purposes.values()):
        require_purpose(purpose, federation)
    assert "stolen-vehicle" not in federation.purposes.values()


@pytest.fixture
def keyed(world: World, tmp_path: Path) -> dict[str, Path]:
    """A policy key for each of the sample's two agencies, and a folder with a directory that pins both."""
    made = {a: keys.new_signing_key() for a in (OWNER, OTHER)}
    for agency, key in made.items():
        keys.write_key(tmp_path / agency, key)
    keys.write_key(tmp_path / "stray", keys.new_signing_key())
    folder = tmp_path / "node-identity"
    folder.mkdir()
    data = world.signed_directory(
        federation=_sample_tables(), authorities={}, policy_keys={a: [k.public_key()] for a, k in made.items()}
    )
    files.replace(folder / DIRECTORY_FILE, data, mode=files.PUBLIC)
    files.replace(folder / FEDERATION_FILE, (world.root / "test-exchange" / "ca.pem").read_bytes(), mode=files.PUBLIC)
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "node.toml").write_text(f'identity = "{folder}"\n')
    return {a: tmp_path / a for a in (OWNER, OTHER, "stray")} | {"out": tmp_path / "node" / "policy.bundle.json"}


def bundled(key: Path, out: Path, node: str = NODE, *more: str) -> Result:
    return CliRunner().invoke(policy, ["bundle", node, "--key", str(key), "--version", "2", "--out", str(out), *more])


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        pytest.param(
            OTHER, f"is the policy key of {OTHER}, and this node's policy is signed by {OWNER}", id="another's"
        ),
        pytest.param("stray", f"is not pinned in the directory (version 7) for {OWNER}", id="nobody's"),
    ],
)
def test_a_bundle_is_not_signed_with_a_key_that_every_broker_would_refuse(
    keyed: dict[str, Path], whose: str, said: str
) -> None:
    error = bundled(keyed[whose], keyed["out"]).exception
    assert isinstance(error, ComityError)
    assert error.reason == "WRONG_KEY"
    assert said in str(error)
    assert not keyed["out"].exists()


def test_a_bundle_is_signed_with_the_agency_s_own_key(keyed: dict[str, Path]) -> None:
    assert bundled(keyed[OWNER], keyed["out"]).exit_code == 0
    assert keyed["out"].exists()


def test_without_a_directory_at_hand_no_key_is_refused(keyed: dict[str, Path], tmp_path: Path) -> None:
    assert bundled(keyed["stray"], tmp_path / "elsewhere.json").exit_code == 0


def test_a_node_that_there_is_not_is_told_with_those_that_there_are(keyed: dict[str, Path]) -> None:
    done = bundled(keyed[OWNER], keyed["out"], "port-alder-2")
    said = " ".join(done.output.split())
    assert done.exit_code == 2
    assert "in the sample federation, as --federation names no other, did you mean port-alder-1?" in said
    assert "it has bay-toll-1, brazos-bend-1, granite-1," in said


def test_a_key_that_the_directory_pins_is_taken(world: World) -> None:
    key = keys.new_signing_key().public_key()
    directory = world.directory(policy_keys={ALDER: [key]})
    require_policy_key(key, ALDER, directory, file=Path("policy.pem"))
    with pytest.raises(ConfigError, match=r"policy\.pem is the policy key of us-ca-alder-pd"):
        require_policy_key(key, BRAZOS, directory, file=Path("policy.pem"))


def _sample_tables() -> dict[str, object]:
    return tomllib.loads((SAMPLE / "directory.toml").read_text(encoding="utf-8"))
