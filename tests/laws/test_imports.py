"""Law: imports point down, and light things stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sc_jax

ROOT = Path(sc_jax.__file__).parent
LAYERS = {
    "errors": 0,
    "codec": 1,
    "exits": 1,
    "plan": 1,
    "deploy": 2,
    "nets": 3,
    "compressors": 4,
    "losses": 5,
    "tasks": 5,
    "data": 5,
    "config": 6,
    "described": 7,
    "evaluate": 7,
    "train": 8,
    "recipes": 8,
    "exits/asked": 8,  # of traces: the rest of exits knows arrays only
    "exits/calibration": 8,
    "exits/compact": 8,  # of nets
    "exits/eenet": 8,
    "exits/executors": 8,
    "exits/failure": 8,
    "exits/fitted_ways": 8,
    "exits/placing": 8,
    "exits/gaps": 8,
    "exits/goals": 8,
    "exits/thresholds": 8,
    "exits/risk": 8,
    "exits/ways": 8,
    "exits/walk": 8,
    "evaluate/judged": 9,  # of policies solved on traces
    "evaluate/exit_report": 9,
    "experiment": 9,
    "rate_runs": 10,
    "exit_runs": 11,
    "deploy/tails": 10,  # of runs: the rest of deploy knows files only
    "deploy/models": 10,
    "deploy/segments": 10,
    "deploy/chain": 10,
    "deploy/package": 10,
}
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages in a fresh interpreter after the imports."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_device_side_loads_no_framework():
    names = loaded_by("sc_jax.codec.codecs", "sc_jax.codec.rans", "sc_jax.deploy.frame")
    names |= loaded_by("sc_jax.deploy.protocol", "sc_jax.deploy.device")
    assert "numpy" in names
    assert not names & {"jax", "jaxlib", "flax", "optax", "tensorflow", "PIL", "grpc"}


def test_the_binaries_of_device_and_server_load_no_training():
    heavy = {"flax", "optax", "orbax", "tensorflow", "grain"}
    assert not loaded_by("launch.device") & (heavy | {"jax", "jaxlib"})
    served = loaded_by("launch.serve", "sc_jax.deploy.edge", "sc_jax.deploy.models")
    assert "jax" in served and not served & heavy


def test_exits_load_no_framework():
    names = loaded_by("sc_jax.exits.policies", "sc_jax.exits.failure")
    names |= loaded_by("sc_jax.exits.risk", "sc_jax.evaluate.trace")
    assert "numpy" in names
    assert not names & {"jax", "jaxlib", "flax", "optax", "scipy", "matplotlib"}


def test_planning_loads_no_framework():
    assert not loaded_by("sc_jax.plan.link") & {"jax", "jaxlib", "flax", "numpy"}
    names = loaded_by("sc_jax.plan.placement", "sc_jax.exits.placing")
    assert "numpy" in names and not names & {"jax", "jaxlib", "flax", "scipy"}


def test_recipes_and_training_load_no_tensorflow():
    names = loaded_by("sc_jax.recipes", "launch.train")
    assert {"jax", "flax", "optax"} <= names
    assert not names & {"tensorflow", "tensorflow_datasets", "grain", "torch"}


def layer_of(path: Path) -> int:
    whole = path.with_suffix("").as_posix()
    return LAYERS.get(whole, LAYERS[path.parts[0].removesuffix(".py")])


def imports(path: Path) -> set[str]:
    """Modules of sc_jax that a file imports, late imports too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            if node.module == "sc_jax":
                found |= {f"sc_jax.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    assert not any(name.split(".")[0] in ("launch", "tests") for name in found), path
    return {name for name in found if name.startswith("sc_jax.")}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down(path):
    if path == Path("__init__.py"):
        assert not imports(path)
        return
    own = path.parts[0].removesuffix(".py")
    for name in imports(path):
        other = name.split(".")[1]
        lower = LAYERS[other] < layer_of(path)
        assert other == own or lower, f"{path} imports {name}"


def test_only_run_calls_init_and_apply_of_flax():
    for path in FILES:
        if path in (Path("nets/run.py"), Path("train/step.py")):
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("apply", "init_with_output"), path


def test_only_export_imports_the_converter():
    for path in FILES:
        if path != Path("deploy/export.py"):
            text = (ROOT / path).read_text()
            assert "import litert_converter" not in text, path
            assert "from litert_converter" not in text, path
            assert "from ai_edge_quantizer" not in text, path


def test_only_the_server_and_its_client_import_grpc():
    for path in FILES:
        if path in (Path("deploy/edge.py"), Path("deploy/protocol.py")):
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
    flagged = {f.stem for f in folder.glob("*.py") if "flags.DEFINE" in f.read_text()}
    assert "time_head" in flagged
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "benchmarks":
                assert not flagged & {alias.name for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.removeprefix("benchmarks.") not in flagged, path
