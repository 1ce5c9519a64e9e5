"""Why a record was set aside, in words, for whoever runs the node."""

from __future__ import annotations

from collections.abc import Mapping

REASON, REFUSED = "reason:", "refused:"  # what counters of a surface begin with

WORDS: Mapping[str, str] = {
    "BAD_CAMERA": "the camera's name is missing or no plain text",
    "BAD_COLUMNS": "the line has not as many cells as the header",
    "BAD_CONFIDENCE": "the confidence is no number of the format's range",
    "BAD_DETECTION": "a value of the read is not one that can be kept",
    "BAD_ENTITIES": "the notification holds no list of entities",
    "BAD_HEADER": "the header lacks a column, or names one twice",
    "BAD_ID": "the id is missing or no plain text",
    "BAD_LOCATION": "the place is no latitude and longitude",
    "BAD_MULTIPART": "neither an event in XML nor a whole multipart body with one",
    "BAD_PLATE": "the plate is not 1 to 10 of A-Z and 0-9",
    "BAD_RESULTS": "the results are no list of plates",
    "BAD_STATE": "the state is not two letters",
    "BAD_TIME": "the time is missing, has no zone, or is none",
    "BAD_XML": "not XML, or cut off",
    "EXPIRED": "older than the node keeps",
    "NOT_AN_OBJECT": "not a JSON object",
    "NOT_CSV": "not a line of CSV in UTF-8",
    "NOT_JSON": "not JSON",
    "NO_PLATE": "the plate is missing",
    "PLATE_CONTRADICTED": "it says both that a plate was read and that none was",
    "TIME_BEFORE_2000": "the time is before 2000: look at the camera's clock",
    "TIME_IN_FUTURE": "the time is more than ten minutes ahead: look at both clocks",
    "TOO_LARGE": "the record is too large",
    "TORN": "the end of the record is missing",
    "UNKNOWN_TYPE": "a kind of record that holds no reads",
    "UNKNOWN_VERSION": "a version of the format that is not known",
}


def in_words(reasons: Mapping[str, int]) -> str:
    """`2 BAD_PLATE: the plate is ...; 1 TORN: ...`, the most frequent first; a reason without words stands alone."""
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{n} {reason}" + (f": {WORDS[reason]}" if reason in WORDS else "") for reason, n in most)


def surface_lines(surface: str, counts: Mapping[str, int]) -> list[str]:
    """What came in at one surface, as `comity node status` says it: the counts, why not all, and which calls failed."""
    plain = {k: n for k, n in counts.items() if not k.startswith((REASON, REFUSED))}
    lines = [f"  by {surface}: " + ", ".join(f"{n} {name}" for name, n in plain.items())]
    for prefix, title in ((REASON, "rejected"), (REFUSED, "requests refused")):
        chosen = {k.removeprefix(prefix): n for k, n in counts.items() if k.startswith(prefix) and n}
        if chosen:
            lines.append(f"    {title}: {in_words(chosen)}")
    return lines
