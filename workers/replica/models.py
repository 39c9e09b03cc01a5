"""The bundles of a replica: the one that decides, and a candidate beside it.

Which ones there are to be stands in the deployment's `user_config`. They are loaded beside those
at work, and take over between two batches once all of them have passed their self-tests: all that
is asked for is taken up, or nothing. Serve sends a replica no request while it waits for it, so
one that is at work takes a change and loads in the background.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from model.serving.folder import MANIFEST
from model.serving.predictor import Predictor
from workers.replica.bundles import resolve_bundle
from workers.settings import CandidateSettings, LiveSettings

_MAX_ERROR = 300

_log = logging.getLogger(__name__)

State = Literal["loading", "ready", "refused"]


class Models:
    """What judges in one replica."""

    def __init__(
        self,
        open_bundle: Callable[[Path], Predictor],
        first: str,
        on_change: Callable[[bool], Awaitable[None]],
    ) -> None:
        """Load nothing yet.

        Args:
            open_bundle: returns a bundle's predictor, its self-test passed; called in a thread.
            first: the bundle where `user_config` names none.
            on_change: awaited once a change was taken up (True) or refused.
        """
        self.deciding: Predictor
        self.candidate: Predictor | None = None
        self.state: State = "loading"
        self.error = ""
        self._open_bundle = open_bundle
        self._first = first
        self._on_change = on_change
        self._asked: Mapping[str, Any] = {}
        self._settings = LiveSettings()
        self._opened: dict[str, Predictor] = {}
        self._changing: asyncio.Task[None] | None = None

    async def begin(self, user_config: Mapping[str, Any]) -> None:
        """Load what there is to be: a new replica must not decide with anything else.

        Raises:
            pydantic.ValidationError: `user_config` breaks a rule.
            model.errors.ModelError: a bundle can't be used.
        """
        self._asked = user_config
        await self._take_up(user_config)
        self.state = "ready"

    def change(self, user_config: Mapping[str, Any]) -> None:
        """Take another `user_config` in the background; the last one that was asked for counts."""
        self._asked, self.state = user_config, "loading"
        if self._changing is None or self._changing.done():
            self._changing = asyncio.create_task(self._change())

    async def settled(self) -> None:
        """Wait until no change is under way."""
        if self._changing is not None:
            await asyncio.wait([self._changing])

    @property
    def tried(self) -> CandidateSettings | None:
        """What is asked of the candidate that is loaded."""
        return self._settings.candidate

    def predictor_for(self, camera_id: str) -> Predictor:
        """Return who judges the frames of a camera."""
        if self.candidate is None or self.tried is None:
            return self.deciding
        return self.candidate if is_in_share(camera_id, self.tried.canary) else self.deciding

    def told(self) -> dict[str, Any]:
        """Return what there is to tell of them, in a form that JSON can hold."""
        return {
            "asked": dict(self._asked),
            "state": self.state,
            "error": self.error,
            "bundle": self._settings.bundle or self._first,
            "model": self.deciding.model_id,
            "runs_on": runs_on(self.deciding),
            "candidate": "" if self.candidate is None else self.candidate.model_id,
        }

    async def _change(self) -> None:
        while self.state == "loading":
            asked = self._asked
            error = ""
            try:
                await self._take_up(asked)
            except Exception as failure:  # noqa: BLE001 - whatever it is, the old ones go on
                error = f"{type(failure).__name__}: {failure}"[:_MAX_ERROR]
                _log.error("a change of bundles is refused, the old ones go on: %s", error)
            if asked is self._asked:
                await self._on_change(not error)
                self.state, self.error = "refused" if error else "ready", error

    async def _take_up(self, user_config: Mapping[str, Any]) -> None:
        settings = LiveSettings.model_validate(user_config)
        opened: dict[str, Predictor] = {}
        deciding = await self._open(settings.bundle or self._first, opened)
        tried = settings.candidate
        candidate = None if tried is None else await self._open(tried.bundle, opened)
        self.deciding, self.candidate, self._settings = deciding, candidate, settings
        self._opened = opened

    async def _open(self, bundle: str, opened: dict[str, Predictor]) -> Predictor:
        """Return a bundle's predictor; what is loaded already, as a candidate was, is kept."""

        def find() -> tuple[str, Path]:
            folder = resolve_bundle(bundle)
            return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(), folder

        digest, folder = await asyncio.to_thread(find)
        if digest not in opened:
            found = self._opened.get(digest)
            if found is None:
                found = await asyncio.to_thread(self._open_bundle, folder)
            opened[digest] = found
        return opened[digest]


def is_in_share(camera_id: str, share: float) -> bool:
    """Say whether a camera is in a share of all; who is in a share is in every larger one."""
    digest = hashlib.sha256(camera_id.encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2.0**64


def runs_on(predictor: Predictor) -> str:
    """Return what runs a predictor's network, such as `graph on cpu`."""
    return str(getattr(predictor, "runs_on", ""))
