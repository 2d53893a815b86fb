"""Several processes on one search: Keras Tuner's chief and workers, and what happens when one of them is killed.

All run the same command on the same run folder (a shared file system) and differ in one variable:

    export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000      # where the chief listens
    KERASTUNER_TUNER_ID=chief   python -m bcdx.tune recipe.toml           # proposes, then refits, tests and writes
    KERASTUNER_TUNER_ID=worker0 python -m bcdx.tune recipe.toml           # trains; one such line per GPU
    KERASTUNER_TUNER_ID=worker1 python -m bcdx.tune recipe.toml

They may start in any order. A worker leaves with status 0 when the search is over. A killed one leaves its trial under
way, and the chief waits for it: started again under its old id, it goes on with that trial from what it saved last. A
killed chief is started again likewise: it plays its journal and knows what it knew, while the workers wait for it.
Precision `auto` must come to the same on all machines; where it does not, name one in the recipe.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from bcdx.errors import RunError, SettingsError
from bcdx.learning.watched import Watched

logger = logging.getLogger(__name__)

VARIABLES = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")
PATIENCE_S = 3600.0  # a chief may have shards to make first
ANSWER_S = 20.0
PAUSE_S = 0.2
LINGER_S = 10.0  # for workers that have nothing to do and have not asked again yet


class SearchLeftError(Exception):
    """The search is over for this worker: no fault, but there is no winner to return here."""


def is_worker() -> bool:
    """Return whether this process trains for a chief."""
    return _joins() and not is_chief()


def is_chief() -> bool:
    """Return whether this process proposes trials to workers."""
    return _joins() and "chief" in os.environ["KERASTUNER_TUNER_ID"]


def _joins() -> bool:
    """Return whether several processes search together.

    Raises:
        SettingsError: The environment says so in part.
    """
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return False
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise SettingsError(f"KERASTUNER_ORACLE_IP is set, but not {', '.join(missing)}; a search by workers needs all")
    return True


def _address() -> str:
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def wait_for_chief(is_over: Callable[[], bool]) -> None:
    """Return when the chief listens (it makes shards and run folder first) or there is nothing left to do.

    Raises:
        RunError: Neither happened within an hour.
    """
    logger.info("waiting for the chief at %s", _address())
    until = time.monotonic() + PATIENCE_S
    while not is_over() and not _listens():
        if time.monotonic() > until:
            raise RunError(_no_answer())
        time.sleep(PAUSE_S)


def _listens() -> bool:
    place = os.environ["KERASTUNER_ORACLE_IP"], os.environ["KERASTUNER_ORACLE_PORT"]
    try:
        socket.create_connection(place, timeout=ANSWER_S).close()
    except OSError:
        return False
    return True


def serve(oracle: Watched) -> None:
    """Answer workers until the search is over and every trial under way has ended.

    Raises:
        RunError: The address cannot be listened at.
    """
    servicer, said = OracleServicer(oracle), False
    server = grpc.server(ThreadPoolExecutor(max_workers=1))  # one question at a time
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    _listen(server)
    try:
        while not oracle.is_over or oracle.ongoing_trials:
            time.sleep(PAUSE_S)
            if oracle.is_over and not said:
                said = True
                logger.info("no trial is left to begin; waiting for %s", _spell_ongoing(oracle))
        until = time.monotonic() + LINGER_S
        while oracle.tuner_ids and time.monotonic() < until:
            time.sleep(PAUSE_S)
    finally:
        server.stop(grace=5.0).wait()


def _listen(server: Any) -> None:
    try:
        bound = server.add_insecure_port(_address())
    except RuntimeError:  # newer versions of gRPC raise, older ones return 0
        bound = 0
    if not bound:
        raise RunError(f"{_address()}: the chief cannot listen there; choose another KERASTUNER_ORACLE_IP or _PORT")
    server.start()


def _spell_ongoing(oracle: Watched) -> str:
    ongoing = dict(oracle.ongoing_trials).items()
    return ", ".join(f"trial {trial.trial_id} of {worker}" for worker, trial in ongoing) or "nothing"


class PatientStub:
    """Keras Tuner's stub of the chief, whose calls are made again where the chief was killed and comes back.

    Every call may be repeated: a trial under way is given again, one that has ended stays as it is.
    """

    def __init__(self, stub: Any, is_over: Callable[[], bool]) -> None:
        self._stub = stub
        self._is_over = is_over

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._stub, name)

        def ask(request: Any, **_: Any) -> Any:
            until = time.monotonic() + PATIENCE_S
            while time.monotonic() < until:
                try:
                    return call(request, wait_for_ready=True, timeout=ANSWER_S)
                except grpc.RpcError as error:
                    if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                        raise
                if self._is_over():
                    raise SearchLeftError
                time.sleep(PAUSE_S)
            raise RunError(_no_answer())

        return ask


def _no_answer() -> str:
    return f"no chief answered at {_address()} for {PATIENCE_S / 60:.0f} minutes; start it, or check the address"
