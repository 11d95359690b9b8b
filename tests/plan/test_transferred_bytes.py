"""Bytes that a DDNN's devices send."""

import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.transferred_bytes import device_bytes


@pytest.mark.parametrize(
    ("filters", "left", "published"),
    [(1, 120, 14.4), (2, 126, 16.2), (4, 121, 21.4), (8, 122, 30.3)],
)
def test_the_published_bytes(filters, left, published):
    """3 classes, 8x8 maps; of the 171 test inputs about 70 % left at the devices.

    Published to the byte: 14, 16, 21, 30; `left` are the counts that fit.
    """
    assert round(device_bytes(3, filters, 64, left / 171), 1) == published


def test_all_leave_or_none():
    assert device_bytes(3, 4, 64, 1.0) == 12
    assert device_bytes(3, 4, 64, 0.0) == 12 + 4 * 64 / 8
    assert device_bytes(10, 0, 64, 0.0) == 40


@pytest.mark.parametrize("wrong", [(3, 1, 64, 1.1), (3, 1, 64, -0.1), (3, -1, 64, 0.5)])
def test_what_is_no_share_or_count_is_refused(wrong):
    with pytest.raises(UsageError):
        device_bytes(*wrong)
