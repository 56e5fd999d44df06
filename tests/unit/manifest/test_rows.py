import csv
import functools
import http.server
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfray.config import ManifestSpec, StorageSpec
from sfray.errors import ManifestError
from sfray.manifest.columns import ROW_FIELDS
from sfray.manifest.files import BLOCK_BYTES
from sfray.manifest.rows import read_manifest

FLAT = [f.name for f in ROW_FIELDS]


def read(uri, extra=(), block_bytes=BLOCK_BYTES, **spec):
    uris = uri if isinstance(uri, tuple) else str(uri)
    return read_manifest(ManifestSpec(uri=uris, **spec), StorageSpec(), extra, block_bytes)


def rows_of(uri, extra=(), **spec):
    batches = list(read(uri, extra, **spec).batches())
    return pa.concat_tables(batches).to_pylist() if batches else []


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


QUESTIONS = [
    {
        "video_uri": "a.mp4",
        "video_id": "007",
        "start_seconds": 1.5,
        "end_seconds": 3.0,
        "question_id": "q1",
        "question": 'What, "exactly",\nhappens?',
        "options": ["yes", 'no, "never"', "2"],
        "answer": "yes",
    },
    {
        "video_uri": "b.mp4",
        "video_id": None,
        "start_seconds": None,
        "end_seconds": None,
        "question_id": None,
        "question": "Was?",
        "options": None,
        "answer": None,
    },
]


def write_questions(path):
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, QUESTIONS[0])
            writer.writeheader()
            for row in QUESTIONS:
                options = row["options"] and json.dumps(row["options"])
                writer.writerow({**row, "options": options})
    elif path.suffix == ".jsonl":
        write_jsonl(path, QUESTIONS)
    else:
        pq.write_table(pa.Table.from_pylist(QUESTIONS), path)
    return path


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    path = write_questions(tmp_path / name)
    (batch,) = read(path).batches()
    assert batch.schema.equals(pa.schema([f.with_nullable(True) for f in ROW_FIELDS]))
    assert batch.drop_columns("row_number").to_pylist() == QUESTIONS
    assert batch["row_number"].to_pylist() == [0, 1]


