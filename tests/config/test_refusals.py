"""Wrong overrides and habits from other programs: each is read as it was meant, or refused with the option to write instead."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_class
from omegaconf import OmegaConf

from cis_seg.config.cli import prepared
from cis_seg.config.command_schema import COMMANDS, PredictConfig, options, register
from cis_seg.config.library_options import REPLACED, TRAINER, arguments_of
from cis_seg.config.messages import explain, is_mistake
from cis_seg.config.option_names import NOTES, OTHER_NAMES, dotted
from cis_seg.config.paths import conf_dir
from cis_seg.config.plain import to_dataclass, to_plain
from cis_seg.config.validation import checked, problems
from cis_seg.errors import ConfigError
from runs import composed, exit_code


def answer(*argv: str) -> str:
    """The message for a command line of ``train``; empty if it is accepted."""
    register()
    try:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            checked(compose("config", overrides=prepared(list(argv), "config")))
    except Exception as error:
        if not is_mistake(error):
            raise
        return explain(error)
    return ""


def answer_for_one_option(argument: str) -> str:
    """The message for an option of ``predict``, without the config files that Hydra would read first."""
    cfg = OmegaConf.structured(PredictConfig(checkpoint="a", input="b", output="c"))
    try:
        for override in OverridesParser.create().parse_overrides(prepared([argument], "predict")):
            OmegaConf.update(cfg, override.key_or_group, override.value())
        checked(cfg)
    except Exception as error:
        if not is_mistake(error):
            raise
        return explain(error)
    return ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--optim.lr=0.1"], "--optim.lr=0.1 has dashes in front\n  expected: key=value\n  what to do: write optim.lr=0.1"),
        (["-m", "--optim.lr", "0.1"], "write optim.lr=0.1"),
        (["--lr", "0.1"], "write optim.lr=0.1"),
        (["--epochs=3"], "write schedule.max_steps=VALUE (the length of a run is counted in steps, not epochs)"),
        (["--config-file", "x.yaml"], "experiment=NAME"),
        (["--config", "x.yaml"], "experiment=NAME"),
        (["mine.yaml"], "experiment=NAME"),
        (["--opts", "SOLVER.BASE_LR", "0.01"], "pass every option as key=VALUE"),
        (["-help"], "--help prints the options"),
        (["help"], "--help prints the options"),
        (["--cfg"], "job, hydra or all"),
        (["optim.lr", "0.1"], "optim.lr has no =\n  expected: key=value\n  what to do: write optim.lr=0.1"),
        (["optim.lr", "=", "0.1"], "write optim.lr=0.1"),
        (["optim.lr=", "0.1"], "optim.lr= has a space after the =\n  expected: key=value\n  what to do: write optim.lr=0.1"),
        (["optim.lr:0.1"], "write optim.lr=0.1"),
        (["SOLVER.BASE_LR", "0.01"], "write optim.lr=0.01"),
        (["data.train_sizes=[320,", "640]"], 'quote it: "data.train_sizes=[320, 640]"'),
        (["data.train_sizes=320,640"], 'write "data.train_sizes=[320,640]"'),
        (["model=null"], "model=null: there is no such choice\n  expected: one of condinst_mobilenet_v2"),
        (["data=null"], "one of cis, coco, crowd, crowdhuman"),
        (["optim=0.1"], "one of adamw, sgd"),
        (["-m", "logger=csv,null"], "one of csv, tensorboard, wandb"),
        (["~optim"], "~optim: this group cannot be deleted\n  expected: one of adamw, sgd\n  what to do: set optim=CHOICE"),
        (["~model=condinst_tiny"], "set model=CHOICE"),
    ],
)
def test_malformed_overrides_are_rejected_before_hydra(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        prepared(argv, "config")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("argv", "read"),
    [
        (["data.train_sizes=320"], ["data.train_sizes=[320]"]),
        (["+data.categories=person"], ["+data.categories=[person]"]),
        (["data.categories='traffic light'"], ["data.categories=['traffic light']"]),
        (["-m", "data.categories=person,dog"], ["data.categories=[person],[dog]", "-m"]),
        (["data.train_sizes=[320,640]"], ["data.train_sizes=[320,640]"]),
        (["data.train_size_range=null"], ["data.train_size_range=null"]),
        (["data.train_sizes=${data.train_sizes}"], ["data.train_sizes=${data.train_sizes}"]),
        (["-m", "data.train_sizes=choice([320],[640])"], ["data.train_sizes=choice([320],[640])", "-m"]),
        (["logger=null", "callbacks=null"], ["~logger", "~callbacks"]),
        (["experiment=null", "debug=null", "seed=1"], ["seed=1"]),
        (["name=Größe"], ["name='Größe'"]),
        (["data.categories=[人,dog]"], ["data.categories=['人',dog]"]),
        (["--cfg", "job", "--multi", "seed=0,1"], ["seed=0,1", "--cfg", "job", "--multi"]),
        (["-cd", "mine", "experiment=x"], ["experiment=x", "-cd", "mine"]),
        (["--config-d", "mine", "--experimental", "job.pickle"], ["--config-d", "mine", "--experimental", "job.pickle"]),
        (["--multi", "init_from=a,b"], ["init_from='a','b'", "--multi"]),
        (["~experiment", "seed=1"], ["seed=1"]),
        (["~callbacks.overlays"], ["~callbacks.overlays"]),
    ],
)
def test_shorthands_become_hydras_grammar(argv: list[str], read: list[str]) -> None:
    assert prepared(argv, "config") == read


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("precision=fp16", "did you mean trainer.precision? (trainer.precision=16-mixed, bf16-mixed or 32-true)"),
        ("SOLVER.BASE_LR=0.01", "SOLVER.BASE_LR: there is no such option\n  what to do: did you mean optim.lr?"),
        ("data.categories=[person]", "choose data=coco, which has data.categories"),
        ("trainer.max_time=00:00:01:00", "+trainer.max_time=VALUE"),
        ("trainer.val_check_interval=5", "set schedule.val_every"),
        ("+optim.lr=1", "optim.lr exists already\n  what to do: leave out the + in front of optim.lr"),
        ("~optim.lr", "optim.lr cannot be deleted"),
        ("loss.weights=[1]", "loss.weights is a group of options"),
        ("experiment=/x/mine.yaml", "--config-dir DIR adds the files in DIR/experiment"),
        ("data.train_sizes=${data.test_size}", "data.train_sizes: invalid value"),
        ("optim.lr=0,01", "several values for one option"),
        ("optim.clip_norm=None", "write optim.clip_norm=null for no value"),
        ("hydra/launcher=null", "GROUP=CHOICE"),
        ("resume=yes", "true, false or a checkpoint"),
        ("callbacks.best.monitor=val_loss", "callbacks.best.monitor=val/score callbacks.best.mode=max"),
        ("callbacks.best.monitor=val/segm/AP", "callbacks.best.monitor: no metric has this name"),
        ("init_from=None", "the schema's default is init_from=null"),
    ],
)
def test_wrong_training_option_is_rejected(argument: str, words: str) -> None:
    assert words in answer(argument)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("ema=0.5 teacher.momentum=0.9", "ema: one running average is kept, which is the teacher"),
        ("ema=0.5 teacher.momentum=0.5 teacher.ignored=[0.7,0.3]", "teacher.ignored: the limits do not increase"),
        ("supervision=mask", "loss.weights.teacher: a teacher predicts masks for boxes"),
        ("ema=0.5 teacher.momentum=0.5", ""),
        ("ema=0 teacher.momentum=0.5", ""),
    ],
)
def test_options_that_a_teacher_cannot_have(arguments: str, words: str) -> None:
    message = answer("loss.weights.teacher=1", *arguments.split())
    assert message.startswith(words) if words else message == ""


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("conf=0.5", "did you mean score_threshold?"),
        ("source=x", "did you mean input?"),
        ("test_size=None", "found: None\n  what to do: write test_size=null for no value"),
        ("test_size=1e3", "set test_size=1000"),
        ("test_size=640px", "expected: a whole number"),
        ("draw_threshold=50%", "expected: a number"),
        ("draw_threshold=", "found: ''"),
        ("draw_threshold=nan", "draw_threshold: invalid value"),
        ("draw_threshold=[0.5]", "expected: a number"),
        ("masks=maybe", "set masks=true or masks=false"),
        ("draw_threshold=null", "null is not allowed"),
        ("device=${oc.env:CIS_SEG_NOT_SET}", "the environment variable CIS_SEG_NOT_SET is not set"),
        ("device=${env:HOME}", "${oc.env:VARIABLE}"),
        ("device=${nope}", "there is no option nope"),
        ("draw_threshold=0.5,", "remove it: draw_threshold=0.5"),
        ("draw_threshold=“0.5”", 'retype them in ASCII: draw_threshold="0.5"'),
        ("\u2013draw_threshold=0.5", "in ASCII: draw_threshold=0.5"),
        ("categories=(person,dog)", "write categories=[person,dog]"),
        ("categories=[person", "a bracket is not closed"),
        ("draw_threshold=0.5 masks=true", "separate them by spaces"),
        ("draw_threshold=a=b", "quote the value for Hydra"),
        (".masks=true", ".masks is not the name of an option"),
        ("", "leave out an empty argument"),
    ],
)
def test_wrong_prediction_value_is_rejected(argument: str, words: str) -> None:
    assert words in answer_for_one_option(argument)


def test_nearest_option_of_the_chosen_data_set_is_suggested() -> None:
    assert "did you mean data.categories?" in answer("data=coco", "data.root=x", "+data.category=person")


def test_metrics_of_the_log_can_be_monitored() -> None:
    assert answer("callbacks.best.monitor=val/segm_AP") == answer("callbacks.best.monitor=train_set/bbox_AP50") == ""


def test_plus_prefix_does_not_disable_validation() -> None:
    added = {
        "optim.learning_rate": "optim.lr",
        "loss.weights.overlapp": "loss.weights.overlap",
        "data.category": "data=coco",
        "model.head_channel": "model.head_channels",
        "model.backbone.layers": "one of deform_interval",
        "foo": "one of base_overrides",
        "trainer.gpus": "trainer.devices=1",
        "trainer.max_tim": "trainer.max_time",
    }
    cfg = composed(*(f"+{key}=2" for key in added if "trainer" not in key))
    found = {str(error).partition(":")[0]: str(error) for error in problems(to_dataclass(cfg))}
    cfg = composed(*(f"++{key}=2" for key in added if "trainer" in key), "+trainer.max_time=00:01:00:00", "+trainer.profiler=simple")
    found |= {str(error).partition(":")[0]: str(error) for error in problems(to_dataclass(cfg))}
    assert found.keys() == added.keys()
    for key, words in added.items():
        assert words in found[key].split("no such option")[1]
    (error,) = problems(to_dataclass(composed("checkpoint=a", "input=b", "output=c", "+gpu=1", name="predict")))
    assert "did you mean device?" in str(error)


def test_an_argument_of_the_trainer_works_or_names_its_option() -> None:
    plain = to_plain(composed())["trainer"]
    ours = {"max_steps": 3, "max_epochs": 3, "accumulate_grad_batches": 4, "gradient_clip_val": 1, "check_val_every_n_epoch": 1}
    ours |= {"use_distributed_sampler": True, "default_root_dir": "x"}
    wrong = composed(*(f"++trainer.{name}=1" for name in REPLACED), *(f"trainer.{name}={value}" for name, value in ours.items()))
    found = {str(error).split()[0].removeprefix("trainer.") for error in problems(to_dataclass(wrong)) if "what to do" in str(error)}
    assert found == REPLACED.keys() | ours.keys()
    assert plain.keys() - {"_target_"} <= (arguments_of(TRAINER) or set()) - REPLACED.keys()
    (error,) = problems(to_dataclass(composed("~trainer")))
    assert "a run needs Lightning's Trainer" in str(error)


def test_options_in_a_user_config_file(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "mine.yaml"
    texts = {
        "optim: {learning_rate: 1}": ("did you mean optim.lr?", "where: experiment/mine.yaml"),
        "{optim.lr: 1}": ("nest it: optim: {lr: VALUE}",),
        "data: {train_sizes: 320}": ("set data.train_sizes=[VALUE], with brackets",),
        "trainer: {max_epochs: 3}": ("trainer.max_epochs is set by another option",),
        "optim: [": (str(path),),
        "defaults: [nothing]": ("there is no config experiment/nothing",),
    }
    for text, words in texts.items():
        path.write_text(f"# @package _global_\n{text}\n")
        message = answer("experiment=mine", f"hydra.searchpath=[file://{tmp_path}]")
        assert all(word in message for word in words), message


def test_names_of_other_frameworks_match_their_libraries() -> None:
    arguments = arguments_of(TRAINER)
    assert arguments is not None
    assert REPLACED.keys() <= arguments
    known = {name for command in COMMANDS.values() for name, _ in options(command)} | set(dotted(to_plain(composed())))
    known |= {f"trainer.{name}" for name in arguments}
    assert OTHER_NAMES.keys() <= known
    assert NOTES.keys() <= OTHER_NAMES.keys()
    assert not any(name != name.lower() for name in OTHER_NAMES.values())


@pytest.mark.parametrize(
    "target",
    [
        TRAINER,
        "lightning.pytorch.callbacks.EarlyStopping",  # imported from where it is defined
        "cis_seg.training.callbacks.checkpoints.BestCheckpoint",  # has the constructor of a base of its base
        "cis_seg.training.callbacks.run_card.RunCard",
    ],
)
def test_arguments_are_read_from_the_source(target: str) -> None:
    assert arguments_of(target) == inspect.signature(get_class(target)).parameters.keys()
    assert arguments_of("cis_seg.training.callbacks.wandb_logging.logger.RunLogger") is None, "it takes any"


def test_a_command_without_presets_refuses_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command, key, problem in (
        ("export_onnx", "inference=best", "no option or group inference"),
        ("export_onnx", "flip=true", "no such option"),
    ):
        assert exit_code(monkeypatch, command, "checkpoint=a", "out=b", key) == 2
        assert problem in capsys.readouterr().err
