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
    "a/b", "a,b", "é", "ééé", "a\u00a0b", "\u3000", "漢字漢", "😀😀😀", "a\u200bb", "a\u2028b",
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


def lists(by: dict[str, Any]) -> Iterator[Any]:
    """As long as allowed and longer, and with each value that an element can have."""
    for length in (by["maxItems"], by["maxItems"] + 1):
        yield [f"n{number}" for number in range(length)]
    yield ["twice", "twice"]
    for value in values("", by["items"]):
        yield [value]


def values(field: str, by: dict[str, Any]) -> Iterator[Any]:
    yield from WRONG_KINDS
    yield from TEXTS
    if "items" in by:
        yield from lists(by)
        return
    if "enum" in by:
        for choice in by["enum"]:
            yield from (choice, choice.upper(), choice[:-1], f"{choice}x", f" {choice}", f"{choice}|{choice}")
        yield from ("|".join(by["enum"]), "|", "a" * 1000)
        return
    for size in sorted({by.get("minLength", 1), by["maxLength"]}):
        for length in (size - 1, size, size + 1):
            yield "a" * length
            yield "é" * length
            yield "😀" * length
            yield "-" + "a" * (length - 1)
            yield "a" * (length - 1) + "-"
    if field == "email":
        yield from EMAILS
    if field == "tenant_id":
        yield from IDS


def unknown_fields() -> Iterator[tuple[str, Any]]:
    yield from [("x", "y"), ("x", None), ("", "y"), ("Company", "y"), ("company ", "y"), ("é" * 40, "y"), ("a\nb", "y")]
    yield from [("state", "ready"), ("slug", "acme"), ("driver", "postgres"), ("plan.name", "y"), ("__proto__", {})]


def mutations(name: str, constant: dict[str, Any] | None = None) -> Iterator[Any]:
    """Examples and mutations by the schema of that name; `constant` fields stay in all but their own mutations."""
    by = schema(name)
    examples = [{**example, **(constant or {})} for example in by["examples"]]
    yield from copy.deepcopy(examples)
    yield from ([], "", "{}", 5, None, True, [examples[0]])
    fullest = max(examples, key=len)
    for field in by["properties"]:
        yield {other: value for other, value in fullest.items() if other != field}
        for value in values(field, by["properties"][field]):
            yield {**fullest, field: value}
    for field, value in unknown_fields():
        if field not in by["properties"]:
            yield {**fullest, field: value}
