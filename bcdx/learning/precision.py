"""Which numbers to calculate with, decided from the machine and the setting."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

JIT_COMPILE = False
"""XLA makes bfloat16 on CPUs slower than float32 and every first step long; oneDNN does better without."""


def resolve_policy(setting: str) -> str:
    """Return the Keras dtype policy for a `precision` setting.

    `auto`: with a GPU, mixed_bfloat16 from compute capability 8.0, mixed_float16 from 7.0, float32 otherwise; without
    one, what `choose_cpu_policy` says.
    """
    if setting != "auto":
        return setting
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return choose_cpu_policy(_read_cpuinfo())
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def choose_cpu_policy(cpuinfo: str) -> str:
    """Return mixed_bfloat16 for CPUs that calculate faster with it, else float32.

    Those are the CPUs with avx512_bf16, but for Intel's without amx_bf16: their vdpbf16ps gives a core no more
    multiply-adds per cycle than float32 has, and conversions come on top (figures: ARCHITECTURE.md).

    Args:
        cpuinfo: Content of /proc/cpuinfo; empty where there is none.
    """
    flags = set(_read_field(cpuinfo, "flags").split())
    if _read_field(cpuinfo, "vendor_id") == "GenuineIntel" and "amx_bf16" not in flags:
        return "float32"
    return "mixed_bfloat16" if "avx512_bf16" in flags else "float32"


def _read_field(cpuinfo: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*?)\s*$", cpuinfo, re.MULTILINE)
    return found[1] if found else ""


def _read_cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return ""
