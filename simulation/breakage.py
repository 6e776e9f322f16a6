"""Modules of the product with some lines of their source broken on purpose: what a harness must catch, or it proves nothing.

`install` puts a finder before all others; whoever imports a named module afterwards gets the broken one. Meant for a process of
its own, before the product is imported there: a module that is there already cannot be broken any more, and is an error. Each
text must occur exactly once in its module, so that a mutant can neither miss its target nor rot unseen.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple


class Edit(NamedTuple):
    """In `module` ("state.machine") `old` reads `new`."""

    module: str
    old: str
    new: str


def install(edits: Iterable[Edit]) -> None:
    """From now on the modules named are imported as they read after the edits, done one after the other."""
    texts: dict[str, str] = {}
    for edit in edits:
        if edit.module in sys.modules:
            raise ValueError(f"{edit.module} is imported already: too late to break it")
        text = texts.get(edit.module) or source_of(edit.module).read_text(encoding="utf-8")
        texts[edit.module] = edited(text, edit)
    sys.meta_path.insert(0, _Finder(texts))


def source_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {module}")
    return Path(spec.origin)


def edited(text: str, edit: Edit) -> str:
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.module}: {text.count(edit.old)} places read {edit.old!r}, a mutant needs exactly one")
    return text.replace(edit.old, edit.new)


class _Finder(MetaPathFinder):
    def __init__(self, texts: dict[str, str]) -> None:
        self._loaders = {module: _Loader(source_of(module), text) for module, text in texts.items()}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        loader = self._loaders.get(name)
        return None if loader is None else importlib.util.spec_from_file_location(name, loader.path, loader=loader)


class _Loader(SourceLoader):
    """Never uses or writes a compiled file: the source on the disk is not what is loaded."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self._text = path, text

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_data(self, path: str | bytes) -> bytes:
        if Path(str(path)) != self.path:
            raise OSError("no compiled files")
        return self._text.encode()
