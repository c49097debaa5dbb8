"""Starts the sandbox: `python3 -m sandbox --port P --database-url postgres://superuser@host/postgres`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

import psycopg
from aiohttp import web

from .app import Sandbox
from .settings import Settings

GRACE_SECONDS = 0.6


def port_or_same(text: str) -> int | None:
    return None if text == "same" else int(text)


def arguments(given: list[str]) -> Settings:
    default = Settings(database_url="")
    parser = argparse.ArgumentParser(prog="sandbox", description="A stand-in for Supabase with fault injection.")
    add = parser.add_argument
    add("--port", type=int, default=default.port, help="HTTP port (%(default)s)")
    add("--auth-port", type=port_or_same, help="a second port for the Auth API, or: same (the default)")
    add("--smtp-port", type=int, help="also catch mail at this port")
    add("--host", default=default.host, help="address to listen at (%(default)s)")
    add("--database-url", required=True, help="a superuser of the cluster the projects live in")
    add("--state-database", default=default.state_database, help="the sandbox's own database (%(default)s)")
    add("--token", default=default.token, help="the access token that is accepted (%(default)s)")
    add("--organization", default=default.organization, help="slug of the first organization (%(default)s)")
    add("--plan", default=default.plan, choices=["free", "pro", "team"], help="its plan (%(default)s)")
    add("--max-projects", type=int, help="its quota (free: 2, else 100000)")
    add("--coming-up-seconds", type=float, default=default.coming_up_seconds, help="(%(default)s)")
    add("--services-lag-seconds", type=float, default=default.services_lag_seconds, help="(%(default)s)")
    add("--rate-limit", type=int, default=default.rate_limit, help="requests a minute (%(default)s)")
    add(
        "--rate-scope",
        choices=["endpoint", "project"],
        default="endpoint",
        help="what the limit is counted by",
    )
    add(
        "--lazy-databases",
        "--no-databases",
        action="store_true",
        help="make a database when its pooler is read",
    )
    add(
        "--database-workers",
        type=int,
        default=default.database_workers,
        help="databases made at once (%(default)s)",
    )
    add("--database-strategy", choices=["wal_log", "file_copy"], default=default.database_strategy)
    add("--pooler-host", default=default.pooler_host, help="host in the pooler's answer (%(default)s)")
    add(
        "--pooler-port",
        type=int,
        default=default.pooler_port,
        help="port in the pooler's answer (%(default)s)",
    )
    add(
        "--site-url",
        default=default.site_url,
        help="a new project's site_url, where a link leads whose redirect_to is not allowed",
    )
    add("--seed", type=int, default=default.seed, help="of everything random in faults (%(default)s)")
    told = {name: value for name, value in vars(parser.parse_args(given)).items() if value is not None}
    told.setdefault("auth_port", told["port"])
    told.setdefault("max_projects", 2 if told["plan"] == "free" else default.max_projects)
    return Settings(**told)


async def serve(settings: Settings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sandbox = Sandbox(settings)
    await sandbox.open()
    runner = web.AppRunner(sandbox.web_app(), access_log=None, handle_signals=False)
    await runner.setup()
    for port in sorted({settings.port, settings.auth_port}):
        await web.TCPSite(runner, settings.host, port, backlog=1024).start()
    if settings.smtp_port is not None:
        await sandbox.mailbox.serve(settings.host, settings.smtp_port)
    logging.info("ready at http://%s:%d", settings.host, settings.port)
    await stopped.wait()
    try:
        await asyncio.wait_for(stop(sandbox, runner), GRACE_SECONDS)
        logging.info("stopped")
    except TimeoutError:
        logging.info("stopped with work unfinished; the next start takes it up")
    # Everything is in PostgreSQL: nothing is lost by not waiting for what is still under way.
    sys.stderr.flush()
    os._exit(0)


async def stop(sandbox: Sandbox, runner: web.AppRunner) -> None:
    """Lets what hangs go, answers what is nearly done, then closes the connections to PostgreSQL."""
    sandbox.stopping.set()
    await runner.cleanup()
    await sandbox.close()


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s sandbox %(levelname)s %(message)s")
    try:
        asyncio.run(serve(arguments(sys.argv[1:])))
    except (psycopg.Error, OSError) as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
