"""Which folder serves an output's URI."""

from __future__ import annotations

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.redaction import redact
from sfray.storage.faults import storage_faults
from sfray.storage.local_folder import LocalFolder
from sfray.storage.objects import Folder
from sfray.storage.s3_terms import S3Terms
from sfray.storage.uris import local_path, scheme_of


def open_folder(uri: str, storage: StorageSpec, terms: S3Terms = S3Terms()) -> Folder:
    """The folder of an output; nothing is created.

    Args:
        terms: how long it is waited for where it is on S3.

    Raises:
        StorageError: no output can be there, or the bucket refuses.
    """
    scheme = scheme_of(uri)
    if scheme == "s3":
        # boto3 takes a third of a second to import, which jobs with local outputs don't pay.
        from sfray.storage.s3_folder import S3Folder

        return S3Folder(uri, storage, terms)
    if scheme == "file":
        path = local_path(uri).absolute()
        with storage_faults(StorageError, f"the output {path} can't be opened"):
            is_file = path.exists() and not path.is_dir()
        if is_file:
            raise StorageError(f"the output {path} is a file; it must be a folder")
        return LocalFolder(path)
    raise StorageError(
        f"the output {redact(uri)!r} has the scheme {scheme!r}; outputs go to a local folder or s3://"
    )
