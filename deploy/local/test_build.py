"""What the Makefile makes: programs that are hard to misuse, and made again when they would be made otherwise."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .stack import REPOSITORY

PROGRAMS = ["tenantry", "tenantry-gateway", "tenantry-provisioner"]


def readelf(program: str, *options: str) -> str:
    path = REPOSITORY / "build" / "release" / program
    assert path.exists(), f"there is no {path}: run make"
    return subprocess.run(["readelf", "-W", *options, path], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_released_is_hardened(program: str) -> None:
    header, segments = readelf(program, "--file-header"), readelf(program, "--segments")
    dynamic, symbols = readelf(program, "--dynamic"), readelf(program, "--dyn-syms")
    assert re.search(r"^ *Type: +DYN ", header, re.MULTILINE) and "INTERP" in segments, "at another address each time"
    assert "GNU_RELRO" in segments and re.search(r"FLAGS.* (BIND_)?NOW", dynamic), "what was resolved is read-only"
    assert re.search(r"GNU_STACK +\S+ \S+ \S+ \S+ \S+ RW +0x", segments), "the stack is no code"
    assert "__stack_chk_fail" in symbols, "a stack that was written over is noticed"
    assert re.search(r" __(memcpy|memset|snprintf|vsnprintf|read)_chk@", symbols), "so is a buffer"


def test_what_no_program_shows_was_asked_of_the_compiler() -> None:
    """Debian 12's own start files lack the mark that would let a program demand it."""
    flags = (REPOSITORY / "build" / "release" / "flags").read_text().split()
    for flag in ("-fstack-clash-protection", "-fcf-protection=full"):
        assert flag in flags or not knows(flag)
    assert "-D_FORTIFY_SOURCE=3" in flags or "-D_FORTIFY_SOURCE=2" in flags


def knows(flag: str) -> bool:
    command = ["gcc", "-O2", flag, "-x", "c", "-c", "-o", "/dev/null", "-"]
    return subprocess.run(command, input="", text=True, capture_output=True).returncode == 0


def test_what_was_made_with_other_flags_is_made_again(tmp_path: Path) -> None:
    def make(*more: str) -> str:
        target = f"{tmp_path}/common/base/backoff.o"
        command = ["make", "--no-print-directory", f"BUILD={tmp_path}", target, *more]
        return subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout

    made = "cc   common/base/backoff.c"
    assert made in make()
    assert made not in make(), "nothing has changed"
    assert made in make("CFLAGS=-O1")
    assert made not in make("CFLAGS=-O1")
    assert made in make("LDFLAGS=-Wl,-O1"), "what is linked is linked anew, with all it is made of"
