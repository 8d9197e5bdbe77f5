"""The command line: accept paths as typed, run the task through Hydra, and report a user's mistake as one message."""

from __future__ import annotations

import functools
import glob
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import NoReturn

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig

from cis_seg.config.arguments import is_sweep, normalised, quote_letters
from cis_seg.config.command_schema import options_of
from cis_seg.config.messages import explain, is_mistake
from cis_seg.config.paths import conf_dir
from cis_seg.runtime.compat import override_value

Task = Callable[[DictConfig], float | None]

EXIT_USER_ERROR = 2  # as argparse, and so Hydra's own options
EXIT_INTERRUPTED = 130  # as a shell reports SIGINT: 128 + 2

_SWEEP_FUNCTION = re.compile(r"(?:choice|glob|shuffle|sort)\(")
_FULL_ERROR = "HYDRA_FULL_ERROR"  # makes Hydra raise exceptions instead of printing them


def prepared(argv: list[str], config: str) -> list[str]:
    """Return the command line as Hydra reads it, see ``normalised`` and ``quote_path_overrides``.

    Args:
        argv: the arguments.
        config: the command's config file, without ``.yaml``.

    Raises:
        ConfigError: an argument is neither an override nor a flag of Hydra.
    """
    paths = {name for name, option in options_of(config).items() if option.metadata["path"] is not None}
    return [quote_letters(argument) for argument in quote_path_overrides(normalised(argv, config), paths)]


def quote_path_overrides(argv: list[str], paths: Collection[str]) -> list[str]:
    """Quote the values of the path options for Hydra, so that they arrive as typed.

    Hydra parses values: a comma starts a sweep, brackets start a list, ``=``, ``~`` and parentheses are errors, ``1_0`` is a number.
    A quoted path is a string. A leading ``~`` becomes the home directory, and ``${...}`` is still resolved. Unchanged: all other
    arguments, empty values, ``null``, ``true``, ``false``, and values that Hydra already reads as one quoted string.

    In a multirun (``-m``, ``--multirun``, ``hydra.mode=MULTIRUN``) a comma is ambiguous. A value that names existing files (also as a glob
    pattern) is one path. Any other value is a sweep whose elements are quoted one by one, unless it contains quotes or is a function such
    as ``choice(...)``, which is Hydra's own grammar.

    Args:
        argv: the arguments.
        paths: names of the path options.
    """
    sweeping = is_sweep(argv)
    return [_quote_override(argument, sweeping) if _key(argument) in paths else argument for argument in argv]


def _key(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+") if "=" in argument else ""


def _quote_override(argument: str, sweeping: bool) -> str:
    key, _, value = argument.partition("=")
    if not sweeping or glob.glob(os.path.expanduser(value)) or os.path.lexists(os.path.expanduser(value)):
        return f"{key}={_quote(value)}"
    if "'" in value or '"' in value or _SWEEP_FUNCTION.match(value):
        return argument
    return f"{key}={','.join(map(_quote, value.split(',')))}"


def _quote(value: str) -> str:
    if value.lower() in {"", "null", "true", "false"} or _is_quoted(value):
        return value
    return QuotedString(os.path.expanduser(value), Quote.single).with_quotes()


def _is_quoted(value: str) -> bool:
    if value[0] not in "'\"" or value[0] != value[-1]:
        return False
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return isinstance(override_value(override), QuotedString)


def run_hydra(task: Task, config_name: str = "config") -> None:
    """Compose the configuration from the command line and run ``task`` on it.

    Hydra's own options work (``-m``, ``--cfg job``, ``--info`` ...). A user's mistake, found while composing or raised by the task as
    ``UserError``, is printed as one message and exits with 2; an interrupt exits with 130. Any other exception is a bug and keeps its
    traceback, as every exception does under ``HYDRA_FULL_ERROR=1``.
    """
    try:
        sys.argv[1:] = prepared(sys.argv[1:], config_name)
        main = hydra.main(version_base="1.3", config_path=conf_dir(), config_name=config_name)
        if os.environ.get(_FULL_ERROR) == "1":
            main(task)()
        else:
            with _environment(_FULL_ERROR, "1"):
                main(_stop_at_user_error(task))()
    except Exception as error:
        if os.environ.get(_FULL_ERROR) == "1" or not is_mistake(error):
            raise
        _stop(error)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns an interrupt into exit(1), with the KeyboardInterrupt as context
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _stop_at_user_error(task: Task) -> Task:
    """Report a mistake inside the job, before Hydra adds its own message to the exception."""

    @functools.wraps(task)
    def run(cfg: DictConfig) -> float | None:
        with user_errors(), _environment(_FULL_ERROR, None):  # processes that the task starts report for themselves
            return task(cfg)

    return run


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a user's mistake inside the block into one message and exit code 2."""
    try:
        yield
    except Exception as error:
        if not is_mistake(error):
            raise
        _stop(error)


def _stop(error: Exception) -> NoReturn:
    print(f"error: {explain(error)}", file=sys.stderr)
    raise SystemExit(EXIT_USER_ERROR) from None


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable inside the block; None unsets it."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def log_lightning_once() -> None:
    """Remove the handlers that Lightning adds to its loggers at import; with Hydra's root handler each line would appear twice."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
