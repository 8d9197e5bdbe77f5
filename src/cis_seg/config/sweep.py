"""The jobs of a sweep, before the first one trains: no two of them may share a run folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cis_seg.errors import ConfigError

#: jobs that a message lists
LISTED = 4


def check_run_folders(arguments: Sequence[str]) -> None:
    """Compare the run folders of all jobs, if this is the first job of a sweep of training runs.

    Args:
        arguments: the command line in Hydra's grammar.

    Raises:
        ConfigError: jobs have the same folder; all but the first would be refused or report the first one's scores.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN or HydraConfig.get().job.num:
        return
    sweeper = OmegaConf.to_container(HydraConfig.get().sweeper)
    assert isinstance(sweeper, dict)
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = [argument for argument in arguments if "=" in argument or argument.startswith("~")]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    folders: dict[str, list[str]] = defaultdict(list)
    parsed = parser.parse_overrides([*params, *overrides])
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    for job in product(*(list(_values(override)) for override in parsed if not override.get_key_element().startswith("hydra."))):
        cfg = compose(HydraConfig.get().job.config_name, overrides=list(job))
        if _depends_on_job(cfg):
            return
        shown = [word for word in job if word.partition("=")[0] in swept]
        folders[str(cfg.paths.run)].append(" ".join(shown))
    shared = {folder: jobs for folder, jobs in folders.items() if len(jobs) > 1}
    if shared:
        folder, jobs = next(iter(shared.items()))
        more = f"\n    and {len(jobs) - LISTED} more" if len(jobs) > LISTED else ""
        raise ConfigError(
            "jobs of this sweep share a run folder",
            where=folder,
            expected="a folder for each job",
            found="\n    ".join(["", *jobs[:LISTED]]) + more,
            remedy=f"give each job a name of its own: {_distinct_name(swept)}",
        )


def _values(override: Override) -> Iterator[str]:
    """Yield the override once for each of its values; for an interval, of which a sweeper draws values, for its ends."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        yield str(override.input_line)
    elif isinstance(interval := override.value(), IntervalSweep):
        yield from (f"{key}={end}" for end in (interval.start, interval.end))
    else:
        yield from (f"{key}={value}" for value in override.sweep_string_iterator())


def _depends_on_job(cfg: DictConfig) -> bool:
    """Return whether the folder contains the number of the job, as in ``name=trial_${hydra:job.num}``."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return any("${hydra:" in str(value) for value in (plain["name"], *plain["paths"].values()))


def _distinct_name(swept: Sequence[str]) -> str:
    options = [key.lstrip("+") for key in swept if "." in key or key == "seed"]
    return f"'name=sweep_{'_'.join(f'${{{option}}}' for option in options)}'" if options else "name=..."
