"""The dashboards: fleet, latency by stage, judgement and drift, autoscaling, one camera."""

from deploy.watch.judgement import judgement
from deploy.watch.panels import Dashboard, Panel, Query, Variable, rate
from deploy.watch.rules import LATENCY_SLO_S, Metrics

_STAGES = ("queue", "decode", "batch", "infer", "commit")


def dashboards(m: Metrics) -> tuple[Dashboard, ...]:
    """Return all of them."""
    return (_fleet(m), _latency(m), judgement(m), _autoscaling(m), _camera(m))


def _quantile(m: Metrics, share: float, matchers: str, by: str = "le") -> str:
    bucket = m("latency_seconds_bucket", matchers)
    return f"histogram_quantile({share}, {rate(bucket, by)})"


def _fleet(m: Metrics) -> Dashboard:
    decisions = m("decisions_total")
    undecided = m("decisions_total", 'outcome="no_decision"')
    return Dashboard(
        "livegate-fleet",
        "Livegate: fleet",
        {
            "Now": [
                Panel("Decisions a second", [Query(rate(decisions))], "reqps", 4, "stat"),
                Panel("Waiting", [Query(m("waiting_frames"))], "none", 4, "stat"),
                Panel("p99", [Query(_quantile(m, 0.99, 'stage="total"'))], "s", 4, "stat"),
                Panel("Replicas", [Query(f"count({m('in_flight_frames')})")], "none", 4, "stat"),
                Panel(
                    "Budget left, decided",
                    [Query('slo:period_error_budget_remaining:ratio{sloth_slo="decided"}')],
                    "percentunit",
                    4,
                    "stat",
                ),
                Panel(
                    "Budget left, latency",
                    [Query('slo:period_error_budget_remaining:ratio{sloth_slo="latency"}')],
                    "percentunit",
                    4,
                    "stat",
                ),
            ],
            "Load": [
                Panel(
                    "Decisions by outcome",
                    [Query(rate(decisions, "outcome"), "{{outcome}}")],
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "No decision, by reason",
                    [Query(f"{rate(undecided, 'reason')} > 0", "{{reason}}")],
                    "reqps",
                ),
                Panel(
                    "Backlog",
                    [
                        Query(m("waiting_frames"), "waiting"),
                        Query(m("pending_frames"), "pending"),
                        Query(f"sum({m('in_flight_frames')})", "in flight"),
                    ],
                    about="Pending without in flight: replicas that hold frames and do nothing.",
                ),
            ],
            "Faults": [
                Panel("Oldest frame", [Query(m("oldest_frame_age_seconds"), "in the stream")], "s"),
                Panel(
                    "Taken over, given up, refused",
                    [
                        Query(rate(m("reclaimed_total")), "taken over"),
                        Query(rate(m("dead_letters_total")), "dead letters"),
                        Query(rate(m("commits_refused_total")), "commits refused"),
                    ],
                    "reqps",
                ),
                Panel(
                    "Bundle and version",
                    [
                        Query(f"count by (model) ({m('bundle_info')} == 1)", "{{model}}"),
                        Query(f"count by (version) ({m('build_info')})", "{{version}}"),
                    ],
                    "none",
                    about="More than one bundle for minutes: a swap failed somewhere.",
                ),
            ],
        },
    )


def _latency(m: Metrics) -> Dashboard:
    stages = "|".join(_STAGES)
    total = m("latency_seconds_count", 'stage="total"')
    quick = m("latency_seconds_bucket", f'stage="total",le="{LATENCY_SLO_S}"')
    return Dashboard(
        "livegate-latency",
        "Livegate: latency by stage",
        {
            "Whole": [
                Panel(
                    "Total",
                    [
                        Query(_quantile(m, share, 'stage="total"'), f"p{round(share * 100)}")
                        for share in (0.5, 0.95, 0.99)
                    ],
                    "s",
                    12,
                ),
                Panel(
                    f"Within {LATENCY_SLO_S} s",
                    [Query(f"{rate(quick)} / {rate(total)}", "share")],
                    "percentunit",
                    12,
                ),
            ],
            "By stage": [
                Panel(
                    "p50",
                    [Query(_quantile(m, 0.5, f'stage=~"{stages}"', "le, stage"), "{{stage}}")],
                    "s",
                    12,
                ),
                Panel(
                    "p99",
                    [Query(_quantile(m, 0.99, f'stage=~"{stages}"', "le, stage"), "{{stage}}")],
                    "s",
                    12,
                    about="queue: too few replicas; batch, infer: cores; commit: the server.",
                ),
            ],
            "Batches": [
                Panel(
                    "Frames in a batch",
                    [
                        Query(
                            f"histogram_quantile({share}, {rate(m('batch_frames_bucket'), 'le')})",
                            f"p{round(share * 100)}",
                        )
                        for share in (0.5, 0.95)
                    ],
                    "none",
                    12,
                ),
                Panel(
                    "p99 by replica",
                    [Query(_quantile(m, 0.99, 'stage="total"', "le, replica"), "{{replica}}")],
                    "s",
                    12,
                ),
            ],
        },
    )


def _autoscaling(m: Metrics) -> Dashboard:
    return Dashboard(
        "livegate-autoscaling",
        "Livegate: autoscaling",
        {
            "The decision": [
                Panel(
                    "Replicas",
                    [
                        Query(m(f"replicas_{name}"), name)
                        for name in ("needed", "wanted", "had", "max")
                    ]
                    + [Query(f"count({m('in_flight_frames')})", "running")],
                    "none",
                    12,
                    about="Wanted is needed, for long enough (upscale_s, downscale_s).",
                ),
                Panel(
                    "Arrivals against capacity",
                    [
                        Query(m("arrival_fps"), "arrivals"),
                        Query(f"{m('replica_fps')} * {m('replicas_wanted')}", "all replicas could"),
                        Query(rate(m("frames_total")), "arrived"),
                    ],
                    "reqps",
                    12,
                ),
            ],
            "Its reasons": [
                Panel("Backlog", [Query(m("waiting_frames"), "waiting")], "none"),
                Panel(
                    "Frames a replica could do",
                    [
                        Query(m("service_rate_fps"), "{{replica}}"),
                        Query(m("replica_fps"), "as the policy sees it"),
                    ],
                    "reqps",
                ),
                Panel("The server tells its backlog", [Query(m("stream_up"), "up")], "none"),
            ],
        },
    )


def _camera(m: Metrics) -> Dashboard:
    of_camera = m("camera_decisions_total", 'camera="$camera"')
    undecided = m("camera_decisions_total", 'camera="$camera",outcome="no_decision"')
    everyone = m("camera_decisions_total")
    return Dashboard(
        "livegate-camera",
        "Livegate: one camera",
        {
            "Camera": [
                Panel(
                    "Decisions",
                    [Query(rate(of_camera, "outcome"), "{{outcome}}")],
                    "reqps",
                    12,
                    stacked=True,
                ),
                Panel(
                    "Without a verdict",
                    [Query(f"{rate(undecided)} / {rate(of_camera)}", "share")],
                    "percentunit",
                    12,
                ),
            ],
            "Among all": [
                Panel(
                    "Busiest cameras",
                    [Query(f"topk(10, {rate(everyone, 'camera')})", "{{camera}}")],
                    "reqps",
                    24,
                ),
            ],
        },
        [Variable("camera", everyone, "camera")],
    )
