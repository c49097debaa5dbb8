"""`make bench`: measures, prints the tables, writes bench/RESULTS.md. A benchmark, not a test: no figure fails it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import (
    billing_rounds,
    fleet,
    ingest,
    intake,
    peers,
    report,
    report_billing,
    report_rollouts,
    rollout_tools,
    rollouts,
    supabase,
    tenants,
)
from .machine import CORES, facts

HERE = Path(__file__).resolve().parent
SECTIONS = ("ingest", "tenants", "supabase", "intake", "fleet", "peers", "rollouts", "billing")


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on a real disk that PostgreSQL's user can reach; gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="tenantry-bench-", dir=os.environ.get("TENANTRY_BENCH_DIR", "/var/tmp")))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def run_ingest(given: argparse.Namespace) -> str:
    say(f"ingest: {given.runs} runs of {given.seconds} s, gateway and bare producer in turn")
    gateway, bare = [], []
    with scratch() as root, ingest.ingest_stack(root) as stack:
        ingest.measure_bare(stack, given.programs, 0, 10)  # until the broker's code is compiled
        for _ in range(given.runs):
            gateway.append(ingest.measure_gateway(stack, given.programs, 3, given.seconds))
            bare.append(ingest.measure_bare(stack, given.programs, 3, given.seconds))
            for name, each in (("gateway", gateway[-1]), ("bare", bare[-1])):
                say(f"  {name}: {each.per_second:,.0f}/s, p99 {each.result['p99_us'] / 1000:.2f} ms")
        text = report.ingest_section(gateway, bare)
        return text + "\n" + report.soak_section(*ingest.soak(stack, given.programs, given.soak_minutes, say))


def run_tenants(given: argparse.Namespace) -> str:
    count = given.tenants or 100
    say(f"tenants: {given.runs} runs of {count} with 1 and with 2 provisioners, ours and psql in turn")
    ours: dict[int, list[tenants.Round]] = {1: [], 2: []}
    bare: dict[int, list[tenants.Round]] = {1: [], 2: []}
    alone: list[tenants.Round] = []
    for run in range(given.runs):
        with scratch() as root, tenants.tenant_stack(root) as stack:
            tenants.measure_bare(stack, 8, 4, f"warm{run}")
            tenants.wait_until_ready(stack, tenants.sign_up(stack, 8, f"Warm {run}"))
            if run == 0:
                alone.append(tenants.measure_alone(stack, 10))
            for provisioners in ours:
                if provisioners == 2:
                    stack.start_service("provisioner", 1)
                for turn in (0, 1):
                    what = f"r{run}p{provisioners}"
                    if (turn + run) % 2 == 0:
                        bare[provisioners].append(
                            tenants.measure_bare(stack, count, tenants.WORKERS * provisioners, what)
                        )
                    else:
                        ours[provisioners].append(tenants.measure_tenants(stack, count, provisioners, what))
                say(
                    f"  {provisioners} provisioner(s): {ours[provisioners][-1].per_minute:.0f}/min, "
                    f"psql {bare[provisioners][-1].per_minute:.0f}/min"
                )
    return report.tenants_section(ours, bare, alone)


def run_supabase(given: argparse.Namespace) -> str:
    say(f"supabase: {given.signups} signups, the provider's clock {given.rate} times faster")
    with scratch() as root:
        return report.supabase_section(supabase.measure_wave(root, given.signups, given.rate, say))


def run_intake(given: argparse.Namespace) -> str:
    say(f"intake: {given.runs} runs of {given.commands} commands, with 1 and with 2 provisioners")
    measured: list[intake.Intake] = []
    for _ in range(given.runs):
        for provisioners in (1, 2):
            with scratch() as root, intake.intake_stack(root, given.commands) as stack:
                for command in intake.COMMANDS:
                    measured.append(intake.measure_intake(stack, command, given.commands, provisioners))
                    say(f"  {provisioners} provisioner(s), {command}: {measured[-1].per_second:,.0f}/s")
    return report.intake_section(measured)


def run_fleet(given: argparse.Namespace) -> str:
    say(f"fleet: lists and statements with {given.fleet} tenants")
    with scratch() as root, fleet.fleet_stack(root, given.fleet) as stack:
        return report.fleet_section(given.fleet, fleet.measure_lists(stack), fleet.measure_statements(stack))


def run_peers(given: argparse.Namespace) -> str:
    if given.peers is None:
        say("peers: SKIPPED, for no directory of peers was given (PEERS=DIR, or --peers DIR)")
        return "## 7. Beside other servers\n\nSkipped: no directory of peers was given (`make bench PEERS=DIR`).\n"
    say(f"peers: {given.runs} rounds of {given.seconds} s of the gateway and of what {given.peers} describes")
    with scratch() as root:
        return report.peers_section(peers.measure_peers(root, given, say))


def run_rollouts(given: argparse.Namespace) -> str:
    count = given.tenants or 1000
    say(f"rollouts: {given.runs} rounds of a change for {count} tenants, Tenantry and other tools in turn")
    measured = report_rollouts.Rollouts(count)
    with scratch() as root:
        with rollouts.rollout_stack(root, count, say) as made:
            server = made.stack.postgres
            tools = rollout_tools.Tools(
                root / "tools", made.stack.tenant_migrations, server.port, server.password, given.programs
            )
            kinds, measured.left_out = rollout_tools.tools_to_measure(tools)
            for number in range(given.runs):
                for tool in [None, *kinds] if number % 2 == 0 else [*kinds[::-1], None]:
                    if tool is None:
                        measured.add_ours(*rollouts.measure_ours(made))
                    else:
                        measured.others.append(rollouts.measure_tool(made, tool))
                    last = measured.ours[-1] if tool is None else measured.others[-1]
                    say(f"  {last.name}: {last.tenants} in {last.seconds:.1f} s")
            if not measured.left_out:
                measured.far = rollouts.measure_far(made, root, tools, given.runs)
        say(f"  lists of a run over {given.rows} tenants that are only rows")
        measured.rows = rollouts.measure_rows(root, given.rows)
    return report_rollouts.rollouts_section(measured)


def run_billing(given: argparse.Namespace) -> str:
    sizes = billing_rounds.Sizes(given.programs, given.runs, given.seconds, given.tenants or 1000)
    say(f"billing: {given.runs} rounds of {given.seconds} s, and of events of {sizes.of_fleet} tenants")
    with scratch() as root:
        return report_billing.billing_section(billing_rounds.measure_billing(root, sizes, say))


def header() -> str:
    load = os.getloadavg()[0]
    machine = report.table(["", ""], facts())
    return f"""# Benchmark results

