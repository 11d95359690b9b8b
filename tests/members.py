"""Backbones of files that no list of a slow test names yet, the shallowest of each."""

from sc_jax.nets.backbones.registry import BACKBONES

# Files whose members the tests choose by name, by what they cost and cover.
NAMED = (
    *("cnn", "resnet", "mobilenetv2", "alexnet", "nin", "vgg", "wrn", "icnn"),
    *("multiview", "skipnet", "msdnet", "ranet", "efficientnet_lite"),
)


def newcomers() -> list[str]:
    found: dict[str, str] = {}
    for name in sorted(BACKBONES, key=lambda n: len(BACKBONES[n].groups)):
        build = BACKBONES[name].build
        file = getattr(build, "func", build).__module__.rpartition(".")[2]
        if file not in NAMED:
            found.setdefault(file, name)
    return list(found.values())


NEW = newcomers()
