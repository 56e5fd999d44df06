"""What of a URI is identity, and what of it is a secret.

Two questions with an answer each: what is hidden from view may grow at any time, what identity
leaves out may not, since ids of requests are made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")

# Parameters that sign a URI or hold a secret, by name in lower case. What only limits or
# describes a signature goes too: it differs from one signing to the next. Identity leaves them
# out, so that not one may be added or taken away.
_SIGNING_PREFIXES = ("x-amz-", "x-goog-", "x-oss-", "q-sign", "q-ak", "q-key-time", "q-header-list")
_SIGNING_PARTS = ("token", "secret", "signature", "password", "credential", "api_key", "apikey")
_SIGNING_NAMES = (
    "sig sign expires awsaccesskeyid googleaccessid ossaccesskeyid key-pair-id policy auth "
    "auth_key authorization access_key api-key passwd pwd jwt hdnts hdnea hdntl"
)
# Azure's other parameters are short words that mean something else elsewhere: they go with `sig`.
_WITH_SIG = "se sv sr st sp spr sip srt ss skoid sktid skt ske sks skv sdd saoid suoid scid"
_ASSIGNED_SECRET = re.compile(
    r"(?i)\b((?:x-(?:amz|goog|oss)-[a-z-]+|[\w-]*(?:token|secret|signature|password|credential)[\w-]*"
    r"|sig|awsaccesskeyid|googleaccessid|ossaccesskeyid|api_?key)=)[^&\s'\"<>,)]+"
)
_AUTHORIZATION = re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?)[^'\"\n]+")


def identity_uri(uri: str) -> str:
    """The URI as written, without what signs it: equal for every signing of one video.

    User name and password go, and of the query the parameters that sign or hold a secret; the
    others stay as they are written and in their order. Local paths are returned unchanged.
    What this gives for a URI never changes: it is a part of ids.
    """
    return _bare(uri, lambda query: _without(query, _signs), lambda fragment: fragment)


def redact(uri: str) -> str:
    """The URI as logs and errors may show it, and results that are not identity.

    Without user name and password, and without parameters that sign or hold a secret, in the query
    as in identity, and in the fragment. Job files are kept in this form: a parameter that is hidden
    from now on would be missing where they are run again.
    """

    def cleaned(parameters: str) -> str:
        return _without(parameters, _signs)

    # A fragment without a sign of equality is a place in the file, or a part of a key.
    return _bare(uri, cleaned, lambda text: cleaned(text) if "=" in text else text)


def redact_values(values: Any) -> Any:
    """JSON values, such as those of a job file, with each text that is a URI as `redact` has it."""
    if isinstance(values, str):
        return redact(values)
    if isinstance(values, dict):
        return {key: redact_values(value) for key, value in values.items()}
    return [redact_values(value) for value in values] if isinstance(values, list) else values


def redact_text(message: str) -> str:
    """A message of another library, with the secrets of all URIs and headers in it removed."""
    message = _URI_IN_TEXT.sub(lambda match: redact(match[0]), message)
    message = _ASSIGNED_SECRET.sub(r"\1...", message)
    return _AUTHORIZATION.sub(r"\1...", message)


def _bare(uri: str, clean_query: Callable[[str], str], clean_fragment: Callable[[str], str]) -> str:
    """A remote URI without user name and password, its query and fragment cleaned."""
    match = _SCHEME.match(uri)
    if not match or match[1].lower() == "file":
        return uri
    rest, hash_sign, fragment = uri[match.end() :].partition("#")
    place, _, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    bare = match[0] + authority.rpartition("@")[2] + slash + path
    if query := clean_query(query):
        bare += f"?{query}"
    kept = clean_fragment(fragment)
    return bare + (hash_sign + kept if kept or not fragment else "")


def _without(parameters: str, is_cut: Callable[[str], bool]) -> str:
    """`a=1&b=2` without some of them."""
    parts = parameters.split("&")
    names = [unquote(part.partition("=")[0]).lower() for part in parts]
    by_azure = "sig" in names
    return "&".join(
        part
        for part, name in zip(parts, names, strict=True)
        if not (is_cut(name) or (by_azure and name in _WITH_SIG.split()))
    )


def _signs(name: str) -> bool:
    return (
        name in _SIGNING_NAMES.split()
        or name.startswith(_SIGNING_PREFIXES)
        or any(part in name for part in _SIGNING_PARTS)
    )