Taken by `make bench` on {time.strftime("%Y-%m-%d")}. Load generator, broker, PostgreSQL and services share the {CORES}
cores of this machine; the load average before the start was {load:.1f}. Figures taken while others use the machine
("others" in the tables) are lower than what it can do.

{machine}
"""


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m bench.run", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; all unless given")
    parser.add_argument("--long", action="store_true", help="a soak of 5 minutes, 1,000 Supabase signups")
    parser.add_argument("--runs", type=int, default=3, help="runs that medians are taken of (%(default)s)")
    parser.add_argument("--seconds", type=int, default=15, help="length of a run of ingest (%(default)s)")
    parser.add_argument("--soak-minutes", type=float, help="1, or 5 with --long")
    parser.add_argument("--tenants", type=int, help="tenants of a run: 100, and 1,000 of rollouts and billing")
    parser.add_argument("--signups", type=int, help="Supabase signups: 200, or 1,000 with --long")
    parser.add_argument("--rate", type=int, default=3, help="how much faster the provider's clock runs (%(default)s)")
    parser.add_argument("--commands", type=int, default=20000, help="commands of a run of intake (%(default)s)")
    parser.add_argument("--fleet", type=int, default=100000, help="tenants of the large fleet (%(default)s)")
    parser.add_argument("--rows", type=int, default=10000, help="rollouts: tenants that are only rows (%(default)s)")
    parser.add_argument("--peers", type=Path, help="directory of servers to compare with; see bench/peers.py")
    parser.add_argument("--programs", type=Path, required=True, help="directory of load, produce and connect")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md", help="where the tables go (%(default)s)")
    given = parser.parse_args()
    unknown = set(given.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"there is no section {', '.join(sorted(unknown))}")
    given.sections = given.sections or list(SECTIONS)
    given.soak_minutes = given.soak_minutes or (5 if given.long else 1)
    given.signups = given.signups or (1000 if given.long else 200)
    return given


def main() -> int:
    given = read_options()
    parts = [header()]
    runners = {
        "ingest": run_ingest, "tenants": run_tenants, "supabase": run_supabase, "intake": run_intake, "fleet": run_fleet,
        "peers": run_peers, "rollouts": run_rollouts, "billing": run_billing,
    }  # fmt: skip
    for section in given.sections:
        parts.append(runners[section](given))
        say("\n" + parts[-1])
    given.output.write_text("\n".join(parts))
    say(f"written to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
