"""What a cluster needs to know beside the Serve config: typed, read from YAML, checked at once."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from deploy.documents import Document, DocumentError, Loc, read_document
from deploy.errors import DeployError
from workers.settings import ScalingSettings, Settings, problems_of
from workers.wire.server_url import ServerUrlError, parse_server_url

VALUES = Path(__file__).with_name("values.yaml")
_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
# KubeRay makes names from it, and Kubernetes has 63 characters for a name.
_MAX_NAME = 47
Name = Annotated[str, Field(pattern=_LABEL, max_length=_MAX_NAME)]
Label = Annotated[str, Field(pattern=_LABEL, max_length=63)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([kMGTP]i?|m)?$")]
Cores = Annotated[float, Field(gt=0, le=1024)]


class ValuesError(DeployError):
    """Values can't be used; each line of the message is one problem, with its place."""


class HeadValues(Settings):
    """The head's pod: Ray's and Serve's controllers, no replica.

    Attributes:
        cpu: cores.
        memory: as Kubernetes writes it.
    """

    cpu: Cores = 1
    memory: Quantity = "4Gi"


class WorkerValues(Settings):
    """A pod for replicas.

    Attributes:
        cpu: cores, shared by its replicas.
        memory: as Kubernetes writes it.
        gpus: of NVIDIA.
        min_nodes: pods there are at least.
        max_nodes: pods there are at most.
    """

    cpu: Cores = 2
    memory: Quantity = "6Gi"
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    min_nodes: Annotated[int, Field(ge=0, le=1000)] = 1
    max_nodes: Annotated[int, Field(ge=1, le=1000)] = 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise ValueError(
                f"min_nodes ({self.min_nodes}) must be at most max_nodes ({self.max_nodes})"
            )
        return self


class ReplicaValues(Settings):
    """What one replica takes of a worker's pod.

    Attributes:
        num_cpus: cores.
        num_gpus: GPUs, or the fraction of one.
    """

    num_cpus: Annotated[float, Field(ge=0, le=256)] = 1
    num_gpus: Annotated[float, Field(ge=0, le=16)] = 0


class RedisValues(Settings):
    """The server of the streams.

    Attributes:
        url: of the server, or its Sentinels; without a password.
        cluster: it is one of a Redis Cluster.
        managed: a single server is rendered, too; otherwise it is elsewhere.
        image: of the managed server: Redis or Valkey, 7.0 or newer.
        memory: of the managed server.
        storage: of its append-only file.
        cidrs: where a server elsewhere is, for the network policy; none: anywhere.
    """

    url: str
    cluster: bool = False
    managed: bool = True
    image: str = "redis:7.4"
    memory: Quantity = "2Gi"
    storage: Quantity = "20Gi"
    cidrs: tuple[str, ...] = ()

    @field_validator("url")
    @classmethod
    def _is_fit(cls, url: str) -> str:
        try:
            parsed = parse_server_url(url)
        except ServerUrlError as error:
            raise ValueError(str(error)) from error
        if parsed.login.password is not None:
            raise ValueError("must hold no password: it is in the Secret redis_password")
        if not parsed.is_tls:
            raise ValueError("must begin with rediss:// or rediss+sentinel://: faces go over it")
        return url

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.managed and (self.cluster or parse_server_url(self.url).service):
            raise ValueError("a managed server is a single one: set managed: false, or its URL")
        return self


class SecretNames(Settings):
    """Names of Secrets in the namespace; all of them are mounted as files.

    Attributes:
        redis_password: `password`: of the account of workers.
        redis_tls: `ca.crt`, and of a managed server `tls.crt` and `tls.key`.
        redis_acl: `users.acl`, for a managed server.
        camera_keys: `camera_keys.json`.
        console_token: `token`.
    """

    redis_password: Label = "livegate-redis-worker"  # noqa: S105 - a name
    redis_tls: Label = "livegate-redis-tls"
    redis_acl: Label = "livegate-redis-acl"
    camera_keys: Label = "livegate-camera-keys"
    console_token: Label = "livegate-console-token"  # noqa: S105


class NetworkValues(Settings):
    """Namespaces that may reach the pods.

    Attributes:
        gateways: HTTP.
        monitoring: the metrics.
        operator: KubeRay's operator.
    """

    gateways: Label = "ingress-nginx"
    monitoring: Label = "monitoring"
    operator: Label = "kuberay-operator"


