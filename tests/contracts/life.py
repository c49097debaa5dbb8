"""A run through everything that can be asked of the product, so that every event and every answer is seen."""

from __future__ import annotations

import json
import re
import uuid
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.stack import Stack
from tests.e2e.billing import signed
from tests.e2e.client import Api, eventually
from tests.e2e.mails import words
from tests.e2e.rollouts import Rollouts
from tests.e2e.stripe import Stripe, event
from tests.e2e.topics import Record, cloudevent, produce, read_all

from .documents import asyncapi, closed_schema, complaints
from .recording import RecordingApi, read_stream

OUT_TOPICS = ("tenant.events.v1", "tenant.status.v1", "migration.runs.v1")
MIGRATIONS = "/api/admin/migrations"
DRIFT = f"{MIGRATIONS}/drift"


@dataclass
class Life:
    """What was seen. `refused`: (topic, key, value, headers) of messages that broke the contract on purpose; their
    dead letters have numbers above `letters_before`."""

    records: list[Record] = field(default_factory=list)
    stream: list[dict[str, Any]] = field(default_factory=list)
    refused: list[tuple[str, bytes | None, bytes | None, dict[str, str]]] = field(default_factory=list)
    letters_before: int = 0

    def of_type(self, event_type: str) -> list[Record]:
        return [each for each in self.records if each.headers.get("ce_type", b"").decode() == event_type]


def live(stack: Stack, callers: dict[str, RecordingApi]) -> Life:
    api, app = callers["admin"], callers["app"]
    life = Life(
        letters_before=max((each["id"] for each in api.get("/api/admin/dead-letters").json["items"]), default=0)
    )
    tenant = begin(api, callers[""], callers["signup"])
    eventually(lambda: mails_about(stack, tenant), 20, "the invitation is sent")
    use(api, app, tenant)
    be_billed(api, app, tenant)
    look_at_the_billing_pages(stack, callers[""], tenant)
    follow_the_invitation(stack, callers[""], app, tenant)
    be_delayed(stack, api, tenant)
    be_wrong(stack, api, callers, tenant)
    send_straight_to_kafka(stack, api, life)
    rollouts = Rollouts(stack, api)
    roll_out(rollouts, callers, tenant)
    look_into(stack, rollouts, tenant)
    look_after_dead_letters(api, life)
    hear_from_stripe(stack, callers[""], api)
    look_at_the_plans(callers[""])
    for path in ("/api/admin/inventory", "/api/admin/alerts?all=1", "/api/tenants", "/api/tenants?limit=1"):
        assert api.get(path).status == 200
    forecast = f"/api/tenants/{tenant}/billing/forecast"
    eventually(lambda: api.get(forecast).status == 200, 20, "billing knows the tenant")
    end(stack, api, app, tenant, life)
    collect(stack, life)
    return life


def hear_from_stripe(stack: Stack, nobody: RecordingApi, api: RecordingApi) -> None:
    stripe = Stripe(nobody)
    assert stripe.deliver(event("evt_life")).status == 200
    assert stripe.deliver(event("evt_life", livemode=True)).json["code"] == "wrong_mode"
    assert stripe.deliver(event("evt_of_another", account="acct_7")).status == 200
    aside = "/api/admin/billing/events?outcome=quarantined"
    [told] = eventually(lambda: api.get(aside).json["items"], 20, "it is set aside")
    again = f"/api/admin/billing/events/{told['number']}/replay"
    assert api.post(again).json["code"] == "set_aside_again"
    with psycopg.connect(stack.catalog_url("billing"), autocommit=True) as billing:
        billing.execute("update billing.event set kept = kept - 'account' where number = %s", [told["number"]])
    assert api.post(again).status == 200
    assert api.get("/api/admin/billing/events?tenant_id=nobody").status == 400
    assert api.post("/api/admin/billing/events/999999/replay").status == 404
    assert api.get("/api/admin/billing/held").status == 200
    assert api.post("/api/admin/billing/release").json == {"released": 0}
    assert api.get("/api/admin/billing/reconcile").status == 200
    assert api.post("/api/admin/billing/reconcile").status == 200


