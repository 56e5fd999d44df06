from pathlib import Path

import pytest

from sfray.errors import ManifestError
from sfray.scoring.benchmarks.tables import Repairs, read_rows


def _read(tmp_path: Path, body: bytes | str, name: str = "q.csv"):
    path = tmp_path / name
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    repairs = Repairs()
    return read_rows(path, repairs), repairs.places


@pytest.mark.parametrize(
    ("text", "clean", "kind"),
    [
        ("\n5220,what is this", "what is this", "a row number inside the text removed"),
        ("\nwhat is this", "what is this", "line breaks around a text removed"),
        ("what\r\n is this", "what is this", "line breaks inside a text made spaces"),
        (" what is this ", "what is this", "spaces around a text removed"),
        ("what\x00 is this", "what is this", "control characters removed"),
    ],
)
def test_damage_in_a_text_is_repaired_and_counted_once(text, clean, kind):
    repairs = Repairs()
    assert repairs.clean(text, "q.csv:7") == clean
    assert repairs.places == {kind: ["q.csv:7"]}


def test_a_sound_text_is_left_as_it_is():
    repairs = Repairs()
    text = "5220, what's \u201cthis\u201d, really?"
    assert repairs.clean(text, "q.csv:1") == text
    assert not repairs.places


def test_a_comma_without_quotes_is_put_back_into_the_question(tmp_path):
    rows, repairs = _read(tmp_path, "video_name,question,answer\nv1,red, or blue?,red\n")
    assert rows[0].values == {"video_name": "v1", "question": "red, or blue?", "answer": "red"}
    assert repairs == {"a question with unquoted separators put together": ["q.csv:1"]}


def test_a_short_row_stays_with_what_it_has(tmp_path):
    rows, repairs = _read(tmp_path, "video_name,question,answer\nv1,what?\nv2,who?,a man\n")
    assert rows[0].values == {"video_name": "v1", "question": "what?"}
    assert repairs == {"cells missing at the end of the row": ["q.csv:1"]}


def test_quoted_line_breaks_stay_in_one_row(tmp_path):
    rows, _ = _read(tmp_path, 'video_name,question\nv1,"\n12,what?"\nv2,who?\n')
    assert [row.values["question"] for row in rows] == ["\n12,what?", "who?"]


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path):
    body = 'video_name,question,answer\nv1,"what?,red\nv2,who?,man\nv3,"how, so?",ok\nv4,"why?,no\n'
    rows, repairs = _read(tmp_path, body)
    assert [tuple(row.values.values()) for row in rows] == [
        ("v1", "what?", "red"),
        ("v2", "who?", "man"),
        ("v3", "how, so?", "ok"),
        ("v4", "why?", "no"),
    ]
    assert repairs == {"a quote that is never closed removed": ["q.csv:1", "q.csv:4"]}


def test_a_quote_inside_a_cell_is_no_damage(tmp_path):
    body = 'video,question,answer\nv1,is it 5" long,"yes, it is"\nv2,who?,man\n'
    rows, repairs = _read(tmp_path, body)
    assert [row.values["answer"] for row in rows] == ["yes, it is", "man"]
    assert not repairs


def test_texts_with_line_breaks_commas_and_quotes_are_no_damage(tmp_path):
    body = 'video,question,answer\r\nv1,"so\r\n, is, it?",a\r\nv2,"say ""hi"",\r\nthen go",b\r\n'
    rows, repairs = _read(tmp_path, body)
    assert [row.values["question"] for row in rows] == [
        "so\r\n, is, it?",
        'say "hi",\r\nthen go',
    ]
    assert not repairs


def test_tab_separated_rows_may_hold_bare_quotes_and_commas(tmp_path):
    rows, _ = _read(tmp_path, 'gif_name\tquestion\tanswer\ng1\tsays "hi, there?\t2\ng2\tb\t3\n')
    assert [row.values["question"] for row in rows] == ['says "hi, there?', "b"]


def test_a_byte_order_mark_and_windows_text_are_read(tmp_path):
    rows, _ = _read(tmp_path, b"\xef\xbb\xbfvideo,question\nv1,what?\n")
    assert rows[0].values["video"] == "v1"
    rows, _ = _read(tmp_path, "video,question\nv1,caf\u00e9?\n".encode("utf-16"))
    assert rows[0].values == {"video": "v1", "question": "caf\u00e9?"}
    rows, repairs = _read(tmp_path, b"video,question\nv1,caf\xe9?\n")
    assert rows[0].values["question"] == "caf\u00e9?"
    assert list(repairs) == ["read as Windows-1252, not being UTF-8"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('[{"question": "a"}, {"question": "b"}]', "q.json"),
        ('{"question": "a"}\n{"question": "b"}\n', "q.jsonl"),
        ('{"question": "a"}\n{"question": "b"}\n', "q.json"),
        ('{"questions": [{"question": "a"}, {"question": "b"}]}', "q.json"),
        ('{"k1": {"question": "a"}, "k2": {"question": "b"}}', "q.json"),
    ],
)
def test_json_in_its_usual_forms(tmp_path, body, name):
    rows, _ = _read(tmp_path, body, name)
    assert [row.values["question"] for row in rows] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "name", "words"),
    [
        ("", "q.csv", "header"),
        ("no table here\n", "q.csv", "header"),
        ("[1, 2]", "q.json", "entry 1 is int"),
        ("[{]", "q.json", "not valid JSON"),
        ("video,question\n", "q.csv", "no rows"),
    ],
)
def test_what_is_no_table_is_refused_with_its_name(tmp_path, body, name, words):
    with pytest.raises(ManifestError, match=words):
        _read(tmp_path, body, name)
