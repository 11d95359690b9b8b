"""Law: imports point down, and light things stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sc_jax

ROOT = Path(sc_jax.__file__).parent
# From the ground up; a file may import its own floor and those before it. A deeper
# path is a floor of its own: the longest that fits is a file's.
FLOORS = (
    "lazy",
    "errors",
    "notices",
    "places",
    "foreign",
    "writing",
    "spec",
    "plugins",
    "codec",
    "deploy/wire",
    "plan",
    "nets",
    "compressors",
    "data",
    "tasks",
    "losses",
    "traces",
    "exits",
    "train",
    "evaluate",
    "recipes",
    "runs",
    "deploy",
    "api",
)
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages in a fresh interpreter after the imports."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_device_side_loads_no_framework():
    names = loaded_by(
        "sc_jax.codec.codecs", "sc_jax.codec.rans", "sc_jax.deploy.wire.frame"
    )
    names |= loaded_by("sc_jax.deploy.wire.client", "sc_jax.deploy.device.device")
    assert "numpy" in names
    assert not names & {"jax", "jaxlib", "flax", "optax", "tensorflow", "PIL", "grpc"}


def test_the_binaries_of_device_and_server_load_no_training():
    heavy = {"flax", "optax", "orbax", "tensorflow", "grain"}
    assert not loaded_by("launch.device") & (heavy | {"jax", "jaxlib"})
    served = loaded_by(
        "launch.serve", "sc_jax.deploy.server.edge", "sc_jax.deploy.server.models"
    )
    assert "jax" in served and not served & heavy
    # It reads its environment when it is loaded, and launch.serve sets that first.
    assert "grpc" in served and "grpc" not in loaded_by("launch.serve")


def test_exits_load_no_framework():
    names = loaded_by("sc_jax.exits.policies", "sc_jax.exits.solve.failure_prediction")
    names |= loaded_by("sc_jax.exits.solve.risk", "sc_jax.traces.trace")
    assert "numpy" in names
    assert not names & {"jax", "jaxlib", "flax", "optax", "scipy", "matplotlib"}


def test_planning_loads_no_framework():
    names = loaded_by("sc_jax.plan", "sc_jax.exits.solve.placement")
    heavy = {"jax", "jaxlib", "flax", "scipy", "ai_edge_litert", "tensorflow"}
    assert "numpy" in names and not names & heavy


def test_recipes_and_training_load_no_tensorflow():
    names = loaded_by("sc_jax.recipes", "launch.train")
    assert {"jax", "flax", "optax"} <= names
    assert not names & {"tensorflow", "tensorflow_datasets", "grain", "torch"}


def floor_of(path: str) -> int:
    """The floor of a file or folder below sc_jax, as "nets/run" or "nets"."""
    fits = [f for f in FLOORS if path == f or path.startswith(f + "/")]
    assert fits, f"{path} stands on no floor"
    return FLOORS.index(max(fits, key=len))


def file_of(module: str) -> str:
    """ "sc_jax.nets.run" or a name in it -> "nets/run"; of a package its folder."""
    parts = module.split(".")[1:]
    while parts and not (
        (ROOT.joinpath(*parts)).is_dir()
        or (ROOT.joinpath(*parts)).with_suffix(".py").is_file()
    ):
        parts.pop()
    return "/".join(parts)


def imports(path: Path) -> set[str]:
    """Modules of sc_jax that a file imports, late imports too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not any(name.split(".")[0] in ("launch", "tests") for name in found), path
    return {name for name in found if name.startswith("sc_jax.")}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down(path):
    if path == Path("__init__.py"):  # for type checkers alone; a test times the import
        assert all(name.startswith("sc_jax.api") for name in imports(path))
        return
    own = floor_of(path.with_suffix("").as_posix())
    for name in imports(path):
        assert floor_of(file_of(name)) <= own, f"{path} imports {name}"


def test_a_file_is_asked_not_its_package():
    """A name in a file stands on the floor of the file."""
    assert file_of("sc_jax.exits.execute.buckets.bucketed") == "exits/execute/buckets"
    assert floor_of("exits/execute/buckets") > floor_of("nets/backbones/cnn")
    assert floor_of("deploy/wire/frame") < floor_of("evaluate/rate")


def test_only_run_calls_init_and_apply_of_flax():
    for path in FILES:
        if path in (Path("nets/run.py"), Path("train/step.py")):
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("apply", "init_with_output"), path


def test_only_export_imports_the_converter():
    for path in FILES:
        if path != Path("deploy/export/convert.py"):
            text = (ROOT / path).read_text()
            assert "import litert_converter" not in text, path
            assert "from litert_converter" not in text, path
            assert "from ai_edge_quantizer" not in text, path


def test_only_the_server_and_its_client_import_grpc():
    for path in FILES:
        served = path.parent == Path("deploy/server")
        if served or path == Path("deploy/wire/client.py"):
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Import):
                assert not any(a.name.startswith("grpc") for a in node.names), path
            elif isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("grpc"), path


def test_tests_import_no_benchmark_that_defines_flags():
    """Two files that define --out cannot be imported into one process."""
    tests = Path(__file__).resolve().parents[1]
    folder = tests.parent / "benchmarks"
    flagged = {
        ".".join(file.relative_to(folder.parent).with_suffix("").parts)
        for file in folder.rglob("*.py")
        if "flags.DEFINE" in file.read_text()
    }
    assert "benchmarks.serving.load" in flagged
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                assert not flagged & {node.module, *names}, path
