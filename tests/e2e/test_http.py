"""The API as a caller meets it: what is refused and how, who may do what, lists, streams and invitations."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from deploy.local.stack import REPOSITORY, Service, Stack

from .client import Answer, Api, eventually
from .invariants import rows
from .mails import mail, words

GOOD = {"company": "Good Shop", "email": "good@shop.test"}
NOBODY = "00000000-0000-4000-8000-000000000000"
NO_SUCH_DAY = f"9999-99-99 99:99:99.999999 {NOBODY}"
COMMANDS = (
    "suspend", "resume", "archive", "deprovision", "rotate-credentials", "retry", "backup", "restore", "resend-invite",
    "labels",
)  # fmt: skip
RUN_COMMANDS = ("pause", "resume", "promote", "halt", "rollback", "retry", "mark", "cancel")

# method, path, scopes that may (None: everybody)
ROUTES: list[tuple[str, str, set[str] | None]] = [
    ("POST", "/api/signups", {"signup", "admin"}),
    ("GET", "/api/operations", {"read", "admin"}),
    ("GET", f"/api/operations/{NOBODY}", {"signup", "read", "admin"}),
    ("GET", "/api/tenants", {"read", "admin"}),
    ("GET", f"/api/tenants/{NOBODY}", {"read", "admin"}),
    ("GET", f"/api/tenants/{NOBODY}/connection", {"app"}),
    *[("POST", f"/api/tenants/nobody/{command}", {"admin"}) for command in COMMANDS],
    ("GET", "/api/stream?tenant_id=nobody", {"read", "admin"}),
    ("GET", "/api/admin/inventory", {"admin"}),
    ("GET", "/api/admin/alerts", {"admin"}),
    ("GET", "/api/admin/dead-letters", {"admin"}),
    ("GET", "/api/admin/dead-letters/0", {"admin"}),
    ("DELETE", "/api/admin/dead-letters/0", {"admin"}),
    ("POST", "/api/admin/alerts/0/resolve", {"admin"}),
    ("POST", "/api/admin/dead-letters/0/replay", {"admin"}),
    *[("POST", f"/api/admin/migrations/{what}", {"admin"}) for what in ("files", "files/withdraw", "run", "drift")],
    *[("GET", f"/api/admin/migrations/{what}", {"admin"}) for what in ("files", "files/withdraw", "status", "drift")],
    ("GET", "/api/admin/migrations/drift/tenants", {"admin"}),
    ("GET", "/api/admin/migrations/stream?run_id=nobody", {"admin"}),
    ("GET", f"/api/admin/migrations/runs/{NOBODY}", {"admin"}),
    ("GET", f"/api/admin/migrations/runs/{NOBODY}/tenants", {"admin"}),
    *[("POST", f"/api/admin/migrations/runs/{NOBODY}/{command}", {"admin"}) for command in RUN_COMMANDS],
    ("POST", f"/api/admin/migrations/runs/{NOBODY}/signals", {"signal", "admin"}),
    ("POST", "/api/admin/migrations/runs/active/signals", {"signal", "admin"}),
    ("GET", "/api/plans", None),
    ("GET", "/api/invites/nothing", {"app"}),
    ("GET", "/invite/nothing", None),
    ("POST", "/invite/nothing", None),
]


def problem(answer: Answer, status: int, field: str | None = None) -> dict[str, Any]:
    """The RFC 9457 document of a refusal."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json
    assert document["status"] == status and document["code"] and document["detail"], document
    if field is not None:
        assert document.get("field") == field, document
    return document


@pytest.fixture(scope="module")
def caller(stack: Stack) -> Api:
    return Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])


@pytest.fixture(scope="module")
def fleet(stack: Stack, caller: Api) -> list[str]:
    """Five tenants, oldest first; the last two on another plan."""
    made = [
        caller.signup(f"Fleet {number}", plan="large" if number > 2 else "small").json["tenant_id"]
        for number in range(5)
    ]
    for tenant in made:
        caller.wait_state(tenant, "ready")
    return [row[0] for row in rows(stack, "select tenant_id from provisioner.tenant order by created_at")]


@pytest.fixture(scope="module")
def second(stack: Stack) -> Service:
    """Another replica of the gateway."""
    return stack.start_service("gateway", 1)


@pytest.fixture(scope="module")
def public(stack: Stack) -> Iterator[Service]:
    """A gateway that takes signups from anybody, also through a proxy."""
    gateway = stack.start_service(
        "gateway", 2, PUBLIC_SIGNUP="1", PUBLIC_SIGNUPS_PER_HOUR="3", SIGNUPS_IN_PROGRESS="1",
        TRUSTED_PROXIES="127.0.9.0/30, 2001:db8::/32",
    )  # fmt: skip
    yield gateway
    assert gateway.stop()


