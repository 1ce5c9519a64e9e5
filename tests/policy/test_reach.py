"""Who reaches whose data: the matrix closed over, grouped without loss, and an agency's own reach with its reasons."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import product

import pytest

from comity.errors import InvalidInput
from comity.federation import Agreement
from comity.purpose import Authority
from policies.matrix import Matrix
from policies.reach import RESHARE, Cell, Reach, targets
from policies.setting import Setting
from tests.policy.requests import DAY, SETTING, compile_rows

SHERIFF, CITY, FBI, TEXAS = "us-ca-sequoia-so", "us-ca-millbrook-pd", "us-fbi", "us-tx-brazos-bend-pd"
LATER, SOONER = dt.date(2030, 1, 1), dt.date(2027, 1, 1)


def paper(from_: str, to: str, expires: dt.date = LATER, kind: str = RESHARE) -> Agreement:
    return Agreement(kind=kind, from_agency=from_, to_agency=to, expires=expires)


def sharing(*papers: Agreement, own: str = "") -> Setting:
    """The sample with further agreements, and with rows of its own at sequoia-1."""
    federation = replace(SETTING.federation, agreements=(*SETTING.federation.agreements, *papers))
    policies = dict(SETTING.node_policies)
    if own:
        policies["sequoia-1"] = compile_rows(own, "us-ca")
    return replace(SETTING, federation=federation, node_policies=policies)


def reached(setting: Setting, **only: str) -> Reach:
    return Reach(Matrix(setting, DAY), **{f"{k}s" if k != "agency" else "agencies": [v] for k, v in only.items()})


def hops(cell: Cell) -> list[tuple[str, tuple[str, ...]]]:
    return [(p.how, p.through) for p in cell]


def test_what_a_sheriff_hosts_is_reached_by_whom_it_passes_it_on_to_though_its_own_policy_refuses_them() -> None:
    setting = sharing(paper(SHERIFF, "us-ice-ero", SOONER))
    assert Matrix(setting, DAY).ways("us-ice-ero", "sequoia-1", "immigration-civil") == ()
    (path,) = reached(setting).cell("us-ice-ero", "sequoia-1", "immigration-civil")
    assert (path.how, path.through, path.ways, path.until) == ("host", (SHERIFF,), (), SOONER)


def test_what_an_agency_may_search_elsewhere_is_passed_on_under_the_conditions_of_its_search() -> None:
    setting = sharing(paper(SHERIFF, "us-ice-ero"))
    (path,) = reached(setting).cell("us-ice-ero", "port-alder-1", "missing-person")
    assert (path.how, path.through) == ("search", (SHERIFF,))
    assert path.ways == Matrix(setting, DAY).ways(SHERIFF, "port-alder-1", "missing-person")


def test_data_goes_over_any_number_of_agencies_by_the_shortest_way_and_until_the_first_paper_is_void() -> None:
    setting = sharing(
        paper(SHERIFF, CITY), paper(CITY, TEXAS, SOONER), paper(TEXAS, FBI), paper(SHERIFF, TEXAS, SOONER)
    )
    cell = reached(setting).cell(FBI, "sequoia-1", "immigration-civil")
    assert hops(cell) == [("host", (SHERIFF, TEXAS))]
    assert cell[0].until == SOONER


def test_a_circle_of_papers_ends() -> None:
    setting = sharing(paper(SHERIFF, CITY), paper(CITY, SHERIFF))
    assert set(reached(setting).sources[CITY]) == {SHERIFF}


@pytest.mark.parametrize(
    "agreement",
    [
        pytest.param(paper(SHERIFF, "us-ice-ero", DAY), id="void from its last day on"),
        pytest.param(paper(SHERIFF, "us-ice-ero", kind="mou"), id="a paper of another kind"),
        pytest.param(paper("us-ice-ero", SHERIFF), id="the other way round"),
    ],
)
def test_no_other_paper_passes_anything_on(agreement: Agreement) -> None:
    assert reached(sharing(agreement)).cell("us-ice-ero", "sequoia-1", "immigration-civil") == ()


def test_who_is_served_only_through_another_is_shown_with_those_who_may_ask() -> None:
    rule = "OB-1,any-node,us-ca-bay-toll,searcher,missing-person,any-act,allow,on-behalf,-,x"
    top = compile_rows("TOP-1,any-node,any-agency,any-role,any-purpose,any-act,allow,always,-,x")
    setting = replace(sharing(own=rule), federation_policy=top)
    (path,) = reached(setting).cell("us-ca-bay-toll", "sequoia-1", "missing-person")
    assert path.how == "on-behalf"
    assert {SHERIFF, CITY, "us-ca-chp"} <= {a for p in (path,) for a in p.requesters}
    further = replace(setting, federation=sharing(paper("us-ca-bay-toll", FBI)).federation)
    cell = Reach(Matrix(further, DAY)).cell(FBI, "sequoia-1", "missing-person")
    assert ("on-behalf", ("us-ca-bay-toll",)) in hops(cell)


def test_a_search_that_rests_on_a_declaration_says_until_when() -> None:
    (path,) = reached(SETTING).cell(TEXAS, "lakeshore-1", "stolen-vehicle")
    assert path.until == LATER
    assert reached(SETTING).cell("us-tx-llano-pd", "lakeshore-1", "stolen-vehicle") == ()


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(SETTING, id="the sample"),
        pytest.param(sharing(paper(SHERIFF, CITY), paper(CITY, FBI, SOONER)), id="with re-sharing"),
        pytest.param(
            sharing(own="OB-1,any-node,police,searcher,audit,any-act,allow,on-behalf,-,x"),
            id="with searches for others",
        ),
        pytest.param(
            sharing(own="OWN-1,any-node,any-agency,searcher,audit,any-act,allow,own-node,-,x"), id="with one's own node"
        ),
    ],
)
def test_groups_hold_every_cell_once_and_say_what_it_says(setting: Setting) -> None:
    reach = reached(setting)
    seen: dict[tuple[str, str, str], Cell] = {}
    for g in reach.groups():
        for cell in product(g.agencies, g.nodes, g.purposes):
            assert cell not in seen
            seen[cell] = g.paths
    assert len(seen) == len(reach.agencies) * len(reach.nodes) * len(reach.purposes)
    again = Reach(Matrix(setting, DAY))
    assert [c for c, paths in seen.items() if again.cell(*c) != paths] == []


def test_a_filter_leaves_out_rows_but_nobody_who_passes_on() -> None:
    reach = reached(sharing(paper(SHERIFF, "us-ice-ero")), agency="us-ice-ero", node="sequoia-1")
    groups = [g for g in reach.groups() if "immigration-civil" in g.purposes]
    assert [(g.agencies, g.nodes, hops(g.paths)) for g in groups] == [
        (("us-ice-ero",), ("sequoia-1",), [("host", (SHERIFF,))])
    ]


@pytest.mark.parametrize("only", [{"agency": "us-fib"}, {"node": "sequoia-9"}, {"purpose": "criminal"}])
def test_a_name_that_is_no_registered_leaf_is_refused(only: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as e:
        reached(SETTING, **only)
    assert e.value.reason == "NOT_REGISTERED"


@pytest.mark.parametrize(
    ("agency", "purpose", "authority", "node", "status", "rule"),
    [
        pytest.param(FBI, "criminal-felony", Authority.NONE, "brazos-bend-1", "open", "", id="an open policy"),
        pytest.param(
            FBI, "criminal-felony", Authority.NONE, "port-alder-1", "needs-authority", "node:SC-2", id="a warrant"
        ),
        pytest.param(FBI, "criminal-felony", Authority.COURT_ORDER, "sequoia-1", "open", "", id="the order held"),
        pytest.param(
            FBI,
            "criminal-felony",
            Authority.COURT_ORDER,
            "port-alder-1",
            "needs-authority",
            "node:SC-2",
            id="too little",
        ),
        pytest.param(
            "us-ice-ero", "immigration-civil", Authority.JUDICIAL_WARRANT, "llano-1", "closed", "node:LF-1", id="never"
        ),
    ],
)
def test_a_node_is_open_wants_more_authority_or_is_closed(
    agency: str, purpose: str, authority: Authority, node: str, status: str, rule: str
) -> None:
    found = targets(Matrix(SETTING, DAY), agency, "investigator", authority=authority, purposes=[purpose])
    (target,) = (t for t in found if t.node == node)
    assert target.status == status
    assert (rule in target.rules) if rule else not target.reason
    assert bool(target.ways) == (status != "closed")
    assert [t.status for t in found] == sorted(
        (t.status for t in found), key=("open", "needs-authority", "closed").index
    )


def test_a_role_that_does_not_search_reaches_nothing() -> None:
    found = targets(Matrix(SETTING, DAY), SHERIFF, "auditor", authority=Authority.JUDICIAL_WARRANT)
    assert {t.status for t in found} == {"closed"}
    assert all(t.reason for t in found)


def test_on_behalf_of_another_only_what_both_may() -> None:
    found = targets(
        Matrix(SETTING, DAY),
        SHERIFF,
        "investigator",
        authority=Authority.NONE,
        purposes=["stolen-vehicle"],
        asked_for=FBI,
    )
    # at lakeshore-1 the sheriff himself would need a declaration on file
    assert {t.node for t in found if t.status == "open"} == {"brazos-bend-1", "granite-1", "llano-1"}
    assert {t.node for t in found if t.status == "needs-authority"} >= {"sequoia-1", "port-alder-1"}


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidInput) as e:
        targets(Matrix(SETTING, DAY), SHERIFF, "investigater", authority=Authority.NONE)
    assert "did you mean investigator?" in str(e.value)
