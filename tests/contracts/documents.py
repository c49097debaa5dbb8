"""The contracts as the tests read them: JSON Schemas, OpenAPI and AsyncAPI, with their references put in place."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators

REPOSITORY = Path(__file__).resolve().parents[2]
CONTRACTS = REPOSITORY / "contracts"
SCHEMAS = CONTRACTS / "schemas"


def schema_path(name: str) -> Path:
    return SCHEMAS / f"{name}.schema.json"


def schema_names() -> list[str]:
    return sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.json"))


@cache
def document(path: Path) -> Any:
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


def pointed_at(path: Path, pointer: str) -> Any:
    value = document(path)
    for part in pointer.split("/")[1:]:
        value = value[part.replace("~1", "/").replace("~0", "~")]
    return value


def inlined(value: Any, path: Path) -> Any:
    """The value of a document at path, with every $ref replaced by what it refers to; what stands beside it wins."""
    if isinstance(value, list):
        return [inlined(each, path) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("$ref"), str):
        file, _, pointer = value["$ref"].partition("#")
        target = (path.parent / file).resolve() if file else path
        found = inlined(pointed_at(target, pointer), target)
        beside = {name: inlined(each, path) for name, each in value.items() if name != "$ref"}
        return {**found, **beside}
    return {name: inlined(each, path) for name, each in value.items() if name not in ("$schema", "$id", "$defs")}


@cache
def schema(name: str) -> dict[str, Any]:
    """A whole schema without references."""
    made: dict[str, Any] = inlined(document(schema_path(name)), schema_path(name))
    return made


def closed(value: Any, part_of_whole: bool = False) -> Any:
    """The schema with no room for members that it does not name: what we produce must be described to the last member,
    while readers are told to ignore what they do not know."""
    if isinstance(value, list):
        return [closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    parts = ("allOf", "anyOf") if "properties" in value else ("allOf",)
    made = {
        name: [closed(each, True) for each in inner] if name in parts else closed(inner)
        for name, inner in value.items()
        if name not in ("examples", "const", "enum", "default")
    }
    made |= {name: value[name] for name in ("const", "enum", "if", "else", "not") if name in value}  # name no members
    whole = isinstance(made.get("properties"), dict) or "allOf" in made
    if whole and not part_of_whole and "additionalProperties" not in made:
        made["unevaluatedProperties"] = False
    return made


def ecma_pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """JSON Schema's patterns are ECMA-262's, where $ is the end and not, as for Python, also before a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(duration: str) -> int | None:
    """Of a length of time as the schemas write it; None for what is none."""
    match = re.fullmatch(r"(?:0|([0-9]+)(ms|s|m|h|d))", duration, re.ASCII)
    return match and int(match[1] or 0) * UNITS[match[2] or "ms"]


def duration_bound(is_within: Callable[[int, int], bool]) -> Callable[..., Iterator[ValidationError]]:
    def check(_: Any, bound: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        given, limit = milliseconds(instance) if isinstance(instance, str) else None, milliseconds(bound)
        if given is not None and limit is not None and not is_within(given, limit):
            yield ValidationError(f"{instance!r} is beyond {bound!r}")

    return check


# Our own words for the bounds of durations: definitions.schema.json says why.
DURATION_BOUNDS = {"x-least": duration_bound(operator.ge), "x-most": duration_bound(operator.le)}
Validator = validators.extend(Draft202012Validator, {"pattern": ecma_pattern, **DURATION_BOUNDS})


def complaints(instance: Any, by: Any) -> list[str]:
    """What is wrong with the instance; nothing, if it is valid."""
    errors = list(Validator(by, format_checker=FormatChecker()).iter_errors(instance))
    errors += [each for error in errors for each in error.context or []]  # of a oneOf: what each of its ways says
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in errors]


@cache
def closed_schema(name: str) -> Any:
    return closed(schema(name))


@cache
def openapi() -> dict[str, Any]:
    path = CONTRACTS / "openapi.yaml"
    made: dict[str, Any] = inlined(document(path), path)
    return made


@cache
def asyncapi() -> dict[str, Any]:
    path = CONTRACTS / "asyncapi.yaml"
    made: dict[str, Any] = inlined(document(path), path)
    return made


METHODS = ("get", "post", "put", "patch", "delete")


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """(METHOD, path) -> operation, with the parameters of its path."""
    found = {}
    for path, item in openapi()["paths"].items():
        for method in METHODS:
            if method in item:
                operation = dict(item[method])
                operation["parameters"] = item.get("parameters", []) + operation.get("parameters", [])
                found[method.upper(), path] = operation
    return found


def find_operation(method: str, path: str) -> tuple[str, str] | None:
    """The operation that a request belongs to."""
    for known_method, template in operations():
        pattern = re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(template))
        if known_method == method and re.fullmatch(pattern, path.partition("?")[0]):
            return known_method, template
    return None


def messages(channel_address: str) -> dict[str, dict[str, Any]]:
    """Type -> message of a topic, as asyncapi.yaml has it, with what its traits add."""
    for channel in asyncapi()["channels"].values():
        if channel["address"] == channel_address:
            found = {}
            for message in channel["messages"].values():
                whole: dict[str, Any] = {}
                for trait in message.get("traits", []):
                    whole |= trait
                found[message["name"]] = whole | message
            return found
    raise KeyError(channel_address)


def reader_of(topic: str) -> str:
    """The service that takes the topic's messages, which its topic of dead letters names."""
    for channel in asyncapi()["channels"].values():
        match = re.fullmatch(rf"{re.escape(topic)}\.([a-z]+)\.dlq", channel["address"])
        if match:
            return match[1]
    raise KeyError(topic)
