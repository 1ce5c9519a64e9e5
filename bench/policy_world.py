"""A large invented federation with policies and searches drawn from a seed."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from dataclasses import dataclass

from comity.decision import Pep
from comity.federation import Federation
from comity.purpose import Act, Authority, LegalBasis
from policies.decide import Decider
from policies.engine import Policy
from policies.request import Question
from policies.seal import HEADER, seal
from policies.setting import Setting
from policies.shadow import Shadow
from policies.vocabulary import Vocabulary, vocabulary_of

STATES = 20
DAY = dt.date(2026, 7, 1)
_WHENS = ("always", "case", "same-state", "declaration", "mou", "trained", "lookback<=30", "lookback<=365")
_BARS = ("unless case", "unless judicial-warrant", "unless court-order", "other-state&unless mou", "lookback>90")
_DUTIES = ("window_days<=30", "window_days<=7", "redact=no-image", "approval=supervisor", "advice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A federation of `nodes` nodes, one an agency, and the chance that draws from it."""

    federation: Federation
    words: Vocabulary
    chance: random.Random

    @classmethod
    def make(cls, nodes: int, seed: int = 1) -> Scene:
        """The purposes and roles are those of the sample."""
        sample = Setting.load().federation
        states = {f"us/s{i:02}": "us" for i in range(STATES)}
        agencies = [
            {
                "id": f"pd-{i:05}",
                "name": f"Police {i}",
                "kind": "federal" if i % 25 == 0 else ("county", "municipal")[i % 2],
                "jurisdiction": "" if i % 25 == 0 else f"us/s{i % STATES:02}",
                "does": ["law-enforcement"],
                "tags": ["sanctuary"] if i % 7 == 0 else [],
            }
            for i in range(nodes)
        ]
        rows = [
            {"id": f"n-{i:05}", "agency": f"pd-{i:05}", "source": "police", "retention_s": 86_400 * 365}
            for i in range(nodes)
        ]
        federation = Federation.parse(
            {
                "federation": {"id": "bench", "presets": []},
                "purposes": dict(sample.purposes),
                "roles": dict(sample.roles),
                "jurisdictions": {"us": "", **states},
                "agency": agencies,
                "node": rows,
            }
        )
        return cls(federation=federation, words=vocabulary_of(federation), chance=random.Random(seed))

    def text(self, count: int) -> str:
        """A sealed policy of `count` rules: a plain allow, then denies, limits and allows as packs have them."""
        rows = ["B-0,any-node,police,searcher,any-purpose,any-act,allow,always,-,bench"]
        rows += [self._row(i) for i in range(1, count)]
        return seal("\n".join([HEADER, *rows]) + "\n")

    def policy(self, count: int) -> Policy:
        """Such a policy, compiled."""
        return Policy.compile(self.text(count), self.words)

    def question(self) -> Question:
        """One search: by one of 40 agencies that search much, or one time in ten by any; 30 % on behalf of another."""
        c = self.chance
        agencies = tuple(self.federation.agencies)
        busy = agencies[:: max(1, len(agencies) // 40)]
        who = c.choice(agencies if c.random() < 0.1 else busy)
        return Question(
            requester_agency=who,
            role=c.choice(("investigator", "investigator", "supervisor")),
            beneficiary=c.choice(busy) if c.random() < 0.3 else who,
            purpose=c.choice(sorted(self.words.purpose.leaves)),
            legal_basis=LegalBasis.CRIMINAL,
            authority=c.choice((Authority.NONE, Authority.NONE, Authority.NONE, Authority.JUDICIAL_WARRANT)),
            act=c.choice((Act.EXACT, Act.EXACT, Act.EXACT, Act.PARTIAL)),
            has_case=True,
            lookback_days=c.choice((1, 7, 30, 90, 365)),
            approved=False,
            day=DAY,
        )

    def decider(self, federation_policy: Policy, *, share: float = 0.01) -> Decider:
        """A broker's decider that draws for Casbin to check."""
        numbers = itertools.count(1)
        shadow = Shadow(random.Random(2), share)
        return Decider(self.federation, federation_policy, Pep.BROKER, lambda: f"d-{next(numbers)}", shadow)

    def _row(self, number: int) -> str:
        c, words = self.chance, self.words
        effect = c.choices(("allow", "deny", "limit"), (5, 3, 2))[0]
        who = c.choice(("any-agency", "police", "federal", "county", "municipal"))
        if c.random() < 0.1:
            who = c.choice((f"police-of:us/s{c.randrange(STATES):02}", c.choice(tuple(self.federation.agencies))))
        node = c.choice(("any-node", "any-node", "any-node", "any-node", "tag:sanctuary"))
        if c.random() < 0.05:
            node = c.choice((f"us/s{c.randrange(STATES):02}", f"node:{c.choice(tuple(self.federation.nodes))}"))
        groups = sorted(words.purpose.above.keys() - words.purpose.leaves)
        purpose = c.choice(groups if c.random() < 0.8 else sorted(words.purpose.leaves))
        role = c.choice(("any-role", "any-role", "searcher", "investigator"))
        act = c.choice(("any-act", "any-act", "any-act", "partial"))
        when = c.choice(_WHENS if effect != "deny" else _BARS)
        duty = c.choice(_DUTIES) if effect == "limit" else "-"
        return f"B-{number},{node},{who},{role},{purpose},{act},{effect},{when},{duty},bench"