# What is refused.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("company", None), ("company", 7), ("company", True), ("company", ["x"]), ("company", {"x": 1}),
        ("company", ""), ("company", "   "), ("company", "x" * 201), ("company", "bell\u0007"), ("company", "a\nb"),
        ("company", "c1\u0085"), ("company", "\u007f"),
        ("email", 7), ("email", "nobody"), ("email", "a@b"), ("email", "a b@c.test"), ("email", "@b.test"),
        ("email", "a@b..test"), ("email", "a" * 65 + "@b.test"), ("email", "a@" + "b" * 250 + ".test"),
        ("email", "a@b.test\r\nBcc: c@d.test"), ("email", "ä@b.test"),
        ("name", "x" * 201), ("name", 1), ("name", "a\u001f"),
        ("subdomain", "ab"), ("subdomain", "-abc"), ("subdomain", "abc-"), ("subdomain", "Abc"), ("subdomain", "a.b"),
        ("subdomain", "x" * 41), ("subdomain", "caf\u00e9"),
        ("plan", "x" * 41), ("plan", "a b"), ("plan", ""), ("region", "../.."), ("region", 5),
        ("tenant_id", NOBODY), ("colour", "red"), ("Company", "x"), ("constructor", {}), ("é" * 20, "x"),
    ],
)  # fmt: skip
def test_a_bad_field_is_refused_by_its_name(api: Api, field: str, value: Any) -> None:
    problem(api.post("/api/signups", {**GOOD, field: value}), 400, field)


@pytest.mark.parametrize("field", ["company", "email"])
def test_a_missing_field_is_named(api: Api, field: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != field}
    problem(api.post("/api/signups", body), 400, field)


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        (b'{"company": "\xff\xfe", "email": "a@b.test"}', "line 1"),
        (b'{"company": "\xed\xa0\x80", "email": "a@b.test"}', "line 1"),
        (b'{"company": "a\x07b", "email": "a@b.test"}', "control character"),
        (b'{"company": "a\\u0000b", "email": "a@b.test"}', "\\u0000"),
        (b'{"company": "a", "email": "a@b.test", "email": "c@d.test"}', "email"),
        (b'{"company": "a", "email": "a@b.test"} trailing', "line 1"),
        (b'{"company": "a", "email": "a@b.test"', "line 1"),
        (b'{"company": 1e999, "email": "a@b.test"}', "line 1"),
        (b"[" * 30_000 + b"]" * 30_000, "depth"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "depth"),
        (b"\xef\xbb\xbf{}", "line 1"),
    ],
    ids=["no UTF-8", "a surrogate", "a raw bell", "NUL", "a name twice", "trailing text", "cut off", "a huge number",
         "nested lists", "nested objects", "a byte order mark"],
)  # fmt: skip
def test_a_body_that_is_no_json_is_refused_and_says_where(api: Api, raw: bytes, hint: str) -> None:
    refused = problem(api.call("POST", "/api/signups", raw=raw), 400)
    assert refused["code"] == "not_json" and hint in refused["detail"], refused


@pytest.mark.parametrize("raw", [b"[]", b"7", b'"text"', b"null"])
def test_a_body_that_is_no_object_is_refused(api: Api, raw: bytes) -> None:
    assert problem(api.call("POST", "/api/signups", raw=raw), 400)["code"] == "not_an_object"


def test_a_body_of_64_kib_is_read_and_a_larger_one_refused(api: Api) -> None:
    def body(size: int) -> bytes:
        head, tail = b'{"company": "', b'"}'
        return head + b"x" * (size - len(head) - len(tail)) + tail

    problem(api.call("POST", "/api/signups", raw=body(65536)), 400, "company")
    problem(api.call("POST", "/api/signups", raw=body(65537)), 413)
    problem(api.call("POST", "/api/signups", raw=body(5_000_000)), 413)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonx",
     "application/json-patch+json"],
)  # fmt: skip
def test_only_json_is_taken(api: Api, kind: str) -> None:
    problem(api.call("POST", "/api/signups", GOOD, content_type=kind), 415)


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=UTF-8"]
)
def test_json_may_be_written_in_other_ways(api: Api, kind: str) -> None:
    problem(api.call("POST", "/api/signups", {**GOOD, "plan": "?"}, content_type=kind), 400, "plan")


@pytest.mark.parametrize(("method", "path", "_scopes"), ROUTES)
def test_other_methods_are_refused_and_the_right_ones_told(
    api: Api, method: str, path: str, _scopes: set[str] | None
) -> None:
    known = {each for each, other, _ in ROUTES if other == path}
    for wrong in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - known:
        answer = api.call(wrong, path)
        problem(answer, 405)
        assert {each.strip() for each in answer.headers["allow"].split(",")} >= known


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/", "/api/signups/", "/api//signups", "/api/tenants/", f"/api/tenants/{NOBODY}/explode",
     f"/api/tenants/{NOBODY}/suspend/now", "/api/../api/tenants", "/API/tenants", "/api/tenants%00",
     "/%2e%2e/etc/passwd"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(api: Api, path: str) -> None:
    problem(api.get(path), 404)


def test_a_path_that_is_too_long_is_refused(api: Api) -> None:
    assert api.get("/api/" + "x" * 3000).status == 414


@pytest.mark.parametrize(
    "name",
    ["nobody", "ABCDEF00-0000-4000-8000-000000000000", NOBODY[:-1], NOBODY + "0", "%27%3b--", "0" * 2000],
)
def test_an_id_that_is_none_is_not_found(api: Api, app: Api, name: str) -> None:
    for answer in (
        api.get(f"/api/tenants/{name}"), api.get(f"/api/operations/{name}"),
        app.get(f"/api/tenants/{name}/connection"), api.post(f"/api/tenants/{name}/suspend"),
    ):  # fmt: skip
        problem(answer, 404)


