"""A TFDS builder without a download: 40 drawn 8x8 images of bars."""

import numpy as np
import tensorflow_datasets as tfds


class Builder(tfds.core.GeneratorBasedBuilder):
    """32 train and 8 test images; class 0 has an upright bar, class 1 a flat one."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3)),
            "label": tfds.features.ClassLabel(names=["upright", "flat"]),
            "number": np.int64,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            "train": self._generate_examples(0, 32),
            "test": self._generate_examples(32, 40),
        }

    def _generate_examples(self, first, end):
        for number in range(first, end):
            label = number % 2
            image = np.zeros((8, 8, 3), np.uint8)
            bar = number // 2 % 8
            image[(slice(None), bar) if label == 0 else bar] = 255 - number
            yield number, {"image": image, "label": label, "number": number}
