"""The structure of the code: order of the modules, short functions, no hidden state, no private API."""

import ast

import pytest

from joanna.artifacts import STAGES
from joanna.run import PROJECT

# a module imports only modules to its left or above
ORDER = """
    errors startup progress batches
    files page recording excerpts audio spectra settings source phase run artifacts resources cli
    backend fast model dataset checkpoint feedback callbacks training generation
    scores report clips previews estimate pipeline
    tree cluster grid sweep_report sweep
""".split()
MAX_LINES, MAX_PARAMETERS = 60, 6
MUTATORS = {"append", "extend", "insert", "pop", "remove", "clear", "update", "add", "setdefault"}
FILES = [path for folder in (".", "joanna", "benchmarks", "tests") for path in PROJECT.glob(f"{folder}/*.py")]
SOURCES = {str(path.relative_to(PROJECT)): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
CODE = {name: tree for name, tree in SOURCES.items() if not name.startswith("tests")}


def nodes(tree, *kinds):
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def functions(tree):
    return nodes(tree, ast.FunctionDef, ast.AsyncFunctionDef)


def imports(tree):
    """Modules of joanna, and stages, that a module imports anywhere, but for annotations."""
    unused = {
        statement
        for block in nodes(tree, ast.If)
        if ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
    }
    for statement in nodes(tree, ast.Import, ast.ImportFrom):
        if statement not in unused:
            names = [alias.name for alias in statement.names]
            if isinstance(statement, ast.ImportFrom):
                names = [statement.module if statement.module != "joanna" else name for name in names]
            yield from {name.removeprefix("joanna.") for name in names} & {*ORDER, *STAGES}


def test_every_module_has_its_place():
    modules = [name.removesuffix(".py") for name in CODE if name.startswith("joanna/")]
    assert sorted(module.removeprefix("joanna/") for module in modules) == sorted(["__init__", *ORDER])


@pytest.mark.parametrize("module", [*ORDER, *STAGES])
def test_imports_go_downwards(module):
    below = ORDER if module in STAGES else ORDER[: ORDER.index(module)]
    tree = CODE[f"{module}.py" if module in STAGES else f"joanna/{module}.py"]
    assert set(imports(tree)) <= set(below)


@pytest.mark.parametrize("name", SOURCES)
def test_functions_are_short(name):
    for function in functions(SOURCES[name]):
        arguments = function.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        parameters += filter(None, (arguments.vararg, arguments.kwarg))
        count = len([parameter for parameter in parameters if parameter.arg not in ("self", "cls")])
        lines = function.end_lineno - function.lineno + 1
        assert (lines <= MAX_LINES, count <= MAX_PARAMETERS) == (True, True), function.name


@pytest.mark.parametrize("name", CODE)
def test_functions_change_no_state_of_their_module(name):
    tree = CODE[name]
    assert not nodes(tree, ast.Global)
    constants = set()
    for statement in tree.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            value = ast.unparse(statement.value or ast.Constant(None))
            assert value not in ("[]", "{}", "set()", "dict()", "list()"), ast.unparse(statement)
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            constants |= {node.id for target in targets for node in nodes(target, ast.Name)}
    for function in functions(tree):
        changed = [
            node.value
            for node in nodes(function, ast.Attribute, ast.Subscript)
            if getattr(node, "attr", "") in MUTATORS or not isinstance(node.ctx, ast.Load)
        ]
        assert not {value.id for value in changed if isinstance(value, ast.Name)} & constants, function.name


@pytest.mark.parametrize("name", SOURCES)
def test_private_attributes_are_those_of_self(name):
    private = {
        ast.unparse(node)
        for node in nodes(SOURCES[name], ast.Attribute)
        if node.attr.startswith("_") and not node.attr.startswith("__")
        if ast.unparse(node.value) not in ("self", "cls")
    }
    # TensorFlow has no public way to free a custom gradient
    assert private == ({"gradient_registry._registry"} if name == "joanna/fast.py" else set())
