"""Section 9 of RESULTS.md: billing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .billing import READ_MOST, Applied
from .billing_rounds import Billing
from .ingest import CONNECTIONS, Ingest
from .report import others_share, table, verdict
from .sync_engine import AT_ONCE, PACKAGES, Synced
from .webhooks import GATEWAY, Webhooks

EVENTS_HEAD = (
    "", "events", "applied", "from the least to the most", "events a transaction", "PostgreSQL's CPU", "own CPU", "broker CPU",
    "memory", "others",
)  # fmt: skip


def _rates(values: Sequence[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}/s"


def _result(those: Sequence[Ingest], name: str) -> float:
    return statistics.median(float(each.result[name]) for each in those)


def _cpu(those: Sequence[Ingest], name: str) -> str:
    if name not in those[0].cpu:
        return "-"
    return f"{statistics.median(each.cpu_us_per_request(name) for each in those):.1f} µs"


def _request_row(name: str, those: Sequence[Ingest], *processes: str) -> list[str]:
    """Of what load.c measures."""
    others = others_share([each.cpu for each in those], [float(each.result["seconds"]) for each in those])
    return [
        name, f"{_result(those, 'per_second'):,.0f}/s", _rates([each.per_second for each in those]),
        *(f"{_result(those, percentile) / 1000:.2f} ms" for percentile in ("p50_us", "p99_us", "p999_us")),
        *(_cpu(those, process) for process in processes), f"{max(each.rss_mb for each in those):.1f} MB", f"{others:.0f} %",
    ]  # fmt: skip


def _webhooks_text(measured: Webhooks) -> tuple[str, list[list[str]]]:
    rows = [_request_row(name, those, "server", "broker", "generator") for name, those in measured.rounds.items()]
    left_out = "".join(f"\nLeft out: {why}.\n" for why in measured.left_out)
    ours = measured.rounds[GATEWAY]
    rate, p99 = _result(ours, "per_second"), _result(ours, "p99_us")
    head = [
        "server", "webhooks", "from the least to the most", "p50", "p99", "p99.9", "server CPU", "broker CPU", "generator CPU",
        "memory", "others",
    ]  # fmt: skip
    text = f"""### Webhooks

`POST /api/webhooks/stripe` with events of 4 KiB (4,096 bytes of JSON), each with its own id, objects, second and
signature, over {CONNECTIONS} kept-alive connections, each sending the next when the last is answered. The generator signs them. A 200
of the gateway's means that it has checked the signature, and that Kafka has acknowledged (acks=all, one broker). Beside it,
a server of node:http that has the official library check it (`constructEvent`), and keeps nothing: no Kafka. "two workers"
are two processes for as many cores, and a third that only gives them connections; their CPU and memory are added up. CPU is
per request.

{table(head, rows)}
{left_out}"""
    return text, [
        ["webhooks: over 20,000/s", f"{rate:,.0f}/s", verdict(rate > 20000)],
        ["webhooks: p99 under 10 ms", f"{p99 / 1000:.2f} ms", verdict(p99 < 10000)],
    ]


def _applied_row(name: str, those: Sequence[Applied]) -> list[str]:
    return [
        name, f"{those[0].count:,}", f"{statistics.median(each.per_second for each in those):,.0f}/s",
        _rates([each.per_second for each in those]),
        f"{statistics.median(each.count / each.transactions for each in those):.0f}",
        *(f"{statistics.median(each.cpu_us(process) for each in those):.0f} µs" for process in ("postgres", "billing", "broker")),
        f"{max(each.peak_mb for each in those):.1f} MB",
        f"{others_share([each.cpu for each in those], [each.from_start for each in those]):.0f} %",
    ]  # fmt: skip


def _synced_row(those: Sequence[Synced]) -> list[str]:
    return [
        f"{PACKAGES[0]}, one process, {AT_ONCE} at once", f"{those[0].count:,}",
        f"{statistics.median(each.per_second for each in those):,.0f}/s", _rates([each.per_second for each in those]), "",
        *(f"{statistics.median(each.cpu_us(process) for each in those):.0f} µs" for process in ("postgres", "engine")), "",
        f"{max(each.rss_mb for each in those):.1f} MB",
        f"{others_share([each.cpu for each in those], [each.seconds for each in those]):.0f} %",
    ]  # fmt: skip


def _processes(number: int) -> str:
    return "one billing process" if number == 1 else f"{number} billing processes"


def _events_text(measured: Billing) -> tuple[str, list[list[str]]]:
    rows = [_applied_row(_processes(number), those) for number, those in measured.events.items()]
    if measured.synced:
        rows.append(_synced_row(measured.synced))
        beside = "its `processEvent`, from a file, without checkout sessions, for each of which it would ask Stripe"
    else:
        beside = f"not measured ({measured.not_synced})"
    verdicts = []
    for number, those in measured.events.items():
        rate = statistics.median(each.per_second for each in those)
        verdicts.append([f"events applied: over 5,000/s, {_processes(number)}", f"{rate:,.0f}/s", verdict(rate > 5000)])
    one = next(iter(measured.events.values()))[0]
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(one.outcomes.items()))
    return (
        f"""### Events applied

Two months of {one.tenants:,} tenants, 4 KiB an event, wait in Kafka's partitions when the billing processes are started: paid, a
renewal that fails and is paid late, a cancellation to come; what one act makes Stripe tell stands together. fsync is on. From the first that was applied to the last, by the
catalog's own times, with all that hangs on it (subscriptions, invoices, entitlements, snapshots, mails that are due). Each
round has tenants that no round before had ({outcomes}). Beside it, on the same server
and the same events, {PACKAGES[0]}: {beside}.
CPU is per event.

