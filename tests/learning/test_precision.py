"""Claims about which numbers `auto` calculates with."""

from __future__ import annotations

import pytest
import tensorflow as tf

from bcdx.learning.precision import choose_cpu_policy, resolve_policy


def cpuinfo(vendor: str, *flags: str) -> str:
    return (
        f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: some\nflags\t\t: fpu {' '.join(flags)} ht\nbugs\t\t:\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cpuinfo("AuthenticAMD", "avx512f", "avx512_bf16"), "mixed_bfloat16"),
        (cpuinfo("GenuineIntel", "avx512_bf16", "amx_bf16"), "mixed_bfloat16"),
        (cpuinfo("GenuineIntel", "avx512f", "avx512_bf16"), "float32"),  # has the instruction, and is slower with it
        (cpuinfo("AuthenticAMD", "avx512f"), "float32"),
        (cpuinfo("GenuineIntel", "avx2"), "float32"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", "float32"),  # ARM has other fields
        ("", "float32"),
    ],
)
def test_cpu_policy_is_bfloat16_only_where_it_is_faster(text: str, expected: str) -> None:
    """Vendor and flags decide."""
    assert expected == choose_cpu_policy(text)


def test_explicit_setting_stands_whatever_the_machine() -> None:
    """Nothing is looked up."""
    assert "mixed_float16" == resolve_policy("mixed_float16")


@pytest.mark.parametrize(
    ("capability", "expected"), [((8, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")]
)
def test_gpu_policy_follows_the_compute_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    """A GPU is asked before the CPU."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: {"compute_capability": capability})
    assert expected == resolve_policy("auto")