def test_a_tenant_that_does_not_exist_is_not_found(api: Api, app: Api) -> None:
    problem(api.get(f"/api/tenants/{NOBODY}"), 404)
    problem(app.get(f"/api/tenants/{NOBODY}/connection"), 404)
    problem(api.get(f"/api/operations/{NOBODY}"), 404)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "caf\u00e9"])
def test_a_bad_idempotency_key_is_refused_by_its_name(api: Api, key: str) -> None:
    problem(api.signup("Bad Key", idempotency_key=key), 400, "Idempotency-Key")


def test_one_key_with_two_bodies_is_a_conflict_on_every_replica(api: Api, second: Service) -> None:
    key = str(uuid.uuid4())
    first = api.signup("One Body", idempotency_key=key)
    assert first.status == 202
    assert first.headers["location"] == first.json["status_url"]
    api.wait_operation(first.json["operation_id"])
    other = Api(second.url, api.token)
    problem(other.signup("Another Body", idempotency_key=key), 409, "Idempotency-Key")
    assert other.signup("One Body", idempotency_key=key).json == first.json


def test_the_same_key_of_another_caller_is_another_request(stack: Stack, api: Api) -> None:
    key = str(uuid.uuid4())
    mine = api.signup("Mine", idempotency_key=key)
    theirs = Api(api.url, stack.settings["tokens"]["signup"]).signup("Theirs", idempotency_key=key)
    assert mine.status == theirs.status == 202
    assert mine.json["tenant_id"] != theirs.json["tenant_id"]


@pytest.mark.parametrize(
    "prefer", ["wait=0", "wait=-5", "wait=x", "wait=99999999999999999999", "respond-async", "wait"]
)
def test_a_strange_preference_does_no_harm(api: Api, prefer: str) -> None:
    assert api.signup("Strange", subdomain="www", prefer=prefer).status in (202, 409)


def test_a_deletion_with_the_wrong_name_is_refused_at_once(stack: Stack, api: Api, fleet: list[str]) -> None:
    """And told: its operation is rejected, and the tenant stays as it is."""
    tenant = fleet[0]
    for wrong in ("fleet", "Fleet-0", "fleet-0 ", tenant):
        refused = problem(api.command(tenant, "deprovision", {"confirm": wrong}), 409, "confirm")
        assert refused["code"] == "not_confirmed"
        assert api.wait_operation(refused["operation_id"])["state"] == "rejected"
    assert api.tenant(tenant)["state"] == "ready"
    problem(api.command(tenant, "deprovision", {"confirm": 7}), 400, "confirm")
    problem(api.command(tenant, "deprovision", {"confirm": "fleet", "colour": "red"}), 400, "colour")
    problem(api.command(tenant, "suspend", {"confirm": "fleet"}), 400, "confirm")


def test_who_waits_for_a_command_to_nobody_is_told_that_it_is_parked(stack: Stack, api: Api) -> None:
    nobody = str(uuid.uuid4())
    for command, body in (("suspend", {}), ("deprovision", {"confirm": "nobody"})):
        parked = api.command(nobody, command, body, prefer="wait=25")
        assert parked.status == 202 and parked.headers["location"] == parked.json["status_url"], parked
        assert (parked.json["state"], parked.json["code"]) == ("accepted", "parked") and "signup" in parked.json[
            "detail"
        ]
        told = api.get(parked.json["status_url"]).json
        assert (told["state"], told["code"]) == ("accepted", "parked")
    stack.postgres.execute(f"delete from catalog.parked where tenant_id = '{nobody}'", "tenantry")
    stack.postgres.execute(f"delete from catalog.operation where tenant_id = '{nobody}'", "tenantry")


# Who may do what.


@pytest.mark.parametrize("scope", ["signup", "read", "app", "signal", "admin"])
@pytest.mark.parametrize(("method", "path", "allowed"), ROUTES)
@pytest.mark.usefixtures("monitoring")
def test_each_token_does_what_its_scope_says_and_nothing_else(
    stack: Stack, api: Api, scope: str, method: str, path: str, allowed: set[str] | None
) -> None:
    answer = Api(api.url, stack.settings["tokens"][scope]).call(method, path, {"?": 1} if method == "POST" else None)
    if allowed is None or scope in allowed:
        assert answer.status not in (0, 401, 403, 500, 503), answer
    else:
        assert problem(answer, 403)["code"] == "wrong_scope"


