"""Build the documentation site: `python -m docs.site.build [FOLDER]`, or `make docs`.

The pages are those of the repository, which lie in the site as they lie here, and the reference, which is
written from the code each time. Nothing is fetched, by the build or by the site.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.reference import reference_pages

SITE = Path(__file__).parent
REPOSITORY = SITE.parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")
# What Zensical would fetch so that a search runs in pages that are opened as files.
FETCHED = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"[^>]*></script>')
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def build(folder: Path) -> Path:
    """Build the site in a folder, which is emptied before, and return its first page.

    Raises:
        RuntimeError: if a page, an anchor or a file that a page links does not exist, or if the site would
            fetch something.
    """
    shutil.rmtree(folder, ignore_errors=True)
    collect(folder / "pages")
    shutil.copy(SITE / "zensical.toml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = COLOUR.sub("", f"{done.stdout}\n{done.stderr.partition('Traceback')[0]}")
        raise RuntimeError(said)
    worker = (SITE / "worker.js").read_text(encoding="utf-8")
    for path in sorted((folder / "html").rglob("*.html")):
        text, count = FETCHED.subn(lambda _: f"<script>{worker}</script>", path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        check_page(path, text)
        if not count:
            raise RuntimeError(f"{path} has no place for worker.js: Zensical has changed")
    return folder / "html" / "index.html"


def collect(pages: Path) -> None:
    """Copy the pages of the repository and the files that they link, and write the reference."""
    shutil.copytree(REPOSITORY / "docs", pages / "docs", ignore=shutil.ignore_patterns("site", "__pycache__"))
    for name in PAGES:
        shutil.copy(REPOSITORY / name, pages)
    for page in sorted(pages.rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            place = (page.parent / target).resolve().relative_to(pages.resolve())
            if not (pages / place).exists() and (REPOSITORY / place).is_file():
                (pages / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / place, pages / place)
    for name, text in reference_pages(REPOSITORY).items():
        path = pages / "reference" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def check_page(path: Path, text: str) -> None:
    """Refuse a page that fetches from elsewhere, or that links a file that is not there.

    Raises:
        RuntimeError: naming the page and the address.
    """
    fetched = r"<(?:script|img|iframe|source)[^>]+src=\"([^\"]+)|<link(?![^>]+canonical)[^>]+href=\"([^\"]+)"
    for found in re.finditer(rf"{fetched}|<a[^>]+href=\"([^\"]+)", text):
        *loaded, linked = found.groups(default="")
        target = "".join((*loaded, linked)).partition("#")[0].partition("?")[0]
        if re.match(r"(?:\w+:)?//|data:|mailto:|javascript:", target):
            if "".join(loaded) and not target.startswith("data:"):
                raise RuntimeError(f"{path} fetches {target}")
        elif target and not (path.parent / target).exists() and path.name != "404.html":
            raise RuntimeError(f"{path} links {target}, which is not there")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else REPOSITORY / "build" / "site"
    print(f"open  {build(target)}")
