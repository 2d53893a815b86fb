"""The shell's side of every verb: recipe + flags -> settings -> verb -> what the terminal shows, and exit status.

Status 0: done (or done before); 2: one line on stderr says what is wrong; 1: so does a fault of bcdx's own; 130:
interrupted, by Ctrl-C, SIGTERM or SIGHUP.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any

import tyro
from pydantic import Field, ValidationError

from bcdx import __version__, config
from bcdx._native import import_tensorflow
from bcdx._recipes import explain, load_recipe
from bcdx.errors import BcdxError, SettingsError

logger = logging.getLogger(__name__)

SHOWN_CHARACTERS = 300
STOPS = ("SIGTERM", "SIGHUP")
"""Signals, where the system has them, that stop a verb as Ctrl-C does: a scheduler's, and a closed terminal's."""


@dataclass(frozen=True)
class Verb:
    """How the shell calls a verb.

    Attributes:
        settings: Its settings; the class docstring is what `--help` says first.
        function: Where it lives, "module:name".
        out: Output folder when neither recipe nor flag names one.
        learns: Whether it needs TensorFlow from the start.
    """

    settings: type[config.Settings]
    function: str
    out: str | None = None
    learns: bool = True


class _Evaluate(config.Evaluate):
    __doc__ = config.Evaluate.__doc__
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Field(
        description=config.Evaluate.model_fields["run"].description
    )


class _Diagnose(config.Diagnose):
    __doc__ = config.Diagnose.__doc__
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Field(
        description=config.Diagnose.model_fields["run"].description
    )
    paths: Annotated[config.Paths, tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")] = Field(
        description=config.Diagnose.model_fields["paths"].description
    )


class _Export(config.Export):
    __doc__ = config.Export.__doc__
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = Field(
        description=config.Export.model_fields["run"].description
    )


VERBS = {
    "acquire": Verb(config.Acquire, "bcdx.acquire:acquire_collection", "tfrecords/phantom", learns=False),
    "shard": Verb(config.Dataset, "bcdx.shard:write_records", "tfrecords/phantom", learns=False),
    "tune": Verb(config.Tune, "bcdx.tune:search_models", "tuning/phantom"),
    "fit": Verb(config.Fit, "bcdx.fit:fit_model", "tuning/phantom_fit"),
    "evaluate": Verb(_Evaluate, "bcdx.evaluate:evaluate_run"),
    "diagnose": Verb(_Diagnose, "bcdx.diagnose:diagnose_studies"),
    "export": Verb(_Export, "bcdx.export:export_run"),
}

_RECIPE_NOTE = (
    "RECIPE, if given, comes first: a TOML file with these settings. A flag wins over the recipe, the recipe "
    "over the defaults. Research use only."
)
_VERBOSE_NOTE = "-v, --verbose: say more, tracebacks included."
_RUN_NOTE = "Research use only: not a medical device, and no substitute for a radiologist."


def main(arguments: Sequence[str] | None = None) -> int:
    """List the verbs, or run the one that is named first; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in VERBS:
        return run_verb(words[0], words[1:])
    if words == ["--version"]:
        sys.stdout.write(f"bcdx {__version__}\n")
        return 0
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(_list_verbs())
        return 0
    return _fail("bcdx", f"no verb {words[0]!r}; expected one of {', '.join(VERBS)}")


