"""What mkdocs is told beside `mkdocs.yml`: generated pages, and pages that lie outside of docs/.

Links are written as they lead from file to file in the repository. Here they come to lead from page
to page; what is in the repository and no page of the site keeps its words without a link; the rest
is left for `mkdocs build --strict` to complain of.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.make_reference import PAGES

ROOT = Path(__file__).parent.parent
# Pages that lie outside of docs/, at the same place in the site; README.md is its first page.
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "cluster/README.md")
RESULTS = "benchmarks/results/*.md"
_LINK = re.compile(r"\[(?P<words>[^\]]+)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that aren't in docs/."""
    for place, page in PAGES.items():
        files.append(File.generated(config, place, content=page()))
    for path in (*map(ROOT.joinpath, OUTSIDE), *sorted(ROOT.glob(RESULTS))):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links from page to page."""
    place = page.file.src_uri
    is_outside = place in OUTSIDE or Path(place).match(RESULTS)
    source = place if is_outside else f"docs/{place}"
    pages = {file.src_uri for file in files}
    return _LINK.sub(lambda link: site_link(link, place, source, pages), markdown)


def site_link(link: re.Match[str], place: str, source: str, pages: set[str]) -> str:
    """A link of the page at `place` in the site, the file `source` in the repository."""
    path, *anchor = link["target"].split("#", 1)
    if not path or ":" in path:
        return link[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = target.removeprefix("docs/")
    if page in pages:
        path = posixpath.relpath(page, posixpath.dirname(place) or ".")
        return f"[{link['words']}]({'#'.join([path, *anchor])})"
    if not target.startswith("docs/") and (ROOT / target).exists():
        return link["words"]
    return link[0]
