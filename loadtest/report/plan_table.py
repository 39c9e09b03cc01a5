"""A plan as people read it."""

from rich.console import Console
from rich.table import Table

from loadtest.planning.plan import Plan


def show_plan(plan: Plan, console: Console) -> None:
    """Print a plan, and what it rests on."""
    wanted = plan.wanted
    console.print(
        f"{wanted.cameras:,} cameras, {wanted.busy:.0%} of them busy with {wanted.fps:g} frames/s "
        f"of {wanted.frame_bytes / 1000:g} kB: {wanted.peak_fps:,.0f} frames/s at the peak",
        highlight=False,
    )
    table = Table(show_header=False, box=None, pad_edge=False)
    kind = "GPU" if plan.on_gpu else "CPU"
    rented, server = plan.replica_machines, plan.server_machines
    by = ", ".join(f"{name} {count}" for name, count in plan.shards_by.items())
    memory = ", ".join(f"{name} {each:.3g}" for name, each in plan.memory_gb.items())
    rows = {
        "replicas": f"{plan.replicas:,} on a {kind}, {plan.headroom:,} of them headroom",
        "on machines": f"{rented.count:,} x {rented.kind}, {rented.each_holds} replicas each",
        "shards": f"{plan.shards:,} primaries with a replica each (by {by})",
        "on servers": f"{server.count:,} x {server.kind}, maxmemory {plan.shard_memory_gb:g} GB",
        "partitions": f"{plan.partitions}",
        "memory, GB": memory,
        "network, Gbit/s": ", ".join(f"{n} {each:.3g}" for n, each in plan.network_gbps.items()),
        "disk": f"{plan.disk_mb_s:g} MB/s written by a shard",
        "p99 at the peak": f"{plan.p99_ms:g} ms, {wanted.within_ms:g} ms are allowed",
        "bound by": plan.bound_by,
        "price": f"{plan.price_per_hour:,.2f} an hour, {plan.price_per_hour * 730:,.0f} a month",
    }
    for name, told in rows.items():
        table.add_row(name, told)
    console.print(table)
    console.print("\nassumed:", style="dim")
    for each in plan.assumptions:
        console.print(f"  {each}", style="dim", highlight=False)
