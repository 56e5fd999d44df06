import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfray import redaction


@pytest.mark.parametrize(
    ("signed", "bare"),
    [
        (
            "https://h/v.mp4?X-Amz-Algorithm=A&X-Amz-Credential=c&X-Amz-Signature=5e&id=7",
            "https://h/v.mp4?id=7",
        ),
        ("https://h/v.mp4?AWSAccessKeyId=AK&Signature=s%2B&Expires=17", "https://h/v.mp4"),
        ("https://h/v.mp4?sv=2024&sr=b&sig=abc&se=2026-01-01&sp=r", "https://h/v.mp4"),
        ("https://h/v.mp4?st=3&sp=r", "https://h/v.mp4?st=3&sp=r"),
        ("https://h/get?b=2&a=1&access_token=T#t=5", "https://h/get?b=2&a=1#t=5"),
        ("https://user:pw@h:8080/v.mp4", "https://h:8080/v.mp4"),
        ("HTTPS://h/v.mp4?x%2Damz%2Dsignature=1", "HTTPS://h/v.mp4"),
        ("s3://bucket/a b?c.mp4", "s3://bucket/a b?c.mp4"),
        ("s3://AK:SK@bucket/v.mp4", "s3://bucket/v.mp4"),
        ("/data/v.mp4?sig=1", "/data/v.mp4?sig=1"),
        ("videos/ä.mp4", "videos/ä.mp4"),
        ("https://h/v.mp4?", "https://h/v.mp4"),
    ],
)
def test_identity_is_the_uri_without_what_signs_it(signed, bare):
    assert redaction.identity_uri(signed) == bare
    assert redaction.redact(signed) == bare


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://h/v.mp4?page=2#access_token=s3cret", "https://h/v.mp4?page=2"),
        ("https://h/v.mp4#access_token=s3cret&t=10", "https://h/v.mp4#t=10"),
        ("https://h/v.mp4#token", "https://h/v.mp4#token"),
        ("s3://bucket/a#1.mp4", "s3://bucket/a#1.mp4"),
    ],
)
def test_more_may_be_hidden_than_identity_leaves_out(uri, shown):
    assert redaction.identity_uri(uri) == uri
    assert redaction.redact(uri) == shown


@given(st.text(max_size=80))
def test_identity_is_a_fixed_point(text):
    for uri in (text, "https://h/" + text):
        once = redaction.identity_uri(uri)
        assert redaction.identity_uri(once) == once


@pytest.mark.parametrize(
    "message",
    [
        "GET https://u:s3cr3t@h/v.mp4 failed",
        "403, url='https://h/v.mp4?X-Amz-Signature=s3cr3t&X-Amz-Date=1'",
        "no such key /bucket/v.mp4?Signature=s3cr3t",
        "headers {'Authorization': 'Bearer s3cr3t'}",
        "session_token=s3cr3t refused",
    ],
)
def test_messages_lose_their_secrets(message):
    cleaned = redaction.redact_text(message)
    assert "s3cr3t" not in cleaned
    assert cleaned.split()[0].partition("=")[0] == message.split()[0].partition("=")[0]


def test_a_message_without_secrets_stays():
    message = "s3://bucket/key is missing: 404 Not Found (attempt 3 of 3), see https://h/a?page=2"
    assert redaction.redact_text(message) == message


def test_the_secrets_of_all_uris_of_a_job_go():
    job = {
        "manifest": {"uri": ["https://me:s3cret@h/m.csv", "local.csv"]},
        "prompts": [{"text": "Does https://h/?token=x stay?"}],
        "generation": {"max_new_tokens": 8, "stop": []},
    }
    assert redaction.redact_values(job) == job | {
        "manifest": {"uri": ["https://h/m.csv", "local.csv"]},
    }
