"""The snippets of docs/events.md, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from deploy.local.kafka import kafka_jars
from deploy.local.stack import Stack
from tests.e2e.topics import read_all

from .documents import REPOSITORY
from .recording import RecordingApi

FENCE = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 40


@pytest.fixture(scope="module")
def snippets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every snippet under the name that stands on its fence."""
    folder: Path = tmp_path_factory.mktemp("snippets")
    for _, name, text in FENCE.findall((REPOSITORY / "docs" / "events.md").read_text()):
        (folder / name).write_text(text)
    return folder


def run(stack: Stack, folder: Path, *command: str | Path) -> str:
    """Runs a program in the folder; returns what it printed."""
    environment = {**os.environ, "KAFKA_BROKERS": stack.kafka.bootstrap}
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def check_signup_and_watch(stack: Stack, api: RecordingApi, folder: Path, signup: list[str], watch: list[str]) -> str:
    """Signs up by one snippet, sees the tenant become ready by the other; returns its id."""
    company = f"Snippet {uuid.uuid4().hex[:8]}"
    tenant = run(stack, folder, *signup, company, "ada@snippet.example").split()[-1]
    seen = run(stack, folder, *watch, tenant, "ready").splitlines()
    assert seen[-1].split()[0] == tenant and "ready" in seen[-1].split()
    versions = [int(line.split()[1]) for line in seen if line.startswith(tenant)]
    assert versions == sorted(set(versions))
    found = api.tenant(tenant)
    assert (found["company"], found["state"]) == (company, "ready")
    check_partition(stack, tenant)
    return tenant


def check_partition(stack: Stack, tenant: str) -> None:
    """The snippet and Tenantry put the key into the partition of the same number: one partitioner."""
    signups = read_all(stack.kafka.bootstrap, "tenant.signup.v1")
    status = read_all(stack.kafka.bootstrap, "tenant.status.v1")
    key = tenant.encode()
    assert {each.partition for each in signups if each.key == key} == {
        each.partition for each in status if each.key == key
    }


def test_every_snippet_is_run_here(snippets: Path) -> None:
    tests = Path(__file__).read_text()
    for path in snippets.iterdir():
        assert path.stem in tests, f"no test runs {path.name}"


def test_kcat_signs_up_watches_and_suspends(stack: Stack, api: RecordingApi, snippets: Path) -> None:
    needs("kcat", "jq")
    tenant = check_signup_and_watch(stack, api, snippets, ["bash", "signup.sh"], ["bash", "watch.sh"])
    operation = run(stack, snippets, "bash", "suspend.sh", tenant, "unpaid").strip()
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert api.tenant(tenant)["access"] == {"wanted": "none", "applied": "none", "reason": "unpaid"}
    check_signup_and_watch(stack, api, snippets, ["bash", "signup-bare.sh"], ["bash", "watch.sh"])
    command = api.command(tenant, "deprovision", {"confirm": api.tenant(tenant)["slug"]})
    assert command.status == 202
    assert "deprovisioned" in run(stack, snippets, "bash", "watch.sh", tenant, "deprovisioned")


def test_python_signs_up_watches_and_learns_the_answer(stack: Stack, api: RecordingApi, snippets: Path) -> None:
    python = "/usr/bin/python3"
    check_signup_and_watch(stack, api, snippets, [python, "signup.py"], [python, "watch_status.py"])
    refused = api.signup("Snippet", subdomain="www").json["operation_id"]
    assert "slug_taken" in run(stack, snippets, python, "answer.py", refused)
    taken = api.signup("Snippet Taken").json
    answer = run(stack, snippets, python, "answer.py", taken["operation_id"])
    assert answer.split() == ["taken:", "tenant.requested.v1", "tenant", taken["tenant_id"]]
    api.wait_state(taken["tenant_id"], "ready")


def test_java_signs_up_and_watches(stack: Stack, api: RecordingApi, snippets: Path) -> None:
    needs("javac", "java")
    if not any(kafka_jars().glob("kafka-clients-*.jar")):
        pytest.skip(f"no kafka-clients in {kafka_jars()}")
    jars = f"{kafka_jars()}/*"
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
    run(
        stack, snippets, "javac", "-J-XX:TieredStopAtLevel=1", "-cp", jars, "-d", ".", "Signup.java", "WatchStatus.java"
    )
    java = ["java", *quick, "-cp", f".:{jars}"]
    check_signup_and_watch(stack, api, snippets, [*java, "Signup"], [*java, "WatchStatus"])


def test_node_signs_up_and_watches(stack: Stack, api: RecordingApi, snippets: Path) -> None:
    needs("node", "npm")
    if subprocess.run(["node", "-e", "require('kafkajs')"], cwd=snippets, capture_output=True).returncode != 0:
        run(stack, snippets, "npm", "install", "--no-audit", "--no-fund", "--silent", "kafkajs@2.2.4")
    check_signup_and_watch(stack, api, snippets, ["node", "signup.js"], ["node", "watch-status.js"])
