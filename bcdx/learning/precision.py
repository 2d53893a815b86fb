"""Which numbers to calculate with, decided from the machine and the setting."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

JIT_COMPILE = False
"""XLA makes bfloat16 on CPUs slower than float32 and every first step long; oneDNN does better without."""


def resolve_policy(setting: str) -> str:
    """Return the Keras dtype policy for a `precision` setting.

    `auto`: with a GPU, mixed_bfloat16 from compute capability 8.0, mixed_float16 from 7.0; without one, mixed_bfloat16
    on CPUs with avx512_bf16; float32 otherwise.
    """
    if setting != "auto":
        return setting
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "mixed_bfloat16" if _cpu_has_bfloat16() else "float32"
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def _cpu_has_bfloat16() -> bool:
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False