def look_at_the_plans(nobody: RecordingApi) -> None:
    plans = nobody.get("/api/plans")
    assert plans.status == 200
    assert nobody.get("/api/plans", if_none_match=plans.headers["etag"]).status == 304


def done(api: Api, tenant: str, command: str, body: Any = None) -> None:
    answer = api.command(tenant, command, body)
    assert answer.status == 202, answer
    ended = api.wait_operation(answer.json["operation_id"])
    assert ended["state"] == "succeeded", ended


def begin(api: RecordingApi, nobody: RecordingApi, signup: RecordingApi) -> str:
    taken = signup.signup("Lifelong Pharmacy", name="Ada", idempotency_key="life-1")
    again = signup.signup("Lifelong Pharmacy", name="Ada", idempotency_key="life-1")
    assert taken.status == 202 and taken.json == again.json
    assert signup.signup("Another", idempotency_key="life-1").status == 409
    assert nobody.signup("Nobody").status == 401
    assert signup.get(f"/api/operations/{taken.json['operation_id']}").status == 200
    tenant = str(taken.json["tenant_id"])
    api.wait_state(tenant, "ready")
    assert api.signup("Acme", subdomain="lifelong-pharmacy", prefer="wait=20").json["code"] == "slug_taken"
    refused = api.signup("Acme", subdomain="lifelong-pharmacy").json["operation_id"]
    assert api.wait_operation(refused)["result"]["suggestions"] == [f"lifelong-pharmacy-{n}" for n in (2, 3, 4)]
    return tenant


def use(api: RecordingApi, app: RecordingApi, tenant: str) -> None:
    done(api, tenant, "suspend", {"reason": "unpaid"})
    assert app.get(f"/api/tenants/{tenant}/connection").status == 409
    assert api.command(tenant, "resume", prefer="wait=20").json["state"] == "succeeded"
    assert app.get(f"/api/tenants/{tenant}/connection").json["credential_version"] == 1
    done(api, tenant, "rotate-credentials")
    assert app.get(f"/api/tenants/{tenant}/connection").json["credential_version"] == 2
    done(api, tenant, "resend-invite")
    done(api, tenant, "labels", {"add": ["canary", "eu"], "remove": ["us"], "reason": "first in the next rollout"})
    assert api.command(tenant, "retry").status == 202


def be_billed(api: RecordingApi, app: RecordingApi, tenant: str) -> None:
    eventually(lambda: app.get(f"/api/tenants/{tenant}/entitlements").json["why"] == "trial", 20, "its trial begins")
    path, at = f"/api/tenants/{tenant}/billing", "2026-11-01T00:00:00Z"
    assert app.post(f"{path}/usage", {"at": at, "users": 7, "items": 3}, prefer="wait=20").json["state"] == "succeeded"
    assert app.post(f"{path}/usage", {"at": at, "users": 8}, prefer="wait=20").json["state"] == "superseded"
    gift = {"by": "ada", "reason": "a gift", "plan": "enterprise", "modules": ["a"], "until": "2099-12-31T00:00:00Z"}
    assert api.post(f"{path}/override", {**gift, "plan": "none"}, prefer="wait=20").json["code"] == "plan_unknown"
    assert api.post(f"{path}/override", gift, prefer="wait=20").json["state"] == "succeeded"
    assert app.get(path).json["override"]["plan"] == "enterprise"
    buy = {"plan": "starter", "interval": "month"}
    for what, body in {
        "checkout": buy,
        "portal": {},
        "change-plan": buy,
        "cancel": {},
        "resume": {},
        "preview": buy,
    }.items():
        assert app.post(f"{path}/{what}", body).status == 202
    assert api.post(f"{path}/end-duplicate").status == 202
    assert app.post(f"{path}/checkout", buy, prefer="wait=20").json["code"] == "price_missing"
    assert app.post(f"{path}/portal", prefer="wait=20").json["state"] == "succeeded"  # a customer it is already
    known = app.get(f"/api/tenants/{tenant}/entitlements").headers["etag"]
    assert app.get(f"/api/tenants/{tenant}/entitlements", if_none_match=known).status == 304


