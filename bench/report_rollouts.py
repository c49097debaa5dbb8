"""Section 8 of RESULTS.md: rollouts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from .machine import CORES
from .report import others_share, table, verdict
from .rollouts import FAR_AT_ONCE, ROUND_TRIP_MS, Far, Rollout, Rows

HEAD = (
    "", "tenants", "time", "rate", "connections a tenant", "PostgreSQL's CPU a tenant", "other CPU a tenant", "memory", "others", "idle",
)  # fmt: skip


@dataclass
class Rollouts:
    """All that section 8 tells."""

    tenants: int
    ours: list[Rollout] = field(default_factory=list)
    dry: list[Rollout] = field(default_factory=list)
    nothing: list[Rollout] = field(default_factory=list)
    others: list[Rollout] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    far: Far | None = None
    rows: Rows | None = None

    def add_ours(self, dry: Rollout, ours: Rollout, nothing: Rollout) -> None:
        self.dry.append(dry)
        self.ours.append(ours)
        self.nothing.append(nothing)


def _spread(values: Sequence[float], unit: str, digits: int = 1) -> str:
    """Median, and from the least to the most."""
    median = statistics.median(values)
    return f"{median:,.{digits}f} {unit} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _cpu_ms(those: Sequence[Rollout], *prefixes: str) -> float:
    return statistics.median(
        sum(used for name, used in each.cpu.items() if name.startswith(prefixes)) * 1000 / each.tenants
        for each in those
    )


def _idle(each: Rollout) -> float:
    """Share of the machine that nobody used, in per cent: where there is none, only less work makes it faster."""
    used = sum(seconds for name, seconds in each.cpu.items() if name != "catalog")  # which is of PostgreSQL's
    return max(0.0, 100 - used / (each.seconds * CORES) * 100)


def _rollout_row(those: Sequence[Rollout]) -> list[str]:
    one = those[0]
    is_ours = bool(one.states)
    own = ("migrator", "gateway", "broker", "provisioner") if is_ours else ("tool",)
    return [
        one.name, f"{one.tenants:,}", _spread([each.seconds for each in those], "s"),
        f"{statistics.median(each.per_second for each in those):.0f}/s",
        f"{statistics.median(each.connections / each.tenants for each in those):.1f}",
        f"{_cpu_ms(those, 'postgres'):.1f} ms" + (f", catalog {_cpu_ms(those, 'catalog'):.1f} ms" if is_ours else ""),
        f"{_cpu_ms(those, *own):.1f} ms" + (f", migrators {_cpu_ms(those, 'migrator'):.1f} ms" if is_ours else ""),
        f"{max(each.rss_mb for each in those):.1f} MB" if is_ours else "",
        f"{others_share([each.cpu for each in those], [each.seconds for each in those]):.0f} %",
        f"{statistics.median(_idle(each) for each in those):.0f} %",
    ]  # fmt: skip


def _state_rows(measured: Rollouts) -> list[list[str]]:
    rows = []
    for those in (measured.ours, measured.dry, measured.nothing):
        shares = [
            f"{statistics.median(e.states.get(s, 0.0) for e in those):.2f} s"
            for s in ("planned", "forecasting", "running")
        ]
        rows.append([those[0].name, *shares, _spread([each.seconds for each in those], "s", 2)])
    return rows


def _far_text(far: Far | None) -> tuple[str, list[list[str]]]:
    if far is None:
        return "Left out: over a long way, for which dbmate is needed.\n", []
    rows = [_rollout_row(those) for those in (far.ours, far.dbmate)]
    ratio = statistics.median(o.per_second / d.per_second for o, d in zip(far.ours, far.dbmate, strict=True))
    text = f"""A long way: {far.tenants} of the tenants through a relay that makes each round trip to them take {ROUND_TRIP_MS} ms, and
{FAR_AT_ONCE} at once with both. The catalog is as near as before. (The relay is a process of the benchmark's: netem wants root
and a kernel that has it.)

