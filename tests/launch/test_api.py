"""What a notebook does, and the documentation: every block runs, every command can."""

import ast
import importlib.util
import logging
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

import sc_jax
from sc_jax import recipes
from sc_jax.data import sources
from sc_jax.deploy.wire import frame
from sc_jax.errors import UsageError
from sc_jax.runs import baselines, run_folder, training
from sc_jax.runs.source import Source

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = [page for page in PAGES if "```python" in page.read_text()]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A folder with a student and a net with exits, at their presets of seconds.

    Whoever works in it builds recipes at those presets, measures 40 examples, and
    solves thresholds on 200.
    """
    real_load, real_build = sources.load, recipes.build

    def few(name, split, **more):
        found = real_load(name, split, **more)
        count = {"test": 40, "validation": 200}.get(split)
        return found if count is None else found.take(np.arange(count))

    def tiny(name, knobs):
        preset = recipes.tiny(name) if name in recipes.RECIPES else {}
        # Less than an epoch is a test's own; a page that trains on takes twice as long.
        own = {k: v for k, v in knobs.items() if k not in preset or v < 1}
        longer = {"stage2_epochs": 0.02} if knobs.get("stage2_epochs", 0) >= 1 else {}
        return real_build(name, preset | own | longer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "CLASSICAL", (("PNG", (None,)),))
        patch.setattr(run_folder.sources, "load", few)
        patch.setattr(recipes, "build", tiny)
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        student = sc_jax.train("entropic_student", "runs/first", beta=0.00015)
        sc_jax.train("branchynet", "runs/branchy")
        assert repr(student).startswith("<sc_jax run entropic_student")
        yield Path.cwd()


@pytest.fixture(scope="module")
def folder(notebook):
    return notebook / "runs" / "first"


@pytest.fixture(scope="module")
def images():
    return sources.load("fashion_mnist_12k", "test").images[:5]


def test_the_package_is_light_and_lists_what_it_has():
    code = (
        "import time; t = time.perf_counter(); import sc_jax; "
        "print(time.perf_counter() - t); import sys; "
        "print('jax' in sys.modules, 'numpy' in sys.modules, *dir(sc_jax))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    seconds, listed = done.stdout.splitlines()
    assert float(seconds) < 0.3
    heavy, names = listed.split()[:2], listed.split()[2:]
    assert heavy == ["False", "False"]
    assert {"load", "train", "build", "evaluate", "compare", "Model"} <= set(names)
    packages = {p.parent.name for p in (ROOT / "sc_jax").glob("*/__init__.py")}
    assert packages <= set(names)
    assert (ROOT / "sc_jax" / "py.typed").exists()


def test_every_facade_gives_all_that_it_names():
    for path in sorted((ROOT / "sc_jax").glob("*/__init__.py")):
        package = getattr(sc_jax, path.parent.name)
        assert package.__all__, package
        tree = ast.parse(path.read_text())
        typed = [n for n in ast.walk(tree) if isinstance(n, ast.If)]
        if "facade" in path.read_text():  # what editors and pyright see of it
            seen = {a.asname for n in typed[0].body for a in n.names}
            assert seen == set(package.__all__), package
        for name in package.__all__:
            shown = getattr(package, name)
            assert name in dir(package) and shown is not None
            if "facade" in path.read_text():  # an import would put the module there
                assert not (path.parent / f"{name}.py").exists(), f"{package}: {name}"
    assert callable(sc_jax.train) and callable(sc_jax.evaluate)
    with pytest.raises(AttributeError, match="nothing"):
        sc_jax.nets.nothing  # noqa: B018


def test_a_finished_run_sends_fewer_bytes_in_context(folder, images):
    """Its tables alone are made again: what is decoded, and so every answer, stays."""
    plain = sc_jax.load(folder)
    shutil.copytree(folder, "runs/context")
    made = sc_jax.train(
        "entropic_student", "runs/context", overrides=["context=4"], beta=0.00015
    )
    found, before = made(images), plain(images)
    np.testing.assert_array_equal(found["logits"], before["logits"])
    assert found["payload_bytes"].sum() < 0.9 * before["payload_bytes"].sum()
    decoded = made.decode(made.encode(images[0]))["logits"]
    theirs = plain.decode(plain.encode(images[0]))["logits"]
    np.testing.assert_array_equal(decoded, theirs)
    assert made.report[-1]["quality"] == plain.report[-1]["quality"]
    with pytest.raises(UsageError, match=r"another recipe \(context is 4"):
        sc_jax.train("entropic_student", "runs/context", beta=0.00015)
    with pytest.raises(UsageError, match="0 to 64, not -1"):
        sc_jax.train("entropic_student", "runs/none", overrides=["context=-1"])
    # Damaged or deleted tables are made again as they were, contexts too.
    (tables,) = Path("runs/context/checkpoints").rglob("tables.npz")
    whole = np.load(tables)
    arrays = {name: whole[name] for name in whole.files}
    tables.unlink()
    same = {"overrides": ["context=4"], "beta": 0.00015, "report": False}
    sc_jax.train("entropic_student", "runs/context", **same)
    again = np.load(tables)
    assert sorted(again.files) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_run_answers_arrays_and_its_bytes_decode_to_the_same(folder, images):
    model = sc_jax.load(folder)
    outputs = model(images)
    assert outputs["logits"].shape == outputs["probabilities"].shape == (5, 10)
    np.testing.assert_allclose(outputs["probabilities"].sum(-1), 1, rtol=1e-5)
    assert outputs["prediction"].tolist() == outputs["logits"].argmax(-1).tolist()
    assert set(outputs["exit"]) == {"final"} and len(model.classes) == 10
    data = model.encode(images[0])
    single = model(images[0])
    assert len(data) == single["framed_bytes"] > single["payload_bytes"] > 0
    decoded = model.decode(data)
    assert decoded["latent"].shape == model.codecs["split@encoder"].shape
    # Head and tail in two programs, from bytes: the very numbers of the whole net.
    np.testing.assert_array_equal(decoded["logits"], single["logits"])
    assert single["logits"].shape == (10,)
    np.testing.assert_allclose(single["logits"], outputs["logits"][0], atol=1e-3)


def test_records_are_columns(folder):
    model = sc_jax.load(folder)
    columns = model.metrics()
    lengths = {len(values) for values in columns.values()}
    assert len(lengths) == 1 and {"phase", "step", "loss"} <= set(columns)
    # Shorter than log_every: the end of each phase, all the same.
    ends = np.cumsum([phase.steps for phase in model.recipe.phases])
    assert columns["step"] == ends.tolist() and ends[-1] < 50
    assert model.cost["exit"] == ["final"] and model.cost["macs"][0] > 0
    assert {"Entropic Student", "teacher"} <= {row["method"] for row in model.report}
    assert model.facts["task"] == "classification" and model.facts["seed"] == 0


def test_a_teacher_opens_too_and_runs_compare(folder, images, tmp_path):
    teacher = sc_jax.load(folder / "teacher")
    outputs = teacher(images)
    assert teacher.recipe.name == "classifier" and teacher.codecs == {}
    assert outputs["payload_bytes"].tolist() == [0] * 5
    with pytest.raises(UsageError, match="classifier has 0 splits"):
        teacher.encode(images[0])
    found = sc_jax.compare([folder, folder], tmp_path / "compared.png")
    methods = found.columns["method"]
    assert methods.count("Entropic Student") == methods.count("teacher") == 1
    assert "Entropic Student" in str(found) and found.picture.stat().st_size > 0


def test_nets_that_only_leave_early_compare_by_cost(notebook, folder, tmp_path):
    branchy = notebook / "runs" / "branchy"
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(branchy / "exit_report.json", again)
    found = sc_jax.compare([branchy, again], tmp_path / "exits.png")
    model, columns = sc_jax.load(branchy), found.columns
    exits = len(model.cost["exit"])
    assert columns["policy"][:exits] == model.cost["exit"]
    assert columns["macs"][:exits] == model.cost["macs"]
    assert columns["quality"][:exits] == [row["accuracy"] for row in model.report]
    assert set(columns["sent_bytes"]) == {None} and set(columns["split"]) == {"test"}
    assert {*columns["run"]} == {str(branchy), str(again)}
    assert {*columns["method"]} == {"BranchyNet"} and "BranchyNet" in found.table
    assert len({len(values) for values in columns.values()}) == 1
    assert found.picture.stat().st_size > 0
    with pytest.raises(UsageError, match=r"no bytes and .* has no exits") as line:
        sc_jax.compare([folder, branchy])
    assert "\n" not in str(line.value)


def test_mistakes_are_one_line(folder, images, tmp_path):
    model = sc_jax.load(folder)
    shape = next(iter(model.codecs.values())).shape
    for wrong, message in [
        (lambda: model(images[:, :20]), r"takes uint8\[N, 28, 28, 1\]"),
        (lambda: model(images.astype(np.float32)), "images are float32"),
        (lambda: model.encode(images), "one image, not 5"),
        (lambda: model.decode(b"bytes"), "not bytes that this model encoded"),
        (lambda: model.decode(frame.pack(1, 0, shape, b"")), "codec 1, not 4"),
        (lambda: model(images, policy="threshold"), "no early exits"),
        (lambda: sc_jax.load(tmp_path / "none"), "there is no"),
        (lambda: sc_jax.load(tmp_path), "no run, no bundle and no tail"),
        (lambda: sc_jax.load(folder.parent), "several runs; open one"),
        (lambda: sc_jax.build("ghmd"), "did you mean 'ghnd'"),
        (lambda: sc_jax.compare([tmp_path]), "no report"),
    ]:
        with pytest.raises(UsageError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)


def test_a_net_with_exits_leaves_by_a_policy(notebook, images):
    model = sc_jax.load(notebook / "runs" / "branchy")
    exits = model.cost["exit"]
    whole, early = model(images), model(images, policy=f"fixed:exit={exits[0]}")
    assert whole["exit_logits"].shape == (len(exits), 5, 10) and exits[-1] == "final"
    assert set(whole["exit"]) == {"final"} and set(early["exit"]) == {exits[0]}
    np.testing.assert_array_equal(early["logits"], whole["exit_logits"][0])
    assert model.cost["macs"] == sorted(model.cost["macs"])
    assert model.cost["parameters"] == sorted(model.cost["parameters"])


def test_a_tail_file_decodes_what_the_run_encodes(folder, images, tmp_path):
    from sc_jax.deploy.server import tails

    tails.pack(folder, tmp_path / "first.tail")
    tail = sc_jax.load(tmp_path / "first.tail")
    model = sc_jax.load(folder)
    answer = tail.decode(model.encode(images[0]))
    assert answer["prediction"] == model(images[0])["prediction"]
    assert tail.kind == "tail" and len(tail.classes) == 10
    with pytest.raises(UsageError, match="has no head"):
        tail.encode(images[0])


def test_a_bundle_encodes_what_the_run_would(folder, images, tmp_path, monkeypatch):
    pytest.importorskip("litert_converter", reason="the extra export is not installed")
    from sc_jax.deploy.export import package
    from sc_jax.deploy.server import tails

    real = run_folder.dataset_of  # tables fitted to few images are tables of its own
    monkeypatch.setattr(
        run_folder, "dataset_of", lambda *which: real(*which).take(np.arange(40))
    )
    loose = {"max_drop_points": 100.0, "max_more_bytes": 10.0}
    package.package(folder, tmp_path / "bundle", calibration=8, **loose)
    device, model = sc_jax.load(tmp_path / "bundle.zip"), sc_jax.load(folder)
    assert device.kind == "bundle" and device.classes == model.classes
    data = device.encode(images[0])
    assert len(data) == device(images[:1])["framed_bytes"][0]
    # By its own tables: a bundle's are fitted to the head that was exported.
    own = model.decode(model.encode(images[0]))
    latent = device.decode(data)["latent"]
    assert np.mean(latent == own["latent"]) > 0.99
    assert device(images[0])["payload_bytes"] == device(images)["payload_bytes"][0]
    # Run and tail keep those tables, and are told whose frame it is.
    tails.pack(folder, tmp_path / "first.tail")
    for server in (model, sc_jax.load(tmp_path / "first.tail")):
        for named in (device, device.facts["model"]):
            answer = server.decode(data, bundle=named)
            np.testing.assert_array_equal(answer["latent"], latent)
            assert answer["prediction"] == own["prediction"]
        with pytest.raises(UsageError, match="unknown bundle") as caught:
            server.decode(data, bundle="other")
        assert device.facts["model"] in str(caught.value)


def test_a_longer_run_goes_on_and_another_starts_from_it(folder, tmp_path):
    """Of the library: more epochs in the same folder; `init` in a new one."""
    knobs = {"epochs": 0.01, "batch_size": 16, "seed": 1}
    options = {"init": folder / "teacher", "report": False}
    warm = sc_jax.train("classifier", tmp_path / "a", **options, **knobs)
    assert warm.recipe.seed == 1 and warm.report == []
    knobs["epochs"] = 0.02
    more = sc_jax.train("classifier", tmp_path / "a", report=False, **knobs)
    assert more.recipe.steps > warm.recipe.steps
    steps = more.metrics()["step"]
    assert steps == sorted(steps) and steps[-1] == more.recipe.steps
    source = Source("classifier", knobs | {"epochs": 0.03, "learning_rate": 1e-4})
    with pytest.raises(UsageError, match="holds another recipe"):
        training.train(source.build(), tmp_path / "a", source)


def test_a_sweep_without_a_report_is_the_same_sweep(tmp_path, monkeypatch):
    """Each seed its own teacher, and every point is checked before the first."""
    trained = []
    monkeypatch.setattr(training, "train", lambda *a, **o: trained.append((a, o)))
    monkeypatch.setattr("sc_jax.api.load", lambda folder: folder.name)
    knobs = recipes.tiny("entropic_student")
    models = sc_jax.train(
        "entropic_student", tmp_path, sweep="seed:0,1", report=False, **knobs
    )
    assert models == {"seed=0": "seed=0", "seed=1": "seed=1"}
    places = [str(o["teacher_dir"].relative_to(tmp_path)) for _, o in trained]
    assert places == ["teacher", "seed=1/teacher"]
    with pytest.raises(UsageError, match=r"^beta=-1: .*0 or more, not -1"):
        sc_jax.train("entropic_student", tmp_path, sweep="beta:1e-4,-1", report=False)
    assert len(trained) == 2 and not any(tmp_path.iterdir())


def test_a_notebook_sees_that_training_goes_on(tmp_path, monkeypatch, capsys):
    logger = logging.getLogger("sc_jax")
    monkeypatch.setattr(logging.root, "handlers", [])
    for name, value in {"handlers": [], "level": 0, "propagate": True}.items():
        monkeypatch.setattr(logger, name, value)
    knobs = {"epochs": 0.01, "batch_size": 16}
    sc_jax.train("classifier", tmp_path / "a", report=False, **knobs)
    assert "classify: step " in capsys.readouterr().err
    assert len(logger.handlers) == 1
    monkeypatch.setattr(logger, "handlers", [])  # its stream ends with this test


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


@contextmanager
def served():
    """The address of an edge server of runs/first, on a port of its own."""
    pytest.importorskip("tritonclient.grpc", reason="the client is not installed")
    from sc_jax.deploy.server import edge, tails

    models = tails.load(Path("runs/first"), "first")
    server = edge.serve(models, edge.Settings(sizes=(1,), wait_s=0.0))
    try:
        yield server.address
    finally:
        server.drain(5)


@pytest.mark.parametrize("page", CODE, ids=lambda page: page.stem)
def test_code_runs_from_top_to_bottom(page, notebook, capsys):
    images = sources.load("fashion_mnist_12k", "test").images[:4]
    names = {"__name__": "notebook", "images": images}
    with ExitStack() as opened:
        code = "\n".join(blocks(page))
        if "localhost:50051" in code:  # asks a server for the answer to a `frame`
            names["frame"] = sc_jax.load("runs/first").encode(images[0])
            code = code.replace("localhost:50051", opened.enter_context(served()))
        exec(compile(code, str(page), "exec"), names)
    assert capsys.readouterr().err.count("Traceback") == 0


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(module, flags) of every `python -m` of a page, code spans and blocks alike."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    found = []
    for line in re.findall(r"python -m ([^`\n#|]+)", text):
        try:
            module, *words = shlex.split(line.split("&&")[0])
        except ValueError:  # an apostrophe of the sentence behind it
            module, *words = line.split()
        found.append((module.rstrip(".,;:"), [w for w in words if w.startswith("--")]))
    return found


def flags_of(module: str) -> set[str]:
    """Names that a binary defines, read from its source: importing it defines them."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin, f"no module {module}"
    source = Path(spec.origin).read_text()
    defined = {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "").startswith("DEFINE_")
        and isinstance(node.args[0], ast.Constant)
    }
    added = re.findall(r"add_argument\(\s*\"--([\w-]+)", source)
    return defined | {name.replace("-", "_") for name in added}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_name_modules_and_flags_that_exist(page):
    for module, given in commands(page):
        if not module.startswith(("launch.", "benchmarks.")):
            continue
        known = flags_of(module) | {"help"}
        for flag in given:
            name = re.split(r"[=\s]", flag[2:])[0].rstrip(".,;:)").replace("-", "_")
            bare = name.removeprefix("no")
            assert name in known or bare in known, f"{page.name}: {module} {flag}"
