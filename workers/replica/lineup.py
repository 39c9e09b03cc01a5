"""The line-up of a replica: the bundles that are loaded, and what each of them is there for.

One decides. A candidate may decide for a share of the cameras, and judge a share of the frames in
the shadow of the one that does; `workers/replica/models.py` loads both.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from model.serving.predictor import Predictor
from workers.replica.in_flight import Decided
from workers.replica.models import Models, runs_on
from workers.replica.pipeline import Pipeline
from workers.replica.shadow import Shadow
from workers.replica.shadow_tally import ShadowTally, read_tally
from workers.replica.telemetry import MetricsBackend, Telemetry
from workers.replica.tracing import Traces
from workers.settings import CandidateSettings, WorkerSettings
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES


class Lineup:
    """What judges in one replica, and what is tried beside it."""

    def __init__(
        self,
        open_bundle: Callable[[Path], Predictor],
        settings: WorkerSettings,
        telemetry: Telemetry,
        metrics: MetricsBackend,
        traces: Traces | None = None,
    ) -> None:
        """Load nothing yet.

        Args:
            open_bundle: see `Models`.
            settings: of the deployment.
            telemetry: is told what judges.
            metrics: the backend, for those of a shadow.
            traces: are told of each frame; None: there are none.
        """
        self.models = Models(open_bundle, settings.bundle, self._changed)
        self.tally = ShadowTally(metrics)
        self._telemetry = telemetry
        self._traces = traces
        self._patience_s = settings.deadline_ms / 1000
        self._pipeline: Pipeline
        self._shadow: Shadow | None = None
        self._shadowing: tuple[Predictor, CandidateSettings] | None = None

    async def lead(self, pipeline: Pipeline) -> None:
        """Say from now on who judges in a pipeline; `models` have begun."""
        self._pipeline = pipeline
        pipeline.predictor_for = self.models.predictor_for
        pipeline.on_judged = self._show
        await self._follow()

    def told(self) -> dict[str, Any]:
        """Return what there is to tell of it, in a form that JSON can hold."""
        return {**self.models.told(), "shadow": self._shadow.runs_on if self._shadow else ""}

    def status(self) -> dict[str, str]:
        """Return what a replica says of what judges in it."""
        deciding = self.models.deciding
        return {
            "model": deciding.model_id,
            "runs_on": runs_on(deciding),
            "candidate": "" if self.models.candidate is None else self.models.candidate.model_id,
            "swap_error": self.models.error,
        }

    async def counts(self, servers: Servers) -> dict[str, Any]:
        """Return the deployment's counts of the candidate's shadow; {}: there are none."""
        candidate = self.models.candidate
        if candidate is None:
            return {}
        pair = {"model": self.models.deciding.model_id, "candidate": candidate.model_id}
        with suppress(*FAILURES):
            return {**pair, "counts": await read_tally(servers, **pair)}
        return {}

    async def aclose(self) -> None:
        """End the shadow, and send what is left of traces."""
        await self._end_shadow()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    def _show(self, decided: Decided) -> None:
        for each in (self._shadow, self._traces):
            if each is not None:
                each.show(decided)

    async def _end_shadow(self) -> None:
        if self._shadow is not None:
            await self._shadow.aclose()

    async def _changed(self, is_done: bool) -> None:
        self._telemetry.swapped(is_done=is_done)
        if is_done:
            await self._follow()

    async def _follow(self) -> None:
        models, candidate, tried = self.models, self.models.candidate, self.models.tried
        self._pipeline.predictor = models.deciding
        self._telemetry.serves(
            models.deciding.model_id,
            runs_on(models.deciding),
            None if candidate is None else candidate.model_id,
        )
        wanted = None
        if candidate is not None and tried is not None and tried.shadow > 0:
            wanted = (candidate, tried)
        if wanted == self._shadowing:
            return
        await self._end_shadow()
        self._shadowing, self._shadow = wanted, None
        if wanted is not None:
            self._shadow = Shadow(
                bundle=wanted[1].bundle,
                model=wanted[0].model_id,
                share=wanted[1].shadow,
                tally=self.tally,
                is_idle=lambda: not self._pipeline.num_in_flight,
                patience_s=self._patience_s,
            )
