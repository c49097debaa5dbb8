"""RESULTS.md: the figures as tables, each number with its unit, each target with its verdict."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from .fleet import Timed
from .ingest import CONNECTIONS, SOAK_RATE, Ingest
from .intake import COMMANDS, Intake
from .machine import CORES
from .peers import Peer
from .supabase import COMING_UP_SECONDS, OWN_LIMIT, PROVIDER_LIMIT, Wave
from .tenants import Round

# The saga's steps in their order, as events tell them.
STEPS = (
    "signup until told", "wait and reserve", "create", "await_ready", "connect", "plant_identity", "migrate",
    "create_admin", "open_access", "invite",
)  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _ms(us: float) -> str:
    return f"{us / 1000:.2f} ms"


def _median_of(measured: Sequence[Ingest], name: str) -> float:
    return statistics.median(float(each.result[name]) for each in measured)


def _cpu_us(measured: Sequence[Ingest], name: str) -> str:
    if name not in measured[0].cpu:
        return "-"
    return f"{statistics.median(each.cpu_us_per_request(name) for each in measured):.1f} µs"


def others_share(cpus: Sequence[dict[str, float]], seconds: Sequence[float]) -> float:
    """Share of the machine that processes not of this benchmark used, in per cent."""
    return statistics.median(cpu["others"] / (spent * CORES) * 100 for cpu, spent in zip(cpus, seconds, strict=True))


def ingest_section(gateway: Sequence[Ingest], bare: Sequence[Ingest]) -> str:
    rows = []
    for name, measured in (("gateway, HTTP", gateway), ("bare producer", bare)):
        others = others_share([m.cpu for m in measured], [float(m.result["seconds"]) for m in measured])
        rows.append([
            name, f"{_median_of(measured, 'per_second'):,.0f}/s",
            *(_ms(_median_of(measured, p)) for p in ("p50_us", "p99_us", "p999_us", "max_us")),
            *(_cpu_us(measured, p) for p in ("gateway", "broker", "generator")), f"{others:.0f} %",
        ])  # fmt: skip
    head = ["", "requests", "p50", "p99", "p99.9", "longest", "gateway CPU", "broker CPU", "generator CPU", "others"]
    statuses: dict[str, int] = {}
    for each in gateway:
        for status, count in each.result["statuses"].items():
            statuses[status] = statuses.get(status, 0) + int(count)
    rate, p99 = _median_of(gateway, "per_second"), _median_of(gateway, "p99_us")
    rss = max(each.rss_mb for each in gateway)
    answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    broken = sum(int(each.result["broken"]) for each in gateway)
    return f"""## 1. Ingest: signups into Kafka

Signups of 1 KiB (1,024 bytes of JSON, each unique, nearly half of it not ASCII, for the fields' limits allow no
1 KiB of ASCII) over {CONNECTIONS} kept-alive connections, each sending the next when the last is answered; a 202 means
that Kafka has acknowledged (acks=all, one broker). Beside it, the same messages with the same key, headers and producer
settings from a minimal C program, {CONNECTIONS} in flight. CPU is per request; "others" is what processes outside this
benchmark took of all cores meanwhile. Medians of {len(gateway)} runs of
{gateway[0].result["seconds"]:.0f} s after a warm-up.

{table(head, rows)}

Answers: {answers}; connections broken: {broken}. The gateway's memory: {rss:.1f} MB.

{
        table(
            ["target", "measured", ""],
            [
                ["over 20,000 requests/s", f"{rate:,.0f}/s", verdict(rate > 20000)],
                ["p99 under 10 ms", _ms(p99), verdict(p99 < 10000)],
                ["RSS under 30 MB", f"{rss:.1f} MB", verdict(rss < 30)],
            ],
        )
    }
"""


def soak_section(samples: Sequence[tuple[int, float]], result: dict[str, Any]) -> str:
    most = max(mb for _, mb in samples)
    settled = samples[min(len(samples) - 1, max(1, len(samples) // 5))][1]
    grown = samples[-1][1] - settled
    rows = [[f"{second} s", f"{mb:.2f} MB"] for second, mb in samples]
    answered = f"{result['requests']:,} answered, p99 {_ms(result['p99_us'])}"
    return f"""## 2. The gateway's memory over time

{SOAK_RATE:,} signups/s for {samples[-1][0]} s, after the load of section 1 ({answered}).

{table(["after", "RSS"], rows)}

{
        table(
            ["target", "measured", ""],
            [
                ["RSS under 30 MB", f"{most:.2f} MB", verdict(most < 30)],
                ["flat: less than 1 MB more after the first fifth", f"{grown:+.2f} MB", verdict(grown < 1)],
            ],
        )
    }
