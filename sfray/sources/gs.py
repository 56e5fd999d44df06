"""Objects on Google Cloud Storage, by gcsfs with its own retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sfray.config import StorageSpec
from sfray.errors import RequestError, StorageError
from sfray.sources.remote import plain_etag, video_changed
from sfray.storage.faults import explain, is_storage_fault
from sfray.storage.uris import open_filesystem


class GsFile:
    """An object; its generation is compared after each read."""

    def __init__(self, uri: str, storage: StorageSpec) -> None:
        self.bytes_fetched = 0
        with _faults():
            self._filesystem, self._path = open_filesystem(uri, storage)
            info = self._info_or_no_bucket()
        self.size = int(info["size"])
        self.etag = plain_etag(info.get("etag"))
        self.sha256: str | None = None
        self._version = _version(info)

    def read(self, offset: int, length: int) -> bytes:
        with _faults():
            data: bytes = self._filesystem.cat_file(self._path, start=offset, end=offset + length)
            self.bytes_fetched += len(data)
            if len(data) != length or _version(self._info()) != self._version:
                raise video_changed()
        return data

    def close(self) -> None:
        """The filesystem is shared."""

    def _info(self) -> dict[str, Any]:
        return self._filesystem.info(self._path)

    def _info_or_no_bucket(self) -> dict[str, Any]:
        try:
            return self._info()
        except FileNotFoundError:
            bucket = self._path.partition("/")[0]
            try:
                self._filesystem.info(bucket)
            except FileNotFoundError as error:
                raise StorageError(f"the bucket {bucket!r} can't be used: not found") from error
            raise


def _version(info: dict[str, Any]) -> tuple[Any, ...]:
    return info.get("generation"), info.get("etag"), info["size"]


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise RequestError("not_found", "the object does not exist") from error
    except (RequestError, StorageError):
        raise
    except Exception as error:
        # gcsfs tells what a server answered by a code, or by how its sentence begins.
        text = explain(error)
        if type(error).__module__.startswith("google.auth") or getattr(error, "code", 0) == 401:
            raise StorageError(f"no credentials for gs:// work: {text}") from error
        if text.startswith("Forbidden"):
            message = "the storage refuses to give the object"
            raise RequestError("access_denied", message) from error
        if not is_storage_fault(error) and not text.startswith("Bad Request"):
            raise
        raise RequestError(
            "fetch_failed", f"the storage did not deliver the file: {text}"
        ) from error
