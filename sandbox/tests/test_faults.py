"""Each fault does what it says, to the requests its rule is about, as often as it says."""

from __future__ import annotations

import http.client
import smtplib
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from .servers import Cluster, Sandbox, eventually

BROKEN = (ConnectionError, http.client.RemoteDisconnected)
ORGANIZATIONS = {"method": "GET", "path": "^/v1/organizations$"}
CREATE = {"method": "POST", "path": "^/v1/projects$"}


def statuses(sandbox: Sandbox, times: int) -> list[int]:
    return [sandbox.ask("GET", "/v1/organizations").status for _ in range(times)]


def listed(sandbox: Sandbox) -> list[str]:
    return [row["name"] for row in sandbox.ask("GET", "/v1/organizations/sandbox/projects").body["projects"]]


def test_a_rule_waits_strikes_and_is_used_up(sandbox: Sandbox) -> None:
    headers = {"X-Reason": "test"}
    sandbox.fault("status", ORGANIZATIONS, {"after": 1, "times": 2}, code=503, body={"a": 1}, headers=headers)
    assert statuses(sandbox, 4) == [200, 503, 503, 200]
    (rule,) = sandbox.control("GET", "faults")
    assert (rule["seen"], rule["applied"]) == (4, 2)
    assert sandbox.control("DELETE", f"faults/{rule['id']}") == {"removed": [rule["id"]]}


def test_a_rule_with_a_probability_strikes_sometimes(sandbox: Sandbox) -> None:
    sandbox.fault("status", ORGANIZATIONS, {"probability": 0.5}, code=500)
    assert {200, 500} == set(statuses(sandbox, 40))


def test_a_rule_can_look_into_the_body(sandbox: Sandbox) -> None:
    sandbox.fault("status", {**CREATE, "body": "doomed"}, code=500)
    assert (sandbox.create("fine").status, sandbox.create("doomed").status) == (201, 500)


def test_a_cut_loses_the_work_and_a_cut_after_only_the_answer(sandbox: Sandbox) -> None:
    for kind, name in (("cut", "lost"), ("cut_after", "done")):
        sandbox.fault(kind, CREATE, {"times": 1})
        with pytest.raises(BROKEN):
            sandbox.create(name)
    assert listed(sandbox) == ["done"]
    assert [entry["status"] for entry in sandbox.control("GET", "requests?method=POST")] == [None, None]
    assert sandbox.create("done").status == 409


def test_a_hang_lasts_until_the_client_gives_up(sandbox: Sandbox) -> None:
    sandbox.fault("hang", ORGANIZATIONS, {"times": 1})
    with pytest.raises(TimeoutError):
        sandbox.ask("GET", "/v1/organizations", timeout=0.2)
    (entry,) = eventually(lambda: sandbox.control("GET", "requests"))
    assert entry["status"] is None and entry["ms"] >= 150


def test_a_delay_is_before_or_after_the_work(sandbox: Sandbox) -> None:
    sandbox.fault("delay", CREATE, {"times": 1}, seconds=30, when="after")
    with pytest.raises(TimeoutError):
        slow = {"name": "slow", "db_pass": "password-1", "organization_slug": "sandbox"}
        sandbox.ask("POST", "/v1/projects", slow, timeout=0.3)
    assert listed(sandbox) == ["slow"]
    sandbox.fault("delay", ORGANIZATIONS, {"times": 1}, seconds=0.1)
    began = time.monotonic()
    assert statuses(sandbox, 1) == [200] and time.monotonic() - began >= 0.1


def test_a_full_region_is_refused_and_shown(sandbox: Sandbox) -> None:
    fault = sandbox.fault("capacity", region="us-east-1")
    refused = sandbox.create(region_selection={"type": "specific", "code": "us-east-1"})
    assert refused.status == 400 and "us-east-1" in refused.body["message"]
    regions = sandbox.ask("GET", "/v1/projects/available-regions?organization_slug=sandbox").body
    full = [row["code"] for row in regions["all"]["specific"] if row.get("status") == "capacity"]
    assert full == ["us-east-1"]
    elsewhere = sandbox.create(region_selection={"type": "smartGroup", "code": "americas"})
    assert elsewhere.body["region"] == "us-east-2"
    sandbox.control("DELETE", f"faults/{fault}")
    assert sandbox.create("second", region="us-east-1").status == 201


def test_a_quota_fault_refuses_as_told(sandbox: Sandbox) -> None:
    sandbox.fault("quota", rule={"times": 1}, code=402, message="pay first")
    answer = sandbox.create()
    assert (answer.status, answer.body) == (402, {"message": "pay first"})
    assert sandbox.create().status == 201


def test_a_stuck_project_stays_until_its_fault_is_removed(sandbox: Sandbox) -> None:
    fault = sandbox.fault("stuck", rule={"times": 1})
    stuck = sandbox.create("stuck").body["ref"]
    sandbox.project("free")
    sandbox.control("POST", "clock", {"advance_seconds": 7200})
    assert sandbox.status(stuck) == "COMING_UP"
    assert sandbox.ask("DELETE", f"/v1/projects/{stuck}").status == 400
    sandbox.control("DELETE", f"faults/{fault}")
    eventually(lambda: sandbox.status(stuck) == "ACTIVE_HEALTHY")
    sandbox.login(stuck, "correct-horse").close()


def test_a_stuck_project_can_fail_or_take_its_time(sandbox: Sandbox) -> None:
    sandbox.fault("stuck", {**CREATE, "body": "failing"}, status="INIT_FAILED")
    sandbox.fault("stuck", {**CREATE, "body": "slow"}, seconds=900)
    failing, slow = sandbox.create("failing").body["ref"], sandbox.create("slow").body["ref"]
    assert (sandbox.status(failing), sandbox.status(slow)) == ("INIT_FAILED", "COMING_UP")
    assert sandbox.ask("DELETE", f"/v1/projects/{failing}").status == 200
    sandbox.control("POST", "clock", {"advance_seconds": 901})
    eventually(lambda: sandbox.status(slow) == "ACTIVE_HEALTHY")


