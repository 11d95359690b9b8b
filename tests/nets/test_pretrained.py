"""Public checkpoints: read without PyTorch, nothing run, every tensor placed."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import classifier_net
from sc_jax.nets.checkpoints import pretrained, torch_file
from sc_jax.nets.run import run, variable_shapes
from sc_jax.traces.cost import macs, parameters


class Storage:
    """The numbers of one tensor, written outside the pickle."""

    def __init__(self, array, key):
        self.array, self.key = np.ascontiguousarray(array), key


class Stored(Storage):
    """What torch's pickle says of a tensor: a view of a storage."""

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        whole = Storage(self.array, self.key)
        return rebuild, (whole, 0, self.array.shape, strides, False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if type(obj) is not Storage:
            return None
        kind = sys.modules["torch"].FloatStorage
        return "storage", kind, obj.key, "cpu", obj.array.size, None


@pytest.fixture
def torch_like(monkeypatch):
    """Modules with the names that torch.save writes."""
    utils = types.ModuleType("torch._utils")
    whole = types.ModuleType("torch")
    exec("def _rebuild_tensor_v2(*a): pass", utils.__dict__)
    exec("class FloatStorage: pass", whole.__dict__)
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    whole.FloatStorage.__module__ = "torch"
    monkeypatch.setitem(sys.modules, "torch", whole)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def dumped(value) -> bytes:
    out = io.BytesIO()
    Pickler(out, protocol=2).dump(value)
    return out.getvalue()


def save(path, arrays: dict, form: str, inside: str | None = None) -> None:
    stored = OrderedDict(
        (k, Stored(v, str(i))) for i, (k, v) in enumerate(arrays.items())
    )
    whole = {inside: stored} if inside else stored
    if form == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("net/data.pkl", dumped(whole))
            for each in stored.values():
                file.writestr(f"net/data/{each.key}", each.array.tobytes())
        return
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    data = b"".join(pickle.dumps(part, 2) for part in head) + dumped(
        {inside: stored} if inside else stored
    )
    data += pickle.dumps([each.key for each in stored.values()], 2)
    for each in stored.values():
        data += struct.pack("<q", each.array.size) + each.array.tobytes()
    path.write_bytes(data)


ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "a.bias": np.array([1, -1], np.float32),
}


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_both_forms_of_checkpoint_are_read(torch_like, tmp_path, form):
    save(tmp_path / "net.pth", ARRAYS, form)
    found = torch_file.read(tmp_path / "net.pth")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_training_checkpoint_holds_its_state_dict(torch_like, tmp_path, form):
    save(tmp_path / "net.pth", ARRAYS, form, inside="state_dict")
    assert list(torch_file.read(tmp_path / "net.pth")) == list(ARRAYS)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_a_damaged_checkpoint_is_one_line(torch_like, tmp_path, form):
    save(tmp_path / "net.pth", ARRAYS, form)
    data = (tmp_path / "net.pth").read_bytes()
    for end in (0, 3, 40, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pth").write_bytes(data[:end])
        with pytest.raises(UsageError) as caught:
            torch_file.read(tmp_path / "cut.pth")
        assert "\n" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.writestr("a.txt", "a")
    with pytest.raises(UsageError, match=r"without data\.pkl"):
        torch_file.read(tmp_path / "photos.zip")
    with pytest.raises(UsageError, match="no checkpoint"):
        torch_file.read(tmp_path / "absent.pth")


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / "harm"), "w")

    (tmp_path / "net.pth").write_bytes(b"".join(pickle.dumps(Harm()) for _ in range(5)))
    with pytest.raises(UsageError, match="not a tensor's"):
        torch_file.read(tmp_path / "net.pth")
    assert not (tmp_path / "harm").exists()


def test_a_view_past_its_storage_is_refused():
    wrong = (((5,), (1,), 0), ((2,), (3,), 2), ((2,), (-1,), 1), ((9**9,), (0,), 0))
    for shape, strides, offset in wrong:
        view = torch_file._tensor(("FloatStorage", "0", 4), offset, shape, strides)
        with pytest.raises(ValueError, match="past its storage"):
            torch_file._array(view, {"0": bytes(16)})


