"""What every entry point does around Hydra: take paths as people type them, start the task, and turn a user's mistake into one message."""

from __future__ import annotations

import difflib
import functools
import glob
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from cis_seg.config.conf_dir import conf_dir
from cis_seg.errors import ConfigError, UserError

Task = Callable[[DictConfig], float | None]

EXIT_USER_ERROR = 2  # what argparse, and so Hydra's own options, exit with
EXIT_INTERRUPTED = 130  # what a shell reports for SIGINT: 128 + 2

_PATH_OVERRIDE = re.compile(
    r"(\+{0,2}(?:checkpoint|other|input|predictions|init_from|out|output|resume|paths\.\w+|data\.[\w.]*(?:root|annotations|images|_json)|"
    r"boxes|images(?!=\[[\d,\s]*\]$)|model\.backbone\.weights)=)(.*)",  # images=[7,8] is a list of ids
    re.DOTALL,
)
_SWEEP_FUNCTION = re.compile(r"(?:choice|glob|shuffle|sort)\(")
_FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's switch: it lets exceptions through instead of printing them itself


def quote_path_overrides(argv: list[str]) -> list[str]:
    """Quote the values of the path options for Hydra, so that they arrive as typed.

    Hydra parses a value: a comma starts a sweep, brackets a list, ``=``, ``~`` and parentheses are errors, ``1_0`` is a number. In quotes a
    path is a string. ``~`` at its start becomes the home directory. Left alone: every other argument, empty values, ``null``, ``true``,
    ``false``, and values that Hydra reads as one quoted string already. ``${...}`` is resolved as ever.

    In a multirun (``-m``, ``--multirun``, ``hydra.mode=MULTIRUN``) a comma is ambiguous: a value that names existing files (also as a glob
    pattern) is one path; any other is a sweep and its elements are quoted one by one, unless it holds quotes or is a function such as
    ``choice(...)``: then the user already speaks Hydra's grammar.
    """
    sweeping = any(argument in {"-m", "--multirun"} or argument.lower() == "hydra.mode=multirun" for argument in argv)
    return [_quote_override(argument, sweeping) for argument in argv]


def _quote_override(argument: str, sweeping: bool) -> str:
    match = _PATH_OVERRIDE.fullmatch(argument)
    if match is None:
        return argument
    key, value = match.groups()
    if not sweeping or glob.glob(os.path.expanduser(value)) or os.path.lexists(os.path.expanduser(value)):
        return key + _quote(value)
    if "'" in value or '"' in value or _SWEEP_FUNCTION.match(value):
        return argument
    return key + ",".join(map(_quote, value.split(",")))


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
    return isinstance(override._value, QuotedString)


def run_hydra(task: Task, config_name: str = "config") -> None:
    """Compose the configuration from the command line and run ``task`` on it: the body of an entry point's ``main``.

    All of Hydra's command line works (``-m``, ``--cfg job``, ``--help``, ...). A user's mistake, found while composing or raised by the
    task as ``UserError``, is printed as one message and ends the process with 2; an interrupt ends it with 130. Any other exception is
    ours and keeps its traceback, as do all of them under ``HYDRA_FULL_ERROR=1``.
    """
    sys.argv[1:] = quote_path_overrides(sys.argv[1:])
    try:
        main = hydra.main(version_base="1.3", config_path=conf_dir(), config_name=config_name)
        if os.environ.get(_FULL_ERROR) == "1":
            main(task)()
        else:
            with _environment(_FULL_ERROR, "1"):
                main(_stop_at_user_error(task))()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get(_FULL_ERROR) == "1":
            raise
        _stop(error)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns an interrupt into exit(1)
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _stop_at_user_error(task: Task) -> Task:
    """Report a mistake inside the job: an exception would pass through Hydra, which announces it in its own words first."""

    @functools.wraps(task)
    def run(cfg: DictConfig) -> float | None:
        with user_errors(), _environment(_FULL_ERROR, None):  # processes that the task starts have their own entry point
            return task(cfg)

    return run


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a user's mistake inside the block into one message and exit code 2."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _stop(error)


