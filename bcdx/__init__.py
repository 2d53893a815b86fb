"""bcdx: from breast MRI or mammography as DICOM to an honest answer about a fine-tuned InceptionV3.

Importing this package costs no TensorFlow: public names are loaded when they are first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bcdx import config
    from bcdx._recipes import load_recipe
    from bcdx.acquire import acquire_collection
    from bcdx.diagnose import diagnose_studies
    from bcdx.errors import BcdxError
    from bcdx.evaluate import evaluate_run
    from bcdx.export import export_run
    from bcdx.fit import fit_model
    from bcdx.shard import write_records
    from bcdx.tune import search_models

_HOMES = {
    "BcdxError": "bcdx.errors",
    "acquire_collection": "bcdx.acquire",
    "diagnose_studies": "bcdx.diagnose",
    "evaluate_run": "bcdx.evaluate",
    "export_run": "bcdx.export",
    "fit_model": "bcdx.fit",
    "load_recipe": "bcdx._recipes",
    "search_models": "bcdx.tune",
    "write_records": "bcdx.shard",
}

__all__ = [
    "BcdxError",
    "acquire_collection",
    "config",
    "diagnose_studies",
    "evaluate_run",
    "export_run",
    "fit_model",
    "load_recipe",
    "search_models",
    "write_records",
]


def __getattr__(name: str) -> Any:
    if name == "config":
        return import_module("bcdx.config")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bcdx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
