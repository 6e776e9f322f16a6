"""A strategy of the user's own, named in config.yaml as `path/to/my.py:ClassName`; the path is relative to the config's folder.

Loads each file once in a process and checks the class as far as can be known before it trades. Whatever is wrong is a `Wrong`
that says it in words; nothing that the file does may end the program here.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from ops.config_fields import Wrong, did_you_mean
from state.strategy import Strategy

_FILE = re.compile(r"(?P<file>.+\.py):(?P<name>[^:/\\]*)")
ASKED = ("on_tick", "on_bar", "stop_price", "target_price", "quiet")


def is_file(name: object) -> bool:
    """Does this name a class in a file, not one of the strategies that come with the program?"""
    return isinstance(name, str) and _FILE.fullmatch(name) is not None


def strategy_in(name: str, folder: Path) -> type[Strategy]:
    """The class that `name` means, ready to be used like any other; Wrong where it is none."""
    match = _FILE.fullmatch(name)
    assert match is not None
    file, wanted = match["file"], match["name"]
    module = _module((folder / file).resolve(), file)
    found = {key: value for key, value in vars(module).items() if _is_own_strategy(value, module)}
    cls = getattr(module, wanted, None) if wanted else None
    if cls is None:
        there = f"it has {', '.join(sorted(found))}" if found else "it has no class made of state.strategy.Strategy"
        raise Wrong(f"{file} has no class {wanted or 'named after the colon'}: {there}{did_you_mean(wanted, found)}")
    _check(cls, file, wanted)
    if not cls.name:
        cls.name = wanted  # what people read in the log
    return typing.cast(type[Strategy], cls)


def _is_own_strategy(value: object, module: ModuleType) -> bool:
    return isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__


def _module(path: Path, file: str) -> ModuleType:
    known = f"strategy file {path}"
    if known in sys.modules:
        return sys.modules[known]
    if not path.is_file():
        raise Wrong(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None:
        raise Wrong(f"{file} is not a Python file")
    module = sys.modules[known] = importlib.util.module_from_spec(spec)  # typed fields are looked up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # somebody else's code: it may raise anything
        del sys.modules[known]
        raise Wrong(f"{file} cannot be loaded: {_where(error, path)}{type(error).__name__}: {error}") from None
    return module


def _where(error: BaseException, path: Path) -> str:
    """ "line 12: " of the user's own file, where the error came from it."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""


def _check(cls: Any, file: str, wanted: str) -> None:
    if not isinstance(cls, type):
        raise Wrong(f"{wanted} in {file} is not a class")
    missing = [name for name in ASKED if not callable(getattr(cls, name, None))]
    if getattr(cls, "stop_price", None) is Strategy.stop_price:
        missing.append("stop_price")
    if missing:
        hint = "" if issubclass(cls, Strategy) else f": write class {wanted}(Strategy), with Strategy from state.strategy"
        raise Wrong(f"{wanted} in {file} has no {', no '.join(missing)}{hint}")
    if not issubclass(cls, Strategy):
        raise Wrong(f"{wanted} in {file} is no Strategy: write class {wanted}(Strategy), with Strategy from state.strategy")
    for part in ("Params", "Setup"):
        fields = getattr(cls, part)
        if not isinstance(fields, type) or not issubclass(fields, msgspec.Struct):
            raise Wrong(f"{wanted}.{part} in {file} must be a class of typed fields: class {part}(msgspec.Struct, frozen=True)")
