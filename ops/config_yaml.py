"""config.yaml as text and as plain values: no number becomes a float and no word becomes something its writer did not mean.

A number with a point becomes `Decimal` from its text, `true` and `false` are the only booleans, 09:15:00 and 0123 and NO stay
text, 2026-11-19 is a date, and keys are always text. Nothing here knows which settings exist.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from ops.config_fields import Mistakes

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,2})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}


class _Loader(yaml.SafeLoader):
    """The safe loader with resolvers of our own in place of those of YAML 1.1."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


def _int(loader: _Loader, node: yaml.ScalarNode) -> object:
    return int(node.value) if _INT.fullmatch(node.value) else node.value


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> object:
    return Decimal(node.value) if _DECIMAL.fullmatch(node.value) else node.value


def _date(loader: _Loader, node: yaml.ScalarNode) -> object:
    """A day that does not exist stays text: its field then says so by path."""
    try:
        return date.fromisoformat(node.value)
    except ValueError:
        return node.value


def _boolean(loader: _Loader, node: yaml.ScalarNode) -> object:
    return _BOOLEANS.get(node.value, node.value)


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("bool", re.compile("|".join(_BOOLEANS)), "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _DECIMAL, "-+.0123456789"),
    ("timestamp", _DATE, "0123456789"),
    ("merge", re.compile("<<"), "<"),
    ("null", re.compile("~|null|"), ["~", "n", ""]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern.pattern})\Z"), list(_first))
for _name, _constructor in (("int", _int), ("float", _decimal), ("timestamp", _date), ("bool", _boolean)):
    _Loader.add_constructor(_TAG + _name, _constructor)


def read(path: Path, mistakes: Mistakes) -> dict[str, object]:
    """The file's top-level mapping. What makes it unreadable is one mistake under the file's name; then the mapping is empty."""
    text = _text(path, mistakes)
    if text is None:
        return {}
    tree = _values(text, path.name, mistakes)
    if isinstance(tree, dict):
        return tree
    if not mistakes:
        mistakes.add(path.name, "is not a list of settings like `mode: practice`, one per line")
    return {}


def _text(path: Path, mistakes: Mistakes) -> str | None:
    try:
        # utf-8-sig: an editor on Windows may put a byte order mark in front.
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        mistakes.add(path.name, f"there is no such file in {path.parent}")
    except OSError as error:
        mistakes.add(path.name, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        mistakes.add(path.name, f"line {line} is not UTF-8 text: save the file as UTF-8")
    else:
        if text.strip():
            return text
        mistakes.add(path.name, "is empty: begin with the config.yaml that came with the program")
    return None


def _values(text: str, name: str, mistakes: Mistakes) -> object:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)  # refuses characters that YAML forbids
        node = loader.get_single_node()
        if node is None:
            mistakes.add(name, "has only comments: begin with the config.yaml that came with the program")
        elif _inspect(node, "", mistakes, set(), set()):
            return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mistakes.add(name, _marked(error))
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        mistakes.add(name, f"line {line}: a character that YAML does not allow (U+{error.character:04X})")
    except RecursionError:
        mistakes.add(name, "is nested too deeply")
    finally:
        if loader is not None:
            loader.dispose()
    return None


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = error.problem or error.context or "not YAML"
    if "'\\t'" in problem:
        problem = "a tab; indent with spaces"
    return f"{where}{problem}"


def _inspect(node: yaml.Node, path: str, mistakes: Mistakes, above: set[int], done: set[int]) -> bool:
    """Note keys given twice. False when the tree cannot become values: it contains itself, or a key is not plain text."""
    if id(node) in above:
        mistakes.add(path, "refers to itself")
        return False
    if id(node) in done or isinstance(node, yaml.ScalarNode):
        return True
    done.add(id(node))
    above.add(id(node))
    fine = True
    for step, child in _children(node, path, mistakes):
        if step is None:
            mistakes.add(path, f"line {child.start_mark.line + 1}: a key must be plain text")
            fine = False
        else:
            fine = _inspect(child, step, mistakes, above, done) and fine
    above.discard(id(node))
    return fine


def _children(node: yaml.Node, path: str, mistakes: Mistakes) -> list[tuple[str | None, yaml.Node]]:
    if isinstance(node, yaml.SequenceNode):
        return [(f"{path}[{index}]", item) for index, item in enumerate(node.value)]
    children: list[tuple[str | None, yaml.Node]] = []
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            children.append((None, key))
            continue
        step, line = f"{path}.{key.value}" if path else key.value, key.start_mark.line + 1
        if key.value in lines:
            mistakes.add(step, f"is given twice, in lines {lines[key.value]} and {line}")
        lines.setdefault(key.value, line)
        children.append((step, value))
    return children