def look_at_the_billing_pages(stack: Stack, nobody: RecordingApi, tenant: str) -> None:
    link = signed(stack, tenant)
    assert nobody.get(link).status == 200
    for form, status in ((b"action=mail", 200), (b"action=none", 400), (b"action=portal", 303)):
        pressed = nobody.call("POST", link, raw=form, content_type="application/x-www-form-urlencoded")
        assert pressed.status == status, pressed
    assert nobody.get(signed(stack, tenant, days=-1)).status == 410
    assert nobody.get("/billing/not-one").status == 404
    assert nobody.get("/billing/back/acme?checkout=cs_1").status == 200
    assert nobody.get("/billing/back/acme").status == 303


def mails_about(stack: Stack, tenant: str) -> list[Path]:
    return list((stack.root / "mail").glob(f"invite-{tenant}-*.eml"))


def follow_the_invitation(stack: Stack, nobody: RecordingApi, app: RecordingApi, tenant: str) -> None:
    texts = "".join(words(path) for path in mails_about(stack, tenant))
    links = re.findall(rf"/invite/({tenant}[\w.-]+)", texts)
    newest = max(links, key=lambda link: int(link.split(".")[1]))
    assert nobody.get(f"/invite/{newest}").status == 200
    assert nobody.post(f"/invite/{newest}").headers["location"].endswith(f"?invite={newest}")
    assert app.get(f"/api/invites/{newest}").json["tenant_id"] == tenant
    assert nobody.post(f"/invite/{min(links, key=lambda link: int(link.split('.')[1]))}").status == 410
    assert nobody.get("/invite/not-one").status == 404
    assert app.get("/api/invites/not-one").status == 404


def be_delayed(stack: Stack, api: RecordingApi, tenant: str) -> None:
    """A backup that has nowhere to go waits, and goes on by itself."""
    archive, away = stack.root / "archive", stack.root / "archive.away"
    archive.rename(away)
    archive.touch()
    try:
        operation = api.command(tenant, "backup").json["operation_id"]
        eventually(lambda: (api.tenant(tenant).get("activity") or {}).get("error"), 20, "the backup is delayed")
    finally:
        archive.unlink()
        away.rename(archive)
    assert api.wait_operation(operation)["state"] == "succeeded"
    done(api, tenant, "restore", {"mode": "beside"})


def be_wrong(stack: Stack, api: RecordingApi, callers: dict[str, RecordingApi], tenant: str) -> None:
    """Every way to ask wrongly."""
    unknown = str(uuid.uuid4())
    assert callers["signup"].get("/api/tenants").status == 403
    assert callers[""].get("/api/stream").status == 401
    assert api.get(f"/api/stream?tenant_id={tenant.upper()}").status == 400
    for path in (
        f"/api/tenants/{unknown}",
        f"/api/operations/{unknown}",
        "/api/tenants/me",
        "/api/admin/dead-letters/0",
    ):
        assert api.get(path).status == 404, path
    assert callers["app"].get(f"/api/tenants/{unknown}/connection").status == 404
    assert api.get("/api/nothing").status == 404
    assert api.call("DELETE", f"/api/tenants/{tenant}").status == 405
    operations = api.get(f"/api/operations?tenant_id={tenant}&limit=1").json
    assert api.get(f"/api/operations?cursor={operations['next_cursor']}").status == 200
    assert api.get("/api/operations?state=ready").status == api.get("/api/admin/alerts?limit=0").status == 400
    assert api.get("/api/admin/dead-letters?cursor=mine").status == 400
    assert api.get("/api/tenants?limit=501").status == api.get("/api/tenants?cursor=mine").status == 400
    bodies: list[Any] = [{"company": "No Mail"}, {"company": "A", "email": "a@b.test", "sub": "x"}, []]
    for body in bodies:
        assert api.post("/api/signups", body).status == 400
    assert api.call("POST", "/api/signups", raw=b"{").status == 400
    assert api.call("POST", "/api/signups", raw=b"{}", content_type="text/plain").status == 415
    assert api.signup("x" * 70000).status == 413
    assert api.signup("Key", idempotency_key="k" * 256).status == 400
    assert api.command(tenant, "deprovision").status == 400
    assert api.command(tenant, "deprovision", {"confirm": "acme"}, prefer="wait=20").json["code"] == "not_confirmed"
    too_many = {"add": [f"label-{number}" for number in range(20)]}
    assert api.command(tenant, "labels", too_many, prefer="wait=20").json["code"] == "too_many_labels"
    assert api.command("me", "suspend").status == 404