@pytest.mark.parametrize(
    "sent",
    [None, "", "Bearer", "Bearer ", "Bearer nonsense", "Basic YWRtaW46YWRtaW4=", "bearer  x", "Bearer " + "x" * 5000],
)
@pytest.mark.parametrize(("method", "path", "allowed"), ROUTES)
def test_without_a_good_token_nothing_is_done(
    api: Api, sent: str | None, method: str, path: str, allowed: set[str] | None
) -> None:
    if allowed is None:
        return
    headers = {} if sent is None else {"authorization": sent}
    answer = Api(api.url, None).call(method, path, GOOD if method == "POST" else None, raw=None, timeout=60, **headers)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_token_file_is_read_again_and_a_broken_one_changes_nothing(stack: Stack, api: Api) -> None:
    before = stack.tokens.path.read_text()
    fresh, gone = "fresh-token-of-the-test", stack.settings["tokens"]["read"]
    line = f"fresh read {hashlib.sha256(fresh.encode()).hexdigest()}\n"
    new, old = Api(api.url, fresh), Api(api.url, gone)
    try:
        assert new.get("/api/tenants").status == 401
        stack.tokens.path.write_text(before + line)
        eventually(lambda: new.get("/api/tenants").status == 200, 5, "the new token is known")

        def complaints() -> int:
            return stack.services["gateway-0"].log_path.read_text().count("the token file is invalid")

        broken_at = complaints()
        for broken in ("fresh read\n", "fresh king " + "0" * 64 + "\n", "fresh read " + "z" * 64 + "\n"):
            stack.tokens.path.write_text(before.replace("read-token", "other-token") + broken)
            broken_at += 1
            eventually(lambda wanted=broken_at: complaints() >= wanted, 5, "the gateway says that the file is broken")
            assert new.get("/api/tenants").status == 200 and old.get("/api/tenants").status == 200
        without_read = "".join(each for each in before.splitlines(True) if " read " not in each)
        stack.tokens.path.write_text(without_read)
        eventually(lambda: old.get("/api/tenants").status == 401, 5, "the old token is refused")
        assert new.get("/api/tenants").status == 401 and api.get("/api/tenants").status == 200
    finally:
        stack.tokens.path.write_text(before)
    eventually(lambda: old.get("/api/tenants").status == 200, 5, "the file is as it was")


def test_a_token_file_that_says_nothing_takes_nothing_away_and_raises_an_alert(stack: Stack, api: Api) -> None:
    path, gateway = stack.tokens.path, stack.services["gateway-0"]
    before = path.read_text()

    def stale(is_so: bool) -> None:
        eventually(lambda: gateway.metrics()["tenantry_tokens_stale"] == is_so, 5, f"stale is {is_so}")

    def alerts() -> list[dict[str, Any]]:
        return [alert for alert in api.get("/api/admin/alerts").json["items"] if alert["cause"] == "tokens"]

    try:
        for content in ("", "# nobody\n\n"):
            path.write_text(content)
            stale(True)
            assert api.get("/api/tenants").status == 200
            path.write_text(before)
            stale(False)
        assert "has no token" in gateway.log_path.read_text()
        path.unlink()
        stale(True)
        assert api.get("/api/tenants").status == 200
        told = eventually(
            lambda: [each for each in alerts() if "No such file" in each["detail"]], 15, "an alert says so"
        )
        assert str(path) in told[0]["detail"]
    finally:
        path.write_text(before)
    stale(False)
    longer_ago = "update catalog.alert set last_at = last_at - interval '1 hour' where cause = 'tokens'"
    stack.postgres.execute(longer_ago, "tenantry")  # as if a minute had passed
    eventually(lambda: not alerts(), 15, "the alert ends")


def test_the_token_file_is_compared_by_what_is_in_it(stack: Stack, api: Api) -> None:
    """A file of the same size and time is another one all the same, and a new file with the same content is not."""
    path, gateway = stack.tokens.path, stack.services["gateway-0"]
    before, stat = path.read_text(), path.stat()
    other = before.replace(hashlib.sha256(stack.settings["tokens"]["read"].encode()).hexdigest(), "0" * 64)
    old = Api(api.url, stack.settings["tokens"]["read"])
    assert old.get("/api/tenants").status == 200 and len(other) == len(before)
    try:
        path.write_text(other)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        eventually(lambda: old.get("/api/tenants").status == 401, 5, "the token that was taken away is refused")
    finally:
        path.write_text(before)
    eventually(lambda: old.get("/api/tenants").status == 200, 5, "the file is as it was")
    times = gateway.log_path.read_text().count("tokens read again")
    fresh = path.with_suffix(".new")
    fresh.write_text(before)
    fresh.replace(path)
    with path.open("a") as out:  # only this is news
        out.write("# seen\n")
    eventually(lambda: gateway.log_path.read_text().count("tokens read again") == times + 1, 5, "it is read once")
    path.write_text(before)


# Public signup.


