"""Runs a PostgreSQL cluster of our own on 127.0.0.1, as root or as a normal user."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from sandbox.verifier import is_of, make_verifier

from .process import Account, ServerError, ServerProcess
from .server import Server, write_if_changed

StopMode = Literal["fast", "immediate"]

SUPERUSER = "postgres"
PACKAGES = Path("/usr/lib/postgresql")
QUERY_SECONDS = 10.0

_STOP_SIGNALS: dict[StopMode, int] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_TERMINATE_BACKENDS = """
select count(*) filter (where pg_terminate_backend(pid))
from pg_stat_activity
where backend_type = 'client backend'
  and pid <> pg_backend_pid()
  and (:'only' = '' or datname = :'only')
"""

# No statement may reach the log, for "create role ... password" is a statement: not when it fails, not by
# its parameters, and not as the context of an error, which is why the verbosity is terse.
_CONFIGURATION = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
hba_file = '{cluster}/pg_hba.conf'
ident_file = '{cluster}/pg_ident.conf'
password_encryption = 'scram-sha-256'
max_connections = {max_connections}
shared_buffers = '64MB'
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] %q%u@%d '
log_statement = 'none'
log_min_error_statement = 'panic'
log_min_duration_statement = -1
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_error_verbosity = 'terse'
"""

# Commits stay synchronous even here: without fsync that costs nothing, and a commit then survives kill -9
# of the server, which tests rely on. Only a crash of the whole machine may lose data. The log stays small, for it may be kept
# in memory; a checkpoint without fsync costs little. Nor is each of hundreds of databases, which live for minutes, looked
# through for dead rows every minute. What workers share is a file in the cluster: of a server that was killed, segments of
# shared memory would be left behind for good.
_FAST = """\
fsync = off
full_page_writes = off
max_wal_size = '256MB'
checkpoint_warning = 0
autovacuum_naptime = '10min'
dynamic_shared_memory_type = mmap
"""


def postgres_programs() -> Path:
    """The directory with initdb and postgres of the newest version installed."""
    found = [path.parent for path in PACKAGES.glob("*/bin/initdb") if path.parts[-3].isdigit()]
    if not found:
        raise ServerError("no PostgreSQL server is installed; deploy/local/install.sh brings it")
    return max(found, key=lambda path: int(path.parts[-2]))


