"""The `tenantry` command as an operator and as a pipeline use it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any
from unicodedata import combining, east_asian_width

import pytest
import yaml

from deploy.local.stack import Stack

from .client import Api, eventually
from .command import answered, cli, has, line_with, on_terminal, refused, running
from .invariants import rows, wait_until_idle
from .topics import cloudevent, produce

NOWHERE = "00000000-0000-4000-8000-000000000000"
COMMANDS = [
    "signup", "tenants", "tenant", "watch", "wait", "operation", "explain", "connection", "suspend", "resume", "rotate",
    "backup", "resend-invite", "retry", "label", "archive", "deprovision", "inventory", "alerts", "dlq", "events", "doctor",
    "init", "migrate", "billing", "stripe", "keys", "completion",
]  # fmt: skip


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> str:
    """A ready tenant, made by the command itself."""
    made = answered(
        stack.run_cli("signup", "--company", "Cli Shop", "--email", "c@shop.test", "--name", "Cleo", "--wait", "--json")
    )
    assert made["operation"]["state"] == "succeeded"
    return str(made["tenant_id"])


def test_every_command_has_a_manual_page_with_examples_and_exit_codes(stack: Stack) -> None:
    overview = stack.run_cli("--help")
    assert overview.returncode == 0
    for name in COMMANDS:
        page = stack.run_cli(name, "--help")
        assert page.returncode == 0 and page.stdout.startswith(f"Usage: tenantry {name}")
        assert "Examples:" in page.stdout and "Exit codes:" in page.stdout
        assert f"  {name} " in overview.stdout


def test_a_wrong_call_says_in_one_line_where_help_is(stack: Stack) -> None:
    refused(stack.run_cli("suspend"), 2, "usage: tenantry suspend TENANT [--reason TEXT]")
    refused(stack.run_cli("suspend", "x", "--reason"), 2, "--reason needs a value", "tenantry suspend --help")
    refused(stack.run_cli("suspend", "x", "--reason", "--wait"), 2, "--reason needs a value")
    refused(stack.run_cli("suspend", "no-such-shop", "--reason=--x"), 3, "no-such-shop")
    refused(stack.run_cli("tenants", "--colour", "red"), 2, "unknown option --colour", "tenantry tenants --help")
    refused(stack.run_cli("suspend", "--colour=red", "x"), 2, "unknown option --colour (")
    refused(stack.run_cli("events", "tail", "-n", "5"), 2, "unknown option -n")
    refused(stack.run_cli("tenants", "--state", "happy"), 2, "--state")
    refused(stack.run_cli("signup", "--company", "Half"), 2, "--email")
    refused(stack.run_cli("wait", "tenant", NOWHERE, "--state", "ready", "--timeout", "soon"), 2, "soon")
    refused(stack.run_cli("frobnicate"), 2, "frobnicate")
    refused(stack.run_cli("tennants"), 2, "there is no command tennants; did you mean tenants?")
    refused(stack.run_cli("tenant", ""), 2, "empty word")


def test_help_is_found_in_each_usual_way(stack: Stack) -> None:
    page = stack.run_cli("suspend", "--help").stdout
    assert stack.run_cli("help", "suspend").stdout == page == stack.run_cli("suspend", "-h").stdout
    assert "--wait[=TIME]" in page
    for name in COMMANDS:
        assert not stack.run_cli(name, "-h").stdout.splitlines()[0].endswith(" ")
    refused(stack.run_cli("help", "supend"), 2, "did you mean suspend?")


def failed(done: subprocess.CompletedProcess[str], code: int) -> dict[str, Any]:
    """The error object of a --json call, after it ended with the code and wrote one document."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == code and error["message"]
    return dict(error)


def test_every_failure_of_a_json_call_is_an_object(stack: Stack, tenant: str) -> None:
    for words in (["tennants"], ["suspend"], ["wait", "tenant", tenant], ["keys", "token"], ["archive", "cat"], []):
        failed(stack.run_cli(*words, "--json"), 2)
    assert failed(stack.run_cli("signup", "--company", "X", "--email", "nobody", "--json"), 4)["field"] == "email"
    failed(stack.run_cli("tenant", "no-such-shop", "--json"), 3)
    failed(stack.run_cli("wait", "tenant", tenant, "--state", "archived", "--timeout", "300ms", "--json"), 5)
    words = ["signup", "--company", "X", "--email", "x@x.test", "--subdomain", "cli-shop", "--wait", "--json"]
    done = stack.run_cli(*words)
    assert failed(done, 4)["code"] and json.loads(done.stdout)["operation"]["state"] == "rejected"
    assert failed(cli(stack, "doctor", "--json", TENANTRY_TOKEN="wrong"), 1)["message"].endswith("to mend")


