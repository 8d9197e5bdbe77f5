"""The directory of the configuration files, for a checkout and for an installed wheel."""

from __future__ import annotations

from pathlib import Path

from cis_seg.errors import ConfigError


def conf_dir() -> str:
    """Return the absolute path of the directory with ``config.yaml`` and its groups.

    It is ``conf/`` beside ``src/`` in a checkout (also with ``pip install -e``), and ``cis_seg/conf/`` in an installed wheel.
    The checkout takes precedence, so that an edited file takes effect. Neither depends on the working directory.

    Raises:
        ConfigError: neither exists (an incomplete copy of the repository, or a wheel built without its YAML files).
    """
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1]
    candidates = [package / "conf"]
    if package.parent.name == "src" and (checkout / "pyproject.toml").is_file():
        candidates.insert(0, checkout / "conf")
    for candidate in candidates:
        if candidate.is_dir():
            return str(candidate)
    raise ConfigError(
        "the configuration files of cis_seg are missing",
        where=package,
        expected=" or ".join(map(str, candidates)),
        remedy="clone the repository again, or reinstall the package",
    )
