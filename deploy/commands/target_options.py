"""The options that say which deployment is tested, for all commands that test one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

_NAME = "options"


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Which deployment is meant; each field is an option, and says so itself."""

    folder: Annotated[
        Path | None, typer.Option(help="Folder of the deployment, as for `livegate up`.")
    ] = None
    redis: Annotated[str | None, typer.Option(help="Server of a deployment elsewhere.")] = None
    partitions: Annotated[
        int | None, typer.Option(min=1, max=256, help="With --redis: its partitions; 4, if none.")
    ] = None
    cluster: Annotated[
        bool, typer.Option("--cluster", help="With --redis: it is a Redis Cluster.")
    ] = False
    key_file: Annotated[
        Path | None,
        typer.Option(help="With --redis: keys of the cameras to be; without: unsigned frames."),
    ] = None
    http: Annotated[str | None, typer.Option(help="With --redis: its ingress, for `through`.")] = (
        None
    )
    local: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Against replicas that are started for it, so many, without Ray."
        ),
    ] = None
    bundle: Annotated[
        str | None,
        typer.Option(help="With --local: their bundle; `instant`: a network that is none."),
    ] = None

    def __post_init__(self) -> None:
        """See that the options go together.

        Raises:
            typer.BadParameter: they don't.
        """
        if self.local is not None and (self.redis is not None or self.folder is not None):
            raise typer.BadParameter(
                "--local starts its own deployment: without --redis and --folder"
            )
        if self.bundle is not None and self.local is None:
            raise typer.BadParameter("--bundle goes with --local: a deployment has its own")
        of_redis = self.partitions is not None or self.cluster or self.key_file or self.http
        if self.redis is None and of_redis:
            raise typer.BadParameter("--partitions, --cluster, --key-file, --http go with --redis")


def with_target(*, without: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `TargetOptions`; it gets them as its argument `options`.

    Args:
        without: an option that means nothing to this command.
    """
    hints = get_type_hints(TargetOptions, include_extras=True)
    of_target = [
        inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default,
            annotation=hints[each.name],
        )
        for each in fields(TargetOptions)
        if each.name != without
    ]  # fmt: skip
    names = {each.name for each in of_target}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(**given: Any) -> None:  # noqa: ANN401 - what the command line says
            options = TargetOptions(**{name: given.pop(name) for name in names})
            command(**given, **{_NAME: options})

        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.name != _NAME]
        called.__signature__ = signature.replace(parameters=[*own, *of_target])  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in (*own, *of_target)}
        return called

    return decorate
