"""Puts the compiled extension into a wheel where it can be built; all else is in pyproject.toml.

`BUILD_XFERQ_NATIVE=no` leaves it out (the wheel is pure Python then), `yes` fails where it can't be built.
"""

import os
import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

build = runpy.run_path(str(Path(__file__).parent / "streams" / "native" / "build.py"))["build"]


class NativeWheel(bdist_wheel):
    """A wheel for this platform and all versions of Python, if there is something compiled in it."""

    def run(self) -> None:
        is_built, said = build(os.environ.get("BUILD_XFERQ_NATIVE", "auto"))
        print(said)
        if is_built:
            self.distribution.has_ext_modules = lambda: True
            self.distribution.package_data.setdefault("streams.native", []).append("_native.abi3.so")
            self.root_is_pure = False
            self.py_limited_api = "cp311"
        super().run()


setup(cmdclass={"bdist_wheel": NativeWheel})
