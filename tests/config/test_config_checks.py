"""Random values for every option of every schema: each composes and can be built from, or is refused by its dotted name."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cis_seg.build import build_data, crowd_spec
from cis_seg.config import command_schema, loss_schema, schema
from cis_seg.config.messages import explain
from cis_seg.config.paths import conf_dir
from cis_seg.config.plain import to_dataclass
from cis_seg.config.validation import checked, conflicts, problems
from cis_seg.data.odgt import BOX_KEYS
from cis_seg.data.synthetic.spec import PRESETS
from cis_seg.errors import ConfigError, UserError
from cis_seg.losses.overlap import REDUCTIONS
from cis_seg.model.build import build_model
from cis_seg.model.resnet import ARCHITECTURES
from cis_seg.training.optim import build_optimizer
from runs import composed, small_run

DATA = ("coco", "crowdhuman", "crowd")
#: every other command
OTHERS = sorted(path.stem for path in Path(conf_dir()).glob("*.yaml") if path.stem != "config")
#: theirs, built by ``_target_``; ``defaults`` is Hydra's
FOREIGN = {"defaults", "trainer", "logger", "callbacks"}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, type, Any]]:
    """Dotted name, owning schema and value of every option."""
    for option in fields(node):
        if option.name in FOREIGN:
            continue
        value = getattr(node, option.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{option.name}.")
        else:
            yield prefix + option.name, type(node), value


def base_of(name: str, *overrides: str) -> DictConfig:
    """A sound config of a command, as far as no file is looked at."""
    cfg = composed(*overrides, name=name)
    cfg.update({key: None for key in ("logger", "callbacks") if key in cfg})
    if "output" in cfg.keys():  # noqa: SIM118  # in a DictConfig ``in`` resolves it, for which Hydra must run
        cfg.output = "/nowhere"
    for key in OmegaConf.missing_keys(cfg):
        OmegaConf.update(cfg, key, "/nowhere")
    trainer = OmegaConf.to_container(cfg.trainer) if "trainer" in cfg else None
    OmegaConf.resolve(cfg)  # because a thousand examples would parse the same interpolations again
    if trainer is not None:
        cfg.trainer = trainer  # with its references to options that an example changes
    return cfg


RUNS = {data: base_of("config", f"data={data}") for data in DATA}
LEAVES = {data: {key: owner for key, owner, _ in leaves(checked(cfg))} for data, cfg in RUNS.items()}
OPTIONS = [(data, key) for data, keys in LEAVES.items() for key in keys if data == "coco" or key not in LEAVES["coco"]]

NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.integers(),
    st.sampled_from([2**31, 2**63, -(2**70), 10**30]),
    st.floats(),
    st.floats(0, 1),
)
TEXTS = st.one_of(st.text(max_size=5), st.sampled_from(["", "nan", "inf", "-1", "1e3", "true", "../x", "/x", "a\0b", "x" * 300, "${nope}"]))
SCALARS = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none())
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=5), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2))


def refusal(cfg: DictConfig, key: str, value: Any) -> str | None:
    """What the user would read, or None where a run can be built; any other exception is a traceback from inside a library."""
    before = copy.deepcopy(OmegaConf.select(cfg, key))
    try:
        OmegaConf.update(cfg, key, value, merge=False)
        typed = checked(cfg)
        if isinstance(typed, schema.Config):
            build(typed, key.partition(".")[0])
    except (UserError, OmegaConfBaseException, HydraException) as error:
        return explain(error)
    finally:
        OmegaConf.update(cfg, key, before, merge=False)
    return None


def build(cfg: schema.Config, group: str) -> None:
    """What a run makes of an option of ``group`` before it reads a file, the network without memory."""
    if isinstance(cfg.data, schema.CrowdData):
        crowd_spec(cfg.data)
    elif group == "data":
        build_data(cfg.data, home=Path("/nowhere"), optim=cfg.optim, seed=cfg.seed)
    elif group == "model":
        with torch.device("meta"):
            build_model(cfg.model, 1)
    elif group in ("optim", "schedule"):
        _, schedule = build_optimizer(torch.nn.Linear(1, 1), cfg.optim, cfg.schedule)
        assert all(math.isfinite(schedule.lr_lambdas[0](step) * cfg.optim.lr) for step in (0, 1, 2, cfg.schedule.max_steps))


#: what people and scripts get wrong
SLIPS = (-1, 0, 1, 10**30, math.nan, math.inf, -0.5, 1e-9, "", "nan", "a\0b", True, None, [], [-1], [math.nan, 2, 3, 4], {})


@pytest.mark.parametrize("group", sorted({key.partition(".")[0] for _, key in OPTIONS}))
def test_mistyped_value_of_any_option_works_or_is_rejected_by_name(group: str) -> None:
    wrong = []
    for data, key in OPTIONS:
        for value in SLIPS if key.partition(".")[0] == group else ():
            message = refusal(RUNS[data], key, value)
            if message is not None and (key not in message or "Traceback" in message):
                wrong.append((key, value, message))
    assert not wrong


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(option=st.sampled_from(OPTIONS), value=VALUES)
def test_random_value_of_any_option_works_or_is_rejected_by_name(option: tuple[str, str], value: Any) -> None:
    data, key = option
    message = refusal(RUNS[data], key, value)
    assert message is None or key in message, message


@pytest.mark.parametrize("name", OTHERS)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.data())
def test_value_of_any_option_of_other_commands_works_or_is_rejected_by_name(name: str, drawn: st.DataObject) -> None:
    cfg = _other(name)
    key = drawn.draw(st.sampled_from([key for key, _, _ in leaves(checked(cfg))]))
    message = refusal(cfg, key, drawn.draw(st.one_of(st.sampled_from(SLIPS), VALUES)))
    assert message is None or key in message, message


_other = functools.cache(base_of)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.data(), group=st.sampled_from(["optim", "schedule", "loss", "data"]))
def test_a_command_line_is_composed_or_refused_by_name(drawn: st.DataObject, group: str) -> None:
    """Through Hydra's own grammar, with names that do not exist among the others."""
    known = [key for key in LEAVES["crowd"] if key.startswith(f"{group}.") and key != "data.root"]
    key = drawn.draw(st.sampled_from([*known, f"{group}.nope", f"{known[0]}x"]))
    value = drawn.draw(st.sampled_from(["-1", "nan", "1e400", "[]", "[1,2]", "{a:1}", "null", "''", "x", "${nope}", "0.5", "3", "true"]))
    message = ""
    try:
        checked(composed(f"{key}={value}"))
    except (UserError, OmegaConfBaseException, HydraException) as error:
        message = explain(error)
    assert key in message if message else key in known


