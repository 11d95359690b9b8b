"""Knobs that several recipes have: type, range and one line of help, as one name.

A knob of one recipe alone is `Annotated` in its own signature.
"""

from typing import Annotated

from sc_jax.data.augment import AUGMENTATIONS
from sc_jax.losses.terms import Reduction
from sc_jax.nets.backbones.registry import BACKBONES
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.spec import Knob

Epochs = Annotated[float, Knob("passes over the training images", at_least=0)]
LearningRate = Annotated[float, Knob("learning rate at its highest", above=0)]
BatchSize = Annotated[int, Knob("images a step, of all devices together", at_least=1)]
Seed = Annotated[int, Knob("of first parameters, order and augmentation", at_least=0)]
DataName = Annotated[str, Knob("data set, NAME[:...] of --list=data")]
TestName = Annotated[str | None, Knob("set that is tested instead; None: data's own")]
Augment = Annotated[str, Knob("how training images vary", choices=AUGMENTATIONS)]
ImageSize = Annotated[int | None, Knob("side to resize to; None: its own", at_least=1)]
DataDir = Annotated[str | None, Knob("where TFDS keeps prepared sets")]
Pretrained = Annotated[str | None, Knob("public checkpoint file to start from")]
BackboneName = Annotated[str, Knob("network, of --list=backbones", choices=BACKBONES)]

Beta = Annotated[float, Knob("weight of one bit of the estimated rate", at_least=0)]
Bits = Annotated[int, Knob("of one value that is sent", at_least=1, at_most=16)]
Channels = Annotated[int, Knob("of the latent that is sent", at_least=1)]
Rates = Annotated[
    int, Knob("of one trained network, by the width of bins", at_least=1, at_most=16)
]
Pair = Annotated[
    str, Knob("encoder and decoder, of bottlenecks/pairs.py", choices=PAIRS)
]
After = Annotated[
    str, Knob("stage kept before an inserted pair; empty: the first at 1/16 of a side")
]
Compressor = Annotated[str, Knob("NAME:knob=value+knob=value of --list=compressors")]
Crop = Annotated[int, Knob("side of a random square of each image; 0: all", at_least=0)]
Over = Annotated[Reduction, Knob("how a hint's squared errors are joined")]
Temperature = Annotated[float, Knob("softens both distributions", above=0)]
Logits = Annotated[
    float, Knob("weight of the KL to the teacher's answers in stage 1", at_least=0)
]
TeacherShare = Annotated[float, Knob("of the loss to labels", at_least=0, at_most=1)]

ExitWidth = Annotated[int, Knob("channels of an exit classifier", at_least=1)]
PoolSide = Annotated[int, Knob("side that an exit pools its feature to", at_least=1)]
Exits = Annotated[
    int, Knob("early exits, at equal shares of cost; 0: the usual places", at_least=0)
]
Place = Annotated[str, Knob("stage or group that the exit stands after")]
