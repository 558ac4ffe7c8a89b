"""A plan as lines for people, or as one JSON object."""

from typing import Any

from restok_cli.console import duration
from restok_cli.planning.cards import GIB, LINK_SHARE
from restok_cli.planning.counting import Work
from restok_cli.planning.plan import Cost

POWER = 0.8  # assumed: of what a card may take, while it works
RATES = {True: "rates of the data sheet, and shares of them that were measured", False: "and rates measured now"}


def energy(plan: Cost) -> float:
    """kWh of all devices."""
    return plan.hours * plan.device.watts * POWER * plan.num_devices / 1000


def lines(plan: Cost, price_per_hour: float | None) -> list[str]:
    device, memory = plan.device, plan.peak / GIB
    found = [plan.title, ""]
    limit = f"{device.memory:.1f} GiB ({device.source if device.is_gpu else 'of this machine'})"
    found.append(f"memory of one device at its peak: {memory:.2f} GiB (counted) of {limit}")
    found += [f"  {name:26}{count / GIB:9.2f}" for name, count in plan.memory.items() if count / GIB >= 0.005]
    rest = device.rest
    own, source = ("CUDA", "assumed") if device.is_gpu else ("Python and torch", "measured on one machine")
    found.append(
        f"  with {rest.context / GIB:.2g} GiB for {own} and {rest.lost:.0%} lost between blocks ({source}): "
        f"{plan.needed / GIB:.1f} GiB{'' if plan.peak <= device.usable else ', which DOES NOT FIT'}"
    )
    found.append(f"  images at a time that fit: {plan.largest} (computed)")
    found += ["", *table(plan.choices)] if plan.choices else []
    found += ["", *arithmetic(plan), "", *totals(plan, price_per_hour)]
    return found


def table(choices: list[dict[str, Any]]) -> list[str]:
    return [
        f"{'what else could be set':26}{'GiB':>9}{'largest':>9}{'s a step':>10}",
        *(f"  {c['choice']:24}{c['gib']:9.2f}{c['largest']:9}{c['seconds']:10.3f}" for c in choices),
    ]


def arithmetic(plan: Cost) -> list[str]:
    total = sum(plan.work.values(), Work())
    rows = [
        f"  {name:24}{done.flops / 1e12:9.2f}{done.bytes / 1e9:9.1f}{done.launches:10.0f}"
        f"{plan.times.by_part.get(name, 0) * 1e3:9.1f}"
        for name, done in plan.work.items()
        if done.launches >= 1 or done.bytes >= 1e7
    ]
    return [
        f"{'of one device and step':26}{'TFLOP':>9}{'GB moved':>9}{'launches':>10}{'ms':>9}  (counted; ms computed)",
        *rows,
        f"  {'all':24}{total.flops / 1e12:9.2f}{total.bytes / 1e9:9.1f}{total.launches:10.0f}"
        f"{sum(plan.times.by_part.values()) * 1e3:9.1f}",
    ]


def totals(plan: Cost, price_per_hour: float | None) -> list[str]:
    seconds, by_host = plan.times.total, plan.times.host > sum(plan.times.by_part.values())
    found = [exchanged(plan)] if plan.num_devices > 1 else []
    found += [
        f"time of a step: {seconds:.3g} s, {plan.batch_size / seconds:.0f} images/s (computed from what is counted, "
        f"{RATES[plan.device.is_gpu]}{'; bound by the host' if by_host else ''})",
        f"all {plan.steps:,} steps: {duration(plan.hours * 3600)} (computed)",
    ]
    if plan.device.watts:
        found.append(f"energy: {energy(plan):.3g} kWh (assumed: {POWER:.0%} of {plan.device.watts} W a card)")
    if price_per_hour is not None:
        found.append(
            f"price: {plan.hours * price_per_hour * plan.num_devices:,.2f} at {price_per_hour:g} a card and hour"
        )
    for name, count in plan.disk.items():
        found.append(f"disk: {count / 1e9:.2f} GB of {name} (computed)")
    return found + [f"note: {line}" for line in plan.notes]


def exchanged(plan: Cost) -> str:
    times, rate = plan.times, f"{LINK_SHARE:.0%} of {plan.device.link / 1e9:.0f} GB/s within one machine"
    return (
        f"exchanged in a step: each card sends {times.sent / 1e9:.2f} GB (computed) in {times.exchange * 1e3:.3g} ms "
        f"(assumed: {rate}, and no computing meanwhile)"
    )


def as_json(plan: Cost, price_per_hour: float | None) -> dict[str, Any]:
    return {
        "title": plan.title,
        "device": plan.device._asdict() | {"rest": plan.device.rest._asdict()},
        "memory_bytes": plan.memory,
        "peak_bytes": plan.peak,
        "needed_bytes": round(plan.needed),
        "fits": plan.peak <= plan.device.usable,
        "largest_batch": plan.largest,
        "choices": plan.choices,
        "work": {name: done._asdict() for name, done in plan.work.items()},
        "seconds_by_part": plan.times.by_part,
        "sent_bytes": plan.times.sent,
        "exchange_seconds": plan.times.exchange,
        "seconds_per_step": plan.times.total,
        "images_per_second": plan.batch_size / plan.times.total,
        "steps": plan.steps,
        "hours": plan.hours,
        "energy_kwh": energy(plan) if plan.device.watts else None,
        "price": plan.hours * price_per_hour * plan.num_devices if price_per_hour is not None else None,
        "disk_bytes": plan.disk,
        "notes": plan.notes,
        "sources": {
            "counted": ["memory_bytes", "peak_bytes", "work"],
            "computed": [
                "largest_batch",
                "sent_bytes",
                "seconds_by_part",
                "seconds_per_step",
                "hours",
                "price",
                "disk_bytes",
            ],
            "assumed": ["needed_bytes", "exchange_seconds", "energy_kwh"],
            plan.device.source: ["device"],
        },
    }
