"""The statements that docs/operations.md gives to shut a tenant server, run as they stand there: tenants are kept out of what is
not theirs, and the admin it makes can do all that is asked of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from deploy.local.ports import reserve_port
from deploy.local.postgres import PostgresServer
from deploy.local.stack import REPOSITORY, Stack

from .client import Api, eventually
from .invariants import rows
from .service_faults import told


def documented_hardening() -> str:
    """The statements of docs/operations.md, as an operator would paste them."""
    section = (REPOSITORY / "docs" / "operations.md").read_text().split("## Hardening a tenant server\n", 1)[1]
    return section.split("```sql\n", 1)[1].split("```", 1)[0]


@contextlib.contextmanager
def only_on(stack: Stack, server: PostgresServer, admin_url: str) -> Iterator[None]:
    """New tenants live on that server, and the provisioner is its admin."""
    servers = [{
        "name": "hardened", "admin_url": admin_url, "tenant_host": "127.0.0.1", "tenant_port": str(server.port),
        "capacity": 10,
    }]  # fmt: skip
    with told(stack.services["provisioner-0"], TENANT_SERVERS=json.dumps(servers)):
        yield


@pytest.fixture
def hardened(stack: Stack, second_server: PostgresServer) -> Iterator[PostgresServer]:
    second_server.execute(documented_hardening().replace("'...'", "'admin-word'"))
    with only_on(stack, second_server, second_server.url("postgres", "tenantry_admin", "admin-word")):
        yield second_server


def parts_of(app: Api, tenant: str) -> dict[str, Any]:
    login = app.get(f"/api/tenants/{tenant}/connection").json
    return {
        "host": login["host"], "port": login["port"], "user": login["user"], "password": login["password"],
        "dbname": login["database"], "autocommit": True,
    }  # fmt: skip


def ended(api: Api, tenant: str, command: str) -> dict[str, Any]:
    confirm = {"confirm": api.tenant(tenant)["slug"]}
    body = {"deprovision": confirm, "restore": {"mode": "in_place", **confirm}}.get(command)
    answer = api.command(tenant, command, body)
    assert answer.status == 202, (command, answer)
    return api.wait_operation(answer.json["operation_id"])


def succeeds(api: Api, tenant: str, command: str) -> None:
    outcome = ended(api, tenant, command)
    assert outcome["state"] == "succeeded", (command, outcome)


def test_the_documented_hardening_keeps_tenants_out_and_lets_the_admin_in(
    api: Api, app: Api, hardened: PostgresServer
) -> None:
    tenant = api.ready_tenant("Hardened Shop")
    mine = parts_of(app, tenant)
    psycopg.connect(**mine).close()
    for database in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(**{**mine, "dbname": database})
    for command in (
        "suspend",
        "resume",
        "rotate-credentials",
        "backup",
        "restore",
        "archive",
        "restore",
        "deprovision",
    ):
        succeeds(api, tenant, command)


def test_an_admin_that_is_no_superuser_is_not_held_up_by_tenants_either(
    api: Api, app: Api, hardened: PostgresServer
) -> None:
    tenant, other = api.ready_tenant("Obstinate Shop"), api.ready_tenant("Obstructed Shop")
    mine, theirs = parts_of(app, tenant), parts_of(app, other)
    session = psycopg.connect(**mine)
    for change in (
        f"revoke all on large object {{0}} from {mine['user']}",
        f"grant select on large object {{0}} to {theirs['user']}",
    ):
        made = session.execute("select lo_create(0)").fetchone()
        assert made is not None
        session.execute(change.format(made[0]))
    succeeds(api, tenant, "backup")
    succeeds(api, other, "deprovision")
    session.execute(f"begin; alter role {mine['user']} password 'mine'")
    succeeds(api, tenant, "suspend")
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")
    succeeds(api, tenant, "archive")


def test_rows_that_the_admin_may_not_read_fail_the_backup_at_once_with_what_to_do(
    api: Api, app: Api, hardened: PostgresServer
) -> None:
    tenant = api.ready_tenant("Veiled Shop")
    database = parts_of(app, tenant)["dbname"]
    hardened.execute(
        f"set role {database}_owner; create table doc (id int primary key); "
        "alter table doc enable row level security; alter table doc force row level security",
        database,
    )
    hardened.execute("alter role tenantry_admin nobypassrls")
    outcome = ended(api, tenant, "backup")
    assert outcome["state"] == "failed" and outcome["code"] == "dump_refused", outcome
    assert "BYPASSRLS" in outcome["detail"]
    hardened.execute("alter role tenantry_admin bypassrls")
    succeeds(api, tenant, "backup")
    succeeds(api, tenant, "deprovision")


def test_a_tenants_database_has_utf8_whatever_the_server_has(stack: Stack, api: Api, app: Api) -> None:
    server = PostgresServer(
        stack.root / "postgres-ascii", reserve_port(), fast=True, die_with_parent=True, encoding="SQL_ASCII", locale="C"
    )
    server.start()
    try:
        with only_on(stack, server, server.url()):
            tenant = api.ready_tenant("Ascii Shop")
            with psycopg.connect(**parts_of(app, tenant)) as session:
                assert session.execute("select char_length('é')").fetchone() == (1,)
                with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
                    session.execute("select convert_from('\\xff', 'UTF8')")
            succeeds(api, tenant, "deprovision")
    finally:
        server.destroy()


def test_a_server_whose_locale_forbids_utf8_is_named_and_undoes_nothing_and_the_work_goes_on_when_it_is_replaced(
    stack: Stack, api: Api, app: Api, second_server: PostgresServer
) -> None:
    locales = stack.root / "locales"
    locales.mkdir()
    done = subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(locales / "de_DE.iso88591")], timeout=60)
    assert done.returncode == 0
    latin = PostgresServer(
        stack.root / "postgres-latin", reserve_port(), fast=True, die_with_parent=True, encoding="LATIN1",
        locale="de_DE.iso88591", locale_path=locales,
    )  # fmt: skip
    latin.start()
    cause = "held:provisioner:server-locale"
    alerts = f"select detail from catalog.alert where cause = '{cause}' and resolved_at is null"
    try:
        with only_on(stack, latin, latin.url()):
            tenants = [api.signup(f"Latin Shop {n}").json["tenant_id"] for n in range(2)]
            held = (
                "select kind, status, step, error ->> 'code' from provisioner.saga "
                f"where tenant_id in ('{tenants[0]}', '{tenants[1]}') and held_for is not null"
            )
            databases = (
                "select tenant_id, generation, name from provisioner.database "
                f"where tenant_id in ('{tenants[0]}', '{tenants[1]}') order by tenant_id"
            )
            eventually(lambda: len(rows(stack, held)) == 2, 30, "both wait")
            assert rows(stack, held) == [["provision", "running", "create", "server_locale"]] * 2
            assert len(rows(stack, alerts)) == 1, "one alert for both"
            assert "locale of server hardened forbids" in rows(stack, alerts)[0][0]
            assert [api.tenant(tenant)["state"] for tenant in tenants] == ["provisioning"] * 2
            reserved = rows(stack, databases)
        with only_on(stack, second_server, second_server.url()):
            stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
            for tenant in tenants:
                api.wait_state(tenant, "ready", 60)
                with psycopg.connect(**parts_of(app, tenant)) as session:
                    assert session.execute("show server_encoding").fetchone() == ("UTF8",)
            assert rows(stack, databases) == reserved, "nothing was made anew"
            eventually(lambda: rows(stack, alerts) == [], 20, "the alert is over")
            for tenant in tenants:
                succeeds(api, tenant, "deprovision")
    finally:
        latin.destroy()