def numeric(annotation: str) -> bool:
    return any(kind in annotation for kind in ("int", "float"))


def test_every_number_of_every_schema_has_a_range() -> None:
    schemas = {
        kind for module in (schema, command_schema) for kind in vars(module).values() if is_dataclass(kind) and isinstance(kind, type)
    }
    without = [
        f"{kind.__name__}.{option.name}"
        for kind in schemas
        for option in fields(kind)
        if numeric(str(option.type)) and option.metadata.get("rule") is None
    ]
    assert set(without) <= {"FigureConfig.images"}, "an id may be any number"
    assert len(schemas) > 20


def test_allowed_values_are_those_that_the_consumer_supports() -> None:
    """The consumers look them up in tables of their own, which the config room, the lowest, cannot import."""
    tables = {
        (schema.BackboneConfig, "depth"): ARCHITECTURES,
        (schema.CrowdHumanData, "boxes"): BOX_KEYS,
        (schema.CrowdData, "preset"): PRESETS,
        (loss_schema.OverlapConfig, "reduction"): REDUCTIONS,
    }
    for (kind, name), table in tables.items():
        (option,) = (option for option in fields(kind) if option.name == name)
        assert option.metadata["rule"].expected == " or ".join(map(str, table)), name


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["model.head_norm_groups=3"], "model.head_norm_groups", "model.head_norm_groups=2"),
        (["model.size_ranges=[64,32,128,256]"], "model.size_ranges", "do not increase"),
        (["optim.batch_size=6", "optim.accumulate=4"], "optim.batch_size", "optim.batch_size=8"),
        (["optim.batch_size=6", "trainer.devices=4"], "optim.batch_size", "4 devices"),
        ([f"loss.weights.{name}=0" for name in ("cls", "box", "ctr", "proj", "pairwise")], "loss.weights", "every loss has weight 0"),
        (["loss.weights.mask=1"], "loss.weights.mask", "supervision=mask or supervision=mixed"),
        (["supervision=mixed"], "loss.weights.mask", "supervision=box"),
        (["model.backbone.width=24"], "model.backbone.width", "a multiple of 16"),
        (["name=../elsewhere"], "name", "below paths.runs"),
        (["name=/elsewhere"], "name", "below paths.runs"),
        (["data.train_size_range=[480,384]"], "data.train_size_range", "range"),
        (["data.test_size=900", "data.test_max_size=800"], "data.test_max_size", "longer at most 800"),
    ],
)
def test_conflicting_options_are_rejected(overrides: list[str], key: str, words: str) -> None:
    cfg = OmegaConf.merge(RUNS["coco"], OmegaConf.from_dotlist(overrides))
    assert isinstance(cfg, DictConfig)
    with pytest.raises(ConfigError) as refused:
        build_data(checked(cfg).data, home=Path("/nowhere"))
    assert key in str(refused.value)
    assert words in str(refused.value)


def test_invalid_values_are_reported_before_conflicts() -> None:
    cfg = composed("optim.lr=nan", "optim.batch_size=0", "data.workers=-1", "loss.weights.mask=1")
    assert [error.problem.partition(":")[0] for error in problems(to_dataclass(cfg))] == [
        "data.workers",
        "optim.batch_size",
        "optim.lr",
    ]
    assert [conflict.key for conflict in conflicts(to_dataclass(composed("loss.weights.mask=1")))] == ["loss.weights.mask"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "extremes",
    [
        ["model.mask_out_stride=1", "loss.pairwise.dilation=64", "optim.momentum=0", "data.flip=1", "eval.max_detections=1"],
        ["model.mask_head_layers=2", "model.mask_branch_convs=0", "model.mask_feat_level=3", "loss.pairwise.size=9", "optim.lr=100"],
    ],
    ids=["small", "odd"],
)
def test_runs_start_at_the_limits_of_every_range(tmp_path: Path, extremes: list[str]) -> None:
    run = small_run(tmp_path, "name=ends", "schedule.max_steps=1", "schedule.val_every=1", "schedule.save_every=1", *extremes)
    assert (run / "metrics.json").is_file()
