"""The golden bytes of what is signed, from fixed input. `python -m tests.golden.wire.samples` writes them anew:
a change of any is a change of the wire, which no old signature would survive and the changelog must name."""

from __future__ import annotations

from pathlib import Path

from comity import commitment
from comity.inquiry import Inquiry
from comity.outcome import Outcome, OutcomeKind
from comity.purpose import Authority
from comity.query import AreaQuery, Circle, ConvoyQuery, PatternQuery, Query
from tests.unit.comity import scene

HERE = Path(__file__).parent


def inquiry() -> Inquiry:
    """One with every field set."""
    return scene.inquiry(
        authority=Authority.COURT_ORDER,
        authority_reference_commitment=scene.REFERENCE.commitment,
        targets=("alder-1", "brazos-1"),
    )


def outcomes() -> dict[str, Outcome]:
    """One of each kind."""
    return {f"outcome-{kind.value}.bin": scene.outcome(kind) for kind in OutcomeKind}


def queries() -> dict[str, Query]:
    """One of each further kind of search."""
    circle = Circle(latitude_e7=377_912_345, longitude_e7=-1_222_412_345, radius_m=2_000)
    return {
        "disclosure-query-pattern.bin": PatternQuery.parse("7A?C*", "CA"),
        "disclosure-query-circle.bin": AreaQuery.parse(circle=circle),
        "disclosure-query-camera.bin": AreaQuery.parse(camera="pa-001"),
        "disclosure-query-convoy.bin": ConvoyQuery.parse("7ABC123", "CA", within_s=30, cameras=3),
    }


def files() -> dict[str, bytes]:
    """Every golden file by name, exactly its bytes."""
    return {
        "inquiry.bin": inquiry().encode(),
        "disclosure-query.bin": scene.QUERY.to_message().SerializeToString(),
        **{
            name: scene.disclosure(commitment.QUERY, query.encode()).to_message().SerializeToString()
            for name, query in queries().items()
        },
        **{name: outcome.encode() for name, outcome in outcomes().items()},
    }


if __name__ == "__main__":
    for name, data in files().items():
        (HERE / name).write_bytes(data)