{table(HEAD, rows)}
"""
    return text, [["over a long way, 5 times dbmate's rate", f"{ratio:.1f} times", verdict(ratio >= 5)]]


def _rows_text(rows: Rows) -> tuple[str, list[list[str]]]:
    memory = [[name, *(f"{mb:.1f} MB" for mb in those)] for name, those in sorted(rows.memory.items())]
    pages = [[each.what, f"{each.median_ms:.1f} ms", f"{each.longest_ms:.1f} ms"] for each in rows.pages]
    most = max(max(those) for those in rows.memory.values())
    grown = max(those[-1] - those[-2] for those in rows.memory.values())
    slowest = max(each.median_ms for each in rows.pages if "status" in each.what)
    text = f"""A run over {rows.tenants:,} tenants that are rows in the catalog and nothing else: planned after {rows.planned_ms:,.0f} ms; then its
jobs are claimed, fail before they would connect, since no password of theirs can be opened, and are recorded, until it halts
({rows.halted_seconds:.1f} s after the request: {rows.tenants / rows.halted_seconds:,.0f} jobs/s). Each page {rows.pages[0].times} times.

{table(["page", "median", "longest"], pages)}

{table(["memory", "before", "when it had ended", "after as many pages again"], memory)}
"""
    return text, [
        [f"status of {rows.tenants:,} tenants under 50 ms (medians)", f"{slowest:.1f} ms", verdict(slowest < 50)],
        [
            "memory with them: under 30 MB, at the end less than 1 MB more",
            f"{most:.1f} MB, {grown:+.1f} MB",
            verdict(most < 30 and grown < 1),
        ],
    ]


def rollouts_section(measured: Rollouts) -> str:
    names = dict.fromkeys(each.name for each in measured.others)
    rows = [_rollout_row(measured.ours), _rollout_row(measured.dry)]
    rows += [_rollout_row([each for each in measured.others if each.name == name]) for name in names]
    assert measured.rows is not None
    ours, dry, nothing = (
        statistics.median(each.seconds for each in those) for those in (measured.ours, measured.dry, measured.nothing)
    )
    connected = max(each.connections for each in measured.nothing)
    far, far_verdicts = _far_text(measured.far)
    fleet, fleet_verdicts = _rows_text(measured.rows)
    verdicts = [
        ["the change under 15 s", f"{ours:.1f} s", verdict(ours < 15)],
        ["dry run under 30 s", f"{dry:.1f} s", verdict(dry < 30)],
        ["a run that everybody has: under 1 s, connecting to nobody", f"{nothing:.2f} s, {connected:.0f} connections",
         verdict(nothing < 1 and connected == 0)],
        *far_verdicts, *fleet_verdicts,
    ]  # fmt: skip
    left_out = "".join(f"\nLeft out: {why}.\n" for why in measured.left_out)
    return f"""## 8. Rollouts: a change for the whole fleet

One `alter table ... add column` for each of {measured.tenants:,} tenants (fsync on, SCRAM, catalog and tenants on one server). Ours:
`POST /api/admin/migrations/run` with `strategy` `all` and the defaults, two migrators, from the request until the catalog has
the run's end; Kafka, catalog and rehearsal are in it. The others: one process a tenant, started by xargs, with a ledger table
of their own; psql runs one script with transaction and ledger row. The last ones bring nothing: they are the floor. Medians,
and from the least to the most, of {len(measured.ours)} round(s), all in turn, every other one backwards. "memory" is that of the larger
migrator, at most; "other CPU" is gateway, broker, provisioner and migrators, or the tool; "others" is what processes outside
this benchmark took of all cores, "idle" what nobody did.

{table(HEAD, rows)}
{left_out}
Where a run of ours is: "planned" from the request to its first state, then by the catalog's times.

{table(["", "planned", "forecasting", "running", "all"], _state_rows(measured))}

{far}
{fleet}
{table(["target", "measured", ""], verdicts)}
"""
