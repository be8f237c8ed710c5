"""Builds the Cython extensions in tchatd_ext.

TCHATD_BUILD=release (default): optimised. =debug: bounds checks, assertions and
profiling symbols. =asan: debug under AddressSanitizer (run with libasan preloaded).
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

MODE = os.environ.get("TCHATD_BUILD", "release")
FLAGS = {
    "release": (["-O3", "-g1", "-fno-semantic-interposition"], []),
    "debug": (["-O1", "-g", "-UNDEBUG"], []),
    "asan": (
        ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer", "-fsanitize=address"],
        ["-fsanitize=address"],
    ),
}
if MODE not in FLAGS:
    raise SystemExit(f"TCHATD_BUILD={MODE}: choose one of {', '.join(FLAGS)}")

LIBRARIES = {"frame": ["z"]}
CHECKED = MODE != "release"
compile_args, link_args = FLAGS[MODE]

extensions = [
    Extension(
        f"tchatd_ext.{source.stem}",
        [str(source)],
        libraries=LIBRARIES.get(source.stem, []),
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for source in sorted(Path("tchatd_ext").glob("*.pyx"))
]


class BuildPython(build_py):
    """Puts tchatd.toml, which is written once at the root, into the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "tchatd", "app", "tchatd.toml")
            self.mkpath(str(target.parent))
            self.copy_file("tchatd.toml", str(target))


setup(
    cmdclass={"build_py": BuildPython},
    ext_modules=cythonize(
        extensions,
        build_dir=f"build/cython-{MODE}",
        force=CHECKED,
        compiler_directives={
            "language_level": 3,
            "boundscheck": CHECKED,
            "wraparound": False,
            "initializedcheck": CHECKED,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
)