"""


def _per_minute(rounds: Sequence[Round]) -> float:
    return statistics.median(each.per_minute for each in rounds)


def _cpu_ms_per_tenant(rounds: Sequence[Round], *prefixes: str) -> float:
    return statistics.median(
        sum(used for name, used in each.cpu.items() if name.startswith(prefixes)) * 1000 / each.tenants
        for each in rounds
    )


def overhead(ours: Sequence[Round], bare: Sequence[Round]) -> float:
    """How much longer a tenant takes with us, in per cent; the median over the runs, each against its own bare run."""
    return statistics.median((b.per_minute / o.per_minute - 1) * 100 for o, b in zip(ours, bare, strict=True))


def tenants_section(ours: dict[int, list[Round]], bare: dict[int, list[Round]], alone: list[Round]) -> str:
    rows, verdicts, runs = [], [], len(next(iter(ours.values())))
    for provisioners, rounds in ours.items():
        beside = bare[provisioners]
        for name, those in ((f"Tenantry, {provisioners} provisioner(s)", rounds), ("the same by psql", beside)):
            own = ("provisioner", "gateway", "broker", "psql")
            rows.append([
                name, f"{those[0].tenants}", f"{_per_minute(those):.0f}/min",
                f"{_cpu_ms_per_tenant(those, 'postgres'):.0f} ms", f"{_cpu_ms_per_tenant(those, *own):.0f} ms",
                f"{others_share([r.cpu for r in those], [r.seconds for r in those]):.0f} %",
            ])  # fmt: skip
        more = overhead(rounds, beside)
        rows[-2].append(f"{more:+.0f} %")
        rows[-1].append("")
        verdicts.append([f"overhead under 30 %, {provisioners} provisioner(s)", f"{more:+.0f} %", verdict(more < 30)])
    head = ["", "tenants", "ready", "PostgreSQL's CPU a tenant", "other CPU a tenant", "others", "overhead"]
    crowd = [each for rounds in ours.values() for each in rounds[:1]]
    steps = [
        [name, *(_step(each, name) for each in crowd), _step(alone[0], name)]
        for name in STEPS
        if any(name in each.steps for each in [*crowd, *alone])
    ]
    bare_steps = [[name, *(_step(bare[p][0], name) for p in bare)] for name in ("create", "migrate")]
    return f"""## 3. From signup to ready: the postgres driver

From the first signup sent to the last tenant ready, with fsync on, catalog and tenants on one server; each
provisioner has eight sagas in hand. Beside it, in the same run and on the same server: roles, `create database`,
rights and the same migrations by psql, two calls a tenant, as many tenants at once. Medians of {runs} runs; the
order of ours and bare changes from run to run. "other CPU" is gateway, broker and provisioners, or psql.

{table(head, rows)}

{table(["target", "measured", ""], verdicts)}

Where the time goes: median of each step, from the events' times in the catalog (of the first run; "alone" is one tenant
after the other, {alone[0].tenants} of them). "wait and reserve" holds the wait for a free worker.

{table(["step", *(f"{p} provisioner(s)" for p in ours), "alone"], steps)}

{table(["by psql", *(f"{8 * p} at once" for p in bare)], bare_steps)}
"""


def _step(measured: Round, name: str) -> str:
    return f"{measured.median_ms(name):.1f} ms" if name in measured.steps else "-"


def supabase_section(wave: Wave) -> str:
    worst = max(wave.queue_displaced, default=0)
    mean = statistics.fmean(wave.queue_displaced) if wave.queue_displaced else 0.0
    overtaken = max(wave.overtaken_seconds, default=0.0)
    endpoints = [
        [f"{e['method']} {e['template']}", f"{e['total']:,}", f"{e['limited']}"] for e in wave.stats["endpoints"]
    ]
    return f"""## 4. A wave of Supabase signups

{wave.signups:,} signups at once on the sandbox, whose clock runs {wave.rate} times faster: {PROVIDER_LIMIT} requests a
minute and endpoint, {COMING_UP_SECONDS} s until a project is up, by its clock. One provisioner, whose own limit
({OWN_LIMIT} a minute) and polling are scaled alike; its delays are not, so that they weigh {wave.rate} times here.

