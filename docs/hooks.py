"""The site has pages that lie elsewhere in the repository: they are taken as they are, and links to them lead there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
HOME = {"README.md": "index.md"}  # what has another name on the site
WITH_PAGES = (".md", ".png", ".svg", ".html", ".json", ".tex", ".csv")
LINK = re.compile(r"(!?\[[^\]]*\])\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
HELD = re.compile(r"\[([\w/]+\.py: test_\w*)\]")  # tests that SECURITY.md names


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that are not in docs."""
    for path in sorted(ROOT.glob("benchmarks/results/**/*")) + sorted(ROOT.glob("scoresde/models/*/*")):
        if path.suffix in WITH_PAGES and path.name != "config.json":
            _add(files, config, path.relative_to(ROOT).as_posix())
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"):
        _add(files, config, name)
    return files


def _add(files: Files, config: Any, name: str) -> None:
    files.append(File.generated(config, HOME.get(name, name), abs_src_path=str(ROOT / name)))


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Links as in the repository, turned to where their targets are on the site; what is no page is no link."""
    here = page.file.src_uri
    source = {new: old for old, new in HOME.items()}.get(here, here)
    inside = files.get_file_from_path(here) is not None and (ROOT / "docs" / here).is_file()
    folder = posixpath.dirname(posixpath.join("docs", here) if inside else source)

    def turned(link: re.Match[str]) -> str:
        words, path, anchor = link[1], link[2], link[3] or ""
        target = posixpath.normpath(posixpath.join(folder, path))
        on_site = HOME.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(on_site) is not None:
            return f"{words}({posixpath.relpath(on_site, posixpath.dirname(here) or '.')}{anchor})"
        return words.strip("[]") if (ROOT / target).exists() else link[0]

    return LINK.sub(turned, HELD.sub(r"`\1`", markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things by Sphinx's roles, of which the names are enough."""
    return re.sub(r":(?:class|func|mod|data|meth|attr):(?=<code>)", "", html).replace("<code>~", "<code>")
