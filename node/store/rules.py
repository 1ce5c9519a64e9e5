"""How long a class of detections is kept: by the camera that made them or the kind of source they came from."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from comity.detection import MAX_CAMERA_CHARACTERS
from comity.errors import ConfigError
from comity.federation import SOURCES
from node.store.rows import first_ms

KINDS = ("source", "camera")
MAX_RULES = 64
_RULE = re.compile(r"(source|camera):(.{1,64})=(\d{1,10})\Z")
_NOT_IN_LOGS = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """Detections of this camera, or of this kind of source, are kept for `kept_s` seconds and no longer."""

    kind: str
    text: str
    kept_s: int

    @classmethod
    def parse(cls, text: str) -> ClassRule:
        """The rule in `source:commercial=2592000` or `camera:pa-001=86400`; seconds, at least 1.

        Raises:
            ConfigError: anything else.
        """
        found = _RULE.match(text)
        if (
            not found
            or not found[2].isprintable()
            or len(found[2]) > MAX_CAMERA_CHARACTERS
            or int(found[3]) < 1
            or (found[1] == "source" and found[2] not in SOURCES)
        ):
            raise ConfigError(f"a retention rule is source:{'|'.join(SOURCES)}=SECONDS or camera:ID=SECONDS")
        return cls(kind=found[1], text=found[2], kept_s=int(found[3]))

    @property
    def name(self) -> str:
        """`source:commercial`: how entries and gaps cite it; printable ASCII without blanks."""
        return _NOT_IN_LOGS.sub("_", f"{self.kind}:{self.text}")

    def before(self, now: dt.datetime) -> int:
        """The first millisecond that is still kept at `now`."""
        return max(0, first_ms(now - dt.timedelta(seconds=self.kept_s)))


def parse_rules(texts: Iterable[str]) -> tuple[ClassRule, ...]:
    """One rule a class.

    Raises:
        ConfigError: a text that is no rule, two for one class, or more than 64.
    """
    rules = tuple(ClassRule.parse(text) for text in texts)
    if len({(r.kind, r.text) for r in rules}) != len(rules) or len(rules) > MAX_RULES:
        raise ConfigError(f"retention rules: at most {MAX_RULES}, and one a class")
    return rules


def unexpired(rules: Sequence[ClassRule], now: dt.datetime) -> tuple[str, dict[str, object]]:
    """A condition on `rows.SELECT`, beginning with AND or empty, that leaves out what its class rule has expired.

    IS, not =: a row whose word is missing must come through and be seen to be damaged.
    """
    alias = {"source": "s", "camera": "c"}
    parts, values = [], dict[str, object]()
    for i, rule in enumerate(rules):
        parts.append(f" AND NOT ({alias[rule.kind]}.text IS :class{i} AND d.captured_at < :kept{i})")
        values |= {f"class{i}": rule.text, f"kept{i}": rule.before(now)}
    return "".join(parts), values
