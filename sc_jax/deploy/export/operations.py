"""The operations that exported segments may hold."""

from sc_jax.deploy.export.convert import ExportError, operations

# What tests have exported and found equal to JAX, by what needs it; anything else is
# refused. A new family adds its operations here and itself to tests/deploy.
OPERATIONS = {
    "any batch": "BROADCAST_TO CAST CONCATENATION EXPAND_DIMS GATHER RESHAPE SHAPE "
    "SLICE UNSORTED_SEGMENT_PROD",
    "uint8 images": "CAST MUL SUB",
    "symbols": "CAST ROUND SUB",
    "affine": "DIV EQUAL GREATER_EQUAL MAXIMUM MINIMUM REDUCE_MAX REDUCE_MIN "
    "RELU_0_TO_1 SELECT",  # the clip of one bit
    "cnn": "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED MAX_POOL_2D",
    "resnet": "ADD CONV_2D FULLY_CONNECTED MAX_POOL_2D PAD SUM",
    "mobilenetv2": "ADD CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED PAD SUM",
    "fp": "ABS CONV_2D DEPTHWISE_CONV_2D DIV LOGISTIC PAD TRANSPOSE",
    "cr, hnd": "CONV_2D MAX_POOL_2D PAD",
    "activations": "ABS ADD EXP GELU GREATER HARD_SWISH LEAKY_RELU LOG LOGISTIC "
    "MUL NEG NOT_EQUAL RELU RELU6 SELECT SUB TANH",
    "norms, softmax": "ABS ADD CEIL DIV EXP FLOOR LOG MAXIMUM MUL REDUCE_MAX RSQRT "
    "SIGN SQRT SUB SUM",
    "pools": "ADD MAX_POOL_2D MUL PAD STRIDED_SLICE",
    "attention": "BATCH_MATMUL DIV EXP MAXIMUM REDUCE_MAX SUB SUM TRANSPOSE",
}


def check(model: bytes) -> None:
    """ExportError naming the operations of a segment that are not in OPERATIONS."""
    known = {op for group in OPERATIONS.values() for op in group.split()}
    odd = sorted({*operations(model)} - known)
    if odd:
        raise ExportError(
            f"{', '.join(odd)}: not among the operations that are tested to export "
            f"right ({', '.join(sorted(known))})"
        )
