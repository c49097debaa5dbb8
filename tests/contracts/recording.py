"""A caller that holds every answer against openapi.yaml."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

from tests.e2e.client import Answer, Api

from .documents import closed, closed_schema, complaints, find_operation, operations


class RecordingApi(Api):
    """Complains of an answer that openapi.yaml does not promise; knows which were seen."""

    seen: set[tuple[str, str, int]] = set()  # of all callers: method, path of the document, status

    def call(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, timeout: float = 60, **headers: str
    ) -> Answer:
        answer = super().call(method, path, body, raw=raw, timeout=timeout, **headers)
        found = find_operation(method, path)
        if found is None:
            check_problem(answer)
            return answer
        check_answer(found, answer)
        self.seen.add((*found, answer.status))
        if 200 <= answer.status < 300 and raw is None and body is not None:
            check_request(found, body)
        return answer


def check_request(found: tuple[str, str], body: Any) -> None:
    """What was taken must be what the document says may be sent."""
    content = operations()[found].get("requestBody", {}).get("content", {})
    if "application/json" in content:
        wrong = complaints(body, content["application/json"]["schema"])
        assert not wrong, f"{found} took what it should not: {wrong}"


def check_answer(found: tuple[str, str], answer: Answer) -> None:
    responses = operations()[found]["responses"]
    assert str(answer.status) in responses, f"{found} is not said to answer {answer}"
    response = responses[str(answer.status)]
    for name, header in response.get("headers", {}).items():
        value = answer.headers.get(name.lower())
        assert value is not None or not header.get("required"), f"{found}: {answer.status} without {name}"
        if value is not None:
            as_said = int(value) if header["schema"].get("type") == "integer" else value
            assert not complaints(as_said, header["schema"]), f"{found}: {name}: {value}"
    content = response.get("content", {})
    if not content:
        return
    kind = answer.headers.get("content-type", "").partition(";")[0]
    assert kind in content, f"{found}: {answer.status} is {kind}, not {list(content)}"
    check_body(found, kind, content[kind]["schema"], answer)


def check_body(found: tuple[str, str], kind: str, schema: Any, answer: Answer) -> None:
    if not kind.endswith("json"):
        return
    wrong = complaints(answer.json, closed(schema))
    assert not wrong, f"{found}: {answer.status}: {wrong}: {answer.text}"
    if kind == "application/problem+json":
        assert answer.json["status"] == answer.status


def check_problem(answer: Answer) -> None:
    """Also what no operation promises is told as a problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert not complaints(answer.json, closed_schema("http.problem")), answer


def read_stream(
    api: Api, until: str, key: str, path: str = "/api/stream", by: str = "tenant_id", event: str = "status"
) -> list[dict[str, Any]]:
    """The data of the events about one tenant (or run), from the beginning until one has the state."""
    request = urllib.request.Request(f"{api.url}{path}?{by}={key}", headers={"authorization": f"Bearer {api.token}"})
    found: list[dict[str, Any]] = []
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.headers["content-type"] == "text/event-stream"
        RecordingApi.seen.add(("GET", path, 200))
        name = ""
        for line in response:
            match = re.fullmatch(r"(event|data): (.*)\n", line.decode())
            if match and match[1] == "event":
                name = match[2]
            elif match and name == event:
                found.append(json.loads(match[2]))
                if found[-1]["state"] == until:
                    return found
    raise AssertionError(f"the stream ended before {key} was {until}")
