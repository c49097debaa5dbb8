"""`tenantry migrate new` and `tenantry migrate lint`, with nothing but files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import REPOSITORY, SANITIZERS

from .command import answered, refused

BUILD = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release")).resolve()
SAFE = "-- migrate:up\ncreate table t (a int);\n-- migrate:down\nselect 1;\n"
BREAKING = "-- migrate:up\ncreate table t (a int);\nalter table u\n  drop column c;\n-- migrate:down\nselect 1;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "migrations").mkdir()
    return tmp_path


def migrate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder, without gateway, token or anything else."""
    return subprocess.run(
        [str(BUILD / "tenantry"), "migrate", *words],
        cwd=folder,
        env={"PATH": os.environ.get("PATH", ""), **SANITIZERS},
        capture_output=True,
        text=True,
        timeout=60,
    )


def put(folder: Path, name: str, text: str) -> None:
    (folder / "migrations" / name).write_text(text)


def test_a_new_file_has_the_present_second_and_both_directives(folder: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    done = migrate(folder, "new", "Add Branches")
    assert done.returncode == 0, done.stderr
    named = re.fullmatch(r"migrations/(\d{14})_add_branches\.sql\n", done.stdout)
    assert named, done.stdout
    made = datetime.strptime(named[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    assert before <= made <= datetime.now(UTC)
    text = (folder / done.stdout.strip()).read_text()
    assert text.index("-- migrate:up\n") < text.index("-- migrate:down\n")
    assert migrate(folder, "lint").returncode == 0


def test_a_folder_that_is_missing_is_made(folder: Path) -> None:
    answer = answered(migrate(folder, "new", "first", "--directory", "db", "--json"))
    assert answer["path"] == f"db/{answer['version']}_first.sql" and (folder / answer["path"]).is_file()
    refused(migrate(folder, "new", "first", "--directory", "nowhere/db"), 1, "cannot create nowhere/db")


def test_versions_differ_however_quickly_files_are_made(folder: Path) -> None:
    for number in range(4):
        assert migrate(folder, "new", f"part {number}").returncode == 0
    versions = {path.name[:14] for path in (folder / "migrations").iterdir()}
    assert len(versions) == 4


def test_a_file_that_exists_is_never_replaced(folder: Path) -> None:
    now = datetime.now(UTC)
    soon = [(now + timedelta(seconds=more)).strftime("%Y%m%d%H%M%S") for more in range(30)]
    for version in soon:
        put(folder, f"{version}_taken.sql", SAFE)
    done = migrate(folder, "new", "taken")
    assert done.returncode == 0 and done.stdout.strip().split("/")[1][:14] not in soon
    assert all((folder / "migrations" / f"{version}_taken.sql").read_text() == SAFE for version in soon)
    with ThreadPoolExecutor(8) as threads:
        many = list(threads.map(lambda _: migrate(folder, "new", "same"), range(8)))
    made = [done.stdout for done in many if done.returncode == 0]
    assert made and len(set(made)) == len(made)
    assert all("File exists" in done.stderr for done in many if done.returncode != 0)


def test_a_name_that_a_shell_or_a_folder_would_take_otherwise_is_refused(folder: Path) -> None:
    for name in ("../up", "a.sql", "Größe", "a;b", "x" * 101, ""):
        done = migrate(folder, "new", name)
        assert done.returncode == 2, (name, done.stdout, done.stderr)
    refused(migrate(folder, "new", " a"), 2, "begins with a letter or a digit")
    refused(migrate(folder, "new"), 2, "usage: tenantry migrate")
    refused(migrate(folder, "new", "a", "b"), 2, 'unexpected word "b"')
    refused(migrate(folder), 2, "one of new, lint, ")
    refused(migrate(folder, "linf"), 2, "one of new, lint, ")
    refused(migrate(folder, "lint", "--colour"), 2, "unknown option --colour")
    assert not list((folder / "migrations").iterdir())


def test_lint_names_line_rule_reason_and_safe_way(folder: Path) -> None:
    put(folder, "1_breaking.sql", BREAKING)
    put(folder, "2_slow.sql", "-- migrate:up\ncreate index on t (a);\n-- migrate:down\n")
    done = migrate(folder, "lint")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("migrations/1_breaking.sql:4: drop-column (breaking): u.c: programs of the previous")
    assert "; safe way: release programs" in lines[0]
    assert lines[1].startswith("migrations/2_slow.sql:2: index-not-concurrently: t: until it is done nobody can write")
    assert lines[2].startswith("migrations/2_slow.sql:3: no-down: ")
    assert len(lines) == 3
    refused(done, 1, "breaking findings that no file allows: 1")


def test_what_holds_tenants_up_but_breaks_nothing_is_no_failure(folder: Path) -> None:
    put(folder, "1_slow.sql", "-- migrate:up\ncreate index on t (a);\n-- migrate:down\nselect 1;\n")
    done = migrate(folder, "lint", "migrations/1_slow.sql")
    assert done.returncode == 0 and "index-not-concurrently" in done.stdout and not done.stderr


def test_a_file_that_says_why_may_break(folder: Path) -> None:
    put(folder, "1_a.sql", "-- tenantry:allow drop-column not read since \x1b[1m4.2\n" + BREAKING)
    done = migrate(folder, "lint")
    assert done.returncode == 0, done.stderr
    assert "1_a.sql:5: drop-column (breaking, allowed: not read since \\x1b[1m4.2): u.c: " in done.stdout
    put(folder, "1_a.sql", "-- tenantry:allow drop-column\n" + BREAKING)
    done = migrate(folder, "lint")
    assert done.returncode == 1 and "1_a.sql:1: bad-allow: drop-column: " in done.stdout


def test_nothing_found_is_said_in_one_line(folder: Path) -> None:
    put(folder, "1_a.sql", SAFE)
    assert migrate(folder, "lint").stdout == "1 file, no findings\n"
    assert migrate(folder, "lint", "migrations", "migrations/1_a.sql").stdout == "2 files, no findings\n"


def test_a_malformed_file_is_an_error_with_its_line(folder: Path) -> None:
    put(folder, "1_a.sql", "-- migrate:up\nselect 'open\n-- migrate:down\n")
    refused(migrate(folder, "lint"), 1, "1_a.sql line 2: this quote is never closed")
    refused(migrate(folder, "lint", "migrations/1_a.sql"), 1, "1_a.sql line 2: this quote is never closed")
    refused(migrate(folder, "lint", "nowhere"), 1, "cannot read the migrations in nowhere")
    put(folder, "2_b.sql", BREAKING)
    done = migrate(folder, "lint", "migrations/1_a.sql", "migrations/2_b.sql")
    assert done.returncode == 1 and "drop-column" in done.stdout and len(done.stderr.splitlines()) == 2


def test_what_is_no_file_is_neither_waited_for_nor_left_out(folder: Path) -> None:
    os.mkfifo(folder / "migrations" / "1_a.sql")
    refused(migrate(folder, "lint"), 1, "cannot read migrations/1_a.sql: it is not a regular file")
    refused(migrate(folder, "lint", "migrations/1_a.sql"), 1, "it is not a regular file")
    refused(migrate(folder, "lint", "/dev/zero"), 1, "it is not a regular file")
    (folder / "migrations" / "1_a.sql").unlink()
    put(folder, "1_a.sql", SAFE)
    (folder / "migrations" / "1_a.verify").symlink_to("nowhere")
    refused(migrate(folder, "lint"), 1, "cannot read migrations/1_a.verify: No such file")


def test_a_pipeline_gets_all_of_it_as_json(folder: Path) -> None:
    put(folder, "1_a.sql", "-- tenantry:allow drop-column so\n" + BREAKING)
    put(folder, "2_b.sql", SAFE)
    files = answered(migrate(folder, "lint", "--json"))["files"]
    assert [each["file"] for each in files] == ["migrations/1_a.sql", "migrations/2_b.sql"]
    assert [each["version"] for each in files] == ["1", "2"] and files[1]["findings"] == []
    found: dict[str, Any] = files[0]["findings"][0]
    assert found.pop("reason") and found.pop("safe_way")
    assert found == {
        "rule": "drop-column", "breaking": True, "allowed": True, "why": "so", "section": "up", "line": 5,
        "statement": 2, "object": "u.c",
    }  # fmt: skip
    put(folder, "1_a.sql", BREAKING)
    done = migrate(folder, "lint", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 1 and answer["error"]["exit_code"] == 1 and len(answer["files"]) == 2


def test_the_products_own_migrations_break_nothing(folder: Path) -> None:
    done = migrate(folder, "lint", str(REPOSITORY / "migrations" / "tenant"))
    assert done.returncode == 0, done.stdout
    assert "(breaking" not in done.stdout and "prescription_search.sql:5: not-idempotent: " in done.stdout


def test_the_documentation_lists_each_rule_and_whether_it_is_breaking() -> None:
    rows = (REPOSITORY / "common" / "migration" / "lint_rules.c").read_text()
    known = {name: breaking == "true" for name, breaking in re.findall(r'= \{ "([a-z-]+)", (true|false),', rows)}
    section = (REPOSITORY / "docs" / "migrations.md").read_text().split("\n## Lint\n")[1].split("\n## ")[0]
    listed = {
        name: breaking == "yes" for name, breaking in re.findall(r"(?m)^\| `([a-z-]+)` \|.*\| (yes|) *\|$", section)
    }
    assert len(known) > 15 and listed == known
