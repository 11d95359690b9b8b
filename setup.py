"""Builds sc_jax/codec/rans.c as a plain shared library; pyproject.toml has the rest.

Optional: without a C compiler the install works and the coder runs in Python.
"""

import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

RANS = ("version", "prepare", "encode", "decode")
NAMES = [f"sc_rans_{name}" for name in RANS] + ["sc_context_rows", "sc_context_decode"]


class PlainLibrary(build_ext):
    """Exports only the named functions: the file is loaded by ctypes, not imported."""

    def get_export_symbols(self, ext):
        return ext.export_symbols


setup(
    cmdclass={"build_ext": PlainLibrary},
    ext_modules=[
        Extension(
            "sc_jax.codec._rans",
            ["sc_jax/codec/rans.c"],
            export_symbols=NAMES,
            extra_compile_args=[] if sys.platform == "win32" else ["-std=c99", "-O3"],
            optional=True,
        )
    ],
)
