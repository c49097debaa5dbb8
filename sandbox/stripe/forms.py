"""Reads Stripe's form-encoded parameters with brackets, and checks them against what an endpoint takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from .errors import StripeError, invalid

Params = dict[str, Any]
Read = Callable[[Any, str], Any]
NAME = re.compile(r"[^\[\]]+")
DEEPEST = 8
LONGEST_METADATA = 50
# The year 2100.
LATEST = 4102444800


def decode(text: str) -> Params:
    """`a[b][0]=c&d[]=e` as `{"a": {"b": {"0": "c"}}, "d": {"0": "e"}}`; a list is a hash whose keys are numbers."""
    decoded: Params = {}
    if "%00" in text or "\0" in text:
        raise invalid("Invalid string: it must not contain a null byte")
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, _, rest = name.partition("[")
        path = [head, *(("[" + rest)[1:-1].split("][") if rest else [])]
        if not head or (rest and not rest.endswith("]")) or len(path) > DEEPEST:
            raise invalid(f"Invalid parameter name: {name}", name)
        put(decoded, path, value, name)
    return decoded


def put(into: Params, path: list[str], value: str, name: str) -> None:
    for part in path[:-1]:
        into = into.setdefault(part or str(len(into)), {})
        if not isinstance(into, dict):
            raise invalid(f"Invalid object: {name}", name)
    into[path[-1] or str(len(into))] = value


def read(given: Params, takes: Mapping[str, Read], needs: Iterable[str] = (), where: str = "") -> Params:
    """The parameters in their own types; refuses one that is not known or does not fit, and the lack of one that is needed."""
    taken = {}
    for name, value in given.items():
        full = f"{where}[{name}]" if where else name
        if name not in takes:
            message = f"Received unknown parameter: {full}"
            raise invalid(message, full, code="parameter_unknown")
        taken[name] = takes[name](value, full)
    for name in needs:
        if name not in taken:
            full = f"{where}[{name}]" if where else name
            raise invalid(f"Missing required param: {full}.", full, code="parameter_missing")
    return taken


def text(value: Any, where: str) -> str | None:
    """An empty string takes the value away."""
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {value}", where)
    return value or None


def integer(value: Any, where: str) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{1,15}", value):
        raise invalid(f"Invalid integer: {value}", where, code="parameter_invalid_integer")
    return int(value)


def natural(value: Any, where: str) -> int:
    number = integer(value, where)
    if number < 0:
        raise invalid("This value must be greater than or equal to 0.", where, code="parameter_invalid_integer")
    return number


def boolean(value: Any, where: str) -> bool:
    if value not in ("true", "false"):
        raise invalid(f"Invalid boolean: {value}", where)
    return bool(value == "true")


def moment(value: Any, where: str) -> int | str | None:
    """Seconds since 1970; `now` is left to the endpoint, and an empty string takes the moment away."""
    if value in ("now", ""):
        return value or None
    seconds = natural(value, where)
    if seconds > LATEST:
        raise invalid("Invalid timestamp: it is too far in the future.", where)
    return seconds


def choice(*choices: str) -> Read:
    def one(value: Any, where: str) -> str:
        if value not in choices:
            raise invalid(f"Invalid {where}: must be one of {', '.join(choices)}", where)
        return str(value)

    return one


def hash_of(takes: Mapping[str, Read], needs: Iterable[str] = ()) -> Read:
    def nested(value: Any, where: str) -> Params | None:
        if value == "":
            return None
        if not isinstance(value, dict):
            raise invalid(f"Invalid object: {value}", where)
        return read(value, takes, needs, where)

    return nested


def list_of(item: Read) -> Read:
    def listed(value: Any, where: str) -> list[Any]:
        if value == "":
            return []
        if not isinstance(value, dict) or not all(key.isdigit() for key in value):
            raise invalid("Invalid array", where)
        return [item(value[key], f"{where}[{key}]") for key in sorted(value, key=int)]

    return listed


def metadata(value: Any, where: str) -> dict[str, str]:
    """Keys to strings; an empty string takes a key away, and an empty string for all of it takes all."""
    if value == "":
        return {"": ""}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise invalid("Metadata must be a hash of strings", where)
    if len(value) > LONGEST_METADATA:
        raise invalid(f"Metadata can only have {LONGEST_METADATA} keys", where)
    return dict(value)


def merged(before: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    """Metadata after a change that `metadata` has read."""
    if "" in wanted:
        return {}
    return {key: value for key, value in {**before, **wanted}.items() if value != ""}


def page_limit(value: Any, where: str) -> int:
    number = integer(value, where)
    if not 1 <= number <= 100:
        raise StripeError(
            400,
            f"Invalid integer: limit must be between 1 and 100, not {number}",
            code="parameter_invalid_integer",
            param=where,
        )
    return number


RANGE = hash_of({name: natural for name in ("gt", "gte", "lt", "lte")})


def created(value: Any, where: str) -> Params:
    """A filter by time: one second, or a range."""
    if isinstance(value, dict):
        return dict(RANGE(value, where) or {})
    return {"gte": natural(value, where), "lte": natural(value, where)}


LISTING: dict[str, Read] = {"limit": page_limit, "starting_after": text, "ending_before": text, "created": created}
