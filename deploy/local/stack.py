"""The whole product on one machine: PostgreSQL, Kafka, the sandbox and the services, for the demo and for the tests."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .kafka import KafkaBroker
from .ports import reserve_port
from .postgres import PostgresServer
from .process import ServerError, ServerProcess, log_tail, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
READY_SECONDS = 30.0
# All that have a login in the catalog; those with a program are started.
SERVICES = tuple(
    re.findall(r"^ +SERVICE\((\w+),", (REPOSITORY / "common" / "service" / "services.h").read_text(), re.MULTILINE)
)
CATALOG = "tenantry"
STRIPE_KEY = "sk_test_sandbox"  # of the sandbox's stand-in
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1",
    "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1",  # librdkafka's atomics are not seen
}


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass
class Service:
    """One process of one of our services, with its ports."""

    name: str
    process: ServerProcess
    ops_port: int
    http_port: int | None
    log_path: Path
    environment: dict[str, str]
    may_end_with: set[int] = field(default_factory=set)  # beside 0 and SIGKILL, where a test wants it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.ops_port}"

    def start(self) -> None:
        self.process.start()

    def ready(self) -> bool:
        return answers(f"{self.ops_url}/readyz")

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        def ready_or_dead() -> bool:
            if not self.process.running:
                raise ServerError(f"{self.name} ended while starting:\n{log_tail(self.log_path)}")
            return self.ready()

        try:
            wait_until(ready_or_dead, seconds, f"{self.name} is ready")
        except TimeoutError as error:
            raise ServerError(f"{error}\n{log_tail(self.log_path)}") from error

    def metrics(self) -> dict[str, float]:
        """Name with labels -> value, of all that the service counts."""
        with urllib.request.urlopen(f"{self.ops_url}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    def stop(self, seconds: float = 12) -> bool:
        return self.process.stop(seconds)

    def kill9(self) -> None:
        self.process.kill9()

    def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """A new process with the same ports; environment replaces what it is told beside them."""
        if environment is not None:
            self.environment.update(environment)
        self.start()


@dataclass
class Tokens:
    """Bearer tokens by scope, as the gateway's file has them."""

    path: Path
    by_scope: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        lines = []
        for scope, token in self.by_scope.items():
            lines.append(f"{scope}-token {scope} {hashlib.sha256(token.encode()).hexdigest()}")
        self.path.write_text("\n".join(lines) + "\n")


def new_key(name: str) -> str:
    return f"{name}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


