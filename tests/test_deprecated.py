"""Old names of fields and commands work and warn; both names at once are an error."""

import json
from pathlib import Path

import pytest

from read_env.cli import main
from read_env.config import Config, DistillConfig, load_preset
from read_env.deprecated import RENAMED_COMMANDS, RENAMED_FIELDS, rename_arguments, rename_fields
from read_env.errors import ReadEnvError
from read_env.running.identity import RunIdentity


@pytest.mark.parametrize("section", RENAMED_FIELDS)
def test_every_new_name_is_a_field_and_no_old_one_is(section: str) -> None:
    fields = set((type(getattr(Config(), section)) if section else Config).model_fields)
    assert set(RENAMED_FIELDS[section].values()) <= fields
    assert not set(RENAMED_FIELDS[section]) & fields


def test_old_fields_are_taken_in_overrides_and_warn() -> None:
    with pytest.warns(FutureWarning) as warned:
        config = load_preset("micro", {"measure": {"probes": 7, "decoded_at_once": 9}, "models": {"lora_rank": 2}})
    assert (config.eval.probes, config.eval.eval_batch_size, config.models.lora_r) == (7, 9, 2)
    texts = " ".join(str(one.message) for one in warned)
    assert "measure is deprecated" in texts and "use eval.eval_batch_size" in texts and "use models.lora_r" in texts


def test_old_fields_are_taken_in_preset_files(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("evaluation = ['held_out.txt']\n[distill]\ngroup_size = 6\n[measure]\nexam = 5\n")
    with pytest.warns(FutureWarning, match="distill.group_size is deprecated"):
        config = load_preset(str(path), {"eval": {"dev": 3}})
    assert (config.distill.num_generations, config.eval.exam, config.eval.dev) == (6, 5, 3)
    assert config.decontamination_files == (str(tmp_path / "held_out.txt"),)


def test_old_fields_are_taken_by_the_classes() -> None:
    with pytest.warns(FutureWarning, match="use distill.delta"):
        assert DistillConfig(ratio_bound=4.0).delta == 4.0  # type: ignore[call-arg]


def test_old_and_new_name_at_once_are_refused() -> None:
    with pytest.raises(ReadEnvError, match="distill.top_k is the old name of distill.teacher_top_k: give one of them"):
        rename_fields({"top_k": 4, "teacher_top_k": 5}, "distill", warn=False)


def test_current_names_pass_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    values = Config().model_dump(mode="json")
    assert rename_fields(values) == values
    arguments = ["run", "--eval.probes", "4", "--out", "measure"]
    assert rename_arguments(arguments) == arguments
    assert not [one for one in recwarn if one.category is FutureWarning]


def test_old_options_are_renamed_and_their_values_left_alone() -> None:
    old = ["run", "--measure.dev-every=2", "--distill.top_k", "4", "--evaluation", "--models.vllm-gpus", "transfer"]
    with pytest.warns(FutureWarning):
        new = rename_arguments(old)
    options = ["--decontamination-files", "--models.vllm-tensor-parallel-size", "transfer"]
    assert new == ["run", "--eval.dev-every=2", "--distill.teacher-top-k", "4", *options]


@pytest.mark.parametrize("old", RENAMED_COMMANDS)
def test_old_commands_still_answer(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([old, "--help"])
    new, printed = RENAMED_COMMANDS[old], capsys.readouterr()
    assert ended.value.code == 0 and f"usage: read-env {new}" in printed.out
    warning = f"read-env: warning: {old} is deprecated and will be removed in the next release: use {new}\n"
    assert printed.err == warning


def test_an_option_of_a_command_keeps_its_old_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--students", "--agents", "unifrm"]) == 2
    warned, error = capsys.readouterr().err.splitlines()
    assert warned.startswith("read-env: warning: --students is deprecated") and "use --keep-students" in warned
    assert rename_arguments(["compare", "--students", "clerk"]) == ["compare", "--students", "clerk"]
    assert "did you mean 'uniform'" in error


def test_a_run_recorded_under_old_names_is_the_same_run() -> None:
    identity = RunIdentity.of_run(load_preset("micro"))
    old = json.loads(json.dumps(identity.to_json()))
    settings = old["settings"]
    settings["measure"] = settings.pop("eval")
    settings["measure"]["decoded_at_once"] = settings["measure"].pop("eval_batch_size")
    settings["distill"]["top_k"] = settings["distill"].pop("teacher_top_k")
    assert RunIdentity.from_json(old).differences(identity) == []
