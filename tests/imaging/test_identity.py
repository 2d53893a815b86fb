"""Claims about codes, the key, and the private index."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bcdx.errors import SettingsError
from bcdx.imaging.identity import Pseudonyms, load_key, split_digest, write_private_index


def test_code_depends_on_key_kind_and_value() -> None:
    """The same identifier under another key, or of another kind, has another code."""
    codes = {Pseudonyms(key).code(kind, value) for key in (b"a", b"b") for kind in ("x", "y") for value in ("1", "2")}
    assert len(codes) == 8
    assert {32} == {len(code) for code in codes}


def test_key_is_not_shown() -> None:
    """A logged object does not give the key away."""
    assert "secret" not in repr(Pseudonyms(b"secret"))


def test_split_digest_is_public() -> None:
    """Everyone with the data computes the same split."""
    assert split_digest("salt", "P1") == hashlib.sha256(b"salt:P1").hexdigest()


def test_key_is_made_once_and_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the variable a random key is kept in the user's config directory, mode 0600."""
    monkeypatch.delenv("BCDX_PSEUDONYM_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load_key() == load_key()
    assert 0o600 == (tmp_path / "bcdx" / "pseudonym.key").stat().st_mode & 0o777


def test_key_that_cannot_be_made_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the variable that helps."""
    monkeypatch.delenv("BCDX_PSEUDONYM_KEY")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match="BCDX_PSEUDONYM_KEY"):
        load_key()


def test_private_index_is_for_the_user_alone() -> None:
    """Mode 0600, code -> path."""
    path = write_private_index("test", {"code": "/somewhere/a.dcm"})
    assert 0o600 == path.stat().st_mode & 0o777
    assert {"code": "/somewhere/a.dcm"} == json.loads(path.read_text())