def send_straight_to_kafka(stack: Stack, api: RecordingApi, life: Life) -> None:
    """Each mode once rightly, and what breaks the contract."""
    brokers = stack.kafka.bootstrap
    data = {"company": "Direct Chemist", "email": "d@chemist.test"}
    structured = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/test",
        "type": "tenant.signup.requested.v1",
    }
    signup = cloudevent("tenant.signup.requested.v1")
    ways: list[tuple[Any, dict[str, str]]] = [
        (data, signup),
        ({**structured, "data": data}, {"content-type": "application/cloudevents+json"}),
        (data, {}),
    ]
    tenants = [str(uuid.uuid4()) for _ in ways]
    for tenant, (value, headers) in zip(tenants, ways, strict=True):
        produce(brokers, "tenant.signup.v1", tenant.encode(), json.dumps(value).encode(), headers)
    key = str(uuid.uuid4()).encode()
    unlisted = b'{"company": "' + b"x" * 100 + b'", "email": "none"}'  # longer than a line of base64
    life.refused = [
        ("tenant.signup.v1", key, unlisted, cloudevent("tenant.signup.requested.v1")),
        ("tenant.signup.v1", key, b"{", {}),
        ("tenant.signup.v1", key, None, cloudevent("tenant.signup.requested.v1")),
        ("tenant.signup.v1", None, b"{}", cloudevent("tenant.signup.requested.v1")),
        ("tenant.signup.v1", b"Acme", json.dumps(data).encode(), {}),
        ("tenant.signup.v1", key, b'{"email": "other@chemist.test", "company": "Other"}', signup),  # an id used again
        ("tenant.command.v1", key, b"[]", cloudevent("tenant.suspend.requested.v1")),
        ("tenant.command.v1", key, b"{}", {}),  # bare, where there is more than one type
        ("tenant.migration.v1", b"1.sql", b'{"sql": "select 1;"}', cloudevent("migration.register.requested.v1")),
        ("tenant.migration.v1", b"not a run", b"{}", cloudevent("migration.pause.requested.v1")),
    ]
    for topic, message_key, value, headers in life.refused:
        produce(brokers, topic, message_key, value, headers)
    produce(brokers, "tenant.command.v1", key, b"{}", cloudevent("tenant.dance.requested.v1"))  # not known: put aside
    for tenant in tenants:
        api.wait_state(tenant, "ready")


