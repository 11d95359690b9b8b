"""EfficientNet-Lite against the PyTorch package that its public files are of."""

import jax
import numpy as np
import pytest

from sc_jax.nets.backbones.registry import backbone, classifier_net
from sc_jax.nets.checkpoints import pretrained
from sc_jax.nets.run import run, variable_shapes


# Even at every stride, odd at one, odd at all: where "SAME" pads unlike PyTorch.
@pytest.mark.parametrize(("member", "side"), [(0, 64), (1, 60), (2, 65)])
def test_parity_with_the_installed_package(member, side, tmp_path):
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    form = {"image_size": side, "num_classes": 10}
    theirs = package.EfficientNet.from_name(f"efficientnet-lite{member}", **form).eval()
    # Fresh statistics are 0 and 1, which would hide whose they are.
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, std=0.1)
            for each in (layer.running_var, layer.weight):
                torch.nn.init.uniform_(each, 0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "net.pth")

    name = f"efficientnet_lite{member}"
    net = classifier_net(name, 10, *backbone(name).normalisation)
    x = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    found = pretrained.load(name, net, variable_shapes(net, x), tmp_path / "net.pth")
    logits = jax.jit(lambda v, x: run(net, v, x)[0].predictions["final"])(found, x)
    with torch.no_grad():
        images = (torch.tensor(x).permute(0, 3, 1, 2) - 127.0) / 128.0
        expected = theirs(images).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.ptp(expected))
