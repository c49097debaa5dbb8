"""The statements that docs/operations.md gives to shut a tenant server, run as they stand there: tenants are kept out of what is
not theirs, and the admin it makes can do all that is asked of it."""

from __future__ import annotations

import json

import psycopg
import pytest

from deploy.local.postgres import PostgresServer
from deploy.local.stack import REPOSITORY, Stack

from .client import Api
from .service_faults import told


def documented_hardening() -> str:
    """The statements of docs/operations.md, as an operator would paste them."""
    section = (REPOSITORY / "docs" / "operations.md").read_text().split("## Hardening a tenant server\n", 1)[1]
    return section.split("```sql\n", 1)[1].split("```", 1)[0]


def test_the_documented_hardening_keeps_tenants_out_and_lets_the_admin_in(
    stack: Stack, api: Api, app: Api, second_server: PostgresServer
) -> None:
    second_server.execute(documented_hardening().replace("'...'", "'admin-word'"))
    admin_url = second_server.url("postgres", "tenantry_admin", "admin-word")
    servers = [{
        "name": "hardened", "admin_url": admin_url, "tenant_host": "127.0.0.1", "tenant_port": str(second_server.port),
        "capacity": 10,
    }]  # fmt: skip
    with told(stack.services["provisioner-0"], TENANT_SERVERS=json.dumps(servers)):
        tenant = api.ready_tenant("Hardened Shop")
        login = app.get(f"/api/tenants/{tenant}/connection").json
        mine = {"host": login["host"], "port": login["port"], "user": login["user"], "password": login["password"]}
        psycopg.connect(dbname=login["database"], **mine).close()
        for database in ("postgres", "template1"):
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(dbname=database, **mine)
        again = {"mode": "in_place", "confirm": "hardened-shop"}
        for command, body in (
            ("suspend", None), ("resume", None), ("rotate-credentials", None), ("backup", None), ("restore", again),
            ("archive", None), ("restore", again), ("deprovision", {"confirm": "hardened-shop"}),
        ):  # fmt: skip
            answer = api.command(tenant, command, body)
            assert answer.status == 202, (command, answer)
            assert api.wait_operation(answer.json["operation_id"])["state"] == "succeeded", command
