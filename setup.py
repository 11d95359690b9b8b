"""Builds sc_jax/codec/rans.c as a plain shared library; pyproject.toml has the rest.

Optional: without a C compiler the install works and the coder runs in Python.
"""

import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NAMES = ["sc_rans_version", "sc_rans_prepare", "sc_rans_encode", "sc_rans_decode"]


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
