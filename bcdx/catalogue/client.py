"""Settings in, an S3 client that needs no account out; and which errors of it pass by themselves."""

from __future__ import annotations

import os
import ssl
from functools import cache
from typing import Any

from bcdx.catalogue.extra import import_extra
from bcdx.config import Catalogue
from bcdx.errors import BcdxError

READ_SECONDS = 20
"""How long a line may be silent; so long a stop may take, too."""


def open_client(settings: Catalogue) -> Any:
    """Return a client for the endpoint.

    Raises:
        BcdxError: It cannot be one.
    """
    configuration = import_extra("botocore.config").Config(
        signature_version=import_extra("botocore").UNSIGNED,
        max_pool_connections=settings.connections,
        connect_timeout=20,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "max_attempts": 3},
    )
    try:
        return _open_session().client(
            "s3", endpoint_url=settings.endpoint_url, region_name="us-east-1", config=configuration
        )
    except (ValueError, import_extra("botocore.exceptions").BotoCoreError) as error:
        raise BcdxError(f"catalogue.endpoint_url {settings.endpoint_url!r} cannot be used: {error}") from error


@cache
def _open_session() -> Any:
    """Return a session that reads no profile: none is needed, and one that is named but missing is an error."""
    nothing = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    core = import_extra("botocore.session").Session(session_vars=nothing)
    return import_extra("boto3").Session(botocore_session=core)


def passing_errors() -> tuple[type[Exception], ...]:
    """Return what a broken connection raises, as against wrong settings or a full disk."""
    errors = import_extra("botocore.exceptions")
    return (
        errors.HTTPClientError, errors.ConnectionError, errors.IncompleteReadError, errors.FlexibleChecksumError,
        import_extra("urllib3.exceptions").HTTPError, ssl.SSLError, ConnectionError, TimeoutError,
    )  # fmt: skip
