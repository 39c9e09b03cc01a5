"""Which errors are told in a line: ours, settings, servers, the operating system. No other."""

import errno
import os

import numpy as np
import pytest
import redis
from pydantic import BaseModel, ValidationError
from redis.exceptions import AuthenticationError, BusyLoadingError, OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from deploy.commands.errors import lines_for
from deploy.local.home import NoDeployment
from loadtest.sources import SourceError
from model.errors import ModelError
from workers.settings import StreamSettings, WorkerSettings
from workers.wire.keyring import KeyFileError


@pytest.mark.parametrize("kind", [NoDeployment, SourceError, ModelError, KeyFileError])
def test_our_own_errors_speak_for_themselves(kind: type[Exception]) -> None:
    assert lines_for(kind("first\nsecond")) == ["first", "second"]
    assert lines_for(kind()) == [kind.__name__]


def test_a_setting_is_a_line_a_field_and_no_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        WorkerSettings.model_validate(
            {"max_batch": 0, "stream": {"url": "http://a:secret@b", "partitions": 999}}
        )
    lines = lines_for(caught.value)
    assert lines is not None
    assert len(lines) == 3
    assert any(line.startswith("stream.partitions: ") and "999" in line for line in lines)
    assert not any("secret" in line for line in lines)


@pytest.mark.parametrize(
    ("error", "what_to_do"),
    [
        (redis.ConnectionError("Error 111"), "--redis"),
        (RedisTimeoutError("Timeout"), "network"),
        (AuthenticationError("NOAUTH"), "user and password"),
        (BusyLoadingError("LOADING"), "try again"),
        (OutOfMemoryError("OOM"), "maxmemory"),
        (redis.RedisError("anything\nelse"), "log"),
    ],
)
def test_a_server_is_told_with_what_to_do(error: Exception, what_to_do: str) -> None:
    lines = lines_for(error)
    assert lines is not None
    (line,) = lines
    assert what_to_do in line


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.ENOSPC, errno.EEXIST, errno.ENOENT, errno.EADDRINUSE, errno.ECONNREFUSED],
)
def test_what_the_system_refuses_is_told_with_its_file(number: int) -> None:
    lines = lines_for(OSError(number, os.strerror(number), "data/list.txt"))
    assert lines is not None
    (line,) = lines
    assert line.startswith(f"data/list.txt: {os.strerror(number)}: ")


def other_settings() -> ValidationError:
    class Theirs(BaseModel):
        a: int

    with pytest.raises(ValidationError) as caught:
        Theirs.model_validate({})
    return caught.value


def of_numpy() -> ValueError:
    with pytest.raises(ValueError, match="broadcast") as caught:
        np.zeros(2) + np.zeros(3)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        of_numpy(),
        other_settings(),
        ZeroDivisionError(),
        OSError("no number"),
        OSError(errno.EIO, "Input/output error"),
        KeyError("a"),
        RuntimeError("of torch"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_keeps_its_traceback(error: Exception) -> None:
    assert lines_for(error) is None


def test_settings_are_known_by_their_class() -> None:
    assert lines_for(_refused(StreamSettings)) is not None


def _refused(kind: type[BaseModel]) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"nothing": 1})
    return caught.value