{
        table(
            ["", ""],
            [
                ["ready", f"{wave.ready:,} of {wave.signups:,}"],
                ["time", f"{wave.seconds:.0f} s = {wave.provider_minutes:.1f} minutes of the provider's clock"],
                ["creates against the catalog's queue", f"{mean:.2f} places off on average, {worst} at most"],
                [
                    "creates against the signups",
                    f"overtaken by signups at most {overtaken * 1000:.0f} ms younger "
                    f"(all were sent within {wave.signups_seconds:.1f} s)",
                ],
                [
                    "provisioner's RSS",
                    f"{wave.rss_start_mb:.1f} MB at the start, {wave.rss_peak_mb:.1f} MB at most, "
                    f"{wave.rss_end_mb:.1f} MB at the end",
                ],
            ],
        )
    }

{
        table(
            ["target", "measured", ""],
            [
                ["all ready", f"{wave.ready:,}", verdict(wave.ready == wave.signups)],
                ["no 429", f"{wave.limited}", verdict(wave.limited == 0)],
                [f"oldest first: none more than {2 * 8} places off", f"{worst}", verdict(worst <= 16)],
                ["RSS under 60 MB", f"{wave.rss_peak_mb:.1f} MB", verdict(wave.rss_peak_mb < 60)],
            ],
        )
    }

{table(["endpoint", "requests", "429"], endpoints)}
"""


def intake_section(measured: Sequence[Intake]) -> str:
    rows, verdicts = [], []
    for provisioners in sorted({each.provisioners for each in measured}):
        for command in COMMANDS:
            those = [m for m in measured if m.command == command and m.provisioners == provisioners]
            rate = statistics.median(m.per_second for m in those)
            rows.append([
                f"{command}, {provisioners} provisioner(s)", f"{rate:,.0f}/s",
                f"{statistics.median(m.count / m.transactions for m in those):.0f}",
                *(f"{statistics.median(m.cpu_us(p) for m in those):.0f} µs" for p in ("postgres", "provisioner", "broker")),
                f"{others_share([m.cpu for m in those], [m.seconds for m in those]):.0f} %",
            ])  # fmt: skip
            verdicts.append(
                [f"{command}: 3,000/s, {provisioners} provisioner(s)", f"{rate:,.0f}/s", verdict(rate >= 3000)]
            )
    runs = len(measured) // len(rows)
    return f"""## 5. Intake: commands into the catalog

{
        measured[
            0
        ].count:,} commands, each for another tenant, wait in Kafka's six partitions when the provisioners are started; fsync is
on. From the first that is in the catalog to the last, by the catalog's own times. `resume` changes a fact and is settled at
once; `suspend` also begins a saga. The same processes publish history and snapshots meanwhile and work on what was begun
(the fleet's databases are nowhere, so that its sagas come no further than their connections): that is in the figures. CPU
is per command. Medians of {runs} run(s).

{table(["", "taken", "commands a transaction", "PostgreSQL's CPU", "provisioners' CPU", "broker CPU", "others"], rows)}

{table(["target", "measured", ""], verdicts)}
"""


def fleet_section(tenants: int, lists: Sequence[Timed], statements: Sequence[Timed]) -> str:
    def rows(those: Sequence[Timed]) -> list[list[str]]:
        return [[each.what, f"{each.median_ms:.1f} ms", f"{each.longest_ms:.1f} ms"] for each in those]

    worst = max(each.median_ms for each in lists)
    return f"""## 6. Lists and loads with {tenants:,} tenants

Rows of a fleet of {tenants:,} tenants in the catalog, and as many in the inventory; no provisioner runs. Lists by HTTP from
the gateway, over one connection, {lists[0].times} times each; what services ask the catalog again and again, as they do.

{table(["list", "median", "longest"], rows(lists))}

{table(["target", "measured", ""], [["any page under 50 ms (medians)", f"{worst:.1f} ms", verdict(worst < 50)]])}

{table(["statement", "median", "longest"], rows(statements))}
"""


def peers_section(measured: Sequence[Peer]) -> str:
    rows = []
    for name in dict.fromkeys(each.name for each in measured):
        those = [each for each in measured if each.name == name]
        rows.append([
            name, f"{statistics.median(each.per_second for each in those):,.0f}/s",
            *(_ms(statistics.median(float(each.result[p]) for each in those)) for p in ("p50_us", "p99_us")),
            *(f"{statistics.median(each.cpu_us(p) for each in those):.1f} µs" for p in ("server", "broker")),
            f"{max(each.rss_mb for each in those):.1f} MB", f"{statistics.median(each.others for each in those):.0f} %",
        ])  # fmt: skip
    return f"""## 7. Beside other servers

The gateway and servers that do the same work on the same Kafka, one after the other, with the generator and the load of
section 1. CPU is per request. Medians of {len(measured) // len(rows)} round(s), every other one backwards.

{table(["server", "requests", "p50", "p99", "server CPU", "broker CPU", "RSS", "others"], rows)}
"""