def test_a_signup_tells_its_subdomain_or_how_to_wait_for_it(stack: Stack) -> None:
    words = ["signup", "--company", "Cli Store", "--email", "d@shop.test"]
    assert stack.run_cli(*words, "--wait").returncode == 0
    done = stack.run_cli(*words, "--wait")
    shown = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in shown] == ["tenant", "operation", "subdomain", "state"], done.stdout
    assert shown[2][1].startswith("cli-store-") and shown[3][1] == "ready"
    assert answered(stack.run_cli("tenant", shown[0][1].upper(), "--json"))["slug"] == shown[2][1]
    lines = stack.run_cli("suspend", shown[2][1].upper()).stdout.splitlines()
    operation = lines[1].split()[1]
    assert lines[-1] == f"It is on its way: tenantry wait operation {operation}"
    done = stack.run_cli("wait", "operation", operation.upper())
    assert done.stdout.splitlines()[-1].split() == ["state", "succeeded"], done.stderr
    assert answered(stack.run_cli(*words[:2], "Json Shop", *words[3:], "--wait", "--json"))["subdomain"] == "json-shop"


def test_a_signup_is_waited_for_until_it_is_ready(stack: Stack, tenant: str) -> None:
    done = stack.run_cli("wait", "tenant", tenant, "--state", "ready", "--timeout", "20s")
    assert done.returncode == 0 and "ready" in done.stdout
    shown = stack.run_cli("tenant", "cli-shop").stdout
    assert tenant in shown and "ready since" in shown and "last events" in shown
    assert answered(stack.run_cli("tenant", tenant, "--json"))["slug"] == "cli-shop"


def test_a_taken_subdomain_is_refused_with_free_ones(stack: Stack, tenant: str) -> None:
    done = stack.run_cli("signup", "--company", "X", "--email", "x@x.test", "--subdomain", "cli-shop", "--wait")
    assert done.returncode == 4
    assert "cli-shop is taken" in done.stderr and "cli-shop-2" in done.stderr


def test_the_same_key_gives_the_same_tenant_and_other_words_a_refusal(stack: Stack) -> None:
    words = ["signup", "--email", "k@k.test", "--key", "cli-key", "--json", "--company"]
    first, again = answered(stack.run_cli(*words, "Keyed")), answered(stack.run_cli(*words, "Keyed"))
    assert first["tenant_id"] == again["tenant_id"]
    refused(stack.run_cli(*words, "Other"), 4, "Idempotency-Key")
    assert stack.run_cli("wait", "operation", first["operation_id"], "--timeout", "30s").returncode == 0


def test_a_field_that_is_wrong_is_named(stack: Stack) -> None:
    done = stack.run_cli("signup", "--company", "Bad", "--email", "nobody")
    refused(done, 4, "email")
    assert not done.stderr.startswith("tenantry: email: email")


def test_all_tenants_are_listed_across_pages(stack: Stack, tenant: str) -> None:
    listed = answered(stack.run_cli("tenants", "--all", "--json"))
    assert tenant in [each["tenant_id"] for each in listed["tenants"]] and listed["next_cursor"] is None
    table = stack.run_cli("tenants", "--state", "ready", "--plan", "starter").stdout
    assert table.startswith("SUBDOMAIN") and "cli-shop" in table
    assert answered(stack.run_cli("tenants", "--plan", "no-such-plan", "--json"))["tenants"] == []


