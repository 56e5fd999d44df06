"""The programs that people read outputs with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds

# Each gives the rows of a folder of parts, or of the folders of a job in partitions.
Reader = Callable[[Path], list[dict[str, Any]]]


def _duckdb(folder: Path) -> list[dict[str, Any]]:
    return duckdb.sql(f"select * from '{folder}/*.parquet'").to_arrow_table().to_pylist()


def _pandas(folder: Path) -> list[dict[str, Any]]:
    return pd.read_parquet(folder).to_dict("records")


def _polars(folder: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(folder / "*.parquet").to_dicts()


def _pyarrow(folder: Path) -> list[dict[str, Any]]:
    return ds.dataset(folder).to_table().to_pylist()


def _datasets(folder: Path) -> list[dict[str, Any]]:
    return list(load(folder)["train"])


def load(folder: Path, *config: str) -> datasets.DatasetDict:
    """What `load_dataset` gives for a folder, with a cache of its own."""
    cache = folder.parent / f"cache-{folder.name}-{'-'.join(config)}"
    return datasets.load_dataset(str(folder), *config, cache_dir=str(cache))


READERS: dict[str, Reader] = {
    "duckdb": _duckdb,
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
    "datasets": _datasets,
}
