"""Identifiers in, keyed codes out: nothing that names a person goes further than this door."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from bcdx._files import write_bytes, write_json
from bcdx.errors import SettingsError

KEY_VARIABLE = "BCDX_PSEUDONYM_KEY"


@dataclass(frozen=True)
class Pseudonyms:
    """Turns identifiers into codes under a private key; the same identifier gives the same code."""

    key: bytes = field(repr=False)

    def code(self, kind: str, value: str) -> str:
        """Return 32 hexadecimal digits of HMAC-SHA256 over `kind` and `value`."""
        return hmac.new(self.key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()[:32]

    def check(self) -> str:
        """Return what tells whether codes were made under this key, and nothing else."""
        return self.code("key", "")


def load_key() -> bytes:
    """Return the private key: from BCDX_PSEUDONYM_KEY, else from the user's config directory, made once.

    Raises:
        SettingsError: The key can neither be read nor made.
    """
    if os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE].encode()
    path = Path(platformdirs.user_config_dir("bcdx")) / "pseudonym.key"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, secrets.token_hex(32).encode(), mode=0o600)
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"no pseudonym key: {path} cannot be made or read; set {KEY_VARIABLE}") from error


def split_digest(salt: str, patient_id: str) -> str:
    """Return SHA-256 of salt and PatientID: it decides the split, the same for everyone who has the data."""
    return hashlib.sha256(f"{salt}:{patient_id}".encode()).hexdigest()


def write_private_index(name: str, paths: Mapping[str, str]) -> Path:
    """Write code -> path where only the user can read it (mode 0600, the user's state directory)."""
    folder = Path(platformdirs.user_state_dir("bcdx"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_json(path, dict(paths), mode=0o600)
    return path
