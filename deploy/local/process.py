"""Runs a child process in a session of its own, and finds it again by its pid file, never by its name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.01
KILL_SECONDS = 10.0  # how long the kernel may take to end what SIGKILL has hit
LOG_TAIL_LINES = 20

_libc = ctypes.CDLL(None)  # loaded here: between fork and exec nothing may be loaded any more


class ServerError(RuntimeError):
    """Something a person has to look at: the message says what, and shows the end of the log."""


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until the condition holds; after `seconds` raises TimeoutError, which says `what` it was."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(POLL_SECONDS)


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True)
class Identity:
    """One process for ever: a pid is used again for others, a pid with its start time is not."""

    pid: int
    started: int  # in clock ticks since boot, from /proc/<pid>/stat

    def is_alive(self) -> bool:
        """Whether the process still runs; one that has ended and only waits to be reaped does not."""
        return identity_of(self.pid) == self

    def send(self, number: int) -> bool:
        """Sends a signal to this very process; False when it is gone."""
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def identity_of(pid: int) -> Identity | None:
    """Who runs under this pid now, if anyone."""
    entry = _read_stat(pid)
    return None if entry is None else entry[0]


def descendants(root: Identity) -> list[Identity]:
    """The children of a process and theirs, parents first."""
    children: dict[int, list[Identity]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (entry := _read_stat(int(name))) is not None:
            children.setdefault(entry[1], []).append(entry[0])
    found: list[Identity] = []
    queue = [root]
    while queue:
        born = children.get(queue.pop(0).pid, [])
        found.extend(born)
        queue.extend(born)
    return found


def _read_stat(pid: int) -> tuple[Identity, int] | None:
    """Identity and parent's pid of a living process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before may hold spaces and brackets
    state, parent, started = fields[0], int(fields[1]), int(fields[19])
    return None if state in "ZX" and not _has_other_threads(pid) else (Identity(pid, started), parent)


