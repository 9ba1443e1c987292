"""The structure of the code: order of the modules, short functions, no hidden state, no private API."""

import ast

from joanna.artifacts import STAGES
from joanna.run import PROJECT

# a module imports only modules to its left or above
ORDER = """
    errors startup progress batches matching
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


def functions_by_file(trees):
    return [(name, function) for name, tree in trees.items() for function in functions(tree)]


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


def test_imports_go_downwards():
    for module in (*ORDER, *STAGES):
        below = ORDER if module in STAGES else ORDER[: ORDER.index(module)]
        tree = CODE[f"{module}.py" if module in STAGES else f"joanna/{module}.py"]
        assert set(imports(tree)) <= set(below), module


def test_functions_are_short():
    for name, function in functions_by_file(SOURCES):
        arguments = function.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        parameters += filter(None, (arguments.vararg, arguments.kwarg))
        count = len([parameter for parameter in parameters if parameter.arg not in ("self", "cls")])
        lines = function.end_lineno - function.lineno + 1
        assert (lines <= MAX_LINES, count <= MAX_PARAMETERS) == (True, True), f"{name}: {function.name}"


def constants(name):
    """Names that a module defines; none of them holds an empty container."""
    found = set()
    for statement in CODE[name].body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            value = ast.unparse(statement.value or ast.Constant(None))
            assert value not in ("[]", "{}", "set()", "dict()", "list()"), f"{name}: {ast.unparse(statement)}"
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found |= {node.id for target in targets for node in nodes(target, ast.Name)}
    return found


def test_functions_change_no_state_of_their_module():
    defined = {name: constants(name) for name in CODE}
    assert not [name for name, tree in CODE.items() if nodes(tree, ast.Global)]
    for name, function in functions_by_file(CODE):
        changed = [
            node.value
            for node in nodes(function, ast.Attribute, ast.Subscript)
            if getattr(node, "attr", "") in MUTATORS or not isinstance(node.ctx, ast.Load)
        ]
        names = {value.id for value in changed if isinstance(value, ast.Name)}
        assert not names & defined[name], f"{name}: {function.name}"


def test_private_attributes_are_those_of_self():
    private = {
        (name, ast.unparse(node))
        for name, tree in SOURCES.items()
        for node in nodes(tree, ast.Attribute)
        if node.attr.startswith("_") and not node.attr.startswith("__")
        if ast.unparse(node.value) not in ("self", "cls")
    }
    # TensorFlow has no public way to free a custom gradient
    assert private == {("joanna/fast.py", "gradient_registry._registry")}
