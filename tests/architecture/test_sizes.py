"""What a reader is spared: long files, long functions, nameless modules, excepts without a reason."""

import ast
import re
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parents[2] / "gateway"
FILES = sorted(GATEWAY.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
MAX_LINES, MAX_STATEMENTS, MAX_PARAMETERS = 400, 40, 6
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GATEWAY)))


def functions_of(path):
    return [node for node in ast.walk(TREES[path]) if isinstance(node, FUNCTIONS)]


def statements_of(function):
    """Count a function's own statements; those of functions and classes inside it are theirs."""
    count, waiting = 0, list(function.body)
    while waiting:
        node = waiting.pop()
        count += isinstance(node, ast.stmt)
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))
    return count


def parameters_of(function):
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if one]
    return [name for name in names if name not in {"self", "cls"}]


@every_file
def test_a_file_is_no_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@every_file
def test_a_function_has_at_most_40_statements_and_6_parameters(path):
    for function in functions_of(path):
        assert statements_of(function) <= MAX_STATEMENTS, function.name
        assert len(parameters_of(function)) <= MAX_PARAMETERS, function.name


@every_file
def test_a_module_is_named_after_something(path):
    parts = path.relative_to(GATEWAY).with_suffix("").parts
    assert not NAMELESS & {word for part in parts for word in part.split("_")}


@every_file
def test_a_broad_except_has_its_reason_on_its_line(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if re.match(r"\s*except (Base)?Exception\b|\s*except:", line):
            told = re.sub(r"# noqa: \S+\s*(- )?", "# ", line).partition("#")[2].strip()
            reraises = re.match(r"\s*except BaseException\b", line)
            assert reraises or len(told.split()) >= 3, f"line {number}"


@every_file
def test_a_baseexception_is_always_raised_again(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "BaseException":
            assert any(isinstance(one, ast.Raise) for one in node.body), f"line {node.lineno}"


@every_file
def test_everything_public_says_what_it_is_for(path):
    assert ast.get_docstring(TREES[path]), "the module"
    is_public_body = [(TREES[path], path.name)]
    while is_public_body:
        owner, name = is_public_body.pop()
        for node in owner.body:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}: {node.name}"
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                is_public_body.append((node, node.name))
