"""The told story: searches over the sample federation, each with what must come of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from cli.demo.traffic import Planted, plant

STOLEN, STOLEN_STATE = "7STL042", "CA"
UNSEEN = "3NVR777"
EXCLUDED = (STOLEN, UNSEEN)
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One search: who asks what, and what each node must say.

    `expect` maps nodes to outcomes, whole: a node more or less is a failure. `rules` names a rule that a node's
    refusal must cite. `approve`: a supervisor signs first. `stop`: this node is switched off before.
    """

    title: str
    agency: str
    plate: str
    purpose: str
    case: str
    days: int
    expect: Mapping[str, str]
    exit_code: int
    nodes: tuple[str, ...] = ()
    beneficiary: str = ""
    authority: str = ""
    approve: bool = False
    stop: str = ""
    rules: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    last_line: str = ""


def planted(now: dt.datetime) -> list[Planted]:
    """Where the stolen car was seen."""

    def ago(*hours: float) -> list[dt.datetime]:
        return [now - dt.timedelta(hours=h) for h in hours]

    return [
        *plant(STOLEN, STOLEN_STATE, "port-alder-1", ago(30.0, 29.5, 4.0)),
        *plant(STOLEN, STOLEN_STATE, "sequoia-1", ago(27.0, 26.2)),
        *plant(STOLEN, STOLEN_STATE, "bay-toll-1", ago(28.1)),
        *plant(STOLEN, STOLEN_STATE, "brazos-bend-1", ago(200.0, 199.0)),
    ]


ALL_REFUSE = ("port-alder-1", "sequoia-1", "bay-toll-1", "llano-1", "lakeshore-1", "tidewater-1", "granite-1")

STEPS = (
    Step(
        title="A stolen car, asked for by a detective of Port Alder at every agency",
        agency="us-ca-port-alder-pd",
        plate=STOLEN,
        purpose="stolen-vehicle",
        case="PA-26-0101",
        days=20,
        expect={
            "port-alder-1": "match",
            "sequoia-1": "match",
            "bay-toll-1": "refused",
            "brazos-bend-1": "match",
            "llano-1": "no_match",
            "lakeshore-1": "refused",
            "tidewater-1": "refused",
            "granite-1": "partial_coverage",
        },
        rules={"bay-toll-1": "TOLL-1", "lakeshore-1": "IL-3", "tidewater-1": "VA-2"},
        found={"port-alder-1": 3, "sequoia-1": 2, "brazos-bend-1": 2},
        exit_code=3,
        last_line="not a complete answer",
    ),
    Step(
        title="The same car, asked for by federal civil immigration, eight years back",
        agency="us-ice-ero",
        plate=STOLEN,
        purpose="immigration-civil",
        case="ERO-26-7",
        days=3000,
        expect={"brazos-bend-1": "partial_coverage"} | dict.fromkeys(ALL_REFUSE, "refused"),
        rules={"port-alder-1": "SC-1", "sequoia-1": "CA-6", "llano-1": "LF-1", "lakeshore-1": "IL-2"},
        found={"brazos-bend-1": 2},
        exit_code=3,
        last_line="not a complete answer",
    ),
    Step(
        title="A state detective asks on behalf of that agency",
        agency="us-ca-chp",
        plate=STOLEN,
        purpose="immigration-civil",
        case="CHP-26-9",
        days=30,
        beneficiary="us-ice-ero",
        nodes=("port-alder-1", "sequoia-1"),
        expect={"port-alder-1": "refused", "sequoia-1": "refused"},
        rules={"port-alder-1": "SC-1", "sequoia-1": "CA-6"},
        exit_code=4,
    ),
    Step(
        title="A federal felony at the sanctuary city, with a judicial warrant: a supervisor must sign too",
        agency="us-fbi",
        plate=STOLEN,
        purpose="criminal-felony",
        case="FBI-26-7",
        days=30,
        authority="judicial-warrant:26-MJ-0042",
        nodes=("port-alder-1",),
        expect={"port-alder-1": "pending"},
        exit_code=6,
    ),
    Step(
        title="The same with the supervisor's signature",
        agency="us-fbi",
        plate=STOLEN,
        purpose="criminal-felony",
        case="FBI-26-7",
        days=30,
        authority="judicial-warrant:26-MJ-0042",
        nodes=("port-alder-1",),
        approve=True,
        expect={"port-alder-1": "match"},
        found={"port-alder-1": 3},
        exit_code=0,
    ),
    Step(
        title="A read-only agency, which has no cameras, asks its neighbours",
        agency="us-ca-bayview-pd",
        plate=STOLEN,
        purpose="stolen-vehicle",
        case="BV-26-3",
        days=30,
        nodes=("port-alder-1", "sequoia-1"),
        expect={"port-alder-1": "match", "sequoia-1": "match"},
        found={"port-alder-1": 3, "sequoia-1": 2},
        exit_code=0,
    ),
    Step(
        title="One node is switched off: it is said so",
        agency="us-ca-port-alder-pd",
        plate=STOLEN,
        purpose="stolen-vehicle",
        case="PA-26-0101",
        days=20,
        stop="llano-1",
        nodes=("port-alder-1", "llano-1"),
        expect={"port-alder-1": "match", "llano-1": "unreachable"},
        found={"port-alder-1": 3},
        exit_code=3,
        last_line="could not be reached; this is not a complete answer",
    ),
    Step(
        title="A plate that nobody saw, asked of nodes that may answer in full",
        agency="us-ca-port-alder-pd",
        plate=UNSEEN,
        purpose="stolen-vehicle",
        case="PA-26-0102",
        days=30,
        nodes=("port-alder-1", "sequoia-1"),
        expect={"port-alder-1": "no_match", "sequoia-1": "no_match"},
        exit_code=0,
        last_line="No record in this window",
    ),
)
