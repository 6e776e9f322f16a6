"""Loads the decision core: the real one, or a separate copy with some lines of its source broken on purpose."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

MODULES = (
    "orders", "instrument", "session", "reports", "ledger", "strategy", "snapshot",
    "sizing", "rules", "events", "commands", "draft", "levels", "wishes", "answers", "sightings", "record", "machine",
    "invariants",
)  # fmt: skip

Text = dict[str, list[tuple[str, str]]]


def load(changes: Text | None = None) -> SimpleNamespace:
    """Every module of the core; with `changes` (module -> [(old, new)]) a separate, deliberately broken set of them."""
    if not changes:
        return SimpleNamespace(**{name: importlib.import_module(f"state.{name}") for name in MODULES})
    ours = {name: module for name, module in sys.modules.items() if name == "state" or name.startswith("state.")}
    for name in ours:
        del sys.modules[name]
    try:
        package = importlib.import_module("state")
        return SimpleNamespace(**{name: _compile(package, name, changes.get(name, [])) for name in MODULES})
    finally:
        for name in [name for name in sys.modules if name == "state" or name.startswith("state.")]:
            del sys.modules[name]
        sys.modules.update(ours)


def _compile(package: ModuleType, name: str, edits: list[tuple[str, str]]) -> ModuleType:
    path = Path(package.__file__ or "").parent / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    for old, new in edits:
        if text.count(old) != 1:
            raise ValueError(f"{path.name}: {text.count(old)} places read {old!r}, a mutant needs exactly one")
        text = text.replace(old, new)
    module = ModuleType(f"state.{name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - our own source, one line broken on purpose
    return module
