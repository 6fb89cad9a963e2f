"""A hook of mkdocs: the README is the first page, and pages beside the code belong to the site.

Links are written for a code host, where `../stablelit/doctor/README.md` of a page in `docs/` is a file; in the site the
folder `docs/` is the root, and so is the checkout.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "notebooks/README.md",
    "tests/fuzz/LOADS.md",
    "stablelit/doctor/README.md",
    "stablelit/families/neutrinos/README.md",
    "stablelit/families/proteins/README.md",
    "stablelit/families/sketches/README.md",
)
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie outside `docs/`."""
    files.append(File.generated(config, "index.md", content=_text("README.md")))
    for page in ROOMS:
        files.append(File.generated(config, page, content=_text(page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links of the checkout into links of the site."""
    here = page.file.src_uri
    source = "README.md" if here == "index.md" else here if here in ROOMS else f"docs/{here}"

    def in_the_site(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        target = "index.md" if target == "README.md" else target.removeprefix("docs/")
        return posixpath.relpath(target, posixpath.dirname(here) or ".")

    return _LINK.sub(in_the_site, markdown)


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