def roll_out(rollouts: Rollouts, callers: dict[str, RecordingApi], tenant: str) -> None:
    """A file that one tenant cannot take, tried again and taken back; then one that is watched, and every command."""
    api = rollouts.api
    rollouts.query(tenant, "create table formula (name text)")
    version = rollouts.file("create table formula (name text);", "drop table formula;", verify="select true")
    run = rollouts.begin(strategy="waves", waves=[{"percent": 100}], max_failures=0)
    assert rollouts.wait(run, "halted")["reason"]["code"] == "forecast_failed"
    rollouts.command(run, "resume")
    eventually(
        lambda: rollouts.run(run)["reason"] and rollouts.run(run)["reason"]["code"] == "too_many_failures",
        20,
        "it fails",
    )
    [failed] = rollouts.tenants(run, "?state=failed&code=42P07")
    assert failed["tenant_id"] == tenant and api.tenant(tenant)["schema"]["state"] == "failed"
    for query in ("/files?limit=1", f"/files/{version}", "/status", f"/runs/{run}/tenants?limit=1"):
        assert api.get(MIGRATIONS + query).status == 200, query
    since = rollouts.run(run)["since"]
    rollouts.command(run, "retry", tenant_id=tenant)
    eventually(lambda: rollouts.run(run)["since"] > since and rollouts.run(run)["state"] == "halted", 20, "again")
    rollouts.command(run, "mark", tenant_id=tenant, reason="it has it")
    rollouts.wait(run, "completed")
    assert api.post(f"{MIGRATIONS}/runs/{run}/retry", prefer="wait=20").json["code"] == "nothing_to_retry"
    marking = {"tenant_id": tenant, "reason": "it has it"}
    assert api.post(f"{MIGRATIONS}/runs/{run}/mark", marking, prefer="wait=20").json["code"] == "nothing_to_retry"
    rollouts.command(run, "rollback", reason="a rehearsal")
    rollouts.wait(run, "rolled_back")
    risky = rollouts.file("-- tenantry:allow drop-column a rehearsal\nalter table formula drop column name;")
    findings = {each["rule"]: each for each in api.get(f"{MIGRATIONS}/files/{risky}").json["findings"]}
    assert findings["drop-column"]["allowed"] and findings["drop-column"]["why"] == "a rehearsal"
    assert rollouts.withdraw(risky)["state"] == "succeeded"
    watched = rollouts.begin(strategy="canary", forecast="none", reason="once more")
    rollouts.wait(watched, "soaking")
    assert api.post(f"{MIGRATIONS}/run", prefer="wait=20").json["code"] == "run_active"
    waiting = api.post(f"{MIGRATIONS}/run", {"queue": True}, prefer="wait=20").json["run_id"]
    assert [each["run_id"] for each in api.get(f"{MIGRATIONS}/status").json["queued"]] == [waiting]
    for command, state in (("cancel", "cancelled"), ("pause", "cancelled")):
        api.post(f"{MIGRATIONS}/runs/{waiting}/{command}", prefer="wait=20")
        assert rollouts.run(waiting)["state"] == state
    for command, state in (("pause", "paused"), ("resume", "soaking"), ("halt", "halted"), ("resume", "soaking")):
        assert rollouts.command(watched, command)["state"] == "succeeded", command
        rollouts.wait(watched, state)
    be_signalled(rollouts, callers["signal"], watched)
    rollouts.command(watched, "promote")
    rollouts.wait(watched, "completed")
    late = api.post(f"{MIGRATIONS}/runs/{watched}/signals", {"name": "error-rate", "verdict": "halt"}, prefer="wait=20")
    assert late.json["code"] == "wrong_state"
    assert callers["signal"].post(f"{MIGRATIONS}/runs/active/signals", {"name": "a", "verdict": "good"}).status == 404
    for shown in read_stream(api, "completed", watched, f"{MIGRATIONS}/stream", "run_id", "run"):
        assert not complaints(shown, closed_schema("migration.runs.v1")), shown
    assert api.get(f"{MIGRATIONS}/stream?run_id=mine").status == 400
    ask_wrongly_about_migrations(api, callers, watched)


def be_signalled(rollouts: Rollouts, monitoring: RecordingApi, run: str) -> None:
    """Monitoring halts it, and says that all is well again; then one that has too many names."""
    said = {"name": "error-rate", "verdict": "halt", "reason": "5 % of logins fail"}
    assert rollouts.command(run, "signals", **said)["kind"] == "signal"
    halted = rollouts.wait(run, "halted")
    assert halted["reason"] == {"code": "signal", "detail": "error-rate: 5 % of logins fail"}
    assert {name: halted["signals"][0][name] for name in said} == said and halted["probes"]["tenants"] == 1
    rollouts.command(run, "resume")
    rollouts.wait(run, "soaking")
    path = f"{MIGRATIONS}/runs/{run}/signals"
    for number in range(20):
        assert monitoring.post(path, {"name": f"probe-{number}", "verdict": "good"}).status == 202
    at_work = f"{MIGRATIONS}/runs/active/signals"
    answer = monitoring.post(at_work, {"name": "one-more", "verdict": "halt"}, prefer="wait=20")
    assert answer.json["code"] == "too_many_signals" and rollouts.run(run)["state"] == "soaking"