def test_one_service_can_be_unhealthy(sandbox: Sandbox) -> None:
    ref = sandbox.project()
    sandbox.fault("unhealthy", service="auth", error="down")
    assert sandbox.health(ref, "db", "auth") == {"db": "ACTIVE_HEALTHY", "auth": "UNHEALTHY"}


def test_a_rate_limit_fault_tells_when_to_come_back(sandbox: Sandbox) -> None:
    sandbox.fault("rate_limit", ORGANIZATIONS, {"times": 1}, reset=7, retry_after=8)
    answer = sandbox.ask("GET", "/v1/organizations")
    told = (answer.headers["X-RateLimit-Reset"], answer.headers["Retry-After"])
    assert (answer.status, told) == (429, ("7", "8"))


def test_a_lagging_list_does_not_show_a_fresh_project(sandbox: Sandbox) -> None:
    sandbox.fault("lagging_list", seconds=60)
    sandbox.create("fresh")
    assert listed(sandbox) == [] and sandbox.create("fresh").status == 409
    sandbox.control("POST", "clock", {"advance_seconds": 60})
    assert listed(sandbox) == ["fresh"]


def test_the_order_of_a_list_can_be_turned(sandbox: Sandbox) -> None:
    for name in "abc":
        sandbox.create(name)
    sandbox.fault("list_order", order="reverse")
    assert listed(sandbox) == ["c", "b", "a"]


def test_a_fault_that_cannot_be_read_is_refused_with_the_reason(sandbox: Sandbox) -> None:
    answer = sandbox.ask("POST", "/_sandbox/faults", {"fault": {"kind": "delay", "second": 1}}, token=None)
    assert (answer.status, answer.body["message"]) == (400, "fault of kind delay does not take second")
    assert sandbox.ask("POST", "/_sandbox/faults", {"fault": {"kind": "fire"}}, token=None).status == 400


@pytest.fixture
def own_sandbox(cluster: Cluster) -> Iterator[Sandbox]:
    started = Sandbox(cluster, "--state-database", "sandbox_own", "--coming-up-seconds", "0.1")
    yield started
    if started.process.poll() is None:
        started.control("POST", "reset")
        started.stop()


def test_everything_survives_a_kill(own_sandbox: Sandbox) -> None:
    sandbox = own_sandbox
    refs = [sandbox.create(f"tenant-{number}").body["ref"] for number in range(6)]
    sandbox.fault("status", ORGANIZATIONS, {"times": 2}, code=500)
    assert statuses(sandbox, 1) == [500]
    sandbox.control("POST", "clock", {"advance_seconds": 1000})
    keys = sandbox.keys(refs[0])
    sandbox.kill()
    sandbox.start()
    for ref in refs:
        eventually(lambda ref=ref: sandbox.status(ref) == "ACTIVE_HEALTHY")  # type: ignore[misc]
        sandbox.login(ref, "correct-horse").close()
    assert sandbox.keys(refs[0]) == keys
    assert statuses(sandbox, 2) == [500, 200]
    assert sandbox.control("GET", "clock")["ahead_seconds"] >= 1000
    assert len(sandbox.control("GET", "requests?method=POST")) == 6


def test_lost_connections_to_postgresql_are_replaced(sandbox: Sandbox) -> None:
    sandbox.project()
    ended = sandbox.cluster.scalar(
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where application_name = %s",
        "tenantry-sandbox",
    )
    assert ended >= 3
    assert statuses(sandbox, 8) == [200] * 8 and sandbox.create("after").status == 201


def test_it_stops_within_a_second_even_while_requests_hang(own_sandbox: Sandbox) -> None:
    own_sandbox.fault("hang", ORGANIZATIONS)
    ended: list[bool] = []

    def hang() -> None:
        with pytest.raises((OSError, http.client.HTTPException)):
            own_sandbox.ask("GET", "/v1/organizations")
        ended.append(True)

    caller = threading.Thread(target=hang)
    caller.start()
    eventually(lambda: own_sandbox.control("GET", "faults")[0]["applied"])
    began = time.monotonic()
    own_sandbox.stop()
    assert own_sandbox.process.returncode == 0 and time.monotonic() - began < 1
    caller.join(5)
    assert ended


def test_mail_is_caught_and_read(sandbox: Sandbox) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "noreply@example.com", "ada@example.com"
    message["Subject"], message["Message-ID"] = "Willkommen, Ädä", "<one@example.com>"
    message.set_content("Hello\n.a line with a dot\n")
    message.add_alternative("<p>Hello</p>", subtype="html")
    with smtplib.SMTP("127.0.0.1", sandbox.smtp_port, timeout=10) as sender:
        sender.ehlo()
        sender.login("anybody", "any password")
        sender.rset()
        sender.send_message(message)
        sender.sendmail("a@example.com", ["bob@example.com"], "Subject: second\r\n\r\nplain\r\n")
    (found,) = sandbox.control("GET", "mail?to=ADA@example.com")
    assert (found["from"], found["to"]) == ("noreply@example.com", ["ada@example.com"])
    assert (found["subject"], found["message_id"]) == ("Willkommen, Ädä", "<one@example.com>")
    assert found["text"] == "Hello\n.a line with a dot\n" and "<p>Hello</p>" in found["html"]
    assert [mail["subject"] for mail in sandbox.control("GET", "mail")] == ["Willkommen, Ädä", "second"]