def from_address(
    gateway: Service, address: str, body: dict[str, Any], **headers: str
) -> tuple[int, dict[str, str], Any]:
    port = gateway.http_port or 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(address, 0))
    try:
        connection.request("POST", "/api/signups", json.dumps(body), {"content-type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.headers.items()}, json.load(response)
    finally:
        connection.close()


def test_anybody_may_sign_up_where_that_is_open_but_not_too_often(stack: Stack, public: Service, caller: Api) -> None:
    company = itertools.count(1)

    def sign_up(address: str) -> tuple[int, dict[str, str], Any]:
        return from_address(public, address, {"company": f"Public {next(company)}", "email": "p@public.test"})

    def sign_up_when_there_is_room(address: str) -> tuple[int, dict[str, str], Any]:
        taken: tuple[int, dict[str, str], Any] = eventually(
            lambda: (answer := sign_up(address))[0] != 503 and answer, 20, "the signup before is done"
        )
        return taken

    for _ in range(3):
        status, _, body = sign_up_when_there_is_room("127.0.0.2")
        assert status == 202, body
    status, headers, body = sign_up_when_there_is_room("127.0.0.2")
    assert status == 429 and body["code"] == "rate_limited" and 0 < int(headers["retry-after"]) <= 3600
    assert sign_up_when_there_is_room("127.0.0.3")[0] == 202
    assert Api(public.url, "nonsense").signup().status == 401
    assert Api(public.url, stack.settings["tokens"]["read"]).signup().status == 403


def test_a_caller_behind_a_proxy_has_a_limit_of_its_own(public: Service) -> None:
    """Refused bodies count as well, and make no tenants."""

    def status(address: str, **headers: str) -> int:
        def answered() -> int:
            found = from_address(public, address, {}, **{name.replace("_", "-"): of for name, of in headers.items()})
            return 0 if found[0] == 503 else found[0]  # while a signup of another test is in progress

        return int(eventually(answered, 20, "there is room for signups"))

    one, other = "203.0.113.5", "2001:db8:1::5"
    assert [status("127.0.9.1", x_forwarded_for=one) for _ in range(4)] == [400, 400, 400, 429]
    assert (
        status("127.0.9.2", x_forwarded_for=f"{other}, {one}, 127.0.9.1") == 429
    )  # what stands before is a stranger's
    assert status("127.0.9.2", forwarded=f"for={other}, for={one}:1234;by=127.0.9.2") == 429
    assert status("127.0.9.1", x_forwarded_for="203.0.113.6") == 400
    site = [status("127.0.9.1", forwarded=f'for="[2001:db9::{host}]:99"') for host in range(4)]
    assert site == [400, 400, 400, 429]  # all from one /64
    assert [status("127.0.9.9", x_forwarded_for=f"203.0.113.{host}") for host in range(4)] == [400, 400, 400, 429]


def test_a_proxy_that_is_none_stops_the_start_by_its_name(stack: Stack) -> None:
    gateway = stack.services["gateway-0"]
    told = {**gateway.environment, "TRUSTED_PROXIES": "10.0.0.1, balancer.example"}
    done = subprocess.run(
        [str(stack.build / "tenantry-gateway"), "--check-config"], env=told, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2 and "TRUSTED_PROXIES" in done.stderr and "balancer.example" in done.stderr, done


def test_public_signups_wait_while_too_many_are_in_progress(stack: Stack, public: Service, caller: Api) -> None:
    with psycopg.connect(stack.postgres.url("tenantry")) as locker:
        locker.execute("lock table provisioner.database in share row exclusive mode")
        held = caller.signup("Held Up").json["tenant_id"]

        host = itertools.count(1)

        def refused() -> tuple[int, dict[str, str], Any] | None:
            answer = from_address(public, f"127.0.1.{next(host)}", {"company": "?", "email": "?"})
            return None if answer[0] == 400 else answer

        status, headers, body = eventually(refused, 10, "a public signup is refused")
        assert status == 503 and body["code"] == "too_many_signups" and int(headers["retry-after"]) > 0
        assert Api(public.url, caller.token).signup("With A Token").status == 202
        locker.rollback()
    caller.wait_state(held, "ready")


# Lists and operations.


def test_pages_give_each_tenant_once_in_the_order_of_signup(stack: Stack, api: Api, fleet: list[str]) -> None:
    seen: list[str] = []
    path, pages = "/api/tenants?limit=2", 0
    while True:
        page = api.get(path).json
        assert len(page["tenants"]) <= 2
        seen += [tenant["tenant_id"] for tenant in page["tenants"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        path = f"/api/tenants?limit=2&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) and pages >= len(fleet) / 2
    assert [tenant for tenant in seen if tenant in fleet] == fleet


def test_filters_give_what_was_asked_for(api: Api, fleet: list[str]) -> None:
    def ids(query: str) -> list[str]:
        return [tenant["tenant_id"] for tenant in api.get(f"/api/tenants?limit=500&{query}").json["tenants"]]

    large = ids("plan=large")
    assert len(large) == 2 and set(large) <= set(fleet)
    assert ids("subdomain=fleet-1") == [tenant for tenant in fleet if api.tenant(tenant)["slug"] == "fleet-1"]
    assert set(fleet) <= set(ids("state=ready"))
    assert ids("state=archived") == [] and ids("plan=large&subdomain=fleet-1") == []
    assert ids("plan=%27%20or%201%3D1--") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=501", "limit"), ("limit=-1", "limit"), ("limit=two", "limit"),
        ("limit=2x", "limit"), ("limit=", "limit"), ("limit=99999999999999999999", "limit"),
        ("cursor=", "cursor"), ("cursor=nonsense", "cursor"), ("cursor=" + "A" * 300, "cursor"),
        ("cursor=" + base64.urlsafe_b64encode(NO_SUCH_DAY.encode()).decode().rstrip("="), None),
        ("state=%ff", "state"), ("plan=%c3%28", None), ("subdomain=%ed%a0%80", None),
        ("state=", "state"), ("state=Ready", "state"), ("state=ready%7Carchived", "state"), ("state", "state"),
        ("state=ready&state=archived", "state"), ("limit=2&plan=x&limit=3", "limit"), ("limit", "limit"),
    ],
)  # fmt: skip
def test_a_bad_query_is_refused_as_the_callers_mistake(api: Api, query: str, field: str | None) -> None:
    problem(api.get(f"/api/tenants?{query}"), 400, field)


@pytest.mark.parametrize(("method", "path", "allowed"), ROUTES)
@pytest.mark.parametrize("query", ["colour=red", "colour", "Limit=1", "limit%01=1", "=", "%ff=1"])
def test_a_query_that_would_do_nothing_is_refused_by_its_name(
    api: Api, app: Api, method: str, path: str, allowed: set[str] | None, query: str
) -> None:
    """But not for people who follow a link: mail programs hang things on it."""
    caller = app if allowed == {"app"} else api
    answer = caller.call(method, f"{path}{'&' if '?' in path else '?'}{query}", {"?": 1} if method == "POST" else None)
    if path.startswith("/invite/"):
        assert answer.status == 404 and answer.headers["content-type"].startswith("text/html")
    else:
        refused = problem(answer, 400)
        assert refused["code"] == "invalid_field" and "not a parameter" in refused["detail"], refused


def test_all_alerts_may_be_asked_for_without_a_value(stack: Stack, api: Api) -> None:
    stack.postgres.execute(
        "select catalog.raise_alert('of-the-past', null, 'was', ''); select catalog.resolve_alert('of-the-past')",
        "tenantry",
    )

    def causes(query: str) -> list[str]:
        return [alert["cause"] for alert in api.get(f"/api/admin/alerts{query}").json["items"]]

    assert "of-the-past" not in causes("")
    for query in ("?all", "?all=", "?all=1"):
        assert "of-the-past" in causes(query)


def test_an_operation_tells_from_acceptance_to_outcome(api: Api) -> None:
    taken = api.signup("Told Shop")
    assert taken.status == 202
    url = taken.json["status_url"]
    first = api.get(url)
    assert first.status == 200 and first.json["state"] in ("accepted", "succeeded")
    done = api.wait_operation(taken.json["operation_id"])
    assert done["state"] == "succeeded" and done["kind"] == "signup" and done["tenant_id"] == taken.json["tenant_id"]
    assert "body_hash" not in done and done["finished_at"] >= done["created_at"]
    refused = api.signup("Told Shop Two", subdomain="told-shop").json["operation_id"]
    told = api.wait_operation(refused)
    assert (told["state"], told["code"], told["field"]) == ("rejected", "slug_taken", "subdomain")
    assert told["result"]["suggestions"]


def test_head_is_answered_like_get_without_its_body(api: Api) -> None:
    answer = api.call("HEAD", "/api/tenants")
    assert answer.status == 200 and answer.text == "" and int(answer.headers["content-length"]) > 0


def test_no_answer_may_be_kept_or_guessed_at(api: Api) -> None:
    for answer in (api.get("/api/tenants"), api.get("/api/nothing"), api.get("/invite/nothing")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_plans_are_there_for_everybody_and_not_sent_twice(stack: Stack) -> None:
    nobody = Api(stack.services["gateway-0"].url, None)
    first = nobody.get("/api/plans")
    assert [plan["id"] for plan in first.json["plans"]] == ["starter", "professional", "enterprise"]
    assert first.json["plans"][0]["prices"] == {"month": {"amount": 9900}, "year": {"amount": 99000}}
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = nobody.get("/api/plans", if_none_match=known)
        assert (again.status, again.text, again.headers["etag"]) == (304, "", tag), known
        assert again.headers["cache-control"] == first.headers["cache-control"] == "public, max-age=60"
    assert nobody.get("/api/plans", if_none_match='"other"').text == first.text
    assert nobody.call("HEAD", "/api/plans").headers["etag"] == tag


def test_the_plans_are_those_of_the_file_and_a_broken_file_stops_the_start(stack: Stack) -> None:
    file = stack.root / "plans.json"
    plans = json.loads((REPOSITORY / "templates" / "plans.json").read_text())
    plans["plans"][0]["prices"]["month"]["amount"] = 12345
    file.write_text(json.dumps(plans))
    gateway = stack.start_service("gateway", 3, PLANS=str(file))
    assert Api(gateway.url, None).get("/api/plans").json["plans"][0]["prices"]["month"] == {"amount": 12345}
    assert gateway.stop()
    plans["plans"][1]["limits"]["users"] = "20"
    broken = stack.root / "broken.json"
    broken.write_text(json.dumps(plans))
    done = subprocess.run(
        [str(stack.build / "tenantry-gateway"), "--check-config"],
        env={**gateway.environment, "PLANS": str(broken)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0 and "plans[1].limits.users" in done.stderr and str(broken) in done.stderr, done.stderr


# Streams.


class Stream:
    """One open /api/stream, or another, read in the background: events as (name, data), heartbeats as ("heartbeat", "")."""

    def __init__(self, gateway: Service, token: str, query: str = "", path: str = "/api/stream") -> None:
        self.events: list[tuple[str, Any]] = []
        self.ended = False
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port or 0, timeout=60)
        self._connection.request("GET", path + query, headers={"authorization": f"Bearer {token}"})
        self._socket = self._connection.sock
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["content-type"] == "text/event-stream"
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        name = ""
        try:
            for raw in self._response:
                line = raw.decode().rstrip("\n")
                if line.startswith(":"):
                    self.events.append(("heartbeat", ""))
                elif line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    self.events.append((name, json.loads(line[6:])))
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            pass
        self.ended = True

    def wait_live(self) -> None:
        eventually(lambda: ("live", {}) in self.events, 10, "the stream is live")

    @property
    def state(self) -> list[Any]:
        """What came before `live`."""
        return [data for _, data in self.events[: self.events.index(("live", {}))]]

    @property
    def changes(self) -> list[Any]:
        """What came after."""
        return [data for name, data in self.events[self.events.index(("live", {})) + 1 :] if name == "status"]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader, who holds the lock that close() needs
        self._connection.close()


@pytest.fixture
def streams(stack: Stack) -> Iterator[Any]:
    opened: list[Stream] = []

    def open_stream(gateway: Service, query: str = "") -> Stream:
        opened.append(Stream(gateway, stack.settings["tokens"]["read"], query))
        opened[-1].wait_live()
        return opened[-1]

    yield open_stream
    for each in opened:
        each.close()


def test_a_stream_gives_the_state_then_live_then_every_change_on_every_replica(
    stack: Stack, api: Api, second: Service, fleet: list[str], streams: Any
) -> None:
    first = streams(stack.services["gateway-0"])
    other = streams(second)
    one = streams(second, f"?tenant_id={fleet[0]}")
    for stream in (first, other):
        assert set(fleet) <= {data["tenant_id"] for data in stream.state}
    assert [data["tenant_id"] for data in one.state] == [fleet[0]]

    made = api.ready_tenant("Streamed Shop")
    operation = api.command(fleet[0], "suspend", {"reason": "watched"}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    for stream in (first, other):
        eventually(
            lambda seen=stream: any(d["tenant_id"] == made and d["state"] == "ready" for d in seen.changes),
            10,
            "ready is told",
        )
        eventually(
            lambda seen=stream: any(
                d["tenant_id"] == fleet[0] and d["access"]["applied"] == "none" for d in seen.changes
            ),
            10,
            "the suspension is told",
        )
        for tenant in (made, fleet[0]):
            versions = [data["version"] for data in stream.changes if data["tenant_id"] == tenant]
            assert versions == sorted(versions)
    eventually(lambda: any(d["access"]["applied"] == "none" for d in one.changes), 10, "the filtered stream is told")
    assert {data["tenant_id"] for data in one.changes} == {fleet[0]}

    operation = api.command(made, "deprovision", {"confirm": "streamed-shop"}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    eventually(
        lambda: any(d["tenant_id"] == made and d["state"] == "deprovisioned" for d in first.changes),
        10,
        "the end is told",
    )
    operation = api.command(fleet[0], "resume").json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"


def test_a_quiet_stream_shows_that_it_lives_and_a_closed_one_is_forgotten(
    stack: Stack, second: Service, streams: Any
) -> None:
    before = second.metrics()["tenantry_streams_open"]
    stream = streams(second, f"?tenant_id={NOBODY}")
    assert stream.state == [] and second.metrics()["tenantry_streams_open"] == before + 1
    eventually(lambda: ("heartbeat", "") in stream.events, 20, "a heartbeat comes")


def test_a_stream_ends_when_its_token_may_no_longer_open_it(stack: Stack, streams: Any) -> None:
    path, gateway = stack.tokens.path, stack.services["gateway-0"]
    before, words = path.read_text(), {"leaves": "read", "sinks": "admin"}

    def line(name: str, scope: str) -> str:
        return f"{name} {scope} {hashlib.sha256(name.encode()).hexdigest()}\n"

    path.write_text(before + "".join(line(name, scope) for name, scope in words.items()))
    try:
        for name in words:
            eventually(lambda who=name: Api(gateway.url, who).get("/api/tenants").status == 200, 5, "it is known")
        stays, leaves, fleet = streams(gateway), Stream(gateway, "leaves"), Stream(gateway, "sinks")
        runs = Stream(gateway, "sinks", path="/api/admin/migrations/stream")
        for stream in (leaves, fleet, runs):
            stream.wait_live()
        path.write_text(before + line("sinks", "read"))
        eventually(lambda: leaves.ended, 5, "the stream of the token that is gone ends")
        eventually(lambda: runs.ended, 5, "the stream of runs, which needs admin, ends")
        assert not stays.ended and not fleet.ended
        path.write_text(before)
        eventually(lambda: fleet.ended, 5, "the stream of tenants ends too")
        assert not stays.ended
    finally:
        path.write_text(before)


# Invitations.


def invitation(stack: Stack, address: str, number: int = 1) -> str:
    """The path of the link in the newest of `number` mails to this address."""

    def links() -> list[str] | None:
        found: list[tuple[float, str]] = []
        for path in (stack.root / "mail").glob("*.eml"):
            if address in str(mail(path)["to"]):
                text = words(path)
                link = re.search(r"https?://[^/\s]+(/invite/\S+)", text)
                assert link is not None, text
                found.append((path.stat().st_mtime, link.group(1)))
        return [link for _, link in sorted(found)] if len(found) >= number else None

    return str(eventually(links, 10, f"mail {number} to {address}")[-1])


def test_an_invitation_is_used_by_a_person_and_not_by_whoever_looks_at_it(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Inviting Shop", email="boss@inviting.test")
    link = invitation(stack, "boss@inviting.test")
    visitor = Api(api.url, None)
    for _ in range(2):
        page = visitor.get(link)
        assert page.status == 200 and page.headers["content-type"].startswith("text/html")
        assert 'method="post"' in page.text and "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["referrer-policy"] == "no-referrer"
    went = visitor.call("POST", link)
    assert went.status == 303, went
    assert went.headers["location"].startswith("https://inviting-shop.example.com")
    token = link.removeprefix("/invite/")
    whose = app.get(f"/api/invites/{token}").json
    assert whose["tenant_id"] == tenant and whose["subdomain"] == "inviting-shop"

    operation = api.command(tenant, "resend-invite").json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    newer = invitation(stack, "boss@inviting.test", 2)
    assert newer != link
    assert visitor.call("POST", link).status == 410
    assert app.get(f"/api/invites/{token}").status == 404
    assert visitor.call("POST", newer).status == 303


@pytest.fixture
def facts(stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    """The provisioner's own view of its tables; nothing that is done stays."""
    with psycopg.connect(stack.catalog_url("provisioner")) as connection:
        connection.execute("set search_path = provisioner, durable, catalog")
        yield connection
        connection.rollback()


def test_clicks_share_a_link_that_is_on_its_way_or_new(facts: psycopg.Connection[Any], fleet: list[str]) -> None:
    def want() -> int:
        row = facts.execute("select want_link(%s)", [fleet[1]]).fetchone()
        assert row is not None
        return int(row[0])

    first = want()
    assert [want(), want()] == [first, first]  # on its way
    facts.execute("update tenant set link_made = %s where tenant_id = %s", [first, fleet[1]])
    assert want() == first  # made a moment ago
    facts.execute("update tenant set link_wanted_at = link_wanted_at - interval '6 seconds'")
    assert [want(), want()] == [first + 1, first + 1]
    wanted = facts.execute("select link_wanted, link_made from tenant where tenant_id = %s", [fleet[1]]).fetchone()
    assert wanted == (first + 1, first)


def test_only_the_newest_link_is_kept(facts: psycopg.Connection[Any], fleet: list[str]) -> None:
    def put(tenant: str, field: str, generation: int) -> None:
        facts.execute(
            "insert into secret (tenant_id, field, generation, ring, sealed) values (%s, %s, %s, 'app', 'x') "
            "on conflict (tenant_id, field, generation) do update set sealed = excluded.sealed",
            [tenant, field, generation],
        )

    def kept(tenant: str) -> list[tuple[str, int]]:
        return facts.execute(
            "select field, generation from secret where tenant_id = %s and field like 'invite_%%' order by 1, 2",
            [tenant],
        ).fetchall()

    for generation in (1, 2, 3):
        put(fleet[1], "invite_link", generation)
        put(fleet[1], "invite_other", generation)
    put(fleet[2], "invite_link", 1)
    put(fleet[1], "invite_link", 3)
    assert kept(fleet[1]) == [("invite_link", 3), *[("invite_other", each) for each in (1, 2, 3)]]
    assert kept(fleet[2]) == [("invite_link", 1)]


def test_an_address_with_an_international_domain_gets_its_invitation(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Bücher Shop", email="Ada@Bücher.Example")
    assert invitation(stack, "ada@xn--bcher-kva.example")
    assert rows(stack, f"select email from provisioner.tenant where tenant_id = '{tenant}'") == [
        ["ada@xn--bcher-kva.example"]
    ]
    refused = problem(api.signup("Jörg", email="jörg@b.test"), 400, "email")
    assert "before the @" in refused["detail"]


def test_a_tampered_invitation_is_no_invitation(stack: Stack, api: Api, app: Api) -> None:
    api.ready_tenant("Tampered Shop", email="boss@tampered.test")
    link = invitation(stack, "boss@tampered.test")
    visitor = Api(api.url, None)
    token = link.removeprefix("/invite/")
    tenant, number, expires, signature = token.split(".")
    flipped = signature[:-1] + ("A" if signature[-1] != "A" else "B")
    for bad in (
        f"{tenant}.{number}.{expires}.{flipped}", f"{tenant}.{int(number) + 1}.{expires}.{signature}",
        f"{tenant}.{number}.{int(expires) + 1}.{signature}", f"{NOBODY}.{number}.{expires}.{signature}",
        f"{tenant}.{number}.{expires}.", f"{tenant}.{number}.{expires}", f"{token}.{signature}", token.upper(),
        "x" * 500, "....", "%00",
    ):  # fmt: skip
        assert visitor.get(f"/invite/{bad}").status == 404, bad
        assert visitor.call("POST", f"/invite/{bad}").status == 404, bad
        assert app.get(f"/api/invites/{bad}").status == 404, bad
    assert visitor.call("POST", link).status == 303


def test_the_invitation_to_a_workspace_that_is_gone_leads_nowhere(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Closing Shop", email="boss@closing.test")
    link = invitation(stack, "boss@closing.test")
    operation = api.command(tenant, "deprovision", {"confirm": "closing-shop"}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert Api(api.url, None).call("POST", link).status == 410