def test_nested_questions_become_rows(tmp_path):
    table = pa.table(
        {
            "video_uri": ["a", "b", "c", "d"],
            "source": ["x", "y", "z", "w"],
            "prompts": pa.array(
                [
                    [
                        {"prompt_id": 1, "text": "one?", "options": ["u", "v"], "answer": "u"},
                        {"prompt_id": 2, "text": "two?", "options": None, "answer": None},
                    ],
                    None,
                    [{"prompt_id": 3, "text": "three?", "options": [], "answer": "z"}],
                    [],
                ],
                pa.list_(
                    pa.struct(
                        [
                            ("prompt_id", pa.int64()),
                            ("text", pa.string()),
                            ("options", pa.list_(pa.string())),
                            ("answer", pa.string()),
                        ]
                    )
                ),
            ),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    rows = rows_of(tmp_path / "m.parquet", passthrough=("source",))
    told = [(r["row_number"], r["video_uri"], r["source"], r["question_id"]) for r in rows]
    assert told == [
        (0, "a", "x", "1"),
        (0, "a", "x", "2"),
        (1, "b", "y", None),
        (2, "c", "z", "3"),
        (3, "d", "w", None),
    ]
    assert [r["question"] for r in rows] == ["one?", "two?", None, "three?", None]
    assert [r["options"] for r in rows] == [["u", "v"], None, None, [], None]
    assert [r["answer"] for r in rows] == ["u", None, None, "z", None]


def test_nested_questions_in_json_lines(tmp_path):
    path = write_jsonl(
        tmp_path / "m.jsonl",
        [{"video_uri": "a", "ask": [{"prompt_id": "p", "text": "2020-01-01"}]}, {"video_uri": "b"}],
    )
    rows = rows_of(path, columns={"prompts": "ask"})
    assert [(r["question_id"], r["question"]) for r in rows] == [("p", "2020-01-01"), (None, None)]
    path = write_jsonl(tmp_path / "n.jsonl", [{"video_uri": "a", "prompts": []}])
    assert rows_of(path)[0]["question"] is None


def test_numbers_become_ids_and_dates_stay_text(tmp_path):
    path = write_jsonl(
        tmp_path / "m.jsonl",
        [{"video_uri": "a", "video_id": 17, "question_id": 3.0, "answer": "2020-01-01"}],
    )
    (row,) = rows_of(path)
    assert (row["video_id"], row["question_id"], row["answer"]) == ("17", "3", "2020-01-01")
    pq.write_table(pa.table({"video_uri": ["a"], "answer": [True]}), tmp_path / "m.parquet")
    assert rows_of(tmp_path / "m.parquet")[0]["answer"] == "true"


def test_columns_are_mapped_and_passed_through(tmp_path):
    table = pa.table(
        {
            "path": ["a", "b"],
            "q": ["x?", "y?"],
            "score": pa.array([1, None], pa.int16()),
            "source": pa.array(["s", "s"]).dictionary_encode(),
            "unused": [1.0, 2.0],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    manifest = read(
        tmp_path / "m.parquet",
        extra=("source", "q", "question"),
        columns={"video_uri": "path", "question": "q"},
        passthrough=("score", "source"),
    )
    assert manifest.passthrough_schema == pa.schema(
        [("score", pa.int16()), ("source", pa.string())]
    )
    (batch,) = manifest.batches()
    assert batch.column_names == [*FLAT, "score", "source", "q"]
    assert batch["question"].to_pylist() == batch["q"].to_pylist() == ["x?", "y?"]
    assert batch.schema.field("source").type == pa.string()


def test_question_columns_can_be_passed_through(tmp_path):
    path = write_questions(tmp_path / "m.parquet")
    manifest = read(path, passthrough=("question_id", "answer"))
    assert manifest.passthrough_schema.types == [pa.string(), pa.string()]
    assert next(manifest.batches()).column_names == FLAT


def test_folders_globs_and_lists(tmp_path):
    folder = tmp_path / "shards"
    (folder / "deep").mkdir(parents=True)
    (folder / "_temporary").mkdir()
    for name, uri in [("b.jsonl", "2"), ("a.jsonl", "1"), ("deep/c.jsonl", "3")]:
        write_jsonl(folder / name, [{"video_uri": uri}])
    write_jsonl(folder / "_temporary/x.jsonl", [{"video_uri": "no"}])
    (folder / "_SUCCESS").touch()
    assert [r["video_uri"] for r in rows_of(folder)] == ["1", "2", "3"]
    assert [r["row_number"] for r in rows_of(folder)] == [0, 1, 2]
    assert [r["video_uri"] for r in rows_of(f"{folder}/*.jsonl")] == ["1", "2"]
    assert [r["video_uri"] for r in rows_of(folder.as_uri())] == ["1", "2", "3"]
    listed = (str(folder / "b.jsonl"), str(folder / "a.jsonl"))
    assert [r["video_uri"] for r in rows_of(listed)] == ["2", "1"]


def test_types_of_several_files_are_united(tmp_path):
    pq.write_table(pa.table({"video_uri": ["a"], "x": pa.nulls(1)}), tmp_path / "1.parquet")
    pq.write_table(
        pa.table({"video_uri": ["b"], "x": pa.array([1], pa.int32())}), tmp_path / "2.parquet"
    )
    pq.write_table(pa.table({"video_uri": ["c"], "x": [2**40]}), tmp_path / "3.parquet")
    manifest = read(tmp_path, passthrough=("x",))
    assert manifest.passthrough_schema == pa.schema([("x", pa.int64())])
    assert pa.concat_tables(manifest.batches())["x"].to_pylist() == [None, 1, 2**40]
    pq.write_table(pa.table({"video_uri": ["d"], "x": ["text"]}), tmp_path / "4.parquet")
    with pytest.raises(
        ManifestError, match=r"passthrough columns of .*4\.parquet have other types"
    ):
        read(tmp_path, passthrough=("x",))


def test_many_rows_come_in_batches(tmp_path):
    rows = [{"video_uri": f"v{i}", "n": i if i > 100 else None} for i in range(500)]
    write_jsonl(tmp_path / "m.jsonl", rows)
    (tmp_path / "m.csv").write_text(
        "n,video_uri\n" + "".join(f'{i},"v\n{i}"\n' for i in range(500))
    )
    manifest = read(tmp_path / "m.jsonl", block_bytes=2000, passthrough=("n",))
    batches = list(manifest.batches())
    assert len(batches) > 5
    table = pa.concat_tables(batches)
    assert table["row_number"].to_pylist() == list(range(500))
    assert table["n"].to_pylist() == [r["n"] for r in rows]
    table = pa.concat_tables(read(tmp_path / "m.csv", block_bytes=2000).batches())
    assert table["video_uri"].to_pylist() == [f"v\n{i}" for i in range(500)]


TEXT = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\r"), max_size=20
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXT.filter(bool), TEXT, st.lists(TEXT, max_size=3)), min_size=1))
def test_any_text_survives_csv_and_json(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("any")
    rows = [{"video_uri": u, "question": q, "options": o} for u, q, o in cells]
    with (folder / "m.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["video_uri", "question", "options"])
        writer.writerows([u, q, json.dumps(o)] for u, q, o in cells)
    write_jsonl(folder / "m.jsonl", rows)
    for name in ("m.csv", "m.jsonl"):
        got = [{k: r[k] for k in rows[0]} for r in rows_of(folder / name)]
        assert got == rows


def test_over_http(tmp_path):
    write_questions(tmp_path / "m.parquet")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        assert len(rows_of(f"{base}/m.parquet?X-Amz-Signature=s3cr3t")) == 2
        with pytest.raises(ManifestError) as caught:
            read(f"{base}/missing.csv?X-Amz-Signature=s3cr3t")
        assert "missing.csv can't be read" in str(caught.value)
        assert "s3cr3t" not in str(caught.value)
        server.shutdown()


def problem(match, uri, extra=(), **spec):
    with pytest.raises(ManifestError, match=match) as caught:
        rows_of(uri, extra, **spec)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    (tmp_path / "m.xlsx").touch()
    problem("nowhere.csv does not exist", tmp_path / "nowhere.csv")
    problem("no file matches the manifest", tmp_path / "*.parquet")
    problem("holds no .parquet, .pq, .csv, .jsonl, .ndjson file", tmp_path)
    problem("ends in '.xlsx'; allowed are .parquet", tmp_path / "m.xlsx")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00nonsense,\n{"])
def test_unreadable_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    problem(f"{name} (can't be read|has no column 'video_uri')", tmp_path / name)


def test_missing_columns_are_named_with_those_that_exist(tmp_path):
    path = write_jsonl(tmp_path / "m.jsonl", [{"path": "a", "text": "b"}])
    problem("no column 'video_uri' .*; its columns are: path, text", path)
    problem(
        "no column 'uri' .manifest.columns maps video_uri to it", path, columns={"video_uri": "uri"}
    )
    good = {"columns": {"video_uri": "path"}}
    problem("no column 'src' .manifest.passthrough names it", path, passthrough=("src",), **good)
    problem("no column 'src' .a prompt names it", path, extra=("src",), **good)
    problem("'uri' is no column of sfray; allowed: video_uri", path, columns={"uri": "path"})


def test_passthrough_names_do_not_collide(tmp_path):
    path = write_jsonl(
        tmp_path / "m.jsonl", [{"video_uri": "a", "text": "b", "q": "c", "question": "d"}]
    )
    problem("'text' is the name of a column of the results", path, passthrough=("text",))
    problem(
        "'question' means the column 'q' here",
        path,
        columns={"question": "q"},
        passthrough=("question",),
    )


def test_wrong_types_are_named(tmp_path):
    cases = {
        "video_uri": (pa.array([1]), "'video_uri' .* type int64; it must be text"),
        "start_seconds": (pa.array(["1:30"]), "'start_seconds' .* must hold numbers of seconds"),
        "options": (pa.array(["yes|no"]), "'options' .* holds 'yes|no'; it must be a JSON list"),
        "answer": (pa.array([["a"]]), "'answer' .* it must be text or a number"),
        "prompts": (pa.array(["x"]), "'prompts' .* it must be a list of struct"),
    }
    for name, (column, match) in cases.items():
        table = pa.table({"video_uri": ["a"]} | {name: column})
        pq.write_table(table, tmp_path / "m.parquet")
        problem(match.replace("|", "."), tmp_path / "m.parquet")


def test_questions_are_flat_or_nested_not_both(tmp_path):
    path = write_jsonl(
        tmp_path / "m.jsonl", [{"video_uri": "a", "question": "x", "prompts": [{"text": "y"}]}]
    )
    problem("has questions twice: nested in 'prompts' and flat in 'question'", path)


def test_ambiguous_columns_are_refused(tmp_path):
    (tmp_path / "m.csv").write_text("video_uri,video_uri\na,b\n")
    problem("has several columns 'video_uri'", tmp_path / "m.csv")


def test_mixed_types_in_json_lines_are_refused(tmp_path):
    path = write_jsonl(tmp_path / "m.jsonl", [{"video_uri": "a"}, {"video_uri": 7}])
    problem("can't be read as jsonl: .*video_uri", path)