def look_into(stack: Stack, rollouts: Rollouts, tenant: str) -> None:
    """A ledger that somebody changed by hand is found, and the catalog follows it."""
    api = rollouts.api
    rollouts.query(tenant, "insert into public.schema_migrations (version) values ('19990101')")
    asked = api.post(DRIFT, {"tenants": [tenant], "reason": "somebody was here"})
    found = api.wait_operation(asked.json["operation_id"])["result"]
    counts = {"ledger": 1, "unknown_version": 1}
    assert found == {"check_id": asked.json["check_id"], "tenants": 1, "drifted": 1, "findings": counts}
    assert api.get(DRIFT).json["findings"] == counts
    [drifted] = api.get(f"{DRIFT}/tenants?limit=1").json["tenants"]
    assert drifted["tenant_id"] == tenant and drifted["findings"][0]["extra"] == ["19990101"]
    again = cloudevent("migration.drift.requested.v1")
    produce(stack.kafka.bootstrap, "tenant.migration.v1", asked.json["check_id"].encode(), b"{}", again)
    assert api.wait_operation(again["ce_id"])["code"] == "check_exists"
    rollouts.query(tenant, "delete from public.schema_migrations where version = '19990101'")
    put_right = api.post(DRIFT, {"tenants": [tenant]}, prefer="wait=20").json
    assert api.wait_operation(put_right["operation_id"])["result"]["findings"] == {"ledger": 1}
    everybody = api.post(DRIFT, {"schema": True}).json
    assert api.wait_operation(everybody["operation_id"])["state"] == "succeeded"
    assert api.get(DRIFT).json["state"] == "ended"
    assert api.post(DRIFT, {"labels": ["nobody"]}, prefer="wait=20").json["code"] == "unknown_label"
    assert api.post(DRIFT, {"labels": []}).status == api.post(DRIFT, {"check_id": put_right["check_id"]}).status == 400
    assert api.get(f"{DRIFT}/tenants?cursor=mine").status == 400


def ask_wrongly_about_migrations(api: Api, callers: dict[str, RecordingApi], run: str) -> None:
    assert callers["read"].get(f"{MIGRATIONS}/status").status == 403
    assert callers[""].get(f"{MIGRATIONS}/files").status == 401
    for path in (f"/runs/{uuid.uuid4()}", "/runs/mine", "/runs/mine/tenants", "/files/1", "/files/mine"):
        assert api.get(MIGRATIONS + path).status == 404, path
    for query in (f"/runs/{run}/tenants?state=ready", f"/runs/{run}/tenants?cursor=mine", "/files?limit=0"):
        assert api.get(MIGRATIONS + query).status == 400, query
    assert api.post(f"{MIGRATIONS}/run", {"run_id": run}).status == 400
    assert api.post(f"{MIGRATIONS}/runs/mine/pause").status == 404
    assert api.post(f"{MIGRATIONS}/run", {"target": "1"}, prefer="wait=20").json["code"] == "unknown_version"
    assert api.post(f"{MIGRATIONS}/runs/{uuid.uuid4()}/halt", prefer="wait=20").json["code"] == "unknown_run"
    file = {"name": "1_late.sql", "sql": "-- migrate:up\n-- migrate:down\n"}
    assert api.post(f"{MIGRATIONS}/files", file, prefer="wait=20").json["code"] == "out_of_order"
    assert api.call("POST", f"{MIGRATIONS}/files", {**file, "sql": "x" * 2_000_000}).status == 413


