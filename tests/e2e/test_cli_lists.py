"""Lists as an operator wants them: sorted, searched, cut, watched; ids that are not typed in full; what is dealt with is put
away, and who did so is in the history."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import uuid
from typing import Any

import pytest

from deploy.local.stack import Stack

from .client import Api, eventually
from .command import answered, cli, has, line_with, on_terminal, refused, running
from .invariants import rows
from .topics import cloudevent, produce, read_all

SHOPS = {"alma": "Alma Öl & Salbe", "bruno": "Bruno 100%_pure", "cora": "Cora Öl"}


@pytest.fixture(scope="module")
def shops(stack: Stack) -> dict[str, str]:
    """Three tenants that differ by one digit of their ids, made one after another: subdomain -> id."""
    common = str(uuid.uuid4())[:-1]
    made = {}
    for number, (name, company) in enumerate(SHOPS.items()):
        made[name] = f"{common}{number}"
        data = {"tenant_id": made[name], "company": company, "email": "o@o.test", "subdomain": name}
        produce(
            stack.kafka.bootstrap, "tenant.signup.v1", made[name].encode(), json.dumps(data).encode(),
            cloudevent("tenant.signup.requested.v1"),
        )  # fmt: skip
        assert stack.run_cli("wait", "tenant", made[name], "--state", "ready", "--timeout", "90s").returncode == 0
    return made


def names(stack: Stack, *words: str) -> list[str]:
    done = stack.run_cli(*words, "-o", "name")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_tenants_are_sorted_searched_and_cut(stack: Stack, shops: dict[str, str]) -> None:
    assert names(stack, "tenants", "--sort", "-subdomain") == ["cora", "bruno", "alma"]
    assert names(stack, "tenants", "--sort=-created_at", "--limit", "2") == ["cora", "bruno"]
    assert names(stack, "tenants", "--search", "öl &") == ["alma"]
    assert names(stack, "tenants", "--search", "öl ", "--sort", "since") == ["alma"]
    assert names(stack, "tenants", "--search", "RUN") == ["bruno"]
    assert names(stack, "tenants", "--search", "0%_p") == ["bruno"], "no pattern, but what it says"
    assert names(stack, "tenants", "--search", "%%%") == []
    refused(stack.run_cli("tenants", "--search", "öl"), 4, "search", "3 to 100 characters")
    refused(stack.run_cli("tenants", "--sort", "plan"), 2, "--sort is one of created_at, since, subdomain")
    refused(stack.run_cli("tenants", "--limit", "0"), 2, "--limit")


def test_pages_in_each_order_follow_one_another(api: Api, shops: dict[str, str]) -> None:
    for sort in ("created_at", "-created_at", "since", "-since", "subdomain", "-subdomain"):
        whole = [tenant["slug"] for tenant in api.get(f"/api/tenants?sort={sort}").json["tenants"]]
        paged, cursor = [], ""
        while cursor is not None:
            page = api.get(f"/api/tenants?sort={sort}&limit=1{cursor and '&cursor='}{cursor}").json
            paged += [tenant["slug"] for tenant in page["tenants"]]
            cursor = page["next_cursor"]
        assert paged == whole and len(whole) == 3, sort
    by_time = api.get("/api/tenants?limit=1").json["next_cursor"]
    other = api.get(f"/api/tenants?sort=subdomain&cursor={by_time}")
    assert other.status == 400 and other.json["field"] == "cursor", "a cursor is of one order"
    for query in ("sort=plan", "begins=A", "id=xyz", "id=", "limit=501", "search=ab", "cursor=AAAA"):
        assert api.get(f"/api/tenants?{query}").status == 400, query
    for query in ("tenant_id=x", "state=ready", "id=-", "cursor=AAAA"):
        assert api.get(f"/api/operations?{query}").status == 400, query


def test_the_beginning_of_an_id_will_do_where_no_other_begins_so(stack: Stack, shops: dict[str, str]) -> None:
    alma = shops["alma"]
    assert names(stack, "tenant", alma[:-1].upper() + "0") == ["alma"]
    refused(stack.run_cli("tenant", alma[:8]), 2, "several tenants have ids that begin with", alma[:8])
    refused(stack.run_cli("suspend", alma[:-1]), 2, "several tenants", shops["bruno"])
    refused(stack.run_cli("tenant", alma[:3]), 3, "there is no tenant with the subdomain")
    refused(stack.run_cli("tenant", "01234567-89ab"), 3, "nor one whose id begins with that")
    assert stack.run_cli("wait", "tenant", "cora", "--state", "ready").returncode == 0
    lines = stack.run_cli("events", "tail", "--from-beginning", "--tenant", "bruno", "--count", "1").stdout
    assert "signup of Bruno" in lines


def test_operations_are_listed_and_shown(stack: Stack, api: Api, shops: dict[str, str]) -> None:
    suspended = api.command(shops["bruno"], "suspend", {"reason": "unpaid"}).json["operation_id"]
    api.wait_operation(suspended)
    refused_one = api.command(shops["bruno"], "deprovision", {"confirm": "other"}).json["operation_id"]
    api.wait_operation(refused_one)
    assert names(stack, "operation", "list", "--tenant", "bruno", "--limit", "2") == [refused_one, suspended]
    assert names(stack, "operation", "list", "--state", "rejected") == [refused_one]
    by_kind = answered(stack.run_cli("operation", "list", "--sort", "-kind", "--json"))["operations"]
    assert [each["kind"] for each in by_kind] == sorted((each["kind"] for each in by_kind), reverse=True)
    table = stack.run_cli("operation", "list", "--tenant", shops["bruno"]).stdout.splitlines()
    assert table[0].startswith("OPERATION") and table[1].split()[1:4] == ["deprovision", "rejected", "bruno"]
    shown = stack.run_cli("operation", "show", suspended[:13]).stdout
    assert suspended in shown and "bruno" in shown and "succeeded" in shown
    assert stack.run_cli("wait", "operation", suspended[:13]).returncode == 0
    assert "command suspend accepted: unpaid" in stack.run_cli("explain", suspended[:13]).stdout
    refused(stack.run_cli("operation", "show", "01234567-89ab"), 3, "no operation whose id begins with")
    refused(stack.run_cli("operation", "list", "--state", "ready"), 2, "--state")
    refused(stack.run_cli("operation", "list", "--sort", "colour"), 2, "--sort is one of operation_id, kind")
    refused(cli(stack, "operation", "list", TENANTRY_TOKEN=stack.settings["tokens"]["app"]), 4, "scope")


def letters(stack: Stack) -> list[dict[str, Any]]:
    return list(answered(stack.run_cli("dlq", "list", "--json"))["items"])


def open_alerts(stack: Stack) -> dict[str, int]:
    return {each["cause"]: each["alert_id"] for each in answered(stack.run_cli("alerts", "--json"))["items"]}


def refuse_messages(stack: Stack, count: int) -> list[str]:
    """So many dead letters more; their ids, the newest first."""
    before = len(letters(stack))
    for _ in range(count):
        produce(stack.kafka.bootstrap, "tenant.signup.v1", None, b"no JSON", cloudevent("tenant.signup.requested.v1"))
    eventually(lambda: len(letters(stack)) == before + count, 20, "the messages are refused")
    eventually(
        lambda: not rows(stack, "select 1 from catalog.dead_letter where not published"), 20, "their topic has them"
    )
    return [str(each["id"]) for each in letters(stack)[:count]]


def deeds(stack: Stack) -> list[dict[str, Any]]:
    """What the history tells of operators, once Kafka has it."""
    eventually(lambda: not rows(stack, "select 1 from catalog.tenant_event where not published"), 20, "Kafka has all")
    found = [each for each in read_all(stack.kafka.bootstrap, "tenant.events.v1")]
    return [each.json for each in found if each.headers["ce_type"] == b"tenant.operator.acted.v1"]


def test_an_alert_is_resolved_by_hand_and_comes_again_with_its_cause(stack: Stack) -> None:
    refuse_messages(stack, 1)
    alert = open_alerts(stack)["dead-letters:provisioner"]
    refused(cli(stack, "alerts", "resolve", str(alert), TENANTRY_TOKEN=stack.settings["tokens"]["read"]), 4, "scope")
    done = stack.run_cli("alerts", "resolve", str(alert), "--json")
    assert answered(done) == {"resolved": [{"id": str(alert), "resolved": True}]}
    assert stack.run_cli("alerts", "resolve", str(alert)).stdout == f"{alert} resolved\n"
    assert "dead-letters:provisioner" not in open_alerts(stack)
    told = [deed for deed in deeds(stack) if deed["action"] == "alert_resolved"]
    assert [(deed["id"], deed["about"], deed["by"]) for deed in told] == [
        (alert, "dead-letters:provisioner", "admin-token")
    ]
    refused(stack.run_cli("alerts", "resolve", "999999"), 3, "no such number")
    refused(stack.run_cli("alerts", "resolve", "one"), 2, "number")
    refuse_messages(stack, 1)
    assert open_alerts(stack)["dead-letters:provisioner"] > alert


def test_dead_letters_are_dropped_only_by_number_and_code_and_their_alert_goes_with_the_last(stack: Stack) -> None:
    ids = refuse_messages(stack, 2)
    refused(stack.run_cli("dlq", "drop", *ids), 2, "--confirm CODE")
    refused(stack.run_cli("dlq", "drop", ids[0], "--confirm", "invalid_field"), 4, "confirm must be the code")
    refused(
        cli(stack, "dlq", "drop", ids[0], "--confirm=not_json", TENANTRY_TOKEN=stack.settings["tokens"]["read"]),
        4,
        "scope",
    )
    assert {each["id"] for each in letters(stack)} >= {int(each) for each in ids}
    everything = [str(each["id"]) for each in letters(stack)]
    done = stack.run_cli("dlq", "drop", *everything, "--confirm", "not_json")
    assert done.returncode == 0 and done.stdout.splitlines() == [f"{each} dropped" for each in everything], done.stderr
    assert letters(stack) == [] and "dead-letters:provisioner" not in open_alerts(stack)
    refused(stack.run_cli("dlq", "drop", ids[0], "--confirm", "not_json"), 3, "no such number")
    told = [deed for deed in deeds(stack) if deed["action"] == "dead_letter_dropped"]
    assert {deed["id"] for deed in told} == {int(each) for each in everything}
    assert all(deed["code"] == "not_json" and deed["about"].startswith("tenant.signup.v1[") for deed in told)
    [[count]] = rows(stack, "select count(*) from catalog.tenant_event")
    lines = stack.run_cli("events", "tail", "--from-beginning", "--count", count).stdout
    assert f"dead_letter_dropped: {ids[0]}, tenant.signup.v1[" in lines and ", by admin-token" in lines


def test_a_watched_list_shows_what_is_new_and_waits_for_a_gateway_that_restarts(
    stack: Stack, api: Api, shops: dict[str, str]
) -> None:
    with (
        running(stack, "tenants", "--watch=200ms") as watch,
        running(stack, "tenants", "--watch=200ms", "--json") as raw,
    ):
        for process in (watch, raw):  # the gateway may be away from the second request on
            assert "bruno" in line_with(process, "bruno")
        gateway = stack.services["gateway-0"]
        gateway.stop()
        gateway.start()
        gateway.wait_until_ready()
        told = str(api.signup("Dora").json["tenant_id"])
        while "ready" not in line_with(watch, "dora"):  # a line for each change that was seen
            pass
        assert "dora" in [each["slug"] for each in json.loads(line_with(raw, told))["tenants"]]
        for process in (watch, raw):
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
    refused(stack.run_cli("tenants", "--watch", "--sort", "plan"), 2, "--sort")
    refused(cli(stack, "tenants", "--watch", TENANTRY_TOKEN="wrong"), 4, "TENANTRY_TOKEN")


def test_a_watched_list_is_drawn_over_on_a_terminal_and_fits_it(stack: Stack, api: Api, shops: dict[str, str]) -> None:
    with on_terminal(stack, 60, 5, "tenants", "--watch=200ms", "--sort", "-created_at") as terminal:
        terminal.read_until(has("and "), "how many more there are")
        told = api.ready_tenant("Emil")
        terminal.read_until(has("emil"), "the new one")
        assert b"\x1b[H\x1b[J" in terminal.drawn and all(len(line) <= 60 for line in terminal.lines())
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0
    assert told


@pytest.mark.parametrize("words", ["alerts --all", "dlq list", "operation list", "inventory", "tenants"])
def test_every_list_is_watched_until_nobody_reads_it(stack: Stack, shops: dict[str, str], words: str) -> None:
    refuse_messages(stack, 1)
    eventually(lambda: answered(stack.run_cli("inventory", "--json"))["items"], 20, "the janitor has looked")
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(str(stack.build / 'tenantry'))} {words} --watch=200ms | head -n 1"],
        env={"PATH": os.environ["PATH"], **stack.client_environment()}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done


def with_tenantry(stack: Stack) -> dict[str, str]:
    return {"PATH": f"{stack.build}:{os.environ['PATH']}", **stack.client_environment()}


def test_completion_offers_subdomains_where_a_tenant_is_named(stack: Stack, shops: dict[str, str]) -> None:
    script = stack.run_cli("completion", "bash").stdout
    ask = 'COMP_WORDS=(tenantry "$@"); COMP_CWORD=$#; _tenantry; echo "${COMPREPLY[*]}"'

    def offered(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", script + ask, "-", *words],
            env=with_tenantry(stack),
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout.split()

    assert offered("suspend", "br") == ["bruno"] == offered("operation", "list", "--tenant", "br")
    assert {"alma", "bruno", "cora"} <= set(offered("watch", ""))
    assert "bruno" not in offered("dlq", "") and "bruno" not in offered("events", "")
    assert offered("suspend", "--r") == ["--reason"]
    assert offered("operation", "list", "--state", "rej") == ["rejected"]
    nowhere = cli(stack, "completion", "tenants", "br", TENANTRY_URL="http://127.0.0.1:1")
    assert nowhere.returncode == 6 and not nowhere.stdout + nowhere.stderr, "a key that was pressed is no complaint"


def test_fish_completes_commands_options_and_subdomains(stack: Stack, shops: dict[str, str]) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed: its completion was not tried")
    script = stack.root / "tenantry.fish"
    script.write_text(stack.run_cli("completion", "fish").stdout)

    def offered(line: str) -> list[str]:
        done = subprocess.run(
            [fish, "--no-config", "-c", f"source {script}; complete -C '{line}'"],
            env=with_tenantry(stack) | {"HOME": str(stack.root)}, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert done.returncode == 0 and not done.stderr, done.stderr
        return [each.split("\t")[0] for each in done.stdout.splitlines()]

    assert "deprovision" in offered("tenantry dep") and "--confirm" in offered("tenantry deprovision --con")
    assert offered("tenantry suspend br") == ["bruno"]
    assert offered("tenantry operation list --tenant br") == ["bruno"]
    assert "rejected" in offered("tenantry operation list --state ")
    assert {"list", "show", "replay", "drop"} <= set(offered("tenantry dlq "))
