"""Key rotation while signups run, and alerts that reach a person."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from deploy.local.ports import reserve_port
from deploy.local.stack import Stack, new_key

from .client import Api, eventually
from .invariants import rows


def keys_in_use(stack: Stack) -> set[str]:
    return {
        row[0]
        for row in rows(stack, "select distinct ring || ':' || split_part(sealed, '.', 1) from provisioner.secret")
    }


def restart(stack: Stack, name: str, **more: str) -> None:
    service = stack.services[name]
    assert service.stop(), f"{name} did not stop in time"
    service.environment.update(more)
    service.start()
    service.wait_until_ready()


def connects(connection: dict[str, Any]) -> bool:
    psycopg.connect(
        host=connection["host"], port=connection["port"], dbname=connection["database"], user=connection["user"],
        password=connection["password"],
    ).close()  # fmt: skip
    return True


def test_both_rings_are_rotated_while_signups_run(stack: Stack, api: Api, app: Api) -> None:
    before = api.ready_tenant("Before Rotation")
    old_control, old_app = stack.settings["keys"]["control"], stack.settings["keys"]["app"]
    new_control, new_app = new_key("c2"), new_key("a2")
    tenants = [api.signup(f"During {i}").json["tenant_id"] for i in range(5)]
    restart(stack, "gateway-0", APP_KEYS=f"{old_app},{new_app}")  # first everybody can read, then one begins to seal
    restart(stack, "provisioner-0", CONTROL_KEYS=f"{new_control},{old_control}", APP_KEYS=f"{new_app},{old_app}")
    tenants += [api.signup(f"After {i}").json["tenant_id"] for i in range(5)]
    for tenant in tenants:
        api.wait_state(tenant, "ready")
    eventually(lambda: keys_in_use(stack) == {"control:c2", "app:a2"}, 20, "every secret is sealed with the new keys")
    restart(stack, "gateway-0", APP_KEYS=new_app)
    restart(stack, "provisioner-0", CONTROL_KEYS=new_control, APP_KEYS=new_app)
    for tenant in (before, tenants[0], tenants[-1]):
        assert connects(app.get(f"/api/tenants/{tenant}/connection").json)
    operation = api.command(before, "rotate-credentials").json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"


def test_a_key_nobody_was_given_makes_not_ready_and_harms_nothing(stack: Stack, api: Api) -> None:
    good = stack.services["provisioner-0"].environment["CONTROL_KEYS"]
    service = stack.services["provisioner-0"]
    assert service.stop()
    service.environment["CONTROL_KEYS"] = new_key("c9")
    service.start()
    eventually(lambda: "key_unknown" in readiness(service.ops_url), 20, "it says which key is missing")
    assert service.stop()
    service.environment["CONTROL_KEYS"] = good
    service.start()
    service.wait_until_ready()
    api.ready_tenant("After The Scare")


def readiness(ops_url: str) -> str:
    return Api(ops_url, None).get("/readyz").text


@contextmanager
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """A receiver of alerts: its URL and what it got."""
    got: list[Any] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", reserve_port()), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alerts", got
    finally:
        server.shutdown()
        thread.join()


def test_a_tenant_that_needs_a_person_raises_an_alert_by_webhook_and_mail(stack: Stack, api: Api) -> None:
    with webhook() as (url, got):
        restart(stack, "provisioner-0", ALERT_WEBHOOK=url, ALERT_MAIL="oncall@tenantry.test")
        tenant = api.ready_tenant("Broken Shop")
        name = rows(stack, f"select name from provisioner.database where tenant_id = '{tenant}'")[0][0]
        stack.postgres.execute(f"comment on database {name} is 'somebody else''s'")
        operation = api.command(tenant, "deprovision", {"confirm": "broken-shop"}).json["operation_id"]
        assert api.wait_operation(operation)["state"] == "failed"
        assert api.tenant(tenant)["reason"]["code"] == "not_ours"
        mine = f"tenant-attention:{tenant}"
        eventually(lambda: [a for a in got if a["cause"] == mine], 20, "the webhook is told")
        eventually(lambda: any("alert-" in p.name for p in (stack.root / "mail").iterdir()), 10, "the mail is written")
        stack.postgres.execute(f"comment on database {name} is 'tenantry {tenant} 1'")
        operation = api.command(tenant, "retry").json["operation_id"]
        eventually(lambda: api.tenant(tenant)["state"] == "deprovisioned", 20, "retrying ends it")
        open_alerts = api.get("/api/admin/alerts").json["items"]
        assert mine not in [alert["cause"] for alert in open_alerts]
