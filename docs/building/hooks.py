"""Gives the pages of the project to MkDocs (mkdocs.yml).

In the site, pages have the same paths as in the project: README.md, docs/training.md, Denoising/README.md. So the same
links work in the site, on GitHub and on the disk, and MkDocs checks all of them. Some links lead to files that are not
pages, such as mprnet/training/keys.py. For each of these files the site gets a page that shows it.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
# Pages that are not in docs/.
_PAGES = ("README.md", "CONTRIBUTING.md", "[!.]*/README.md", "*/Datasets/README.md", "*/pretrained_models/README.md")
_LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".yml": "yaml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Tell the examples where their pictures go (docs/building/pictures.py)."""
    os.environ["MPRNET_DOCS_PICTURES"] = str(Path(config.site_dir) / "docs" / "examples")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the site, by their paths in the project."""
    docs = Path(config.docs_dir)
    for file in list(files):
        if file.abs_src_path and Path(file.abs_src_path).is_relative_to(docs):
            files.remove(file)
            if not file.src_uri.startswith("building/") or file.src_uri.endswith(".css"):
                files.append(_file(Path(file.abs_src_path), config))
    for pattern in _PAGES:
        for path in sorted(ROOT.glob(pattern)):
            files.append(_file(path, config))
    for page in list(files.documentation_pages()):
        for path in _linked_files(Path(str(page.abs_src_path))):
            if files.get_file_from_path(_uri(path)) is None:
                files.append(_source_page(path, config))
    return files


def _uri(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _file(path: Path, config: MkDocsConfig) -> File:
    """Return a page or a picture of the project as a file of the site."""
    return File(_uri(path), str(ROOT), config.site_dir, config.use_directory_urls)


def _linked_files(page: Path) -> list[Path]:
    """Return the files of the project that a page links to. MkDocs itself reports links that lead to none."""
    paths = ((page.parent / link).resolve() for link in _LINK.findall(page.read_text()))
    return [path for path in paths if path.is_file() and path.is_relative_to(ROOT)]


def _source_page(path: Path, config: MkDocsConfig) -> File:
    """Return a page that shows a text file; links to the file lead to it. The search leaves it out."""
    code = f"````{_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}````"
    content = f"---\nsearch: {{exclude: true}}\n---\n\n# {_uri(path)}\n\n{code}\n"
    file = File.generated(config, _uri(path), content=content, inclusion=InclusionLevel.NOT_IN_NAV)
    file.dest_uri = f"{_uri(path)}.html"
    file.is_documentation_page = lambda: True  # type: ignore[method-assign]
    return file
