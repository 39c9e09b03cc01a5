"""The dashboards: fleet, latency by stage, judgement and drift, autoscaling, one camera."""

from deploy.watch.panels import Dashboard, Panel, Query, Variable
from deploy.watch.rules import LATENCY_SLO_S, Metrics

_STAGES = ("queue", "decode", "batch", "infer", "commit")


def dashboards(m: Metrics) -> tuple[Dashboard, ...]:
    """Return all of them."""
    return (_fleet(m), _latency(m), _judgement(m), _autoscaling(m), _camera(m))


def _rate(series: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({series}[$__rate_interval]))"


def _quantile(m: Metrics, share: float, matchers: str, by: str = "le") -> str:
    bucket = m("latency_seconds_bucket", matchers)
    return f"histogram_quantile({share}, {_rate(bucket, by)})"


def _fleet(m: Metrics) -> Dashboard:
    decisions = m("decisions_total")
    undecided = m("decisions_total", 'outcome="no_decision"')
    return Dashboard(
        "livegate-fleet",
        "Livegate: fleet",
        {
            "Now": [
                Panel("Decisions a second", [Query(_rate(decisions))], "reqps", 4, "stat"),
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
                    [Query(_rate(decisions, "outcome"), "{{outcome}}")],
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "No decision, by reason",
                    [Query(f"{_rate(undecided, 'reason')} > 0", "{{reason}}")],
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
                        Query(_rate(m("reclaimed_total")), "taken over"),
                        Query(_rate(m("dead_letters_total")), "dead letters"),
                        Query(_rate(m("commits_refused_total")), "commits refused"),
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
                    [Query(f"{_rate(quick)} / {_rate(total)}", "share")],
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
                            f"histogram_quantile({share}, {_rate(m('batch_frames_bucket'), 'le')})",
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


def _judgement(m: Metrics) -> Dashboard:
    score = m("bona_fide_score_bucket")
    quality = m("face_quality_bucket")
    refused = m("decisions_total", 'reason=~"low_quality|modality_missing|undecodable"')
    return Dashboard(
        "livegate-judgement",
        "Livegate: judgement and drift",
        {
            "Verdicts": [
                Panel(
                    "Bona fide, of all verdicts",
                    [Query("livegate:bona_fide:ratio_rate1h", "last hour")],
                    "percentunit",
                ),
                Panel(
                    "Drift of scores",
                    [Query("livegate:bona_fide_score:drift", "last hour against last week")],
                    "percentunit",
                    about="Largest difference of the two distribution functions; alert above 0.2. "
                    "Needs 1,000 scores an hour.",
                ),
                Panel("Refused", [Query(_rate(refused, "reason"), "{{reason}}")], "reqps"),
            ],
            "Distributions": [
                Panel(
                    "Scores",
                    [
                        Query(f"histogram_quantile({share}, {_rate(score, 'le')})", f"p{percent}")
                        for share, percent in ((0.1, 10), (0.25, 25), (0.5, 50), (0.75, 75))
                    ],
                    "none",
                    12,
                ),
                Panel(
                    "Scores by modalities, median",
                    [
                        Query(
                            f"histogram_quantile(0.5, {_rate(score, 'le, modalities')})",
                            "{{modalities}}",
                        )
                    ],
                    "none",
                    12,
                ),
                Panel(
                    "Figures of faces, median",
                    [
                        Query(
                            f"histogram_quantile(0.5, {_rate(quality, 'le, figure')})",
                            "{{figure}}",
                        )
                    ],
                    "none",
                    24,
                    about="Limits stand in the bundle; a figure that moves tells what changed.",
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
                        Query(_rate(m("frames_total")), "arrived"),
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
                    [Query(_rate(of_camera, "outcome"), "{{outcome}}")],
                    "reqps",
                    12,
                    stacked=True,
                ),
                Panel(
                    "Without a verdict",
                    [Query(f"{_rate(undecided)} / {_rate(of_camera)}", "share")],
                    "percentunit",
                    12,
                ),
            ],
            "Among all": [
                Panel(
                    "Busiest cameras",
                    [Query(f"topk(10, {_rate(everyone, 'camera')})", "{{camera}}")],
                    "reqps",
                    24,
                ),
            ],
        },
        [Variable("camera", everyone, "camera")],
    )
