"""Every single-field mutation of a schema's examples: at each limit, beside it, and of every wrong kind."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from typing import Any

from .documents import schema

WRONG_KINDS: list[Any] = [None, 5, 1.5, True, [], {}, ["acme"], {"a": "b"}]
TEXTS = [
    "", " ", "   ", "a", "ab", "abc", "a b", " a", "a ", "A", "ABC", "aBc", "a_b", "a.b", "a-b", "a--b", "-ab", "ab-",
    "a/b", "a,b", "é", "ééé", "a\u00a0b", "\u3000", "漢字漢", "😀😀😀", "a\u200bb", "a\u2028b", "a\u202eb", "a\u2066b",
    "a\tb", "a\nb", "abc\n", "\nabc", "a\rb", "a\u0000b", "a\u0001b", "a\u001fb", "a\u007fb", "a\u0080b", "a\u009fb",
    "a\u00a0", "'; drop table tenant; --", "<b>abc</b>", "../../etc", "%00", "null", "0",
]  # fmt: skip
EMAILS = [
    "a@b.c", "a@b.cd", "A@B.CD", "a@b", "@b.cd", "a@", "a@@b.cd", "a@b@c.de", "a@.cd", "a@b.", "a@b..cd", ".a@b.cd",
    "a.@b.cd", "a..b@c.de", "a.b@c.de", "a+b@c.de", "o'brien@c.de", "a b@c.de", '"a b"@c.de', "a@[127.0.0.1]",
    "a@127.0.0.1", "a@b_c.de", "a@-b.cd", "a@b-.cd", "a@b-c.de", "a@b.c-d", "é@c.de", "a@é.de",
    "a@bücher.example", "a@BÜCHER.example", "a@例え.jp", "a@b.é", "a@sub.bücher.example", "a@-é.de", "a@é-.de", "a@é", "a@é..de",
    "a@é .de", "a@é_b.de", "é@bücher.example", "a@é@b.de", "a@xn--bcher-kva.example", "a@b.cd\n", "Ada <a@b.cd>", "a@b.cd,c@d.ef",
    "a!#$%&'*+/=?^_`{|}~-b@c.de", "a@b!c.de", "a@b.cd.", "a\\b@c.de",
    "(a)@b.cd",
    "a" * 64 + "@b.cd", "a" * 65 + "@b.cd", "a@" + "b" * 63 + ".cd", "a@" + "b" * 64 + ".cd",
    "a" * 60 + "@" + ("b" * 60 + ".") * 3 + "c" * 10, "a" * 60 + "@" + ("b" * 60 + ".") * 3 + "c" * 11,
]  # fmt: skip
IDS = [
    str(uuid.UUID(int=0)), "3F2C9A54-0D7E-4C1B-9A61-7B1F0C2D4E58", "3f2c9a540d7e4c1b9a617b1f0c2d4e58", "3f2c9a54",
    "{3f2c9a54-0d7e-4c1b-9a61-7b1f0c2d4e58}", "3f2c9a54-0d7e-4c1b-9a61-7b1f0c2d4e5",
    "3f2c9a54-0d7e-4c1b-9a61-7b1f0c2d4e588", "3f2c9a54-0d7e-4c1b-9a61-7b1f0c2d4e5g",
    "3f2c9a540-d7e-4c1b-9a61-7b1f0c2d4e58", "3f2c9a54-0d7e-4c1b-9a61-7b1f0c2d4e58\n",
]  # fmt: skip


DURATIONS = [
    "0", "00", "0ms", "0s", "0d", "9ms", "10ms", "99ms", "100ms", "010ms", "1s", "007s", "599s", "600s", "601s", "10m", "11m", "600000ms",
    "600001ms", "23h", "24h", "25h", "1d", "2d", "30d", "31d", "720h", "721h", "2592000000ms", "2592000001ms", "000000000000000000000001s",
    "99999999999999999999d", "106751991168d", "1", "s", "ms", "1S", "1M", "1w", "1 s", " 1s", "1s ", "1s\n", "+1s", "-1s", "1.5s", "1e3s",
    "0x1s", "1ss", "1sm", "1h30m", "PT1S", "\u0661s", "\uff11s",
]  # fmt: skip
# That February has no 30th is for the unit tests: JSON Schema's format need not be checked.
TIMES = [
    "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z", "2026-01-31T12:00:00.00Z", "2026-01-31T12:00:00", "2026-01-31",
    "2026-01-31T12:00:00+00:00", "2026-01-31 12:00:00Z", "2026-01-31t12:00:00z", "2026-1-31T12:00:00Z", "2026-01-31T12:00:00Z\n",
    " 2026-01-31T12:00:00Z", "26-01-31T12:00:00Z", "2026-01-31T12:00Z", "\u0662026-01-31T12:00:00Z", "1767225600",
]  # fmt: skip
LONGEST = 1000  # of the texts made here; that longer limits hold as well is for the unit tests


def sample(by: dict[str, Any], number: int, last: bool) -> Any:
    """An element of a list by that schema, another one for each number."""
    if by.get("format") == "uuid":
        return str(uuid.UUID(int=number))
    return {"percent": 100 if last else number + 1} if "properties" in by else f"n{number}"


def lists(by: dict[str, Any]) -> Iterator[Any]:
    """As long as allowed and longer, and with each value that an element can have."""
    for length in (by["maxItems"], by["maxItems"] + 1):
        yield [sample(by["items"], number, number == length - 1) for number in range(length)]
    yield [sample(by["items"], 1, True)] * 2
    for value in values("", by["items"]):
        yield [value, sample(by["items"], 1, True)]


def objects(by: dict[str, Any]) -> Iterator[Any]:
    """With each member alone, two together, and one that is unknown."""
    for name, inner in by["properties"].items():
        yield from ({name: value} for value in values(name, inner))
    yield {name: sample(inner, 1, False) for name, inner in by["properties"].items()}
    yield from ({"percent": 100, "count": 1}, {"percent": 100, "x": 1}, {"x": 1})


def numbers(by: dict[str, Any]) -> Iterator[Any]:
    """None such as 5.0: JSON Schema takes it for a whole number, and the product does not."""
    step = 1 if by["type"] == "integer" else 0.001
    for limit in (by["minimum"], by["maximum"]):
        yield from (limit - step, limit, limit + step)
    yield from (0, 0.5, -1, -0.5, 10**12, 2**63, "1", "0.5")


def texts(field: str, by: dict[str, Any], around: tuple[str, str]) -> Iterator[str]:
    """Each between the two of around, which make a whole of it."""
    size_around = len("".join(around))
    sizes = {by.get("minLength", 1), by["maxLength"]}
    for size in sorted(size - size_around for size in sizes if size <= LONGEST):
        for length in (size - 1, size, size + 1):
            yield from (letter * length for letter in ("a", "é", "😀"))
            yield "-" + "a" * (length - 1)
            yield "a" * (length - 1) + "-"
    if field == "email":
        yield from EMAILS
    if by.get("format") == "uuid":
        yield from IDS
    if by.get("format") == "date-time":
        yield from TIMES


def values(field: str, by: dict[str, Any], around: tuple[str, str] = ("", "")) -> Iterator[Any]:
    yield from WRONG_KINDS
    if by.get("type") in ("number", "integer"):
        yield from numbers(by)
    elif by.get("type") == "boolean":
        yield from ("", "true", 0, False)
    elif "items" in by:
        yield from lists(by)
    elif "properties" in by:
        yield from objects(by)
    elif "x-least" in by:
        yield from TEXTS + DURATIONS
    elif "enum" in by:
        yield from TEXTS
        for choice in by["enum"]:
            yield from (choice, choice.upper(), choice[:-1], f"{choice}x", f" {choice}", f"{choice}|{choice}")
        yield from ("|".join(by["enum"]), "|", "a" * 1000)
    else:
        yield from ("", " ", "\n\t ")
        yield from (text.join(around) for text in [*TEXTS, *texts(field, by, around)])


def unknown_fields() -> Iterator[tuple[str, Any]]:
    yield from [("x", "y"), ("x", None), ("", "y"), ("Company", "y"), ("company ", "y"), ("é" * 40, "y"), ("a\nb", "y")]
    yield from [("state", "ready"), ("slug", "acme"), ("driver", "postgres"), ("plan.name", "y"), ("__proto__", {})]


def mutations(
    name: str, constant: dict[str, Any] | None = None, around: dict[str, tuple[str, str]] | None = None
) -> Iterator[Any]:
    """Examples and mutations by the schema of that name; `constant` fields stay in all but their own mutations, and
    what a text field's mutations stand between, if it must be well-formed otherwise."""
    by = schema(name)
    examples = [{**example, **(constant or {})} for example in by["examples"]]
    yield from copy.deepcopy(examples)
    yield from ([], "", "{}", 5, None, True, [examples[0]])
    for field in by["properties"]:
        fullest = max((example for example in examples if field in example), key=len)
        yield {other: value for other, value in fullest.items() if other != field}
        for value in values(field, by["properties"][field], (around or {}).get(field, ("", ""))):
            yield {**fullest, field: value}
    fullest = max(examples, key=len)
    for field, value in unknown_fields():
        if field not in by["properties"]:
            yield {**fullest, field: value}
