"""The one S3 client of outputs, videos and checkpoints, and which answers are transient.

Manifests and listings of videos are read through fsspec, with its libraries' own clients.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.storage.faults import explain

_CONNECT_SECONDS = 10
_KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
_NUM_CONNECTIONS = 32
_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)


def s3_client(storage: StorageSpec, read_timeout_seconds: float = 30.0) -> Any:
    """The client for the place and identity that the job names, shared by all threads.

    It never retries by itself: a put must know whether it was tried before, and `patiently` does it
    for all.

    Raises:
        StorageError: the profile does not exist, or the endpoint is no address.
    """
    # Keys of the environment may be renewed while a process lives.
    keys = tuple(os.environ.get(name) for name in _KEY_VARIABLES)
    return _client(storage, read_timeout_seconds, keys)


@lru_cache(maxsize=8)
def _client(
    storage: StorageSpec, read_timeout_seconds: float, _keys: tuple[str | None, ...]
) -> Any:
    own_endpoint = storage.endpoint_url is not None
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=read_timeout_seconds,
        max_pool_connections=_NUM_CONNECTIONS,
        s3={"addressing_style": "path" if own_endpoint else "auto"},
        # Other servers than AWS don't know the newer checksums that boto3 sends by itself.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **({"signature_version": UNSIGNED} if storage.anonymous else {}),
    )
    try:
        session = boto3.Session(profile_name=storage.profile, region_name=storage.region)
        return session.client("s3", endpoint_url=storage.endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        reason, endpoint = explain(error), storage.endpoint_url or ""
        if "@" in endpoint:  # a password, whatever stands around it
            reason = reason.replace(endpoint, endpoint.rpartition("@")[2])
        raise StorageError(f"S3 can't be reached as the job says: {reason}") from error


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ClientError):
        status = http_status(error)
        return error.response["Error"]["Code"] in _TRANSIENT_CODES or (
            status == 429 or (status >= 500 and status != 501)
        )
    # A cut reply ends in one of these; ConnectionError is botocore's, not the builtin.
    return isinstance(
        error, ConnectionError | HTTPClientError | IncompleteReadError | ResponseParserError
    )


def http_status(error: ClientError) -> int:
    """The reply's HTTP status."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
