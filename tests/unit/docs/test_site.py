"""The site: its reference made from the code, its links, and that nothing is fetched for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sfray.columns import COLUMNS
from sfray.config import JobSpec
from sfray.errors import FAILURE_KINDS
from tools.make_reference import PAGES
from tools.site_hooks import site_link

ROOT = Path(__file__).parents[3]


def test_every_key_of_a_job_file_is_described() -> None:
    page = PAGES["reference/job-file.md"]()
    rows = re.findall(r"^\| `(\S+)` \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert all(all(row) for row in rows), rows
    assert {key for key, *_ in rows} >= set(JobSpec.model_fields)
    assert '| `decode.reader` | `auto`, `pyav`, `decord` | `"auto"` |' in page
    assert "| `sampling.num_frames` | integer (at least 1) or null | `null` |" in page
    assert "| `model.id` | text | must be given |" in page


def test_commands_columns_and_codes_are_all_there() -> None:
    cli, columns = PAGES["reference/cli.md"](), PAGES["reference/columns.md"]()
    assert "## `sfray run`" in cli and "### `sfray eval judge`" in cli and "--partition" in cli
    assert all(f"| `{name}` |" in columns for name in COLUMNS)
    assert all(f"| `{code}` |" in PAGES["reference/failure-codes.md"]() for code in FAILURE_KINDS)


@pytest.mark.parametrize(
    ("link", "source", "place", "leads"),
    [
        ("[a](b.md#c)", "docs/how-to/x.md", "how-to/x.md", "[a](b.md#c)"),
        ("[a](docs/how-to/b.md)", "README.md", "README.md", "[a](how-to/b.md)"),
        ("[a](../docs/how-to/b.md#c)", "cluster/y.md", "cluster/y.md", "[a](../how-to/b.md#c)"),
        ("[a](../../cluster/y.md)", "docs/how-to/x.md", "how-to/x.md", "[a](../cluster/y.md)"),
        ("[jobs](../../jobs/specs)", "docs/how-to/x.md", "how-to/x.md", "jobs"),
        ("[a](../../no/where)", "docs/how-to/x.md", "how-to/x.md", "[a](../../no/where)"),
        (
            "[a](https://example.org/b.md)",
            "README.md",
            "README.md",
            "[a](https://example.org/b.md)",
        ),
        ("[a](#b)", "README.md", "README.md", "[a](#b)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(
    link: str, source: str, place: str, leads: str
) -> None:
    found = re.fullmatch(r"\[(?P<words>[^\]]+)\]\((?P<target>[^)\s]+)\)", link)
    assert found is not None
    pages = {"README.md", "how-to/b.md", "how-to/x.md", "cluster/y.md"}
    assert site_link(found, place, source, pages) == leads


def build(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_is_whole_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(tmp_path / "site", ROOT / "mkdocs.yml")
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert tmp_path / "site/reference/cli/index.html" in pages
    elsewhere = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")
    assert [page for page in pages if elsewhere.search(page.read_text(encoding="utf-8"))] == []
    assert (tmp_path / "site/search/search_index.json").exists()


def test_a_dead_link_fails(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/README.md").write_text("[there](nowhere.md) and [here](#nowhere)\n")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    of_the_pages = {"nav", "not_in_nav", "hooks"}
    small = {key: value for key, value in config.items() if key not in of_the_pages}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(small))
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert "'nowhere.md'" in done.stderr and "'#nowhere'" in done.stderr
