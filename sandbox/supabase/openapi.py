"""Checks requests to the Management API against its OpenAPI document, as strictly as the document says."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ..refusal import Refusal

DOCUMENT = Path(__file__).with_name("management_openapi.json")
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
}
Schema = dict[str, Any]


@dataclass
class Input:
    """A request that has passed: its body, and its path and query parameters in their own types."""

    body: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


class Document:
    def __init__(self, path: Path = DOCUMENT) -> None:
        self._whole = json.loads(path.read_text())

    def operation(self, method: str, template: str) -> Schema | None:
        found: Schema | None = self._whole["paths"].get(template, {}).get(method.lower())
        return found

    def response_schema(self, method: str, template: str, status: int) -> Schema:
        operation = self.operation(method, template) or {}
        schema: Schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        return schema

    async def accept(self, request: web.Request, template: str) -> Input:
        """Reads and checks a request; refuses with 400 and every fault found."""
        operation = self.operation(request.method, template)
        if operation is None:
            return Input()
        accepted = Input()
        problems: list[str] = []
        for parameter in operation.get("parameters", []):
            problems += self._take_parameter(request, parameter, accepted.params)
        if "requestBody" in operation and not problems:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            accepted.body = await read_json(request)
            problems += self.problems(accepted.body, schema)
        if problems:
            raise Refusal(400, "; ".join(problems))
        return accepted

    def _take_parameter(self, request: web.Request, parameter: Schema, into: dict[str, Any]) -> Iterator[str]:
        name, schema = parameter["name"], parameter["schema"]
        value: Any
        if parameter["in"] == "path":
            value = request.match_info.get(name)
        elif schema["type"] == "array":
            value = request.query.getall(name, []) or None
        else:
            value = from_text(request.query.get(name), schema["type"])
        if value is None:
            if parameter.get("required"):
                yield f"{name} is required"
            into[name] = schema.get("default")
            return
        into[name] = value
        yield from self.problems(value, schema, name)

    def problems(self, value: Any, schema: Schema, where: str = "") -> Iterator[str]:
        """Everything in which a value departs from a schema, each as a sentence."""
        if "$ref" in schema:
            schema = self._whole["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        if value is None and schema.get("nullable"):
            return
        if "oneOf" in schema:
            yield from self._one_of(value, schema, where)
            return
        kind = schema.get("type")
        if kind is not None and (not isinstance(value, TYPES[kind]) or (kind != "boolean" and value is True)):
            yield f"{where or 'body'} must be of type {kind}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{where} must be one of the following values: {', '.join(schema['enum'])}"
        elif isinstance(value, str):
            yield from string_problems(value, schema, where)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                yield from self.problems(item, schema.get("items", {}), f"{where}[{number}]")
        elif isinstance(value, dict):
            yield from self._object_problems(value, schema, where)
        elif isinstance(value, int | float):
            if value < schema.get("minimum", value):
                yield f"{where} must not be less than {schema['minimum']}"
            if value > schema.get("maximum", value):
                yield f"{where} must not be greater than {schema['maximum']}"

    def _object_problems(self, value: dict[str, Any], schema: Schema, where: str) -> Iterator[str]:
        prefix = f"{where}." if where else ""
        known = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                yield f"{prefix}{name} is required"
        for name, item in value.items():
            if name in known:
                yield from self.problems(item, known[name], prefix + name)
            elif schema.get("additionalProperties") is False:
                yield f"property {prefix}{name} should not exist"

    def _one_of(self, value: Any, schema: Schema, where: str) -> Iterator[str]:
        tried = [list(self.problems(value, choice, where)) for choice in schema["oneOf"]]
        if all(tried):
            yield from min(tried, key=len)


def string_problems(value: str, schema: Schema, where: str) -> Iterator[str]:
    if len(value) < schema.get("minLength", 0):
        yield f"{where} must be longer than or equal to {schema['minLength']} characters"
    if len(value) > schema.get("maxLength", len(value)):
        yield f"{where} must be shorter than or equal to {schema['maxLength']} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where} must match {schema['pattern']}"
    if schema.get("format") == "uri" and not urlsplit(value).scheme:
        yield f"{where} must be a URL address"
    if schema.get("format") == "uuid" and not is_uuid(value):
        yield f"{where} must be a UUID"


def is_uuid(value: Any) -> bool:
    """A UUID in its usual form with hyphens, of any version."""
    try:
        return isinstance(value, str) and len(value) == 36 and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def from_text(text: str | None, kind: str) -> Any:
    """A query value in its own type; the text itself where it does not fit, so that the check names it."""
    if text is None or kind == "string":
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else text


async def read_json(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise Refusal(400, "the content type must be application/json")
    try:
        return json.loads(await request.read())
    except ValueError:
        raise Refusal(400, "the body is not valid JSON") from None
