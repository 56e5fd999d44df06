"""The lease of an S3 output: an object that its holder keeps renewing.

It makes two writers rare and tells the second one politely; that no row is lost or doubled
rests on the fence in the log alone. No clock is compared with another machine's: a challenger
watches the counter for one term of its own monotonic clock, and takes over if it stands still.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from sfray.errors import OutputInUseError, StorageError
from sfray.storage.objects import KeyTakenError

logger = logging.getLogger(__name__)

_KEY = "_sfray/lease.json"
_RENEWALS_PER_TERM = 4
_LOOKS_PER_TERM = 10
_RELEASE_SECONDS = 10.0


class VersionedFolder(Protocol):
    """What a lease needs of its folder."""

    uri: str

    def read_version(self, key: str) -> tuple[bytes, str] | None: ...

    def replace(self, key: str, body: bytes, etag: str | None) -> str: ...


@dataclass(frozen=True, slots=True)
class _State:
    """What the lease object says."""

    holder: str
    owner: str
    counter: int
    released: bool
    num_rows: int = 0

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


class S3Lease:
    """A held lease, renewed by a thread of its own."""

    def __init__(self, folder: VersionedFolder, state: _State, etag: str, term: float) -> None:
        self._folder = folder
        self._state = state
        self.num_rows_before = self._num_rows = state.num_rows
        self._etag = etag
        self._term_seconds = term
        self._ended = threading.Event()
        self.lost = False
        self._thread = threading.Thread(target=self._renew_until_ended, daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, folder: VersionedFolder, owner: str, wait: bool, term: float) -> S3Lease:
        """Takes the lease, at once where it is free, else when its holder has stood still.

        Args:
            wait: watch a held lease for one term before giving up.
            term: a lease that isn't renewed for so many seconds is free.

        Raises:
            OutputInUseError: its holder is alive.
        """
        holder = uuid.uuid4().hex
        first_look: float | None = None
        seen, seen_since = b"", 0.0
        while True:
            found = folder.read_version(_KEY)
            body, etag = found or (b"", None)
            now = time.monotonic()
            first_look = now if first_look is None else first_look
            if body != seen:
                seen, seen_since = body, now
            held = _State(**json.loads(body)) if body else None
            if held is None or held.released or (wait and now - seen_since >= term):
                num_rows = held.num_rows if held else 0
                state = _State(holder, owner, counter=0, released=False, num_rows=num_rows)
                try:
                    return cls(folder, state, folder.replace(_KEY, state.to_json(), etag), term)
                except KeyTakenError:
                    continue  # another challenger was faster: look at its lease
            if not wait or now - first_look >= term:
                raise OutputInUseError(f"the output {folder.uri} is in use by {held.owner}")
            time.sleep(term / _LOOKS_PER_TERM)

    def note(self, num_rows: int) -> None:
        """See `Lease`. Said with the next renewal."""
        self._num_rows = num_rows

    def release(self) -> None:
        """See `Lease`."""
        self._ended.set()
        self._thread.join(_RELEASE_SECONDS)
        if self.lost or self._thread.is_alive():
            return
        released = replace(self._next_state(), released=True)
        try:
            self._folder.replace(_KEY, released.to_json(), self._etag)
        except KeyTakenError:
            self.lost = True
        except StorageError as error:
            logger.warning("the lease is left to run out: %s", error)

    def _next_state(self) -> _State:
        return replace(self._state, counter=self._state.counter + 1, num_rows=self._num_rows)

    def _renew_until_ended(self) -> None:
        renewed: _State | None = None
        while not self._ended.wait(self._term_seconds / _RENEWALS_PER_TERM):
            # The state stays the same until it is known to be there: a put whose reply was lost
            # is recognised by its body.
            renewed = renewed or self._next_state()
            try:
                self._etag = self._folder.replace(_KEY, renewed.to_json(), self._etag)
                self._state, renewed = renewed, None
            except KeyTakenError:
                self.lost = True
                return
            except StorageError as error:
                logger.warning("the lease could not be renewed: %s", error)