def test_every_list_comes_as_json_yaml_names_or_wide(stack: Stack, tenant: str) -> None:
    def same_in_both(words: list[str]) -> bool:  # the fleet lives: the janitor may come by between the two
        told = answered(stack.run_cli(*words, "-o", "json"))
        return bool(yaml.safe_load(stack.run_cli(*words, "-oyaml").stdout) == told)

    for words in (["tenants"], ["tenant", tenant], ["inventory"], ["alerts", "--all"], ["dlq", "list"]):
        eventually(lambda words=words: same_in_both(words), 20, f"{words} is the same in JSON and YAML")
        assert stack.run_cli(*words, "--output=wide").returncode == 0
    assert "cli-shop" in stack.run_cli("tenants", "-o", "name").stdout.splitlines()
    assert stack.run_cli("tenant", tenant, "-oname").stdout == "cli-shop\n"
    wide = stack.run_cli("tenants", "-o", "wide").stdout.splitlines()
    assert "TENANT" in wide[0] and any(tenant in line for line in wide)
    assert tenant not in stack.run_cli("tenants").stdout
    error = yaml.safe_load(stack.run_cli("tenant", "no-such-shop", "-o", "yaml").stdout)["error"]
    assert error["exit_code"] == 3
    refused(stack.run_cli("tenants", "-o", "xml"), 2, "-o must be json, yaml, name, wide or text, not xml")
    refused(stack.run_cli("tenants", "-o"), 2, "-o needs a value")
    refused(stack.run_cli("explain", tenant, "-o", "wide"), 2, "explain supports only -o json and -o yaml")


def test_waiting_ends_with_a_code_for_each_outcome(stack: Stack, tenant: str) -> None:
    refused(stack.run_cli("wait", "tenant", tenant, "--state", "archived", "--timeout", "300ms"), 5, "it continues")
    refused(stack.run_cli("wait", "tenant", NOWHERE, "--state", "ready", "--timeout", "300ms"), 3, NOWHERE)
    refused(stack.run_cli("wait", "operation", NOWHERE), 3)
    refused(stack.run_cli("wait", "tenant", "no-such-shop", "--state", "ready"), 3, "no-such-shop")


def test_commands_are_sent_and_waited_for(stack: Stack, api: Api, tenant: str) -> None:
    done = stack.run_cli("suspend", "cli-shop", "--reason", "asked for by phone", "--wait")
    assert done.returncode == 0 and "succeeded" in done.stdout
    assert api.tenant(tenant)["access"]["applied"] == "none"
    refused(stack.run_cli("connection", "cli-shop"), 4, "may not be used")
    assert answered(stack.run_cli("resume", tenant, "--wait", "--json"))["operation"]["state"] == "succeeded"
    for name in ("rotate", "backup", "resend-invite", "retry"):
        done = stack.run_cli(name, tenant, "--wait=60s")
        assert done.returncode == 0, (name, done.stderr)
    refused(stack.run_cli("suspend", NOWHERE), 3, NOWHERE)


def test_deletion_is_protected(stack: Stack, api: Api) -> None:
    gone = api.ready_tenant("Gone Cli")
    refused(stack.run_cli("deprovision", gone), 2, "--confirm")
    for words in (["--confirm", "other-shop"], ["--confirm="], ["--confirm", "other-shop", "--wait"]):
        refused(stack.run_cli("deprovision", gone, *words), 4, "--confirm must be the tenant's subdomain, gone-cli")
    assert api.tenant(gone)["state"] == "ready" and not operations_of(stack, gone, "deprovision")
    done = stack.run_cli("deprovision", "gone-cli", "--confirm", "gone-cli", "--wait")
    assert done.returncode == 0, done.stderr
    refused(stack.run_cli("wait", "tenant", gone, "--state", "ready"), 1, "deprovisioned")
    assert stack.run_cli("wait", "tenant", gone, "--state", "deprovisioned").returncode == 0


def operations_of(stack: Stack, tenant: str, kind: str) -> list[Any]:
    return rows(stack, f"select 1 from catalog.operation where tenant_id = '{tenant}' and kind = '{kind}'")