def run_verb(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run one verb as the shell would; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = f"bcdx.{name}"
    verbose = bool({"-v", "--verbose"} & set(words))
    _set_up_logging(verbose)
    try:
        settings = _read_settings(name, [word for word in words if word not in {"-v", "--verbose"}])
        if settings is not None:
            with _stopped_by_signals():
                result = _function(VERBS[name])(settings)
            _write_out(_describe(result))
    except (Exception, KeyboardInterrupt) as error:
        logger.debug("where it happened:", exc_info=True)
        return _explain_stop(program, error)
    return 0


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn `STOPS` into KeyboardInterrupt for the block, so that what is half written goes away.

    A signal that is ignored, as under nohup, or that a calling program handles itself, is left alone.
    """
    numbers = [getattr(signal, name) for name in STOPS if hasattr(signal, name)]
    in_charge = threading.current_thread() is threading.main_thread()  # no other thread may handle signals
    taken = [number for number in numbers if in_charge and signal.getsignal(number) is signal.SIG_DFL]
    owner = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)  # a forked worker, which its parent wants to be rid of
        os.kill(os.getpid(), number)

    try:
        for number in taken:
            signal.signal(number, stop)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _write_out(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain_stop(program: str, error: BaseException) -> int:
    """Say in one line why a verb stopped; return the exit status."""
    if isinstance(error, KeyboardInterrupt):
        resumes = VERBS[program.removeprefix("bcdx.")].out is not None
        advice = "the same command goes on where it stopped" if resumes else "nothing was written"
        sys.stderr.write(f"{program}: interrupted; {advice}\n")
        return 130
    if isinstance(error, BcdxError):
        return _fail(program, str(error))
    if isinstance(error, MemoryError):
        return _fail(program, "out of memory; try a smaller stream.batch_size, or fewer workers")
    if isinstance(error, OSError):
        return _fail(program, f"{error.strerror or error}: {error.filename or 'no file named'}")
    shown = f"{type(error).__name__}: {str(error)[:SHOWN_CHARACTERS]}"
    return _fail(program, f"{shown} (a fault of bcdx; -v shows where)", status=1)


def _read_settings(name: str, words: list[str]) -> config.Settings | None:
    verb = VERBS[name]
    default: Any = tyro.MISSING
    usage, note = f"python -m bcdx.{name}", _RUN_NOTE
    if verb.out is not None:
        usage, note = f"{usage} [RECIPE]", _RECIPE_NOTE
        default = verb.settings.model_validate({"out": verb.out})
        if words and not words[0].startswith("-"):
            default = load_recipe(words.pop(0), verb.settings)
    description = "\n\n".join((inspect.getdoc(verb.settings) or "", _VERBOSE_NOTE, note))
    return _parse(verb.settings, default, words, prog=usage, description=description)


def _parse(kind: type[config.Settings], default: Any, words: list[str], **texts: str) -> config.Settings | None:
    """Return the settings, or None where help was asked for and shown; tyro's box becomes one line."""
    said = io.StringIO()
    shown: dict[str, Any] = {} if default is tyro.MISSING else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            settings: config.Settings = tyro.cli(kind, args=words, **shown, **texts)  # type: ignore[call-overload]
            return settings
    except ValidationError as error:
        raise SettingsError(explain(error)) from error
    except SystemExit as stop:
        if not stop.code:
            return None
        raise SettingsError(_unbox(said.getvalue())) from stop


_NOISE = {
    r"Error parsing \w+: ": "",
    r" \[type=value_error[^]]*\]": "",
    r" \[type=\w+, input_value=(\S+), input_type=\w+\]": r", received \1",
    r" \[type=[^]]*\]": "",
    r" For further information visit \S+": "",
    r"\d+ validation errors? for \w+ |Value error, ": "",
}
"""What pydantic and tyro say around a message -> what is left of it."""


def _unbox(text: str) -> str:
    """Return the message inside tyro's box as one line; without a UTF-8 terminal the box is drawn with blanks."""
    drawn = "│" in text
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        inner = line.strip("│╭╮╰╯ ")
        if inner and set(inner) <= {"─", "-"}:
            parts.append([])
        elif not line.startswith(("╭", "╰")):
            parts[-1].append(inner)
    block = parts[0] if drawn or len(parts) == 1 else parts[1]
    message = re.sub(r"\s+", " ", " ".join(block)).strip()
    for noise, shown in _NOISE.items():
        message = re.sub(noise, shown, message)
    return f"{message} (see --help)" if message else "the flags could not be read (see --help)"


def _function(verb: Verb) -> Callable[[Any], Any]:
    if verb.learns:
        import_tensorflow()
    module, name = verb.function.split(":")
    function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
    return function


def _describe(result: Any) -> str:
    text = result.summary() if hasattr(result, "summary") else ""
    return text if not text or text.endswith("\n") else f"{text}\n"


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("bcdx").setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # advises to retrace less; each trial is another graph


def _fail(program: str, message: str, *, status: int = 2) -> int:
    line = re.sub(r"\s+", " ", message).strip()
    sys.stderr.write(f"{program}: error: {line}\n")
    return status


def _list_verbs() -> str:
    lines = ["usage: python -m bcdx.VERB [--help]", "", "verbs:"]
    for name, verb in VERBS.items():
        lines.append(f"  {name:<10}{(verb.settings.__doc__ or '').strip().splitlines()[0]}")
    return "\n".join([*lines, "", _RUN_NOTE, ""])