{table(EVENTS_HEAD, rows)}
""",
        verdicts,
    )


def _years_text(measured: Billing) -> tuple[str, list[list[str]]]:
    rows, verdicts = [], []
    for number, those in measured.years.items():
        times = [each.from_start for each in those]
        median = statistics.median(times)
        rows.append([
            _processes(number), f"{those[0].count:,}", f"{median:.1f} s", f"{min(times):.1f} to {max(times):.1f} s",
            f"{statistics.median(each.per_second for each in those):,.0f}/s",
            f"{others_share([each.cpu for each in those], [each.from_start for each in those]):.0f} %",
        ])  # fmt: skip
        what = f"a year of {those[0].tenants:,} tenants under 60 s, {_processes(number)}"
        verdicts.append([what, f"{median:.1f} s", verdict(median < 60)])
    one = next(iter(measured.years.values()))[0]
    head = ["", "events", "time", "from the least to the most", "applied", "others"]
    return (
        f"""### A year replayed

A year of {one.tenants:,} tenants waits in Kafka, about {one.count / one.tenants:.0f} events of each: the first payment and eleven renewals; of each
twentieth tenant, one fails at first. From the start of the processes to the last event applied.

{table(head, rows)}
""",
        verdicts,
    )


def _reads_text(measured: Billing) -> tuple[str, list[list[str]]]:
    names = {False: "without", True: "with"}
    rows, verdicts = [], []
    for with_tags, those in sorted(measured.reads.items()):
        statuses: dict[str, int] = {}
        for each in those:
            for status, count in each.result["statuses"].items():
                statuses[status] = statuses.get(status, 0) + int(count)
        answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
        row = _request_row(f"{names[with_tags]} `If-None-Match`", those, "server", "postgres", "generator")
        rows.append([*row, answers])
        rate = _result(those, "per_second")
        verdicts.append(
            [f"entitlements: over 5,000/s, {names[with_tags]} `If-None-Match`", f"{rate:,.0f}/s", verdict(rate > 5000)]
        )
    head = [
        "", "reads", "from the least to the most", "p50", "p99", "p99.9", "gateway CPU", "PostgreSQL's CPU", "generator CPU",
        "memory", "others", "answers",
    ]  # fmt: skip
    return (
        f"""### Entitlements read

`GET /api/tenants/{{id}}/entitlements` over {CONNECTIONS} kept-alive connections, of up to {READ_MOST:,} tenants that have had events, each in
its turn. With `If-None-Match`, each is asked with the tag of the answer before.

{table(head, rows)}
""",
        verdicts,
    )


def _grown(each: Applied) -> float:
    """MB, after a fifth of the events."""
    settled = next(mb for share, mb in each.samples if share >= 0.2)
    return each.samples[-1][1] - settled


def _memory_text(measured: Billing) -> tuple[str, list[list[str]]]:
    rounds = [each for those in measured.events.values() for each in those]
    years = [each for those in measured.years.values() for each in those]
    start = max(each.rss_start_mb for each in rounds + years)
    after = [max(each.rss_mb for each in those) for those in (rounds, years)]
    most = max(each.peak_mb for each in rounds + years)
    grown = max(_grown(each) for each in years)
    hooks = measured.webhooks
    reads = max(each.rss_mb for those in measured.reads.values() for each in those)
    rows = [
        ["billing", f"{measured.rss_idle_mb:.1f} MB",
         f"{start:.1f} MB when a backlog is begun, {after[0]:.1f} MB after a round of events, {after[1]:.1f} MB after a year", f"{most:.1f} MB"],
        ["gateway", f"{hooks.rss_start_mb:.1f} MB", ", ".join(f"{mb:.1f} MB" for mb in hooks.rss_mb) + " after rounds of webhooks",
         f"{max(*hooks.rss_mb, reads):.1f} MB"],
    ]  # fmt: skip
    highest = max(most, reads, *hooks.rss_mb)
    later = hooks.rss_mb[-1] - hooks.rss_mb[0]
    return (
        f"""### Memory

The larger process, if there are several. "at the start" is before the first event. "at most" of billing is what the kernel has
kept as its peak; of the gateway, what was seen (after entitlements read: {reads:.1f} MB).

{table(["", "at the start", "later", "at most"], rows)}
""",
        [
            ["RSS under 30 MB", f"{highest:.1f} MB", verdict(highest < 30)],
            ["billing flat: a year, after its first fifth less than 1 MB more", f"{grown:+.2f} MB", verdict(grown < 1)],
            [
                "gateway flat: after the first round of webhooks less than 1 MB more",
                f"{later:+.2f} MB",
                verdict(later < 1),
            ],
        ],
    )


def billing_section(measured: Billing) -> str:
    parts = [
        _webhooks_text(measured.webhooks), _events_text(measured), _years_text(measured), _reads_text(measured),
        _memory_text(measured),
    ]  # fmt: skip
    runs = len(measured.webhooks.rounds[GATEWAY])
    text = "\n".join(part for part, _ in parts)
    return f"""## 9. Billing

Medians of {runs} round(s), all that is compared in turn, every other one backwards. "others" is what processes outside this benchmark
took of all cores meanwhile.

{text}
### Targets

{table(["target", "measured", ""], [row for _, rows in parts for row in rows])}
"""