class GcsValues(Settings):
    """A Redis of its own for Ray's control store, which then survives the head's pod.

    Attributes:
        address: host:port.
        secret: Secret with its `password`.
    """

    address: Annotated[str, Field(pattern=r"^[-.a-z0-9]+:[0-9]{1,5}$")]
    secret: Label


class Values(Settings):
    """All values.

    Attributes:
        name: of the RayService, and the beginning of all other names.
        namespace: where all of it goes.
        image: of head and workers.
        ray_version: of the image.
        head: its pod.
        worker: their pods.
        replica: what one takes.
        redis: the server of the streams.
        secrets: their names.
        bundle: takes the place of the Serve config's; a change of it alone is a swap, in place.
        scaling: fields that take the place of those in the Serve config.
        network: who may reach the pods.
        gcs: makes Ray's control store survive its pod.
    """

    name: Name = "livegate"
    namespace: Label = "livegate"
    image: str
    ray_version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    head: HeadValues = HeadValues()
    worker: WorkerValues = WorkerValues()
    replica: ReplicaValues = ReplicaValues()
    redis: RedisValues
    secrets: SecretNames = SecretNames()
    bundle: str | None = None
    scaling: dict[str, Any] = Field(default_factory=dict)
    network: NetworkValues = NetworkValues()
    gcs: GcsValues | None = None

    @field_validator("scaling")
    @classmethod
    def _is_of_scaling(cls, scaling: dict[str, Any]) -> dict[str, Any]:
        try:
            ScalingSettings.model_validate(scaling)
        except ValidationError as error:
            loc, what = problems_of(error)[0]
            raise ValueError(": ".join((*map(str, loc), what))) from error
        return scaling

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replica.num_gpus > self.worker.gpus:
            raise ValueError(
                f"replica.num_gpus ({self.replica.num_gpus:g}) must be at most worker.gpus "
                f"({self.worker.gpus}): no pod could hold a replica"
            )
        if self.replica.num_cpus > self.worker.cpu:
            raise ValueError(
                f"replica.num_cpus ({self.replica.num_cpus:g}) must be at most worker.cpu "
                f"({self.worker.cpu:g}): no pod could hold a replica"
            )
        named = parse_server_url(self.redis.url).hosts
        service = f"{self.name}-redis"
        if self.redis.managed and named[0][0].partition(".")[0] != service:
            raise ValueError(f"redis.url must name {service}, the managed server's Service")
        hosts = {f"{host}:{port}" for host, port in named}
        if self.gcs is not None and self.gcs.address in hosts:
            raise ValueError("gcs.address must be a Redis of its own, not that of the streams")
        return self


def load_values(paths: Iterable[Path]) -> Values:
    """Read values; each file overlays those before it, field by field.

    Raises:
        ValuesError: a file can't be read, or a field breaks its rule.
    """
    merged: dict[str, Any] = {}
    documents = []
    for path in paths:
        try:
            document = read_document(path)
        except DocumentError as error:
            raise ValuesError(str(error)) from error
        for loc in document.duplicates():
            raise ValuesError(f"{_where([document], loc)}stands twice: keep one")
        merged = _overlaid(merged, document.content)
        documents.append(document)
    try:
        return Values.model_validate(merged)
    except ValidationError as error:
        lines = [f"{_where(documents, loc)}{what}" for loc, what in problems_of(error)]
        raise ValuesError("\n".join(dict.fromkeys(lines))) from error


def _overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(under)
    for name, value in over.items():
        below = found.get(name)
        both = isinstance(value, dict) and isinstance(below, dict)
        found[name] = _overlaid(below or {}, value) if both else value
    return found


def _where(documents: Sequence[Document], loc: Loc) -> str:
    """Return "file:line: field: " of a field; of one that stands in several files, the last counts.

    What stands in none is missing where the thing around it is.
    """
    steps = [each.found(loc)[0] for each in documents]
    most = max(steps, default=0)
    if not most:
        place = str(documents[-1].path) if documents else ""
    else:
        found = documents[max(index for index, each in enumerate(steps) if each == most)]
        place = f"{found.path}:{found.line(loc)}"
    name = ".".join(map(str, loc))
    return f"{place}: {name}: " if name else f"{place}: "