def look_after_dead_letters(api: RecordingApi, life: Life) -> None:
    """They are listed in the order in which they were refused; one sent again is refused again."""

    def ours() -> list[int]:
        items = api.get("/api/admin/dead-letters").json["items"]
        return [each["id"] for each in reversed(items) if each["id"] > life.letters_before]

    eventually(lambda: len(ours()) == len(life.refused), 20, "all were refused")
    for letter in ours():
        assert api.get(f"/api/admin/dead-letters/{letter}").status == 200
    topic = life.refused[0][0]
    again = next(n for n in ours() if api.get(f"/api/admin/dead-letters/{n}").json["topic"] == topic)
    assert api.post(f"/api/admin/dead-letters/{again}/replay").status == 202
    life.refused.append(sent(api.get(f"/api/admin/dead-letters/{again}").json))
    eventually(lambda: len(ours()) == len(life.refused), 20, "it was refused again")
    assert api.post("/api/admin/dead-letters/999999/replay").status == 404
    path = f"/api/admin/dead-letters/{again}"
    assert api.call("DELETE", f"{path}?confirm=another_code").status == 409
    eventually(lambda: api.call("DELETE", f"{path}?confirm={api.get(path).json['code']}").status == 200, 20, "dropped")
    assert api.call("DELETE", f"{path}?confirm=any").status == 404
    alert = next(
        each for each in api.get("/api/admin/alerts").json["items"] if each["cause"].startswith("dead-letters:")
    )
    assert api.post(f"/api/admin/alerts/{alert['alert_id']}/resolve").status == 200
    assert api.post("/api/admin/alerts/999999/resolve").status == 404


def sent(letter: dict[str, Any]) -> tuple[str, bytes | None, bytes | None, dict[str, str]]:
    """The message that a dead letter tells of."""
    key, value = (None if letter[name] is None else b64decode(letter[name]) for name in ("message_key", "value"))
    headers = {b64decode(name).decode(): b64decode(text).decode() for name, text in letter["headers"]}
    return letter["topic"], key, value, headers


def end(stack: Stack, api: RecordingApi, app: RecordingApi, tenant: str, life: Life) -> None:
    """Stopped, tried again, archived, deprovisioned."""
    database = app.get(f"/api/tenants/{tenant}/connection").json["database"]
    marker = stack.postgres.execute("delete from tenantry.identity returning tenant_id, generation", database).strip()
    api.command(tenant, "archive")
    assert api.wait_state(tenant, "attention")["reason"]["code"] == "wrong_identity"
    found, generation = marker.split("\n")[0].split("|")
    stack.postgres.execute(
        f"insert into tenantry.identity (tenant_id, generation) values ('{found}', {generation})", database
    )
    api.command(tenant, "retry")
    api.wait_state(tenant, "archived")
    assert api.command(tenant, "suspend", prefer="wait=20").json["code"] == "tenant_archived"
    with psycopg.connect(stack.catalog_url("billing"), autocommit=True) as billing:
        billing.execute("select catalog.want_lifecycle(%s, 'archived', 'subscription ended', 'sub_1 ended')", (tenant,))
    done(api, tenant, "deprovision", {"confirm": "lifelong-pharmacy"})
    assert api.command(tenant, "resume", prefer="wait=20").json["code"] == "tenant_gone"
    gone = api.ready_tenant("Short Lived")
    api.command(gone, "deprovision", {"confirm": "short-lived"})
    life.stream = read_stream(api, "deprovisioned", gone)
    assert api.get(f"/api/tenants/{gone}").json["state"] == "deprovisioned"


def collect(stack: Stack, life: Life) -> None:
    """Everything that was published, once all of it is."""
    eventually(
        lambda: (
            not stack.postgres.execute(
                "select 1 from catalog.tenant_event where not published union all "
                "select 1 from catalog.dead_letter where not published union all "
                "select 1 from catalog.tenant_status where published_version < version union all "
                "select 1 from catalog.snapshot where published_version < version",
                "tenantry",
            )
        ),
        20,
        "everything is published",
    )
    topics = [each["address"] for each in asyncapi()["channels"].values()]
    for topic in topics:
        life.records += read_all(stack.kafka.bootstrap, topic)
