"""Objects on S3, by boto3 with its own retries."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import boto3
import botocore.config
from botocore import UNSIGNED
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
)

from sfray.config import StorageSpec
from sfray.errors import RequestError, RunError, StorageError
from sfray.redaction import redact
from sfray.sources.remote import (
    CONNECT_SECONDS,
    FIRST_BYTES,
    READ_SECONDS,
    ShortReadError,
    plain_etag,
    video_changed,
    with_retries,
)
from sfray.storage.faults import explain

_NO_BUCKET = {"NoSuchBucket", "PermanentRedirect", "InvalidBucketName"}
_WRONG_KEYS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("TokenRefreshRequired", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed"),
}
_OUT_OF_RANGE = 416


class S3File:
    """An object, pinned to the ETag of its first answer."""

    def __init__(self, uri: str, storage: StorageSpec) -> None:
        self._bucket, _, self._key = uri.partition("://")[2].partition("/")
        if not self._bucket or not self._key:
            raise RequestError("uri_refused", f"{redact(uri)!r} is not of the form s3://bucket/key")
        self._client = s3_client(storage)
        self.bytes_fetched = 0
        # A GET, since the answer to a HEAD does not say what is missing: the bucket or the key.
        told, self._first = self._get({"Range": f"bytes=0-{FIRST_BYTES - 1}"})
        self._version: str = told.get("ETag", "")
        self.etag = plain_etag(self._version)
        self.sha256: str | None = None
        self.size = int(told["ContentRange"].rpartition("/")[2]) if told else 0

    def read(self, offset: int, length: int) -> bytes:
        if offset + length <= len(self._first):
            return self._first[offset : offset + length]
        span = {"Range": f"bytes={offset}-{offset + length - 1}", "IfMatch": self._version}
        return self._get(span, length)[1]

    def close(self) -> None:
        """The client is shared."""

    def _get(
        self, options: dict[str, str], length: int | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """What S3 told, and the bytes; both are empty for an object without bytes."""

        def attempt() -> tuple[dict[str, Any], bytes]:
            told = self._client.get_object(Bucket=self._bucket, Key=self._key, **options)
            data = told["Body"].read()
            self.bytes_fetched += len(data)
            if length is not None and len(data) != length:
                raise ShortReadError
            return told, data

        try:
            return with_retries(attempt, breaks_off)
        except ClientError as error:
            if length is None and _status(error) == _OUT_OF_RANGE:
                return {}, b""
            raise self._failure(error) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageError(f"no credentials for S3 were found: {explain(error)}") from error
        except (BotoCoreError, ShortReadError) as error:
            text = f"S3 did not deliver the file: {explain(error)}"
            raise RequestError("fetch_failed", text) from error

    def _failure(self, error: ClientError) -> RequestError | RunError:
        code = error.response["Error"]["Code"]
        status = _status(error)
        if code in _NO_BUCKET:
            return StorageError(f"the bucket {self._bucket!r} can't be used: {code}")
        if code in _WRONG_KEYS:
            return StorageError(f"S3 refuses the credentials: {code}")
        match status:
            case 404:
                return RequestError("not_found", "the object does not exist")
            case 401 | 403:
                return RequestError("access_denied", f"S3 refuses to give the object: {code}")
            case 412:
                return video_changed()
        return RequestError("fetch_failed", f"S3 answered {status}: {code}")


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def breaks_off(error: BaseException) -> bool:
    """Whether an answer broke off in the middle: boto3 retries requests only."""
    if isinstance(error, HTTPClientError | IncompleteReadError | ResponseStreamingError):
        return True
    return isinstance(error, ShortReadError)


@lru_cache(maxsize=4)
def s3_client(storage: StorageSpec) -> Any:
    """A client for the place and identity that the job names.

    Raises:
        StorageError: the profile does not exist.
    """
    config = botocore.config.Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 4},
        signature_version=UNSIGNED if storage.anonymous else None,
    )
    try:
        session = boto3.Session(profile_name=storage.profile, region_name=storage.region)
        return session.client("s3", endpoint_url=storage.endpoint_url, config=config)
    except (ProfileNotFound, BotoCoreError, ValueError) as error:
        raise StorageError(f"S3 can't be reached as the job says: {explain(error)}") from error
