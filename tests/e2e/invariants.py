"""What must hold after every end-to-end test, whatever it did: nothing half done or made twice, all told truly."""

from __future__ import annotations

import contextlib
import re
import select
import signal
import threading
from typing import Any

import psycopg

from deploy.local.process import log_tail
from deploy.local.stack import CATALOG, Stack

from .client import Api, eventually
from .topics import latest, read_all

REPORT = re.compile(r"Sanitizer|runtime error: |Assertion .* failed")
LEGAL_PATHS = {
    ("requested", "provisioning"), ("requested", "deprovisioned"), ("requested", "attention"),
    ("provisioning", "ready"), ("provisioning", "attention"), ("provisioning", "requested"),
    ("provisioning", "deprovisioned"), ("ready", "archived"), ("ready", "attention"), ("ready", "deprovisioned"),
    ("attention", "requested"), ("attention", "provisioning"), ("attention", "ready"), ("attention", "archived"),
    ("attention", "deprovisioned"), ("attention", "attention"), ("archived", "deprovisioned"),
    ("archived", "attention"), ("archived", "provisioning"),
}  # fmt: skip


_kept: dict[str, psycopg.Connection[Any]] = {}  # the main thread's connection, by its URL


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, connect_timeout=5, prepare_threshold=None, application_name="test")


def _keep(url: str) -> psycopg.Connection[Any]:
    """The connection to this URL, made anew where the server has ended the last: it says nothing else unasked."""
    kept = _kept.get(url)
    if kept is None or kept.closed or select.select([kept.fileno()], [], [], 0)[0]:
        for old in _kept.values():
            old.close()
        _kept.clear()
        _kept[url] = kept = _connect(url)
    return kept


def rows(stack: Stack, sql: str) -> list[list[str]]:
    """Rows of a query on the catalog, as PostgreSQL's own texts; null is empty. Of several statements, those of the last.
    Waits ask all the time, and to connect takes thirty times as long as most answers: the main thread does it once."""
    url = stack.postgres.url(CATALOG)
    if threading.current_thread() is not threading.main_thread():
        with _connect(url) as catalog:
            return _texts(catalog, sql)
    catalog = _keep(url)
    try:
        return _texts(catalog, sql)
    except psycopg.OperationalError:
        if not catalog.closed:
            raise
        return _texts(_keep(url), sql)  # the server ended it this moment, and with it whatever the statement had done


def _texts(catalog: psycopg.Connection[Any], sql: str) -> list[list[str]]:
    cursor = catalog.execute(sql)  # type: ignore[arg-type]
    while cursor.nextset():
        pass
    found = cursor.pgresult
    assert found is not None
    return [
        [(found.get_value(row, column) or b"").decode() for column in range(found.nfields)]
        for row in range(found.ntuples)
    ]


