import errno

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from sfray.errors import StorageError
from sfray.storage.faults import explain, is_storage_fault, storage_faults


def test_storage_faults_are_told_from_bugs():
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")
    for error in (OSError(), TimeoutError(), NoCredentialsError(), denied):
        assert is_storage_fault(error)
    for error in (ValueError(), KeyError("x"), StorageError("x")):
        assert not is_storage_fault(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
        (OSError(errno.ENOLCK, "No locks available"), "its file system has no locks"),
        (OSError("GET https://h/v?sig=s3cr3t\n failed"), "GET https://h/v failed"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_faults_are_few_words_without_secrets(error, words):
    assert explain(error) == words


def fail(error):
    with storage_faults(StorageError, "the output x can't be written"):
        raise error


def test_only_storage_faults_are_turned_into_sentences():
    with pytest.raises(StorageError, match="the output x can't be written: the disk is full"):
        fail(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())
    with pytest.raises(StorageError, match=r"^inner$"):
        fail(StorageError("inner"))
