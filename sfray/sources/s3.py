"""Objects on S3, by boto3."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from sfray.config import StorageSpec
from sfray.errors import RequestError, RunError, StorageError
from sfray.redaction import redact
from sfray.sources.remote import FetchTerms, plain_etag, video_changed
from sfray.storage.faults import explain
from sfray.storage.patience import ShortReadError, patiently
from sfray.storage.s3_client import http_status, is_transient, s3_client

_NO_BUCKET = {"NoSuchBucket", "PermanentRedirect", "InvalidBucketName"}
_WRONG_KEYS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("TokenRefreshRequired", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed"),
}
_OUT_OF_RANGE = 416


class S3File:
    """An object, pinned to the ETag of its first answer."""

    def __init__(self, uri: str, storage: StorageSpec, terms: FetchTerms = FetchTerms()) -> None:
        self._bucket, _, self._key = uri.partition("://")[2].partition("/")
        if not self._bucket or not self._key:
            raise RequestError("uri_refused", f"{redact(uri)!r} is not of the form s3://bucket/key")
        self._client = s3_client(storage, terms.read_seconds)
        self._patience = terms.patience
        self.bytes_fetched = 0
        # A GET, since the answer to a HEAD does not say what is missing: the bucket or the key.
        reply, self._first = self._get({"Range": f"bytes=0-{terms.first_bytes - 1}"})
        self._version: str = reply.get("ETag", "")
        self.etag = plain_etag(self._version)
        self.sha256: str | None = None
        self.size = int(reply["ContentRange"].rpartition("/")[2]) if reply else 0

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
        """The reply, and its bytes; both are empty for an object without bytes."""

        def attempt() -> tuple[dict[str, Any], bytes]:
            reply = self._client.get_object(Bucket=self._bucket, Key=self._key, **options)
            data = reply["Body"].read()
            self.bytes_fetched += len(data)
            if length is not None and len(data) != length:
                raise ShortReadError
            return reply, data

        try:
            return patiently(attempt, is_transient, self._patience)
        except ClientError as error:
            if length is None and http_status(error) == _OUT_OF_RANGE:
                return {}, b""
            raise self._failure(error) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageError(f"no credentials for S3 were found: {explain(error)}") from error
        except (BotoCoreError, ShortReadError) as error:
            text = f"S3 did not deliver the file: {explain(error)}"
            raise RequestError("fetch_failed", text) from error

    def _failure(self, error: ClientError) -> RequestError | RunError:
        code = error.response["Error"]["Code"]
        status = http_status(error)
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