class Stack:
    """Everything under one directory. start() may be called again: what runs is kept."""

    def __init__(
        self,
        root: Path,
        *,
        driver: str = "postgres",
        build: Path | None = None,
        fast: bool = True,
        die_with_parent: bool = True,
        max_connections: int = 200,
        options: Mapping[str, str] | None = None,
        keep_memberships: bool = False,
        stripe: bool = False,
    ) -> None:
        """`keep_memberships` gives each process one membership of its consumer group for good: a new process need not
        wait until that of its dead self has run out. No other takes over meanwhile."""
        self.root = root.absolute()
        self.driver = driver
        self.build = build or Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))
        self.options = dict(options or {})
        self.keep_memberships = keep_memberships
        self.stripe = stripe  # the sandbox's stand-in, which billing asks
        self.catalog_migrations = REPOSITORY / "migrations" / "catalog"
        self.tenant_migrations = REPOSITORY / "migrations" / "tenant"
        self.die_with_parent = die_with_parent
        self.root.mkdir(parents=True, exist_ok=True)
        self.settings = self._load_settings()
        self.postgres = PostgresServer(
            self.root / "postgres",
            self._port("postgres"),
            fast=fast,
            max_connections=max_connections,
            die_with_parent=die_with_parent,
        )
        self.provider = self.postgres  # where the sandbox keeps its projects' databases
        self.kafka = KafkaBroker(
            self.root / "kafka", self._port("kafka"), self._port("controller"), die_with_parent=die_with_parent
        )
        self.tokens = Tokens(self.root / "tokens", self.settings["tokens"])
        self.services: dict[str, Service] = {}
        self.history_seen = 0  # the last row of history that tests have looked at
        self.sandbox: ServerProcess | None = None

    # What must stay the same when the stack is started again: ports, keys, passwords, tokens.

    def _load_settings(self) -> dict[str, dict[str, str]]:
        path = self.root / "settings.json"
        if path.exists():
            loaded: dict[str, dict[str, str]] = json.loads(path.read_text())
            return loaded
        made = {
            "ports": {},
            "passwords": {name: secrets.token_urlsafe(18) for name in SERVICES},
            "keys": {"control": new_key("c1"), "app": new_key("a1")},
            "tokens": {scope: secrets.token_urlsafe(24) for scope in ("signup", "read", "app", "admin")},
        }
        return made

    def _save_settings(self) -> None:
        path = self.root / "settings.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.settings, indent=1))

    def _port(self, name: str) -> int:
        ports = self.settings["ports"]
        if name not in ports:
            ports[name] = str(reserve_port())
        return int(ports[name])

    # Environment of the programs.

    def catalog_url(self, role: str) -> str:
        return self.postgres.url(CATALOG, f"tenantry_{role}", self.settings["passwords"][role])

    def admin_environment(self) -> dict[str, str]:
        return {
            "CATALOG_ADMIN_URL": self.postgres.url(CATALOG),
            "KAFKA_BROKERS": self.kafka.bootstrap,
            "SANDBOX": "1",
            **{f"CATALOG_PASSWORD_{name.upper()}": word for name, word in self.settings["passwords"].items()},
        }

    def environment(self, name: str, index: int) -> dict[str, str]:
        """What the service's process is told."""
        common = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "SANDBOX": "1",
            "KAFKA_BROKERS": self.kafka.bootstrap,
            "CATALOG_DATABASE_URL": self.catalog_url(name),
            "OPS_PORT": str(self._port(f"{name}-{index}-ops")),
            "APP_KEYS": self.settings["keys"]["app"],
            "PUBLIC_URL": f"http://127.0.0.1:{self._port('gateway-0')}",
            "PRODUCT_URL": "https://{slug}.example.com",
        }
        if name == "gateway":
            own = {
                "HTTP_PORT": str(self._port(f"gateway-{index}")),
                "TOKENS": str(self.tokens.path),
                "PUBLIC_SIGNUP": "0",
                "DRAIN": "0",  # no balancer stands before it
            }
        elif name == "migrator":
            own = self._tenant_environment()
        elif name == "billing":
            own = {"MAIL_DIRECTORY": str(self.root / "mail"), "MAIL_FROM": "billing@example.com"}
            if self.stripe:
                own |= {
                    "STRIPE_API_URL": self.stripe_url,
                    "STRIPE_SECRET_KEY": STRIPE_KEY,
                    "SMTP_URL": f"smtp://127.0.0.1:{self.smtp_port}",
                }
        else:
            own = {
                **self._tenant_environment(),
                "TENANT_DRIVER": self.driver,
                "MAIL_DIRECTORY": str(self.root / "mail"),
                "MAIL_FROM": "tenantry@example.com",
                "ARCHIVE_DIRECTORY": str(self.root / "archive"),
                "JANITOR_INTERVAL": "2s",
                **self._supabase_environment(),
            }
        if self.keep_memberships and name != "gateway":
            own["KAFKA_PROPERTIES"] = f"group.instance.id={name}-{index}"
        return {**SANITIZERS, **common, **own, **self.options}

    def _tenant_environment(self) -> dict[str, str]:
        """What those need who connect to tenants' databases."""
        made = {
            "CONTROL_KEYS": self.settings["keys"]["control"],
            "TENANT_MIGRATIONS": str(self.tenant_migrations),
            "TENANT_SERVERS": json.dumps(self.servers()),
        }
        return {**made, "TENANT_SSLMODE": "disable"} if self.driver == "supabase" else made

    def servers(self) -> list[dict[str, object]]:
        return [
            {
                "name": "local",
                "admin_url": self.postgres.superuser_url,
                "tenant_host": "127.0.0.1",
                "tenant_port": str(self.postgres.port),
                "capacity": 5000,
            }
        ]

    @property
    def tenant_postgres(self) -> PostgresServer:
        """Where the postgres driver makes tenants' databases."""
        return self.postgres

    def _supabase_environment(self) -> dict[str, str]:
        if self.driver != "supabase":
            return {}
        base = self.sandbox_url
        return {
            "SUPABASE_API_URL": base,
            "SUPABASE_AUTH_URL": base + "/auth/{ref}/v1",
            "SUPABASE_ACCESS_TOKEN": "sbp_sandbox",
            "SUPABASE_ORGANIZATION": "sandbox",
            "SUPABASE_SESSION_PORT": str(self.provider.port),
            "SUPABASE_POLL": "200ms",
        }

    @property
    def stripe_url(self) -> str:
        return f"http://127.0.0.1:{self._port('stripe')}"

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self._port('sandbox')}"

    @property
    def smtp_port(self) -> int:
        return self._port("smtp")

    # Life.

    def start_servers(self) -> None:
        """PostgreSQL, Kafka, the sandbox when the driver wants it; catalog and topics."""
        self._save_settings()
        self.postgres.start()
        self.kafka.start()
        if self.postgres.execute(f"select 1 from pg_database where datname = '{CATALOG}'").strip() != "1":
            self.postgres.execute(f"create database {CATALOG}")
        self.init()
        for folder in ("mail", "archive", "logs"):
            (self.root / folder).mkdir(exist_ok=True)
        self.tokens.write()
        if (self.driver == "supabase" or self.stripe) and not (self.sandbox and self.sandbox.running):
            self.start_sandbox()

    def init(self) -> None:
        """`tenantry init`, as an operator would run it."""
        done = self.run_cli("init", "--migrations", str(self.catalog_migrations), admin=True)
        if done.returncode != 0:
            raise ServerError(f"tenantry init ended with {done.returncode}: {done.stderr}")
        if self.postgres.fast:
            self.postgres.hasten_logins(
                {f"tenantry_{name}": password for name, password in self.settings["passwords"].items()}
            )

    def adopt_sandbox(self) -> None:
        """Makes a sandbox that an earlier program started ours to stop."""
        if self.driver == "supabase" or self.stripe:
            self.sandbox = self._sandbox_process()

    def start_sandbox(self, *arguments: str) -> None:
        self.sandbox = self._sandbox_process(*arguments)
        self.sandbox.start()
        wait_until(lambda: answers(f"{self.sandbox_url}/_sandbox/healthz"), 20, "the sandbox answers")

    def control_sandbox(self, method: str, path: str, body: object = None) -> Any:
        """Calls the sandbox's own interface (`/_sandbox/`); returns what it answers."""
        request = urllib.request.Request(
            f"{self.sandbox_url}/_sandbox/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")

    def _sandbox_process(self, *arguments: str) -> ServerProcess:
        return ServerProcess(
            [
                PYTHON, "-m", "sandbox", "--port", str(self._port("sandbox")), "--smtp-port", str(self.smtp_port),
                "--database-url", self.provider.superuser_url, "--database-strategy", "file_copy",
                *(("--stripe-port", str(self._port("stripe"))) if self.stripe else ()), *arguments,
            ],
            log_path=self.root / "sandbox.log",
            pid_path=self.root / "sandbox.pid",
            cwd=REPOSITORY,
            die_with_parent=self.die_with_parent,
        )  # fmt: skip

    def service(self, name: str, index: int = 0, **more: str) -> Service:
        """Makes the service known without starting it; more is added to what it is told."""
        key = f"{name}-{index}"
        environment = {**self.environment(name, index), **more}
        log_path = self.root / "logs" / f"{key}.log"
        made = Service(
            name=name,
            process=ServerProcess(
                [str(self.build / f"tenantry-{name}")],
                log_path=log_path,
                pid_path=self.root / f"{key}.pid",
                env=environment,
                die_with_parent=self.die_with_parent,
            ),
            ops_port=int(environment["OPS_PORT"]),
            http_port=int(environment["HTTP_PORT"]) if "HTTP_PORT" in environment else None,
            log_path=log_path,
            environment=environment,
        )
        self._save_settings()
        self.services[key] = made
        return made

    def start_service(self, name: str, index: int = 0, **more: str) -> Service:
        made = self.service(name, index, **more)
        made.start()
        made.wait_until_ready()
        return made

    def start(self, gateways: int = 1, provisioners: int = 1, migrators: int = 0, billings: int = 0) -> None:
        self.start_servers()  # those that do not run
        counts = {"gateway": gateways, "provisioner": provisioners, "migrator": migrators, "billing": billings}
        wanted = [(name, index) for name, count in counts.items() for index in range(count)]
        started = [self.service(name, index) for name, index in wanted]
        for each in started:
            each.start()
        for each in started:
            each.wait_until_ready()

    def stop(self) -> None:
        """Services first, servers last. Data stays."""
        for each in self.services.values():
            each.stop()
        if self.sandbox is not None:
            self.sandbox.stop(5)
        self.kafka.stop()
        self.postgres.stop()

    def destroy(self) -> None:
        self.stop()
        self.kafka.destroy()
        self.postgres.destroy()

    def run_cli(self, *words: str, admin: bool = False, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """The `tenantry` command against this stack."""
        environment = {"PATH": os.environ.get("PATH", ""), **self.client_environment()}
        if admin:
            environment |= self.admin_environment()
        return subprocess.run(
            [str(self.build / "tenantry"), *words], env=environment, capture_output=True, text=True, timeout=timeout
        )

    def operator_environment(self) -> dict[str, str]:
        """What an operator has beside: enough for `tenantry init`, `doctor` and `archive cat`."""
        provisioner = self.environment("provisioner", 0)
        names = ("CONTROL_KEYS", "TENANT_DRIVER", "TENANT_SERVERS", "SUPABASE_ACCESS_TOKEN", "SUPABASE_ORGANIZATION")
        made = {name: provisioner[name] for name in names if name in provisioner}
        made["CATALOG_ADMIN_URL"] = self.postgres.url(CATALOG)
        made["TENANTRY_OPS_URL"] = ",".join(service.ops_url for service in self.services.values())
        return made

    def client_environment(self) -> dict[str, str]:
        """What .run/env holds: enough for the CLI, curl, kcat and psql."""
        tokens = self.settings["tokens"]
        made = {
            "TENANTRY_URL": f"http://127.0.0.1:{self._port('gateway-0')}",
            "TENANTRY_TOKEN": tokens["admin"],
            "TENANTRY_APP_TOKEN": tokens["app"],
            "KAFKA_BROKERS": self.kafka.bootstrap,
            **SANITIZERS,
        }
        if self.postgres.data_dir.exists():
            made["CATALOG_DATABASE_URL"] = self.postgres.url(CATALOG)
        if self.driver == "supabase":
            made["SUPABASE_API_URL"] = self.sandbox_url
        if self.stripe:
            made |= {"STRIPE_API_URL": self.stripe_url, "STRIPE_SECRET_KEY": STRIPE_KEY}
        return made
