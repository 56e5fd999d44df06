import json
from pathlib import Path

import pytest

from sfray.errors import ManifestError, SpecError
from sfray.scoring.benchmarks.account import account_lines
from sfray.scoring.benchmarks.convert import MANIFEST_SCHEMA, convert
from sfray.scoring.benchmarks.definitions import BENCHMARKS, benchmark_named


def _file(folder: Path, name: str, content) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _convert(name: str, *files: Path, **options):
    table, account = convert(benchmark_named(name), files, **options)
    assert table.schema == MANIFEST_SCHEMA
    assert account.num_kept == table.num_rows
    ids = table["question_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    return table.to_pylist(), account


def test_open_questions_of_the_csv_form(tmp_path):
    head = ",video_id,answer,question,video_name,question_id,question_type\n"
    rows, account = _convert(
        "msvd-qa", _file(tmp_path, "MSVD_QA.csv", head + "1,1201,man,who pours?,abc_1_2,1201_3,0\n")
    )
    assert rows[0]["video_uri"] == "abc_1_2.avi"
    assert rows[0]["question_id"] == "1201_3"
    assert rows[0]["answer"] == "man"
    assert rows[0]["options"] is None
    assert rows[0]["question_type"] == "who"
    assert (account.num_read, account.num_kept, account.num_ids_changed) == (1, 1, 0)


def test_identical_rows_collapse_and_repeated_questions_stay(tmp_path):
    head = "i,video_name,question,answer,question_id\n".replace("i,", ",", 1)
    body = "0,v1,who?,man,a\n1,v1,who?,man,a\n2,v1,who?,boy,b\n"
    rows, account = _convert("msvd-qa", _file(tmp_path, "q.csv", head + body))
    assert [row["answer"] for row in rows] == ["man", "boy"]
    assert (account.num_read, account.num_collapsed, account.num_repeated) == (3, 1, 1)


def test_ids_that_rows_share_are_made_unique(tmp_path):
    body = "video_name,question,answer,question_id\nv1,a?,x,7\nv2,a?,x,7\nv1,b?,y,7\n"
    rows, account = _convert("msrvtt-qa", _file(tmp_path, "q.csv", body))
    assert [row["question_id"] for row in rows] == ["7/v1", "7/v2", "7/v1#2"]
    assert {row["source_question_id"] for row in rows} == {"7"}
    assert account.num_ids_changed == 3


def test_an_id_made_unique_never_meets_a_given_one(tmp_path):
    body = "video_name,question,answer,question_id\nv,a?,x,7\nv,b?,x,7\nv,c?,y,7/v\nv,d?,y,7/v#2\n"
    rows, _ = _convert("msrvtt-qa", _file(tmp_path, "q.csv", body))
    assert len(rows) == 4


def test_msvd_json_with_its_map_of_names(tmp_path):
    questions = _file(
        tmp_path,
        "test_qa.json",
        [{"id": 39015, "video_id": 1301, "question": "who runs?", "answer": "girl"}],
    )
    names = _file(tmp_path, "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\nabc_1_9 vid1301\n")
    rows, _ = _convert("msvd-qa", questions, names)
    assert rows[0]["video_id"] == "abc_1_9"
    rows, _ = _convert("msvd-qa", questions)
    assert rows[0]["video_id"] == "vid1301"


def test_msrvtt_videos_are_called_by_their_number(tmp_path):
    questions = [
        {"id": 1, "video_id": 7010, "question": "what?", "answer": "dog", "category_id": 2}
    ]
    rows, _ = _convert("msrvtt-qa", _file(tmp_path, "test_qa.json", questions))
    assert rows[0]["video_uri"] == "video7010.mp4"


def test_activitynet_pairs_are_joined_by_question(tmp_path):
    q = _file(
        tmp_path,
        "test_q.json",
        [
            {"video_name": "1QIUV7WYKXg", "question": "is it?", "question_id": "v_1_3"},
            {"video_name": "1QIUV7WYKXg", "question": "why?", "question_id": "v_1_4"},
        ],
    )
    a = _file(
        tmp_path,
        "test_a.json",
        [
            {"answer": "no", "type": 3, "question_id": "v_1_3"},
            {"answer": "lost", "type": 8, "question_id": "v_9_9"},
        ],
    )
    rows, account = _convert("activitynet-qa", a, q)
    assert rows[0]["answer"] == "no"
    assert rows[0]["question_type"] == "yes or no"
    assert rows[0]["video_id"] == "v_1QIUV7WYKXg"
    assert rows[1]["answer"] is None
    assert (account.num_without_answer, account.num_unused_answers) == (1, 1)


def test_next_qa_ids_are_the_same_from_both_of_its_forms(tmp_path):
    original = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    original += "401,3,6,4,how?,1,6,CH,a,b,c,d,e\n"
    copied = ",video_name,question,answer_number,question_id,question_type,a0,a1,a2,a3,a4,answer\n"
    copied += "0,401,how?,1,4016,CH,a,b,c,d,e,b\n"
    first, _ = _convert("next-qa", _file(tmp_path, "val.csv", original))
    second, _ = _convert("next-qa", _file(tmp_path, "NExT_QA.csv", copied))
    for rows in (first, second):
        assert rows[0]["question_id"] == "401_6"
        assert rows[0]["answer"] == "B"
        assert rows[0]["options"] == ["a", "b", "c", "d", "e"]
        assert rows[0]["scorer"] == "multiple_choice"


def test_files_of_another_benchmark_of_the_same_columns_are_refused(tmp_path):
    head = "video_name,question,answer_number,question_id,a0,a1,a2,a3,a4\n"
    ego = "0074f737-11cb-497d-8d07-77c3a8127391,how?,1,q1,a,b,c,d,e\n"
    ego = _file(tmp_path, "EgoSchema.csv", head + ego)
    next_qa = _file(tmp_path, "NExT_QA.csv", head + "4010069381,how?,1,6,a,b,c,d,e\n")
    for benchmark in ("next-qa", "intentqa", "tgif-qa"):
        with pytest.raises(ManifestError, match=r"EgoSchema\.csv is no file of .*of EgoSchema$"):
            _convert(benchmark, ego)
    with pytest.raises(ManifestError, match="called as those of NExT-QA"):
        _convert("egoschema", next_qa)
    _convert("egoschema", ego)
    _convert("next-qa", next_qa)


def test_an_answer_in_words_is_found_among_the_options(tmp_path):
    head = "video_name,question,question_id,answer,a0,a1,a2\n"
    body = (
        "v1,what?,1,Red,red,blue,red\nv1,who?,2,green,red,blue,blue\nv1,how?,3,blue,a,blue,blue\n"
    )
    rows, account = _convert("intentqa", _file(tmp_path, "q.csv", head + body))
    assert [row["answer"] for row in rows] == ["A", None, "B"]
    assert account.num_without_answer == 1
    assert len(account.repairs) == 3


def test_egoschema_full_set_with_the_answers_of_its_subset(tmp_path):
    options = {f"option {i}": f"text {i}" for i in range(5)}
    q = _file(
        tmp_path,
        "questions.json",
        [
            {"q_uid": "u1", "google_drive_id": "g1", "question": "what?", **options},
            {"q_uid": "u2", "google_drive_id": "g2", "question": "why?", **options},
        ],
    )
    a = _file(tmp_path, "subset_answers.json", {"u1": 3})
    rows, _ = _convert("egoschema", q, a)
    assert [(row["question_id"], row["answer"]) for row in rows] == [("u1", "D"), ("u2", None)]
    assert rows[0]["video_uri"] == "u1.mp4"
    assert rows[0]["options"][4] == "text 4"
    rows, _ = _convert("egoschema", q, _file(tmp_path, "a.json", {"u2": "0", "u3": "1"}))
    assert [(row["question_id"], row["answer"]) for row in rows] == [("u1", None), ("u2", "A")]
    rows, account = _convert("egoschema", q)
    assert account.num_without_answer == 2


def test_one_answer_number_out_of_range_leaves_the_others(tmp_path):
    head = "video,question,answer,qid,type,a0,a1,a2\n"
    body = "1,a?,3,0,CH,x,y,z\n2,b?,2,0,CH,x,y,z\n3,c?,1.0,0,CH,x,y,z\n4,d?,-1,0,CH,x,y,z\n"
    rows, account = _convert("next-qa", _file(tmp_path, "val.csv", head + body))
    assert [row["answer"] for row in rows] == [None, "C", "B", None]
    assert account.repairs == {
        "an answer number without an option: left without reference": ["val.csv:1", "val.csv:4"]
    }


def test_an_answers_number_stands_against_its_text(tmp_path):
    head = "video_name,question,question_id,answer_number,answer,a0,a1\n"
    body = "1,a?,10,1,x,x,y\n2,b?,20,1,y,x,y\n3,c?,30,7,x,x,y\n"
    rows, account = _convert("next-qa", _file(tmp_path, "NExT_QA.csv", head + body))
    assert [row["answer"] for row in rows] == ["B", "B", "A"]
    assert list(account.repairs.values()) == [["NExT_QA.csv:1"]]


def test_an_option_that_is_missing_keeps_its_place(tmp_path):
    question = {"q_uid": "u", "question": "q?", "option 0": "a", "option 1": None, "option 2": "c"}
    rows, account = _convert(
        "egoschema",
        _file(tmp_path, "questions.json", [question]),
        _file(tmp_path, "subset_answers.json", {"u": 2}),
    )
    assert (rows[0]["options"], rows[0]["answer"]) == (["a", "", "c"], "C")
    assert account.repairs == {"an option without text": ["questions.json:1"]}


def test_a_row_cut_before_its_options_is_kept_and_told(tmp_path):
    head = "video,question,answer,qid,a0,a1\n"
    rows, account = _convert(
        "intentqa", _file(tmp_path, "test.csv", head + "1,a?,0,1,x,y\n2,b?,1,1\n")
    )
    assert [row["options"] for row in rows] == [["x", "y"], None]
    assert {row["scorer"] for row in rows} == {"multiple_choice"}
    assert account.repairs["a row with fewer than two options: kept, can't be asked"] == [
        "test.csv:2"
    ]


def test_answers_to_ids_that_questions_share_go_by_their_order(tmp_path):
    asked = [{"video_name": "g", "question": q, "question_id": 7} for q in ("a?", "b?")]
    answers = [{"answer": a, "type": 0, "question_id": 7} for a in ("x", "y")]
    q = _file(tmp_path, "test_q.json", asked)
    rows, _ = _convert("tgif-qa", q, _file(tmp_path, "test_a.json", answers))
    assert [(row["question"], row["answer"]) for row in rows] == [("a?", "x"), ("b?", "y")]
    rows, _ = _convert("tgif-qa", q, _file(tmp_path, "test_a.json", answers[:1]))
    assert [row["answer"] for row in rows] == ["x", "x"]
    third = {"answer": "z", "question_id": 7}
    other = {"video_name": "g", "question": "c?", "question_id": 8}
    q = _file(tmp_path, "test_q.json", [*asked, other])
    a = _file(tmp_path, "test_a.json", [*answers, third, third | {"question_id": 8}])
    rows, account = _convert("tgif-qa", q, a)
    assert [row["answer"] for row in rows] == [None, None, "z"]
    assert list(account.repairs.values()) == [["test_q.json:1", "test_q.json:2"]]


def test_copies_of_the_csv_form_and_intentqas_own(tmp_path):
    copied = ",video_name,question,question_id,answer,video_id,question_type,a0,a1\n"
    copied += "1,138,how?,138_CH_1,balance,138,CH,jump,balance\n"
    rows, _ = _convert("intentqa", _file(tmp_path, "IntentQA.csv", copied))
    assert (rows[0]["question_id"], rows[0]["answer"]) == ("138_CH_1", "B")
    own = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,action,lemma,lemma_id\n"
    own += "61,12,6,3,why?,1,2,CW,talk,sing,playing,play,141\n"
    rows, _ = _convert("intentqa", _file(tmp_path, "test.csv", own))
    assert (rows[0]["video_uri"], rows[0]["answer"], rows[0]["question_type"]) == (
        "61.mp4",
        "B",
        "CW",
    )
    msrvtt = "video_id,question,answer,qid,type\n7010,what is shown,rain,170859,10\n"
    rows, _ = _convert("msrvtt-qa", _file(tmp_path, "test.csv", msrvtt))
    assert (rows[0]["video_uri"], rows[0]["question_type"]) == ("video7010.mp4", "what")


def test_tgif_tasks_are_told_apart(tmp_path):
    action = "gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\tvid_id\tkey\n"
    action += "t1\tWhat does he do 3 times ?\ta\tb\tc\td\te\t2\tACTION1\t5\n"
    count = (
        "gif_name\tquestion\tanswer\tvid_id\tkey\nt1\tHow many times does he nod ?\t4\tCOUNT2\t5\n"
    )
    frame = "gif_name\tquestion\tanswer\ttype\tvid_id\tdescription\n"
    frame += "t1\twhat is red ?\tcap\t0\tFRAMEQA3\ta red cap\n"
    rows, _ = _convert("tgif-qa", _file(tmp_path, "Test_action_question.csv", action))
    assert (rows[0]["answer"], rows[0]["question_type"]) == ("C", "action")
    assert rows[0]["question_id"] == "ACTION1"
    rows, _ = _convert("tgif-qa", _file(tmp_path, "any_name.csv", count))
    assert (rows[0]["scorer"], rows[0]["answer"]) == ("count", "4")
    rows, _ = _convert("tgif-qa", _file(tmp_path, "Test_frameqa_question.csv", frame))
    assert (rows[0]["scorer"], rows[0]["question_type"]) == ("open_ended", "object")
    assert rows[0]["question_id"] == "FRAMEQA3"


def test_questions_with_and_without_options_are_two_jobs(tmp_path):
    choice = _file(tmp_path, "action.csv", "gif_name,question,a1,a2,answer\nt1,what?,a,b,1\n")
    count = _file(tmp_path, "count.csv", "gif_name,question,answer\nt1,how many times?,2\n")
    with pytest.raises(ManifestError, match="one at a time"):
        _convert("tgif-qa", choice, count)


@pytest.mark.parametrize("form", ["two files", "pairs in JSON", "lists in JSON"])
def test_vcgbench_pairs_share_a_pair_id(tmp_path, form):
    if form == "two files":
        head = "video_name,question,question_id,answer\n"
        files = [
            _file(tmp_path, "Consistency_QA1.csv", head + "v_a,one?,v_a_0,yes\n"),
            _file(tmp_path, "Consistency_QA2.csv", head + "v_a,two?,v_a_0,yes\n"),
        ]
    elif form == "lists in JSON":
        pair = {"video_name": "a", "question": ["one?", "two?"], "answer": "yes"}
        files = [_file(tmp_path, "consistency_val_qa.json", [pair | {"question_id": "v_a_0"}])]
    else:
        pair = {"video_name": "v_a", "Q1": "one?", "Q2": "two?", "A": "yes"}
        files = [_file(tmp_path, "consistency_qa.json", [pair])]
    rows, account = _convert("vcgbench", *files)
    assert account.num_unpaired == 0
    assert [row["question"] for row in rows] == ["one?", "two?"]
    assert [row["question_id"] for row in rows] == ["consistency/v_a_0/1", "consistency/v_a_0/2"]
    assert rows[0]["pair_id"] == rows[1]["pair_id"] == "v_a_0"
    assert {row["scorer"] for row in rows} == {"generation"}


def test_half_a_pair_is_told(tmp_path):
    body = "video_name,question,question_id,answer\nv_a,one?,v_a_0,yes\n"
    _, account = _convert("vcgbench", _file(tmp_path, "Consistency_QA1.csv", body))
    assert account.num_unpaired == 1
    assert "questions of a pair without the other one: 1" in list(account_lines(account))


def test_vcgbench_parts_share_ids_of_the_source(tmp_path):
    head = "video_name,question,question_id,answer\n"
    generic = _file(tmp_path, "Generic_QA.csv", head + "v_a,what?,v_a_0,x\n")
    temporal = _file(tmp_path, "Temporal_QA.csv", head + "v_a,when?,v_a_0,y\n")
    rows, _ = _convert("vcgbench", generic, temporal)
    assert [row["question_type"] for row in rows] == ["generic", "temporal"]


def test_videos_are_found_with_and_without_their_prefix(tmp_path):
    head = "video_name,question,answer,question_id\n"
    body = "v_aaaaaaaaaaa,q?,x,1\nbbbbbbbbbbb,q?,x,2\nv_ccccccccccc,q?,x,3\n"
    rows, account = _convert(
        "activitynet-qa",
        _file(tmp_path, "q.csv", head + body),
        root="s3://videos/",
        video_paths=["test/v_aaaaaaaaaaa.mkv", "v_bbbbbbbbbbb.mp4", "ccccccccccc.txt", "x.webm"],
    )
    assert [row["video_uri"] for row in rows] == [
        "s3://videos/test/v_aaaaaaaaaaa.mkv",
        "s3://videos/v_bbbbbbbbbbb.mp4",
        "s3://videos/v_ccccccccccc.mp4",
    ]
    assert account.videos_missing == ("v_ccccccccccc",)
    assert "videos found: 2" in list(account_lines(account))


def test_a_youtube_id_that_begins_like_the_prefix_keeps_it(tmp_path):
    body = "video_name,question,answer,question_id\nv_aaaaaaaaa,q?,x,1\nv_v_aaaaaaaaa,q?,x,2\n"
    rows, _ = _convert("activitynet-qa", _file(tmp_path, "q.csv", body))
    assert {row["video_id"] for row in rows} == {"v_v_aaaaaaaaa"}


def test_next_qa_map_leads_to_nested_folders(tmp_path):
    body = "video,question,answer,qid,type,a0,a1\n401,how?,1,6,CH,a,b\n"
    names = _file(tmp_path, "map_vid_vidorID.json", {"401": "1164/401"})
    rows, _ = _convert("next-qa", _file(tmp_path, "val.csv", body), names, root="/v/")
    assert rows[0]["video_uri"] == "/v/1164/401.mp4"
    assert rows[0]["video_id"] == "401"


def test_a_row_without_a_video_is_kept_for_the_run_to_record(tmp_path):
    body = "video_name,question,answer,question_id\n,what?,x,1\nv2,who?,y,2\n"
    rows, account = _convert("msvd-qa", _file(tmp_path, "q.csv", body))
    assert rows[0]["video_uri"] is None
    assert account.num_without_video == 1
    assert account.num_without_question == 0
    body = "video_name,question,answer,question_id\nv1,,x,1\nv2,who?,y,2\n"
    _, account = _convert("msvd-qa", _file(tmp_path, "q.csv", body))
    assert account.num_without_question == 1


def test_a_word_for_nothing_is_an_answer_and_an_empty_cell_is_none(tmp_path):
    body = "video_name,question,answer,question_id\nv,a?,none,1\nv,b?,nan,2\nv,c?,,3\n"
    rows, account = _convert("msvd-qa", _file(tmp_path, "q.csv", body))
    assert [row["answer"] for row in rows] == ["none", "nan", None]
    assert account.num_without_answer == 1


CHOICES = "video,question,answer,qid,a0,a1\n1,a?,0,1,x,y\n"
OPEN = "video_name,question,answer,question_id\n1,a?,x,1\n"


@pytest.mark.parametrize(
    ("name", "file", "body", "words"),
    [
        ("msvd-qa", "q.csv", CHOICES, "has options to choose from, but MSVD-QA asks without"),
        ("next-qa", "q.csv", OPEN, "has no options to choose from, but NExT-QA asks with"),
        ("egoschema", "q.csv", OPEN, "has no options to choose from, but EgoSchema asks with"),
        ("vcgbench", "q.csv", OPEN, "its name must hold one of consistency, temporal, generic"),
        (
            "msvd-qa",
            "q.csv",
            "question,answer\na?,x\n",
            "no column video_name or .*question, answer",
        ),
        ("msvd-qa", "q.csv", "video_name,answer\na,x\n", "a column question or Q"),
        ("msvd-qa", "q.csv", "video_name,question\na,x?\n", "no answer to any question of q.csv"),
        ("msvd-qa", "q.json", "{", "not valid JSON"),
    ],
)
def test_files_that_do_not_fit_the_benchmark_are_refused(tmp_path, name, file, body, words):
    with pytest.raises(ManifestError, match=words):
        _convert(name, _file(tmp_path, file, body))


@pytest.mark.parametrize("name", ["gone.csv", "gone.json", "gone.txt"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(ManifestError, match=f"{name} can't be read"):
        _convert("msvd-qa", tmp_path / name)


def test_files_without_questions_are_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"no file of questions among: a\.json"):
        _convert("egoschema", _file(tmp_path, "a.json", {"u1": 3}))
    with pytest.raises(SpecError, match="msvd-qa, msrvtt-qa, tgif-qa"):
        benchmark_named("msvd")


def test_published_numbers_name_their_source():
    for benchmark in BENCHMARKS.values():
        assert "2407.15841" in benchmark.source
        assert set(benchmark.published) == {"SF-LLaVA-7B", "SF-LLaVA-34B"}
