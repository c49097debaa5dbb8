"""`make demo`: starts everything, signs a few tenants up before your eyes, and tells what to try next."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
import urllib.error
from typing import Any

from .demo_billing import set_up_stripe, tell_billing
from .process import ServerError
from .stack import REPOSITORY, Stack
from .telling import BOLD, DIM, GREEN, PLAIN, call, say

RUN = REPOSITORY / ".run"
COMPANIES = [
    ("Acme Pharmacy", "ada@acme.test", "Ada"),
    ("Blue Heron Chemists", "ben@heron.test", "Ben"),
    ("Corner Drugstore", "cora@corner.test", "Cora"),
]
DEADLINE_SECONDS = 90.0


def demo_stack(driver: str) -> Stack:
    secret = {"STRIPE_WEBHOOK_SECRET_FILE": str(RUN / "demo" / "stripe-webhook")}
    return Stack(RUN / "demo", driver=driver, fast=False, die_with_parent=False, stripe=True, options=secret)


def write_environment(stack: Stack) -> None:
    """.run/env: after `. .run/env` the CLI, curl, kcat and psql work."""
    known = {**stack.client_environment(), **stack.operator_environment()}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in known.items()]
    lines = [line for line in lines if "SAN_OPTIONS" not in line]
    lines.append(f"export PATH={shlex.quote(str(stack.build))}:$PATH")
    path = RUN / "env"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")


def show(tenant: dict[str, Any]) -> str:
    activity = tenant.get("activity") or {}
    progress = 100 if tenant.get("state") == "ready" else int(activity.get("progress") or 0)
    bar = "#" * (progress // 5) + "." * (20 - progress // 5)
    return f"  {tenant.get('slug', ''):22} [{bar}] {tenant.get('state', ''):13} {activity.get('step') or ''}"


def sign_up(stack: Stack) -> list[str]:
    say(f"\n{BOLD}Three companies sign up:{PLAIN}")
    tenants = []
    for company, email, name in COMPANIES:
        body = {"company": company, "email": email, "name": name}
        once = f"demo {company}"  # however often the demo runs
        answer = call(stack, "POST", "/api/signups", body, idempotency_key=once)
        tenants.append(answer["tenant_id"])
        say(f"  {company:22} 202 accepted, operation {DIM}{answer['operation_id']}{PLAIN}")
    return tenants


def watch(stack: Stack, tenants: list[str]) -> None:
    """Prints each change until all are ready."""
    say(f"\n{BOLD}Each becomes a database of its own:{PLAIN}")
    shown: dict[str, str] = {}
    deadline = time.monotonic() + DEADLINE_SECONDS
    ready: set[str] = set()
    while len(ready) < len(tenants):
        if time.monotonic() > deadline:
            raise ServerError("the tenants did not become ready; see the logs in .run/demo/logs")
        for tenant in tenants:
            try:
                seen = call(stack, "GET", f"/api/tenants/{tenant}")
            except urllib.error.HTTPError:
                continue  # still on its way through Kafka
            line = show(seen)
            if shown.get(tenant) != line:
                shown[tenant] = line
                say(line)
            if seen["state"] == "ready":
                ready.add(tenant)
        time.sleep(0.05)


def how_to_read_mails(folder: str) -> str:
    """The shell's words that show each mail's text, which comes before its HTML."""
    text = r"""sed '1,/text\/plain/d' "$m" | sed '1,/^\r*$/d; /^--/,$d' | base64 -di"""
    return f"for m in {folder}/*; do {text}; done"


def tell_what_next(stack: Stack) -> None:
    mails = stack.root / "mail"
    say(f"""
{GREEN}All ready.{PLAIN} Everything runs on this machine; state is under .run/, logs under .run/demo/logs/.

{BOLD}Try next{PLAIN} (in a shell here):
  . .run/env
  tenantry tenants                                  who is there
  tenantry signup --company "My Shop" --email me@example.test --wait
  tenantry watch                                    live, every change (end with Ctrl-C)
  tenantry suspend acme-pharmacy --wait
  tenantry explain acme-pharmacy
  tenantry billing show acme-pharmacy
  tenantry doctor                                   is everything as it should be?
  file=$(tenantry migrate new "opening hours" --directory .run/files)
  printf -- '-- migrate:up\\ncreate table opening_hours (day int);\\n-- migrate:down\\ndrop table opening_hours;\\n' > $file
  tenantry migrate register .run/files && tenantry migrate run --strategy all --watch
  curl -s -H "Authorization: Bearer $TENANTRY_TOKEN" $TENANTRY_URL/api/tenants | jq .
  kcat -b $KAFKA_BROKERS -C -e -t tenant.status.v1 -f '%k %s\\n'
  psql "$CATALOG_DATABASE_URL" -c 'select slug, state from provisioner.tenant'
  {how_to_read_mails(os.path.relpath(mails, REPOSITORY))}    the invitations
  curl -s $STRIPE_API_URL/_sandbox/mail | jq -r '.[].subject'      billing's mails

`make down` stops it, `make clean-data` forgets it.""")


def up(driver: str) -> None:
    stack = demo_stack(driver)
    if stack.service("gateway", 0).process.running:
        write_environment(stack)
        say(f"The demo runs already: gateway at {stack.client_environment()['TENANTRY_URL']}.")
        say("`. .run/env` to use it, `make down` to stop it.")
        return
    say(f"{BOLD}Starting PostgreSQL, Apache Kafka, Stripe's stand-in and the services ({driver} driver) ...{PLAIN}")
    began = time.monotonic()
    stack.start_servers()
    set_up_stripe(stack)
    stack.start(gateways=1, provisioners=2, migrators=1, billings=1)
    write_environment(stack)
    say(f"  up in {time.monotonic() - began:.1f} s: gateway at {stack.client_environment()['TENANTRY_URL']}")
    tenants = sign_up(stack)
    watch(stack, tenants)
    tell_billing(stack, tenants)
    tell_what_next(stack)


def known_driver() -> str:
    path = RUN / "demo" / "driver"
    return path.read_text() if path.exists() else "postgres"


def down(forget: bool) -> None:
    if not (RUN / "demo" / "settings.json").exists():
        say("nothing is running")
        return
    stack = demo_stack(known_driver())
    for name, index in (("gateway", 0), ("provisioner", 0), ("provisioner", 1), ("migrator", 0), ("billing", 0)):
        stack.service(name, index)
    stack.adopt_sandbox()
    if forget:
        stack.destroy()
        shutil.rmtree(RUN / "demo", ignore_errors=True)
        (RUN / "env").unlink(missing_ok=True)
        say("stopped and forgotten")
    else:
        stack.stop()
        say("stopped; data stays under .run/ (make clean-data forgets it)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["up", "down", "forget"])
    parser.add_argument("--driver", choices=["postgres", "supabase"], default="postgres")
    given = parser.parse_args()
    RUN.mkdir(exist_ok=True)
    try:
        if given.what == "up":
            if (RUN / "demo" / "settings.json").exists() and known_driver() != given.driver:
                say(f"the demo's data is of the {known_driver()} driver: make clean-data first")
                return 1
            (RUN / "demo").mkdir(exist_ok=True)
            (RUN / "demo" / "driver").write_text(given.driver)
            up(given.driver)
        else:
            down(forget=given.what == "forget")
    except (ServerError, TimeoutError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; `make down` stops what was started")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