def _has_other_threads(pid: int) -> bool:
    """Whether threads outlive the first one: as long as they are not gone, neither are the process's open files."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


@dataclass(frozen=True)
class Account:
    """A user a process can run as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Account:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise ServerError(f"there is no user '{name}'; deploy/local/install.sh brings it") from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @classmethod
    def numbered(cls, uid: int) -> Account:
        entry = pwd.getpwuid(uid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    def groups(self) -> list[int]:
        return os.getgrouplist(self.name, self.gid)


class ServerProcess:
    """A process with a log and a pid file, by which a later program can stop what this one started."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log_path: Path,
        pid_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        die_with_parent: bool = False,
        parent_death_signal: int = signal.SIGKILL,
    ) -> None:
        """`die_with_parent` binds the child to the thread that calls start(): let it be the main thread. `env` is
        borrowed: what it says at the time of start() holds."""
        self.argv = list(argv)
        self.log_path = log_path
        self.pid_path = pid_path
        self._env = env  # not copied: whoever changes it before start() is heard
        self._cwd = cwd
        self._account = account
        self._death_signal = parent_death_signal if die_with_parent else None
        self._child: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._identity = self._read_pid_file()

    @property
    def pid(self) -> int | None:
        """The pid while it runs."""
        identity = self._alive()
        return None if identity is None else identity.pid

    @property
    def running(self) -> bool:
        return self._alive() is not None

    @property
    def returncode(self) -> int | None:
        """How the child ended, as subprocess tells it; None while it runs, or if it is not our child."""
        return None if self._child is None else self._child.poll()

    @property
    def endings(self) -> list[int]:
        """How all children so far have ended, in the order of their starts."""
        codes = [child.poll() for child in self._children]
        return [code for code in codes if code is not None]

    def start(self) -> None:
        """Starts the child. Raises ServerError when it runs already."""
        if self.running:
            raise ServerError(f"{self.argv[0]} runs already, as process {self.pid}")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        account = self._account
        with open(self.log_path, "ab") as log:
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else account.groups(),
                preexec_fn=self._die_with_parent() if self._death_signal is not None else None,
            )
        self._children.append(self._child)
        self._identity = identity_of(self._child.pid)
        if self._identity is not None:
            self._write_pid_file(self._identity)

    def stop(self, seconds: float = 10.0, number: int = signal.SIGTERM) -> bool:
        """Asks the process to end; after `seconds` kills it and its children. True when asking was enough."""
        identity = self._alive()
        if identity is None:
            self._forget()
            return True
        self._thaw(identity)  # a paused process would not see the request
        family = descendants(identity)
        identity.send(number)
        try:
            self.wait(seconds)
        except TimeoutError:
            self.kill9()
            return False
        for orphan in family:
            orphan.send(signal.SIGKILL)
        self._forget()
        return True

    def kill9(self) -> None:
        """Ends the process and all its children with SIGKILL, as a crash of the machine would."""
        identity = self._alive()
        if identity is not None:
            family = self._freeze(identity)  # what cannot run cannot fork while we go through the list
            for member in family:
                member.send(signal.SIGKILL)
            wait_until(
                lambda: self._alive() is None and not any(member.is_alive() for member in family),
                KILL_SECONDS,
                f"the end of process {identity.pid} after SIGKILL",
            )
        self._forget()

    def pause(self) -> None:
        """Stops the process and its children where they stand: connections stay open, nobody answers."""
        self._freeze(self._must_run())

    def resume(self) -> None:
        """Lets a paused process and its children go on; does no harm to one that was not paused."""
        self._thaw(self._must_run())

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses for the length of a with block."""
        self.pause()
        try:
            yield
        finally:
            if self.running:
                self.resume()

    def signal(self, number: int) -> None:
        """Sends a signal to the process alone."""
        self._must_run().send(number)

    def wait(self, seconds: float) -> None:
        """Waits until the process has ended by itself; TimeoutError after `seconds`."""
        wait_until(lambda: not self.running, seconds, f"the end of {self.argv[0]}, process {self.pid}")

    def _alive(self) -> Identity | None:
        if self._child is not None:
            self._child.poll()  # reaps, or the pid would stay taken
        if self._identity is None or not self._identity.is_alive():
            return None
        return self._identity

    def _must_run(self) -> Identity:
        identity = self._alive()
        if identity is None:
            raise ServerError(f"{self.argv[0]} does not run; the end of its log:\n{log_tail(self.log_path)}")
        return identity

    def _freeze(self, identity: Identity) -> list[Identity]:
        """Stops the whole family, parents first, and returns it; repeats until nobody is new."""
        family = [identity]
        identity.send(signal.SIGSTOP)
        while fresh := [member for member in descendants(identity) if member not in family]:
            for member in fresh:
                member.send(signal.SIGSTOP)
            family.extend(fresh)
        return family

    def _thaw(self, identity: Identity) -> None:
        for member in [*reversed(descendants(identity)), identity]:
            member.send(signal.SIGCONT)

    def _die_with_parent(self) -> Callable[[], None]:
        parent, number = os.getpid(), self._death_signal

        def between_fork_and_exec() -> None:
            # After the change of user, which would clear the request again.
            if _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
                os._exit(127)
            if os.getppid() != parent:  # it died before we asked
                os._exit(127)

        return between_fork_and_exec

    def _read_pid_file(self) -> Identity | None:
        try:
            pid, started = self.pid_path.read_text().split()
            return Identity(int(pid), int(started))
        except (OSError, ValueError):
            return None

    def _write_pid_file(self, identity: Identity) -> None:
        self.pid_path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.pid_path.with_name(self.pid_path.name + ".fresh")
        fresh.write_text(f"{identity.pid} {identity.started}\n")
        fresh.replace(self.pid_path)

    def _forget(self) -> None:
        if self._child is not None:
            self._child.poll()
        self._identity = None
        self.pid_path.unlink(missing_ok=True)