def test_the_connection_opens_the_tenants_database(stack: Stack, tenant: str) -> None:
    shown = answered(stack.run_cli("connection", "cli-shop", "--json"))
    assert shown["tenant_id"] == tenant and shown["password"]
    lines = stack.run_cli("connection", tenant, "--env").stdout.splitlines()
    secret = dict(re.findall(r"export (\w+)='(.*)'", "\n".join(lines)))
    asked = subprocess.run(
        ["psql", "-XAtc", "select count(*) from branches"],
        env={"PATH": os.environ["PATH"], **secret}, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    refused(cli(stack, "connection", tenant, TENANTRY_APP_TOKEN=stack.settings["tokens"]["read"]), 4, "scope")


def test_explain_tells_causes_rules_and_effects(stack: Stack, api: Api) -> None:
    told = api.ready_tenant("Told Shop")
    suspended = api.command(told, "suspend", {"reason": "unpaid"}).json["operation_id"]
    api.wait_operation(suspended)
    story = stack.run_cli("explain", "told-shop").stdout
    order = [story.index(part) for part in ("signup of Told Shop", "state provisioning -> ready", "command suspend")]
    assert order == sorted(order) and "operation suspend: succeeded" in story
    assert "because the wanted access differs from the applied access" in story
    causes = answered(stack.run_cli("explain", suspended, "--json"))["causes"]
    assert [cause["caused_by"] for cause in causes] == [suspended]
    assert causes[0]["effects"][0]["type"] == "tenant.command.accepted.v1" and causes[0]["effects"][0]["rule"]
    refused(stack.run_cli("explain", NOWHERE), 3, NOWHERE)
    no = api.command(told, "deprovision", {"confirm": "wrong"}).json["operation_id"]
    api.wait_operation(no)
    assert "rejected" in stack.run_cli("explain", no).stdout


def test_explain_tells_why_a_state_changed(stack: Stack, api: Api) -> None:
    told = api.ready_tenant("Why Shop")
    wait_until_idle(stack)  # its invitation, which ends well, would take it out of attention
    for state in ("attention", "ready"):  # what an activity that fails does, and a retry
        rows(
            stack,
            f"select provisioner.set_state('{told}', '{state}', 'disk_full', 'no room is left there') "
            "from set_config('search_path', 'provisioner,durable,catalog', false)",
        )
    story = stack.run_cli("explain", "why-shop").stdout
    assert "state ready -> attention: no room is left there (disk_full)" in story, story
    assert "no room is left there (disk_full)" in stack.run_cli("tenant", "why-shop").stdout


def test_inventory_and_alerts_are_told(stack: Stack, tenant: str) -> None:
    def seen() -> bool:
        return tenant in [item["tenant_id"] for item in answered(stack.run_cli("inventory", "--json"))["items"]]

    eventually(seen, 20, "the janitor saw the tenant")
    shown = stack.run_cli("inventory").stdout
    assert " ours" in shown.splitlines()[0] and "USD a month" in shown.splitlines()[0]
    assert isinstance(answered(stack.run_cli("alerts", "--all", "--json"))["items"], list)
    assert stack.run_cli("alerts").returncode == 0


def dead_letters(stack: Stack) -> list[dict[str, Any]]:
    return list(answered(stack.run_cli("dlq", "list", "--json"))["items"])


def test_a_dead_letter_is_listed_shown_and_sent_again_unchanged(stack: Stack) -> None:
    company = "No address, and long enough for its base64 form to need several lines: " + "x" * 120
    value = json.dumps({"company": company, "bell": "\x07"}).encode() + b"\x1b[31m\xff"
    before = len(dead_letters(stack))
    produce(
        stack.kafka.bootstrap, "tenant.signup.v1", str(uuid.uuid4()).encode(), value,
        cloudevent("tenant.signup.requested.v1"),
    )  # fmt: skip
    eventually(lambda: len(dead_letters(stack)) == before + 1, 20, "the message is refused")
    letter = str(dead_letters(stack)[0]["id"])
    shown = stack.run_cli("dlq", "show", letter).stdout
    assert company in shown and "ce_type: tenant.signup.requested.v1" in shown
    assert "\x1b" not in shown and "\\x1b[31m\\xff" in shown
    assert letter in stack.run_cli("dlq", "list").stdout
    assert stack.run_cli("dlq", "replay", letter).returncode == 0
    eventually(lambda: len(dead_letters(stack)) == before + 2, 20, "it is refused again")
    first = answered(stack.run_cli("dlq", "show", letter, "--json"))
    again = answered(stack.run_cli("dlq", "show", str(dead_letters(stack)[0]["id"]), "--json"))
    assert again["value"] == first["value"] and again["message_key"] == first["message_key"]
    refused(stack.run_cli("dlq", "show", "999999"), 3)
    refused(stack.run_cli("dlq", "replay", "one"), 2, "number")


def test_events_are_followed_straight_from_kafka(stack: Stack, api: Api, tenant: str) -> None:
    lines = stack.run_cli("events", "tail", "--from-beginning", "--tenant", tenant, "--count", "3").stdout.splitlines()
    assert len(lines) == 3 and "signup of Cli Shop as cli-shop" in lines[0]
    with running(stack, "events", "tail", "--json") as tail:
        assert tail.stderr is not None and "following" in tail.stderr.readline()
        told = str(api.signup("Followed Shop").json["tenant_id"])
        raw = json.loads(line_with(tail, told))
        assert raw["headers"]["ce_type"] == "tenant.requested.v1" and raw["key"] == told
        assert raw["data"]["slug"] == "followed-shop" and raw["offset"] >= 0
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 0
    api.wait_state(told, "ready")


def test_what_follows_for_ever_ends_when_nobody_reads_it(stack: Stack, tenant: str) -> None:
    """Nothing more comes that would meet the closed pipe."""
    eventually(lambda: not rows(stack, "select 1 from catalog.tenant_event where not published"), 20, "Kafka has all")
    [[count]] = rows(stack, f"select count(*) from catalog.tenant_event where tenant_id = '{tenant}'")
    for words, lines in ((f"events tail --from-beginning --tenant {tenant}", count), (f"watch {tenant}", "1")):
        done = subprocess.run(
            ["bash", "-c", f"{shlex.quote(str(stack.build / 'tenantry'))} {words} | head -n {lines}"],
            env={"PATH": os.environ["PATH"], **stack.client_environment()}, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert len(done.stdout.splitlines()) == int(lines), done


def test_an_archived_dump_is_opened_and_a_damaged_one_is_not(stack: Stack, api: Api) -> None:
    kept = api.ready_tenant("Kept Shop")
    assert stack.run_cli("archive", "kept-shop", "--wait").returncode == 0
    path = next((stack.root / "archive" / kept).glob("*.archive"))
    keys = {"CONTROL_KEYS": stack.settings["keys"]["control"]}
    whole = subprocess.run(
        [str(stack.build / "tenantry"), "archive", "cat", str(path)],
        env={"PATH": os.environ["PATH"], **keys}, capture_output=True, timeout=30,
    )  # fmt: skip
    assert whole.returncode == 0 and whole.stdout.startswith(b"PGDMP")
    listed = subprocess.run(["pg_restore", "--list"], input=whole.stdout, capture_output=True, timeout=30)
    assert b"TABLE DATA public branches" in listed.stdout
    checked = answered(cli(stack, "archive", "check", str(path), "--json", **keys))
    assert checked["sound"] and checked["dump_bytes"] == len(whole.stdout) and checked["bytes"] == path.stat().st_size
    cut = stack.root / "cut.archive"
    cut.write_bytes(path.read_bytes()[:-1])
    refused(cli(stack, "archive", "check", str(cut), **keys), 1, "damaged")
    refused(cli(stack, "archive", "check", str(stack.root / "none"), **keys), 3)
    refused(stack.run_cli("archive", "cat"), 2, "archive cat FILE")


def test_watching_goes_on_over_a_restart_of_the_gateway(stack: Stack, api: Api, tenant: str) -> None:
    with running(stack, "watch") as watch:
        line_with(watch, "cli-shop")
        gateway = stack.services["gateway-0"]
        gateway.stop()
        gateway.start()
        gateway.wait_until_ready()
        told = api.ready_tenant("Watched Shop")
        assert "watched-shop" in line_with(watch, "watched-shop  ready")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0
    with running(stack, "watch", told, "--json") as watch:
        assert json.loads(line_with(watch, told))["state"] == "ready"
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(10) == 0


@pytest.mark.parametrize(
    "width, bar", [(120, "[####################] 100 %"), (80, "[##########] 100 %"), (40, " 100 %")]
)
def test_on_a_terminal_watching_draws_a_board(stack: Stack, tenant: str, width: int, bar: str) -> None:
    with on_terminal(stack, width, 12, "watch") as terminal:
        terminal.read_until(has("cli-shop"), "the tenant is drawn")
        terminal.read_until(has(bar), "its bar is drawn")
        assert has(" at work")(terminal.lines())
        assert all(len(line) < width for line in terminal.lines())
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0


def test_a_board_shows_steps_suspensions_long_names_and_how_many_more_there_are(
    stack: Stack, api: Api, tenant: str
) -> None:
    """At 40 columns; and it is drawn anew when the terminal gets another size."""
    closed = api.ready_tenant("Closed Pharmacy Of The North")
    api.wait_operation(api.command(closed, "suspend", {"reason": "unpaid"}).json["operation_id"])
    api.ready_tenant("Third Pharmacy")
    with on_terminal(stack, 40, 4, "watch") as terminal:
        terminal.read_until(has("and "), "how many more there are")
        told = str(api.signup("Stepwise Pharmacy").json["tenant_id"])
        terminal.read_until(has("stepwise-pharma"), "the one at work")
        api.wait_state(told, "ready")
        assert re.search(r"stepwise-pharma\S* +\d+ %  [a-z_]{6}", "\n".join(terminal.lines())), terminal.lines()
        assert all(len(line) < 40 for line in terminal.lines())
        terminal.drawn = b""
        terminal.resize(120, 40)
        wide = r"closed-pharmacy-of-the-\S+ \[#{20}\] 100 %  suspended: unpaid"
        terminal.read_until(lambda lines: re.search(wide, "\n".join(lines)), "it is drawn anew, wide")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0
    assert "  suspended" in stack.run_cli("tenants", "--all").stdout
    assert re.search(r"^state +suspended$", stack.run_cli("tenant", closed).stdout, re.M)


@pytest.fixture(scope="module")
def wide_shop(stack: Stack) -> str:
    words = ["--company", "薬局アクメ" * 6 + "e\u0301" * 9, "--email", "w@w.test", "--subdomain", "wide-shop"]
    return str(answered(stack.run_cli("signup", *words, "--wait", "--json"))["tenant_id"])


@pytest.mark.parametrize("width", [100, 60, 30])
def test_a_table_fits_its_terminal(stack: Stack, wide_shop: str, width: int) -> None:
    """Also where letters take two columns, or none."""
    with on_terminal(stack, width, 24, "tenants") as terminal:
        terminal.read_until(has("wide-shop"), "the table")
        while terminal.read():
            pass
        for line in terminal.lines():
            columns = sum(2 if east_asian_width(c) in "WF" else 0 if combining(c) else 1 for c in line)
            assert columns <= width, (columns, line)
        assert terminal.process.wait(10) == 0


def test_what_a_server_sends_is_never_written_raw(stack: Stack) -> None:
    """A signup may carry what a terminal would obey only beyond ASCII: the contract lets some marks pass."""
    words = ["--company", "Right \u200fLeft", "--email", "r@l.test", "--subdomain", "rtl", "--wait", "--json"]
    made = answered(stack.run_cli("signup", *words))
    shown = stack.run_cli("tenants", "--all").stdout + stack.run_cli("tenant", made["tenant_id"]).stdout
    assert "\u200f" not in shown and "\\xe2\\x80\\x8f" in shown


def test_refusals_and_absences_have_codes_of_their_own(stack: Stack) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for words in (["tenants"], ["watch"], ["tenant", NOWHERE], ["wait", "operation", NOWHERE]):
            refused(cli(stack, *words, TENANTRY_URL=nobody), 6, "cannot be reached")
    refused(cli(stack, "tenants", TENANTRY_TOKEN="no-such-token"), 4, "TENANTRY_TOKEN")
    refused(cli(stack, "inventory", TENANTRY_TOKEN=stack.settings["tokens"]["read"]), 4, "scope")
    refused(cli(stack, "tenants", TENANTRY_TOKEN="two\nlines"), 2, "token")
    refused(cli(stack, "tenants", TENANTRY_URL=""), 2, "TENANTRY_URL", "tenantry tenants --help")
    refused(stack.run_cli("tenant", NOWHERE), 3, "no such tenant")
    told = cli(stack, "tenant", NOWHERE, "--json")
    assert told.returncode == 3 and json.loads(told.stdout)["error"]["status"] == 404


def doctor_environment(stack: Stack) -> dict[str, str]:
    return {
        "TENANTRY_OPS_URL": ",".join(service.ops_url for service in stack.services.values()),
        "TENANT_SERVERS": json.dumps(stack.servers()),
        "CONTROL_KEYS": stack.settings["keys"]["control"],
        "ARCHIVE_DIRECTORY": str(stack.root / "archive"),
    }


def test_the_doctor_finds_a_good_stack_good(stack: Stack) -> None:
    found = cli(stack, "doctor", "--json", **doctor_environment(stack))
    checks = json.loads(found.stdout)["checks"]
    assert found.returncode == 0, [check for check in checks if check["verdict"] == "bad"]
    good = {check["name"] for check in checks if check["verdict"] == "good"}
    assert good >= {
        "configuration", "keys", "archive", "gateway", "service", "kafka", "topics", "catalog", "catalog mode",
        "catalog schema", "roles", "server", "pg_dump",
    }  # fmt: skip


def test_the_doctor_says_what_is_bad_and_what_to_do(stack: Stack) -> None:
    servers = [{**server, "tenant_port": "1"} for server in stack.servers()]
    found = cli(
        stack, "doctor",
        **doctor_environment(stack) | {
            "TENANTRY_TOKEN": "wrong", "KAFKA_BROKERS": "127.0.0.1:1", "CONTROL_KEYS": "k1:short",
            "CATALOG_DATABASE_URL": "postgresql://nobody:hidden-word@127.0.0.1:1/x",
            "TENANT_SERVERS": json.dumps(servers),
        },
    )  # fmt: skip
    assert found.returncode == 1 and "hidden-word" not in found.stdout + found.stderr
    bad = {line.split()[1]: line for line in found.stdout.splitlines() if line.startswith("bad")}
    assert set(bad) == {"keys", "gateway", "kafka", "catalog", "server"}
    assert "TOKENS" in bad["gateway"] and "tenantry keys new" in bad["keys"] and "tenant_port" in bad["server"]


def test_the_doctor_looks_only_at_the_driver_in_use(stack: Stack) -> None:
    def checked(driver: str) -> set[str]:
        found = cli(stack, "doctor", "--json", TENANT_DRIVER=driver)
        return {check["name"] for check in json.loads(found.stdout)["checks"]}

    assert "server" in checked("postgres") and "supabase" not in checked("postgres")
    assert "supabase" in checked("supabase") and "server" not in checked("supabase")


def test_completion_knows_commands_and_options(stack: Stack) -> None:
    script = stack.run_cli("completion", "bash").stdout
    ask = 'COMP_WORDS=(tenantry "$@"); COMP_CWORD=$#; _tenantry; echo "${COMPREPLY[*]}"'

    def offered(*words: str) -> list[str]:
        done = subprocess.run(["bash", "-c", script + ask, "-", *words], capture_output=True, text=True, timeout=10)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert set(COMMANDS) <= set(offered(""))
    assert "--confirm" in offered("deprovision", "--c")
    assert {"list", "show", "replay"} <= set(offered("dlq", ""))
    assert offered("wait", "tenant", "x", "--state", "re") == ["requested", "ready"]
    assert "deprovisioned" in offered("wait", "tenant", "x", "--state", "")
    assert "deprovisioned" not in offered("tenants", "--state", "")
    for name in COMMANDS:
        assert len(offered(name, "")) == len(set(offered(name, ""))), name
    assert "#compdef tenantry" in stack.run_cli("completion", "zsh").stdout


def test_keys_and_init_speak_json_too(stack: Stack) -> None:
    assert answered(stack.run_cli("keys", "new", "--id", "k9", "--json"))["key"].startswith("k9:")
    assert answered(stack.run_cli("keys", "token", "--name", "web", "--scopes", "signup", "--json"))["token"]
    every = answered(
        stack.run_cli("keys", "token", "--name", "x", "--scopes", "signup,read,app,signal,admin", "--json")
    )
    assert every["line"].startswith("x signup,read,app,signal,admin ")
    refused(stack.run_cli("keys", "token", "--name", "web", "--scopes", "everything"), 2, "--scopes")
    again = answered(stack.run_cli("init", "--json", admin=True))
    assert again["topics_made"] == [] and again["catalog_version"]


def test_init_away_from_the_checkout_says_what_it_needs(stack: Stack, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(stack.build / "tenantry"), "init"], cwd=tmp_path,
        env={"CATALOG_ADMIN_URL": "postgresql://nobody@127.0.0.1:1/x"}, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    refused(done, 1, "cannot read the migrations in migrations/catalog; name them with --migrations DIR")