def _stop(error: Exception) -> NoReturn:
    print(f"error: {explain(error)}", file=sys.stderr)
    raise SystemExit(EXIT_USER_ERROR) from None


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set (or, with None, unset) an environment variable for the length of the block."""
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
    """Lightning hangs handlers of its own on its loggers at import; with Hydra's on the root logger each line would be printed twice."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def explain(error: BaseException) -> str:
    """The sentence for the user: what is wrong, where, what was expected and what to do.

    Args:
        error: a ``UserError`` (also one that came through a DataLoader's worker or ``hydra.utils.instantiate``), or an exception of Hydra
            or OmegaConf.
    """
    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, UserError):
            # a DataLoader re-raises with the worker's traceback as the text; ours is what follows the exception's name in its last line
            return re.split(r"^cis_seg\.errors\.\w+: ", str(link), flags=re.MULTILINE)[-1].strip()
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return str(_unknown_choice(error.missing_cfg_file, list(error.options)))
    if isinstance(error, OverrideParseException):
        return str(_unreadable(error))
    for link in chain:
        if key := _missing_key(link):
            return str(ConfigError(f"{key} is needed", expected="a value", remedy=f"set {key}=..."))
    for link in chain:
        if isinstance(link, ConfigKeyError | ConfigAttributeError) and link.full_key and link.parent_node is not None:
            return str(_unknown_key(str(link.full_key), link.parent_node._get_root(), _file_of(error)))
    lines = [line for link in chain[:2] for line in str(link).splitlines()]
    noise = ("reference_type=", "object_type=", "Config search path", "provider=")
    return "\n".join(dict.fromkeys(line for line in lines if not line.strip().startswith(noise))).strip()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _missing_key(error: BaseException) -> str | None:
    """The option without a value, also where another one refers to it."""
    if isinstance(error, InterpolationToMissingValueError):
        match = re.search(r"Missing mandatory value: (\S+)", str(error))
        return None if match is None else match[1]
    return error.full_key if isinstance(error, MissingMandatoryValue) else None


def _file_of(error: BaseException) -> str | None:
    match = re.match(r"In '([^']+)'", str(error))
    return None if match is None else f"{match[1]}.yaml"


def _unreadable(error: OverrideParseException) -> ConfigError:
    return ConfigError(
        f"the override {error.override} cannot be read",
        expected="key=value",
        found=next((line for line in error.message.splitlines() if not line.startswith("Error parsing")), None),
        remedy="quote a value with special characters for Hydra, and all of it for the shell: \"key='a,b'\"",
    )


def _unknown_choice(file: str, options: list[str]) -> ConfigError:
    group, _, option = file.rpartition("/")
    close = difflib.get_close_matches(option, options, n=1)
    remedy = f"did you mean {group}={close[0]}?" if close else None
    return ConfigError(f"{group}={option}: there is no such choice", expected=f"one of {', '.join(options)}", remedy=remedy)


def _unknown_key(key: str, config: DictConfig, file: str | None) -> ConfigError:
    known = [name for name in _dotted(OmegaConf.to_container(config)) if name.startswith("hydra.") == key.startswith("hydra.")]
    groups = sorted(path.name for path in Path(conf_dir()).iterdir() if path.is_dir())
    parent, _, leaf = key.rpartition(".")
    siblings = sorted(name for name in known if name.rpartition(".")[0] == parent)
    close = difflib.get_close_matches(key, siblings, n=1) + [name for name in known if name.rpartition(".")[2] == leaf]
    close += difflib.get_close_matches(key, known + groups, n=1)
    remedy = f"did you mean {' or '.join(list(dict.fromkeys(close))[:3])}?" if close else None
    expected = f"one of {', '.join(name.rpartition('.')[2] for name in siblings)}" if siblings else None
    return ConfigError(f"{key}: there is no such option", where=file, expected=expected, remedy=remedy)


def _dotted(tree: Any, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield f"{prefix}{key}"
        yield from _dotted(value, f"{prefix}{key}.")
