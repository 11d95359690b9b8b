"""Heads as .tflite: the same symbols as JAX, and refusals that name the operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from sc_jax.deploy.device.runtime import Runner
from sc_jax.deploy.export import convert, segments
from sc_jax.deploy.export.convert import ExportError
from sc_jax.errors import UsageError
from sc_jax.nets.net import head
from sc_jax.nets.run import run


@pytest.fixture(scope="module")
def made(student, images):
    """dtype -> Segment, converted once."""
    recipe, variables, cut, codec = student
    found = {}

    def get(dtype):
        if dtype not in found:
            found[dtype] = segments.head_segment(
                recipe.net, variables, cut, codec, images, dtype=dtype
            )
        return found[dtype]

    return get


def test_a_float32_head_gives_the_symbols_of_jax(made):
    parity = made("float32").parity
    assert parity.examples == 96 and parity.different <= parity.ties
    assert parity.largest <= 1


def test_symbols_are_not_all_one_number(made, images):
    symbols = Runner(made("float32").model)(images)["symbols"]
    assert symbols.dtype == np.int32 and len(np.unique(symbols)) > 5


@pytest.mark.parametrize(
    ("dtype", "size", "share"),
    [("float16", 0.6, 0.01), ("int8_weights", 0.35, 0.05), ("dynamic", 0.35, 0.1)],
)
def test_smaller_heads_are_smaller_and_near(made, dtype, size, share):
    small, whole = made(dtype), made("float32")
    assert len(small.model) < size * len(whole.model)
    assert small.parity.different <= share * small.parity.symbols
    assert small.parity.largest <= 2


def test_an_int8_head_computes_in_integers(made):
    found = made("int8")
    assert "QUANTIZE" in convert.operations(found.model)
    assert found.parity.different <= 0.35 * found.parity.symbols


def test_an_int8_head_leaves_divisions_in_float_unless_told(made, student, images):
    recipe, variables, cut, codec = student
    every = segments.head_segment(
        recipe.net, variables, cut, codec, images, dtype="int8", float_ops=()
    )
    default, integers = (
        convert.operations(found.model).count("DEQUANTIZE")
        for found in (made("int8"), every)
    )
    assert default > integers


def test_any_batch_and_one_at_a_time_agree(made, images):
    runner = Runner(made("float32").model)
    whole = runner(images[:7])["symbols"]
    single = [runner(image[None])["symbols"][0] for image in images[:7]]
    assert np.array_equal(whole, np.stack(single))


def test_the_packed_symbols_are_the_codecs_own_bytes(student, made, images):
    recipe, variables, cut, codec = student
    symbols = Runner(made("float32").model)(images)["symbols"]
    latents = run(head(recipe.net, cut), variables, images)[0].features[cut]
    same = [
        codec.pack(s) == codec.encode(np.asarray(z)) for s, z in zip(symbols, latents)
    ]
    assert sum(same) >= len(same) - made("float32").parity.different


def test_conversion_is_deterministic(student, made, images):
    recipe, variables, cut, codec = student
    again = segments.head_segment(recipe.net, variables, cut, codec, images[:4])
    assert again.model == made("float32").model


def test_an_operation_that_litert_lacks_is_named(images):
    def program(image):
        return {"out": jnp.sort(image.astype(jnp.float32), axis=1)}

    with pytest.raises(ExportError, match="sort") as caught:
        convert.convert(*segments.lower(program, images[:1]))
    assert "\n" not in str(caught.value)


def test_junk_is_one_line(made):
    with pytest.raises(ExportError) as caught:
        convert.convert(b"junk", made("float32").signature)
    assert "\n" not in str(caught.value)


def test_unknown_names_list_the_known(made):
    found = made("float32")
    with pytest.raises(UsageError, match="int8_weights"):
        convert.quantise(found.model, "int4", found.signature)
    with pytest.raises(UsageError, match="CONV_2D"):
        convert.quantise(found.model, "dynamic", found.signature, (), ("CONV2D",))
    with pytest.raises(ExportError, match="calibrate"):
        convert.quantise(found.model, "int8", found.signature)


def test_the_input_as_a_cut_leaves_no_head(student):
    recipe, variables, _, codec = student
    with pytest.raises(UsageError, match="nothing to run"):
        segments.program(recipe.net, variables, stop="input", codec=codec)


def test_lowering_holds_no_barrier(student, images):
    recipe, variables, cut, codec = student
    program = segments.program(recipe.net, variables, stop=cut, codec=codec)
    text = str(jax.make_jaxpr(program)(images[:1]))
    assert "optimization_barrier" not in text and "cond" not in text