# Blocks and channels of the seven groups, as the authors' code scales them.
LITE = {
    "efficientnet_lite0": ((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite1": ((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite2": ((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}
# Widths, blocks a group, side of the first kernel, classes.
RESNETS = {
    "resnet18": ((64, 128, 256, 512), 2, 7, 1000),
    "resnet20": ((16, 32, 64), 3, 3, 10),
}


def layers(backbone: str) -> dict[str, tuple[int, ...]]:
    """The public file's names and shapes, written from the paper's tables."""
    made: dict[str, tuple[int, ...]] = {}

    def conv(name, norm, out, inside, kernel):
        made[f"{name}.weight"] = (out, inside, kernel, kernel)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            made[f"{norm}.{leaf}"] = (out,)

    if backbone in RESNETS:
        widths, blocks, kernel, classes = RESNETS[backbone]
        before = widths[0]
        conv("conv1", "bn1", before, 3, kernel)
        for g, width in enumerate(widths, start=1):
            for i in range(blocks):
                at = f"layer{g}.{i}"
                conv(f"{at}.conv1", f"{at}.bn1", width, before, 3)
                conv(f"{at}.conv2", f"{at}.bn2", width, width, 3)
                if before != width:
                    down = f"{at}.downsample"
                    conv(f"{down}.0", f"{down}.1", width, before, 1)
                before = width
        return made | {"fc.weight": (classes, before), "fc.bias": (classes,)}
    if backbone in LITE:
        conv("_conv_stem", "_bn0", 32, 3, 3)
        before, i = 32, 0
        for count, width, kernel in zip(*LITE[backbone], (3, 3, 5, 3, 5, 5, 3)):
            for _ in range(count):
                at, wide = f"_blocks.{i}", 6 * before if i else before
                if i:
                    conv(f"{at}._expand_conv", f"{at}._bn0", wide, before, 1)
                conv(f"{at}._depthwise_conv", f"{at}._bn1", wide, 1, kernel)
                conv(f"{at}._project_conv", f"{at}._bn2", width, wide, 1)
                before, i = width, i + 1
        conv("_conv_head", "_bn1", 1280, before, 1)
        return made | {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    conv("features.0.0", "features.0.1", 32, 3, 3)
    channels = [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]
    before = 32
    for i, width in enumerate(channels, start=1):
        at, wide = f"features.{i}.conv", before if i == 1 else 6 * before
        if i > 1:
            conv(f"{at}.0.0", f"{at}.0.1", wide, before, 1)
        k = 0 if i == 1 else 1
        conv(f"{at}.{k}.0", f"{at}.{k}.1", wide, 1, 3)
        conv(f"{at}.{k + 1}", f"{at}.{k + 2}", width, wide, 1)
        before = width
    conv("features.18.0", "features.18.1", 1280, 320, 1)
    return made | {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


# Of a backbone the side of its images, its parameters, its millions of MACs. Published:
# 3.5 M and 300 M (Sandler et al. 2018); 4.7, 5.4, 6.1 M, and 407, 631, 899 M where more
# is counted than convolutions and the linear layer (Tan & Le's table of the Lite form);
# 0.27 M and 40.81 M (the log beside the public CIFAR-10 checkpoint).
COSTS = {
    "mobilenetv2": (224, 3_504_872, 301),
    "resnet18": (224, 11_689_512, 1814),
    "resnet20": (32, 272_474, 41),
    "efficientnet_lite0": (224, 4_652_008, 385),
    "efficientnet_lite1": (240, 5_416_680, 600),
    "efficientnet_lite2": (260, 6_092_072, 860),
}


@pytest.mark.parametrize("backbone", COSTS)
def test_every_tensor_of_a_checkpoint_finds_its_place(backbone, monkeypatch):
    """Each tensor holds a number of its own; all come back, and none is left fresh."""
    shapes = layers(backbone)
    arrays = {
        name: np.full(shape, i + 2, np.float32)
        for i, (name, shape) in enumerate(shapes.items())
    }
    monkeypatch.setattr(torch_file, "read", lambda file: arrays)
    side, count, millions = COSTS[backbone]
    net = classifier_net(
        backbone, RESNETS[backbone][-1] if backbone in RESNETS else 1000
    )
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
    like = variable_shapes(net, image)
    found = pretrained.load(backbone, net, like, "net.pth")
    leaves = jax.tree.leaves(found)
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
    values = sorted(float(leaf.flat[0]) for leaf in leaves)
    assert values == [i + 2 for i in range(len(shapes))]
    assert parameters(found.params) == count
    whole = lambda v, x: run(net, v, x)[0].predictions["final"]  # noqa: E731
    assert round(macs(whole, like, image) / 1e6) == millions


def test_of_other_classes_all_but_the_classifier_starts_from_it(monkeypatch, caplog):
    net = classifier_net("mobilenetv2", 10)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    like = variable_shapes(net, image)
    arrays = {k: np.zeros(s, np.float32) for k, s in layers("mobilenetv2").items()}
    monkeypatch.setattr(torch_file, "read", lambda file: arrays)
    with caplog.at_level("INFO"):
        found = pretrained.load("mobilenetv2", net, like, "net.pth")
    for tree, before in zip(found, like):
        for part, own in tree.items():
            fresh = [not isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(own)]
            assert all(fresh) if part == "fc" else not any(fresh), part
        assert jax.tree.structure(tree) == jax.tree.structure(before)
    (line,) = caplog.messages
    assert line == "net.pth has 1000 classes, here 10: its classifier starts afresh"
    with pytest.raises(UsageError, match="here 10, and nothing trains the classifier"):
        pretrained.load("mobilenetv2", net, like, "net.pth", trained=False)
    arrays["features.0.0.weight"] = np.zeros((16, 3, 3, 3), np.float32)
    with pytest.raises(UsageError, match=r"features\.0\.0\.weight is \(3, 3, 3, 16\)"):
        pretrained.load("mobilenetv2", net, like, "net.pth")


def test_a_checkpoint_of_another_net_is_one_line(monkeypatch):
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    arrays = {k: np.zeros(s, np.float32) for k, s in layers("mobilenetv2").items()}
    monkeypatch.setattr(torch_file, "read", lambda file: arrays)
    net, arrays["more"] = classifier_net("mobilenetv2", 1000), np.zeros(1, np.float32)
    like = variable_shapes(net, image)
    with pytest.raises(UsageError, match="has more too"):
        pretrained.load("mobilenetv2", net, like, "net.pth")
    del arrays["features.0.0.weight"]
    with pytest.raises(UsageError, match="another network"):
        pretrained.load("mobilenetv2", net, like, "net.pth")
    with pytest.raises(UsageError, match="no public checkpoint"):
        pretrained.load("cnn", classifier_net("cnn", 10), like, "net.pth")