class PostgresServer(Server):
    """One cluster. As root it runs as the user postgres, since PostgreSQL refuses root."""

    name = "postgres"

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        max_connections: int = 200,
        fast: bool = False,
        die_with_parent: bool = False,
        encoding: str = "UTF8",
        locale: str = "C.UTF-8",
        locale_path: Path | None = None,
    ) -> None:
        """`fast` gives up safety from a crash of the machine and from who guesses passwords; `die_with_parent` is for tests.
        `locale_path`: where localedef has put the locale, if not where the system has its own."""
        super().__init__(data_dir, port)
        self.encoding = encoding
        self.locale = locale
        self._locales = {} if locale_path is None else {"LOCPATH": str(locale_path)}
        self.max_connections = max_connections
        self.fast = fast
        self._die_with_parent = die_with_parent
        self._password_path = self.data_dir / "superuser-password"

    @property
    def password(self) -> str:
        """The superuser's password, made when the cluster is."""
        try:
            return self._password_path.read_text().strip()
        except FileNotFoundError:
            raise ServerError(f"{self._password_path} is missing; start the server first") from None

    @property
    def superuser_url(self) -> str:
        return self.url()

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A connection URL; the password is the superuser's unless given."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user, safe='')}:{secret}@127.0.0.1:{self.port}/{quote(database)}"

    def execute(self, sql: str, database: str = "postgres", **variables: str) -> str:
        """Runs SQL as superuser through psql, which knows `variables` as :'name'; a row is a line a|b."""
        arguments = [f"--set={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [postgres_programs() / "psql", "-XqAt", "--set=ON_ERROR_STOP=1", *arguments],
            input=sql,
            env=_environment(
                PGHOST="127.0.0.1",
                PGPORT=str(self.port),
                PGUSER=SUPERUSER,
                PGPASSWORD=self.password,
                PGDATABASE=database,
                PGCONNECT_TIMEOUT="5",
            ),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=QUERY_SECONDS,
        )
        if done.returncode != 0:
            raise ServerError(f"psql failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def terminate_backends(self, database: str = "") -> int:
        """Cuts every client connection, or those to one database; returns how many there were."""
        return int(self.execute(_TERMINATE_BACKENDS, only=database))

    def hasten_logins(self, passwords: Mapping[str, str]) -> None:
        """Role -> password. Logins as these roles cost next to nothing from now on; each must have this password already."""
        names = ", ".join(f"'{role}'" for role in passwords)
        kept = self.execute(f"select rolname, rolpassword from pg_authid where rolname in ({names})").split("\n")
        for role, verifier in (line.split("|") for line in kept):
            if not is_of(verifier, passwords[role]):
                raise ServerError(f"{role} has another password")
        self.execute(
            "".join(f"alter role {role} password '{make_verifier(word)}';" for role, word in passwords.items())
        )

    def stop(self, mode: StopMode = "fast") -> None:
        """`fast` rolls transactions back and writes all data; `immediate` leaves that to the next start."""
        self.process.stop(self.stop_seconds, _STOP_SIGNALS[mode])

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def destroy(self) -> None:
        self.kill9()
        relocated = self._relocated_home()
        if relocated.is_dir() and not relocated.is_symlink():
            shutil.rmtree(relocated)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    # --- where the cluster is, and who owns it ---

    @property
    def _home(self) -> Path:
        """The directory that holds the cluster: ours, unless its owner could not reach it there."""
        return self._link.resolve() if self._link.is_symlink() else self.data_dir

    @property
    def _cluster(self) -> Path:
        return self._home / "cluster"

    @property
    def _link(self) -> Path:
        return self.data_dir / "elsewhere"

    def _relocated_home(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(f"/var/tmp/tenantry-{digest}")

    def _account(self) -> Account | None:
        """Who the server runs as: None is ourselves; under root the cluster's owner, or postgres."""
        try:
            owner = self._cluster.stat().st_uid
        except FileNotFoundError:
            return Account.named("postgres") if os.geteuid() == 0 else None
        if os.geteuid() == owner:
            return None
        if os.geteuid() == 0:
            return Account.numbered(owner)
        raise ServerError(f"{self._cluster} belongs to user {owner}; run this as that user, or as root")

    # --- start ---

    def _prepare(self) -> bool:
        account = self._account()
        if not (self._cluster / "PG_VERSION").exists():
            self._choose_home(account)
            self._make_cluster(account)
        text = _CONFIGURATION.format(
            port=self.port,
            cluster=str(self._cluster).replace("'", "''"),
            max_connections=self.max_connections,
        )
        changed = write_if_changed(self._home / "postgres.conf", text + (_FAST if self.fast else ""))
        (self._home / "postgres.conf").chmod(0o644)
        return changed

    def _choose_home(self, account: Account | None) -> None:
        """Puts the cluster below /var/tmp when its user could not enter our directory, as below /root."""
        self._link.unlink(missing_ok=True)
        relocated = self._relocated_home()
        if relocated.is_symlink() or (relocated.exists() and relocated.stat().st_uid != os.geteuid()):
            raise ServerError(f"{relocated} is not ours; please remove it")
        if relocated.exists():  # left by a data directory that was removed without it: its password is gone
            shutil.rmtree(relocated)
        if account is None or _can_enter(account, self.data_dir):
            return
        relocated.mkdir(mode=0o755)
        relocated.chmod(0o755)  # whatever the umask
        self._link.symlink_to(relocated)

    def _make_cluster(self, account: Account | None) -> None:
        """Runs initdb beside the place, then renames, so that an interrupted start leaves no half cluster."""
        fresh = self._home / "cluster.fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._password_path.touch(mode=0o600)
        self._password_path.write_text(secrets.token_hex(16) + "\n")
        # Its own file in /tmp: initdb runs as the cluster's owner, who may be unable to read ours.
        with tempfile.NamedTemporaryFile("w") as password:
            password.write(make_verifier(self.password) if self.fast else self.password)
            password.flush()
            if account is not None:
                os.chown(fresh, account.uid, account.gid)
                os.chown(password.name, account.uid, account.gid)
            done = subprocess.run(
                [
                    postgres_programs() / "initdb",
                    f"--pgdata={fresh}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password.name}",
                    "--auth=scram-sha-256",
                    f"--encoding={self.encoding}",
                    f"--locale={self.locale}",
                    *(["--no-sync"] if self.fast else []),
                ],
                env=_environment(**self._locales),
                cwd="/",
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else account.groups(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        if done.returncode != 0:
            raise ServerError(f"initdb failed:\n{done.stdout}")
        fresh.rename(self._cluster)

    def _new_process(self) -> ServerProcess:
        return ServerProcess(
            [
                str(postgres_programs() / "postgres"),
                "-D",
                str(self._cluster),
                "-c",
                f"config_file={self._home / 'postgres.conf'}",
            ],
            log_path=self.log_path,
            pid_path=self.pid_path,
            env=_environment(**self._locales),
            cwd=Path("/"),
            account=self._account(),
            die_with_parent=self._die_with_parent,
            parent_death_signal=signal.SIGQUIT,  # an immediate stop, which gives shared memory back
        )

    def _ready(self) -> bool:
        """The server says so in postmaster.pid; then one query proves that port and password are right."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        if len(lines) < 8 or lines[0] != str(self.pid) or lines[7].strip() != "ready":
            return False
        return self.execute("select 1") == "1"


def _can_enter(account: Account, directory: Path) -> bool:
    """Asks the kernel, as that user: mode bits alone do not tell of access lists and mounts."""
    asked = subprocess.run(
        ["/usr/bin/test", "-x", directory],
        user=account.uid,
        group=account.gid,
        extra_groups=account.groups(),
        cwd="/",
    )
    return asked.returncode == 0


def _environment(**more: str) -> dict[str, str]:
    """Nothing of the caller's: a PGDATA or PGOPTIONS from there would lead the server astray."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **more}
