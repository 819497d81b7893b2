"""The house rules as data: who may import whom, what stays light, what no file may be called."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "danlu"

# A room may import rooms of lower levels and itself, never its neighbours.
LEVELS = {
    "base": 0,
    "inputs": 1,
    "scores": 1,
    "checks": 1,
    "diseases": 1,
    "sources": 2,
    "models": 2,
    "data": 3,
    "prediction": 3,
    "training": 4,
    "reporting": 4,
    "evaluation": 5,
    "explanation": 5,
    "exporting": 5,
    "inspection": 5,
    "diagnosis": 5,
    "tuning": 5,
    "serving": 6,
    "monitoring": 6,
    "cli": 7,
}
# What DESIGN allows on top, with the reason.
EXCEPTIONS = {
    ("prediction/torch_engine.py", "training"): "a run's weights are in its checkpoints until it is exported",
    ("prediction/torch_engine.py", "models"): "level 2 below 3; named here because it brings torch",
}
# Outside packages a room may import at its top level; anything else only inside functions.
OUTSIDE = {
    "base": set(),
    "inputs": {"numpy", "PIL", "tokenizers"},
    "scores": {"numpy"},
    "checks": {"numpy"},
    "diseases": {"numpy"},
    "reporting": set(),
    "sources": {"numpy"},
    "models": {"torch", "pydantic"},
    "data": {"numpy"},
    "prediction": {"numpy", "PIL"},
    "training": {"torch", "safetensors"},
    "evaluation": {"numpy"},
    "explanation": {"numpy", "PIL"},
    "exporting": {"numpy", "PIL"},
    "inspection": {"numpy"},
    "diagnosis": {"numpy"},
    "tuning": {"numpy"},
    "serving": set(),
    "monitoring": set(),
    "cli": {"click"},
}
HEAVY_FILES = {
    "base/settings.py": {"pydantic"},
    "data/augment.py": {"torch"},
    "data/batches.py": {"torch", "numpy"},
    "prediction/torch_engine.py": {"torch", "numpy"},
    "prediction/onnx_engine.py": {"onnxruntime", "numpy"},
    "exporting/exported.py": {"torch", "numpy"},
    "exporting/onnx_format.py": {"torch"},
    "exporting/torch_export.py": {"torch"},
    "exporting/torchscript.py": {"torch"},
    "exporting/int8.py": {"onnx", "onnxruntime", "numpy"},
    "reporting/drawing.py": {"matplotlib"},
    "reporting/figures.py": {"matplotlib", "numpy"},
    "reporting/learning_figures.py": {"matplotlib"},
    "reporting/search_figures.py": {"matplotlib", "numpy"},
    "reporting/page.py": {"jinja2", "markupsafe"},
    "explanation/attribution.py": {"torch", "captum", "numpy"},
    "diagnosis/probe.py": {"torch", "numpy"},
    "inspection/suspects.py": {"torch", "numpy"},
    "monitoring/drift.py": {"numpy"},
    "monitoring/prometheus.py": {"numpy", "yaml"},
    "tuning/importance.py": {"optuna"},
    "tuning/journal.py": {"filelock", "optuna"},
    "tuning/owners.py": {"optuna"},
    "tuning/search.py": {"optuna"},
    "tuning/storage.py": {"optuna"},
    "serving/app.py": {"fastapi", "starlette"},
    "serving/front.py": {"orjson"},
    "serving/bodies.py": {"numpy", "orjson"},
    "serving/documented.py": {"pydantic"},
    "serving/journal.py": {"numpy", "orjson"},
    "serving/lane.py": {"numpy"},
    "serving/pace.py": {"numpy"},
    "serving/protocol.py": {"uvicorn"},
    "serving/question.py": {"starlette"},
    "serving/service.py": {"numpy"},
    "serving/tensors.py": {"numpy"},
    "serving/worker.py": {"uvicorn", "uvloop"},
    "training/untouched.py": {"torch", "numpy"},
}
# Rooms that work without PyTorch, and the rooms they may import.
NEAR_USERS = {
    "serving": {"serving", "base", "inputs", "scores", "prediction"},
    "monitoring": {"monitoring", "base", "scores", "prediction", "reporting"},  # pages and charts need no PyTorch
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "core", "manager", "managers", "misc"}

FILES = sorted(SOURCE.rglob("*.py"))
STANDARD = sys.stdlib_module_names


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def room_of(path: Path) -> str | None:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


def imports(tree: ast.AST, *, top_only: bool) -> list[str]:
    """Imported module names; those under `if TYPE_CHECKING:` cost nothing and do not count."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if top_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if isinstance(child, ast.Import):
                found.extend(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                if child.module == "danlu":
                    found.extend(f"danlu.{alias.name}" for alias in child.names)
                else:
                    found.append(child.module)
            visit(child)

    visit(tree)
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_room_imports_only_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    if room is None:
        return
    for module in imports(ast.parse(path.read_text(encoding="utf-8")), top_only=False):
        parts = module.split(".")
        if parts[0] != "danlu" or len(parts) < 2 or parts[1] not in LEVELS or parts[1] == room:
            continue
        allowed = LEVELS[parts[1]] < LEVELS[room] or (name_of(path), parts[1]) in EXCEPTIONS
        assert allowed, f"{name_of(path)} imports {module}: level {LEVELS[parts[1]]} is not below {LEVELS[room]}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_outside_packages_are_imported_where_the_table_allows(path: Path) -> None:
    room = room_of(path)
    allowed = HEAVY_FILES.get(name_of(path), OUTSIDE.get(room or "", set()))
    for module in imports(ast.parse(path.read_text(encoding="utf-8")), top_only=True):
        package = module.split(".")[0]
        if package == "danlu" or package in STANDARD:
            continue
        assert package in allowed, f"{name_of(path)} imports {package} at its top level"


@pytest.mark.parametrize("path", [path for path in FILES if room_of(path) in NEAR_USERS], ids=name_of)
def test_rooms_without_torch_import_only_what_has_none(path: Path) -> None:
    room = room_of(path)
    assert room is not None
    rooms = {
        module.split(".")[1]
        for module in imports(ast.parse(path.read_text(encoding="utf-8")), top_only=False)
        if module.startswith("danlu.")
    }
    assert rooms <= NEAR_USERS[room] | {"__version__"}


def test_every_room_has_a_level() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(LEVELS)


def test_every_exception_is_still_needed() -> None:
    for name, room in EXCEPTIONS:
        modules = imports(ast.parse((SOURCE / name).read_text(encoding="utf-8")), top_only=False)
        assert any(module.startswith(f"danlu.{room}") for module in modules), (name, room)


def test_rooms_have_no_import_cycle() -> None:
    edges: dict[str, set[str]] = {}
    modules = {"danlu." + name_of(path)[:-3].replace("/", ".").removesuffix(".__init__"): path for path in FILES}
    for module, path in modules.items():
        found = imports(ast.parse(path.read_text(encoding="utf-8")), top_only=True)
        edges[module] = {name for name in found if name in modules and name != module}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for other in edges[module]:
                walk(other, (*trail, module))
            done.add(module)

    for module in edges:
        walk(module, ())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_a_drawer_for_everything(path: Path) -> None:
    assert not FORBIDDEN_NAMES & {part.removesuffix(".py") for part in path.relative_to(SOURCE).parts}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_package_holds_no_assert_and_no_pickle(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    assert "pickle" not in imports(tree, top_only=False)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save"):
            raise AssertionError(f"{name_of(path)} calls {ast.unparse(node.func)}")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_take_at_most_eight_parameters(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            count = len(node.args.args) + len(node.args.kwonlyargs)
            assert count <= 8, f"{name_of(path)}: {node.name} takes {count}"


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import danlu", {"torch", "sklearn", "matplotlib", "optuna", "onnx", "numpy", "pydantic", "yaml"}),
        ("import danlu.cli.main", {"torch", "sklearn", "matplotlib", "optuna", "onnx", "numpy", "pydantic", "rich"}),
        ("import danlu.inputs.images, danlu.inputs.texts, danlu.scores.classification", {"torch", "sklearn"}),
        ("import danlu.prediction.predictor", {"torch", "sklearn"}),
        ("import danlu.sources.recognize", {"torch", "sklearn"}),
        ("import danlu.serving.serve, danlu.serving.supervisor", {"torch", "numpy", "fastapi", "onnxruntime"}),
        ("import danlu.monitoring.monitor", {"torch", "matplotlib", "jinja2", "onnxruntime.capi"}),
        ("import danlu.serving.worker", {"torch", "sklearn", "matplotlib", "optuna", "onnx"}),
    ],
)
def test_import_stays_light(statement: str, forbidden: set[str]) -> None:
    code = f"{statement}; import sys; print(' '.join(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not forbidden & set(told.split())


def test_help_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\nsys.argv = ['danlu', '--help']\nfrom danlu.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('loaded', 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Commands:" in told
    assert told.strip().endswith("loaded False False")
