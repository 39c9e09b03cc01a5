"""The dashboard of the judgement: verdicts, drift, figures of faces, and a candidate beside."""

from deploy.watch.panels import Dashboard, Panel, Query, rate
from deploy.watch.rules import Metrics


def judgement(m: Metrics) -> Dashboard:
    """Return the dashboard of verdicts, scores, and of a candidate in the shadow."""
    score = m("bona_fide_score_bucket")
    quality = m("face_quality_bucket")
    shift, took = m("shadow_score_shift_bucket"), m("shadow_latency_seconds_bucket")
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
                Panel("Refused", [Query(rate(refused, "reason"), "{{reason}}")], "reqps"),
            ],
            "Distributions": [
                Panel(
                    "Scores",
                    [
                        Query(f"histogram_quantile({share}, {rate(score, 'le')})", f"p{percent}")
                        for share, percent in ((0.1, 10), (0.25, 25), (0.5, 50), (0.75, 75))
                    ],
                    "none",
                    12,
                ),
                Panel(
                    "Scores by modalities, median",
                    [
                        Query(
                            f"histogram_quantile(0.5, {rate(score, 'le, modalities')})",
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
                            f"histogram_quantile(0.5, {rate(quality, 'le, figure')})",
                            "{{figure}}",
                        )
                    ],
                    "none",
                    24,
                    about="Limits stand in the bundle; a figure that moves tells what changed.",
                ),
            ],
            "Candidate": [
                Panel(
                    "Shadow: decided, and what it would have",
                    [
                        Query(
                            f"{rate(m('shadow_frames_total'), 'decided, candidate')} > 0",
                            "{{decided}} - {{candidate}}",
                        ),
                        Query(f"{rate(m('shadow_dropped_total'), 'reason')} > 0", "{{reason}}"),
                    ],
                    "reqps",
                    about="livegate model report says whether to swap.",
                ),
                Panel(
                    "Shift of its scores, median",
                    [
                        Query(
                            f"histogram_quantile(0.5, {rate(shift, 'le, direction')})",
                            "{{direction}}",
                        )
                    ],
                    "none",
                ),
                Panel(
                    "Its time for a frame",
                    [
                        Query(f"histogram_quantile({share}, {rate(took, 'le')})", f"p{percent}")
                        for share, percent in ((0.5, 50), (0.99, 99))
                    ],
                    "s",
                    about="At the lowest priority, decoding included.",
                ),
            ],
        },
    )
