"""What another prompt or model changed: the outcomes of two fingerprints, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sfray.config import StorageSpec
from sfray.errors import SpecError
from sfray.results.read import current_state

# What a request is about, apart from how it was worded and what answered it.
_KEY = ("video_id", "start_seconds", "end_seconds", "prompt_id")
_SIDE = ("prompt", "text", "choice", "code")
# Joins take nulls for unequal; no clip has such bounds.
_NO_BOUND = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """The outcomes of two fingerprints.

    Attributes:
        rows: `video_id, start_seconds, end_seconds, prompt_id`, then `prompt, text, choice, code`
            with the endings `_before` and `_after`, and `change`: `same`, `changed`, `added`
            (only after) or `removed` (only before); sorted by the key.
        counts: number of rows by change.
    """

    before: str
    after: str
    rows: pa.Table
    counts: dict[str, int]


def diff(uri: str, storage: StorageSpec, before: str, after: str) -> Diff:
    """Compares the current state of two fingerprints of one output.

    An outcome is the same if text, choice and failure code are.

    Args:
        before, after: fingerprints, or beginnings of which there is one.

    Raises:
        SpecError: the output has no such fingerprint, or several.
        StorageError: the output can't be read.
    """
    columns = (*_KEY, *_SIDE, "fingerprint")
    state = current_state(uri, storage, columns)
    known = state["fingerprint"].unique().to_pylist()
    before, after = _one_of(before, known, uri), _one_of(after, known, uri)
    sides = [_side(state, fingerprint, ending) for fingerprint, ending in _endings(before, after)]
    joined = sides[0].join(sides[1], keys=list(_KEY), join_type="full outer")
    joined = joined.append_column("change", _change(joined)).sort_by(
        [(k, "ascending") for k in _KEY]
    )
    for bound in ("start_seconds", "end_seconds"):
        values = joined[bound]
        restored = pc.if_else(pc.equal(values, _NO_BOUND), pa.scalar(None, pa.float64()), values)
        joined = joined.set_column(joined.schema.get_field_index(bound), bound, restored)
    sided = [f"{name}_{ending}" for name in _SIDE for _, ending in _endings(before, after)]
    counts = joined["change"].value_counts().to_pylist()
    return Diff(
        before=before,
        after=after,
        rows=joined.select([*_KEY, *sided, "change"]),
        counts={entry["values"]: entry["counts"] for entry in counts},
    )


def _endings(before: str, after: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (before, "before"), (after, "after")


def _one_of(beginning: str, known: list[str], uri: str) -> str:
    found = [name for name in known if name.startswith(beginning)]
    if len(found) != 1:
        what = "several fingerprints" if found else "no fingerprint"
        names = ", ".join(sorted(known)) or "none"
        raise SpecError(f"the output {uri} has {what} {beginning!r}; it has: {names}")
    return found[0]


def _side(state: pa.Table, fingerprint: str, ending: str) -> pa.Table:
    rows = state.filter(pc.equal(state["fingerprint"], fingerprint))
    bounds = {n: pc.fill_null(rows[n], _NO_BOUND) for n in ("start_seconds", "end_seconds")}
    columns = {name: bounds.get(name, rows[name]) for name in _KEY}
    columns |= {f"{name}_{ending}": rows[name] for name in _SIDE}
    columns[f"there_{ending}"] = pa.repeat(True, rows.num_rows)
    return pa.table(columns)


def _change(joined: pa.Table) -> pa.Array:
    same = pa.repeat(True, joined.num_rows)
    for name in ("text", "choice", "code"):
        one, other = joined[f"{name}_before"], joined[f"{name}_after"]
        both_null = pc.and_(pc.is_null(one), pc.is_null(other))
        same = pc.and_(same, pc.or_(pc.fill_null(pc.equal(one, other), False), both_null))
    cases = [
        pc.is_null(joined["there_before"]),
        pc.is_null(joined["there_after"]),
        same,
    ]
    conditions = pa.StructArray.from_arrays(
        [
            pa.concat_arrays(case.chunks) if isinstance(case, pa.ChunkedArray) else case
            for case in cases
        ],
        names=["added", "removed", "same"],
    )
    return pc.case_when(conditions, "added", "removed", "same", "changed")
