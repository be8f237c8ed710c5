"""Owns the tests of the load generator: its own checks, and its verdicts on a run."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from bench import generator

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("make") is None,
    reason="needs a C compiler and make",
)


def test_codec_histogram_and_ids_hold_their_own_checks() -> None:
    generator.build()

    done = subprocess.run(
        [generator.LOADGEN, "selftest"], capture_output=True, timeout=30, check=False
    )

    assert done.returncode == 0, done.stderr.decode()


def test_options_become_flags_and_absent_ones_are_left_out() -> None:
    words = generator.arguments({"warmup_s": 1.5, "hold": True, "rate": None})

    assert words == ["--warmup-s", "1.5", "--hold"]