def values(stack: Stack, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query on the catalog, as Python's values: JSON too."""
    with psycopg.connect(stack.postgres.url(CATALOG)) as catalog:
        return catalog.execute(sql).fetchall()  # type: ignore[arg-type]


def ensure_running(stack: Stack) -> None:
    for service in stack.services.values():
        if not service.process.running:
            service.environment.pop("FAILPOINTS", None)
            service.start()
            service.wait_until_ready()


def wait_until_idle(stack: Stack) -> None:
    """Until no saga is under way. A tenant is ready before this: its mail, for one, is a saga that follows."""
    under_way = "select 1 from provisioner.saga where status in ('running', 'undoing') limit 1"
    eventually(lambda: not rows(stack, under_way), 60, "no saga is under way")


def check_invariants(stack: Stack) -> None:
    ensure_running(stack)
    wait_until_idle(stack)
    eventually(
        lambda: (
            not rows(
                stack,
                "select 1 from catalog.tenant_event where not published union all "
                "select 1 from catalog.tenant_status where published_version < version limit 1",
            )
        ),
        30,
        "everything is published",
    )
    check_operations(stack)
    check_lifecycles(stack)
    check_history(stack)
    check_published_history(stack)
    check_snapshots(stack)
    check_inventory(stack)
    if stack.driver == "postgres":
        check_databases(stack)


def check_endings(stack: Stack) -> None:
    """Each process of ours ended in an orderly way, or because a test or a failpoint killed it; no sanitizer spoke."""
    for name, service in stack.services.items():
        wrong = [code for code in service.process.endings if code not in (0, -signal.SIGKILL, *service.may_end_with)]
        assert not wrong, f"{name} ended with {wrong}:\n{log_tail(service.log_path, 60)}"
        reports = [line for line in service.log_path.read_text(errors="replace").splitlines() if REPORT.search(line)]
        assert not reports, f"{name}: {reports[:5]}"


def open_operations(stack: Stack) -> list[list[str]]:
    return rows(
        stack,
        "select o.operation_id, o.kind, t.state from catalog.operation o "
        "left join provisioner.tenant t using (tenant_id) "
        "where o.state = 'accepted' and t.state is distinct from 'attention' and t.tenant_id is not null",
    )


def check_operations(stack: Stack) -> None:
    """Every operation has ended, but those of tenants that wait for a person or were never seen. What a tenant waits for may be
    begun a moment later, by a timer: until then no saga is under way."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not open_operations(stack), 10, "every operation has ended")
    left = open_operations(stack)
    assert not left, f"operations never ended: {left}"


def check_lifecycles(stack: Stack) -> None:
    """What is known of a tenant's life with the tenant is the strictest of what its sources want."""
    other = rows(
        stack,
        "select tenant_id, lifecycle_wanted, catalog.wanted_lifecycle(tenant_id), state from provisioner.tenant "
        "where lifecycle_wanted <> catalog.wanted_lifecycle(tenant_id)",
    )
    assert not other, f"the copy of what is wanted differs: {other}"


def check_history(stack: Stack, after: int = 0) -> int:
    """Versions rise, states change along legal paths, each from where the last one led to. Only what comes behind the
    row `after`; returns the last row's number."""
    versions: dict[str, int] = {}
    states: dict[str, str] = {}
    last = after
    for last, tenant, kind, data in values(  # noqa: B007
        stack,
        "select seq, tenant_id::text, type, data from catalog.tenant_event "
        f"where tenant_id is not null and seq > {after} order by seq",
    ):
        assert data["version"] > versions.get(tenant, 0), f"versions of {tenant} do not rise"
        versions[tenant] = data["version"]
        if kind == "tenant.state.changed.v1":
            assert (data["from"], data["to"]) in LEGAL_PATHS, f"{tenant} went from {data['from']} to {data['to']}"
            assert states.get(tenant, data["from"]) == data["from"], (
                f"{tenant} was {states[tenant]}, not {data['from']}"
            )
            states[tenant] = data["to"]
    return last


def check_published_history(stack: Stack) -> None:
    """What watchers read rises too; what a publisher repeats after a takeover bears the id it had before."""
    seen: set[bytes] = set()
    versions: dict[bytes, int] = {}
    for record in read_all(stack.kafka.bootstrap, "tenant.events.v1"):
        if record.key is None or record.headers["ce_id"] in seen or "version" not in record.json:
            continue
        seen.add(record.headers["ce_id"])
        assert record.json["version"] > versions.get(record.key, 0), f"versions of {record.key!r} do not rise"
        versions[record.key] = record.json["version"]


def check_inventory(stack: Stack) -> None:
    """The janitor finds no difference between what the provider has and what the catalog knows. Asked of the newest gateway,
    for others may be of the release before."""
    newest = max(name for name in stack.services if name.startswith("gateway"))
    api = Api(stack.services[newest].url, stack.settings["tokens"]["admin"])
    last: list[Any] = []

    def no_difference() -> bool:
        answer = api.get("/api/admin/inventory").json
        items = answer["items"]
        last[:] = [item for item in items if item["verdict"] in ("orphan", "ghost", "drift")]
        last.extend(file for file in answer["archive"]["files"] if file["verdict"] == "missing")
        live = {row[0] for row in rows(stack, "select name from provisioner.database where status = 'live'")}
        return not last and live <= {item["name"] for item in items}

    try:
        eventually(no_difference, 40, "the inventory shows no difference")
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from error


def check_snapshots(stack: Stack) -> None:
    """The last compacted value of each tenant is what the catalog says now."""

    def differences() -> list[str]:
        published = latest(read_all(stack.kafka.bootstrap, "tenant.status.v1"))
        found = []
        known = values(stack, "select tenant_id::text, state, snapshot from catalog.tenant_snapshot")
        for tenant, state, snapshot in known:
            value = published.pop(tenant, None)
            if state == "deprovisioned":
                if value is not None:
                    found.append(f"{tenant} is gone and has no tombstone")
            elif value != snapshot:
                found.append(f"{tenant}: catalog {snapshot}, Kafka {value}")
        found += [f"{tenant}: only Kafka knows it" for tenant, value in published.items() if value is not None]
        return found

    last: list[str] = []

    def equal() -> bool:
        last[:] = differences()
        return not last

    try:
        eventually(equal, 15, "Kafka's last values are the catalog's")
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from error


def check_databases(stack: Stack) -> None:
    """Exactly the databases and logins that the catalog knows."""
    names = stack.tenant_postgres.execute("select datname from pg_database where datname like 'tn\\_%'")
    on_server = set(names.split("\n")) - {""}
    known = {row[0] for row in rows(stack, "select name from provisioner.database where status = 'live'")}
    on_server -= {row[0] for row in rows(stack, "select name from provisioner.restore where mode = 'beside'")}
    assert on_server == known, f"orphans: {on_server - known}, ghosts: {known - on_server}"
    wanted = {f"{name}_{suffix}" for name in known for suffix in ("owner", "app", "app_a")}
    possible = wanted | {f"{name}_app_b" for name in known}  # where a password was rotated
    roles = stack.tenant_postgres.execute("select rolname from pg_roles where rolname like 'tn\\_%'")
    logins = set(roles.split("\n")) - {""}
    assert logins <= possible, f"logins without database: {logins - possible}"
    assert wanted <= logins, f"databases without login: {wanted - logins}"
    check_admins(stack)


def check_admins(stack: Stack) -> None:
    """Each ready tenant's database carries its mark and has one first administrator, the one that was stored."""
    ready = rows(
        stack,
        "select t.tenant_id, t.generation, t.admin_id, d.name from provisioner.tenant t "
        "join provisioner.database d using (tenant_id, generation) where t.state = 'ready' and d.status = 'live'",
    )
    for tenant, generation, admin, name in ready:
        with psycopg.connect(stack.tenant_postgres.url(name)) as database:
            identity = database.execute("select tenant_id::text, generation from tenantry.identity").fetchall()
            admins = [row[0] for row in database.execute("select id::text from tenantry.admin")]
        assert identity == [(tenant, int(generation))], f"{name} says it is {identity}"
        assert admins == [admin], f"{name} has the administrators {admins}, not {admin}"
