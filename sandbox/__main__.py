"""Starts the sandbox: `python3 -m sandbox --port P --database-url postgres://superuser@host/postgres`."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import signal
import sys
from typing import Any

import psycopg
from aiohttp import web

from .app import Sandbox
from .settings import Settings
from .stripe import settings as stripe
from .stripe.settings import StripeSettings
from .supabase import settings as supabase
from .supabase.settings import SupabaseSettings

GRACE_SECONDS = 0.6


def read_arguments(given: list[str]) -> tuple[Settings, SupabaseSettings, StripeSettings]:
    default = Settings(database_url="")
    parser = argparse.ArgumentParser(
        prog="sandbox", description="Stand-ins for Supabase and Stripe with fault injection."
    )
    add = parser.add_argument
    add("--smtp-port", type=int, help="also catch mail at this port")
    add("--host", default=default.host, help="address to listen at (%(default)s)")
    add("--database-url", required=True, help="a superuser of the cluster the projects live in")
    add("--state-database", default=default.state_database, help="the sandbox's own database (%(default)s)")
    add("--seed", type=int, default=default.seed, help="of everything random in faults (%(default)s)")
    supabase.add_arguments(parser)
    stripe.add_arguments(parser)
    told = {name: value for name, value in vars(parser.parse_args(given)).items() if value is not None}
    return (
        Settings(**part(told, Settings)),
        SupabaseSettings(**part(supabase.complete(told), SupabaseSettings)),
        StripeSettings(**part(told, StripeSettings)),
    )


def part(told: dict[str, Any], kind: type) -> dict[str, Any]:
    """What of all that was told is for settings of this kind."""
    return {each.name: told[each.name] for each in dataclasses.fields(kind) if each.name in told}


async def serve(settings: Settings, *of_rooms: Any) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    sandbox = Sandbox(settings, *of_rooms)
    await sandbox.open()
    runners = []
    rooms = [room for room in sandbox.rooms if room.ports()]
    for room in rooms:
        runner = web.AppRunner(sandbox.web_app(room), access_log=None, handle_signals=False)
        await runner.setup()
        runners.append(runner)
        for port in sorted(room.ports()):
            await web.TCPSite(runner, settings.host, port, backlog=1024).start()
    if settings.smtp_port is not None:
        await sandbox.mailbox.serve(settings.host, settings.smtp_port)
    for room in rooms:
        logging.info("%s is ready at http://%s:%s", room.name, settings.host, ", ".join(map(str, sorted(room.ports()))))
    await stopped.wait()
    try:
        await asyncio.wait_for(stop(sandbox, runners), GRACE_SECONDS)
        logging.info("stopped")
    except TimeoutError:
        logging.info("stopped with work unfinished; the next start takes it up")
    # Everything is in PostgreSQL: nothing is lost by not waiting for what is still under way.
    sys.stderr.flush()
    os._exit(0)


async def stop(sandbox: Sandbox, runners: list[web.AppRunner]) -> None:
    """Lets what hangs go, answers what is nearly done, then closes the connections to PostgreSQL."""
    sandbox.stopping.set()
    await asyncio.gather(*(runner.cleanup() for runner in runners))
    await sandbox.close()


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s sandbox %(levelname)s %(message)s")
    try:
        asyncio.run(serve(*read_arguments(sys.argv[1:])))
    except (psycopg.Error, OSError) as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
