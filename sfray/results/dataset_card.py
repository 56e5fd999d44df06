"""The README.md of an output: how people and Hugging Face `datasets` read it."""

from __future__ import annotations

KEY = "README.md"

# `**` stands for the folders of partitions too, and for none.
CONFIGS = """\
---
configs:
- config_name: answers
  data_files: "**/answers/*.parquet"
  default: true
- config_name: failures
  data_files: "**/failures/*.parquet"
---
"""

_TEXT = """
# Answers about videos

Written by sfray. Both folders are plain Parquet: `answers/` has one row for each answered request
and is exact at any moment, `failures/` is a history, one row for each time that a request failed.
The state of a request is its answer if it has one, else its latest failure. Below `_sfray/` is what
sfray itself needs to go on; nothing in these folders may be changed or deleted.

```python
datasets.load_dataset(FOLDER)               # the answers
datasets.load_dataset(FOLDER, "failures")   # if there are any
duckdb.sql("select * from 'FOLDER/answers/*.parquet'")
pandas.read_parquet("FOLDER/answers")
polars.read_parquet("FOLDER/answers/*.parquet")
```

Columns are described by `sfray schema answers` and `sfray schema failures`. `fetch_seconds`,
`decode_seconds` and `bytes_fetched` are costs of a clip and stand on each of its rows: sum them
once for each `clip_id`, `run_id` and `attempts`.
"""

CARD = CONFIGS + _TEXT
