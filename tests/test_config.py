"""Presets that extend others, paths in them, and errors of fields that may be ``auto``."""

import pytest

from read_env.config import load_preset
from read_env.errors import ReadEnvError


@pytest.fixture
def preset(tmp_path):
    """Writes a preset into a folder and returns its path."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def test_a_preset_extends_a_shipped_one_or_a_file_beside_it(preset):
    base = preset("base.toml", 'extends = "smollm2"\n[distill]\nteacher_top_k = 16\n')
    own = preset("folder/own.toml", 'extends = "../base.toml"\n[distill]\nlearning_rate = 1e-5\n')
    config, shipped = load_preset(own, {"seed": 3}), load_preset("smollm2")
    changed = {"learning_rate": 1e-5, "teacher_top_k": 16}
    assert config == shipped.model_copy(
        update={"preset": own, "seed": 3, "distill": shipped.distill.model_copy(update=changed)}
    )
    assert load_preset(base).distill.learning_rate == shipped.distill.learning_rate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "own.toml"', "presets extend each other: .*own.toml -> .*own.toml"),
        ('extends = "../folder/own.toml"', "presets extend each other: .*own.toml -> .*own.toml"),
        ('extends = "smolm2"', "unknown preset 'smolm2'.*smollm2"),
        ('extends = "gone.toml"', "gone.toml.*: no such file"),
        ("extends = 3", "extends is 3; right would be"),
        ("[distill]\nlearning_rate = -1", r"preset '.*': distill.learning_rate: Input should be greater than 0, got -1$"),
        ('[distill]\ntokens_per_update = "many"', r"tokens_per_update: Input should be a valid integer.* got 'many'$"),
    ],
)  # fmt: skip
def test_a_preset_that_is_wrong_says_where(preset, text, message):
    with pytest.raises(ReadEnvError, match=message):
        load_preset(preset("folder/own.toml", text))


def test_paths_in_a_file_are_relative_to_it(preset, tmp_path):
    (tmp_path / "models" / "student").mkdir(parents=True)
    text = """
suite = "micro,sums=sums.jsonl,~=~/far.jsonl"
task = "sums.toml"
decontamination_files = ["/data/evaluation.jsonl", "held_out.txt"]
[models]
teacher = "vllm:./teacher"
student = "models/student"
[cache]
directory = "answers"
"""
    config, here = load_preset(preset("own.toml", text)), str(tmp_path)
    assert config.suite == f"micro,sums={here}/sums.jsonl,~=~/far.jsonl"
    assert (config.task, config.cache.directory) == (f"{here}/sums.toml", f"{here}/answers")
    assert config.decontamination_files == ("/data/evaluation.jsonl", f"{here}/held_out.txt")
    assert (config.models.teacher, config.models.student) == (f"vllm:{here}/teacher", f"{here}/models/student")
    config = load_preset(
        preset("more/own.toml", 'extends = "../own.toml"\ntask = "x.toml"'), {"cache": {"directory": "c"}}
    )
    assert (config.task, config.cache.directory) == (f"{here}/more/x.toml", "c")
    assert config.suite.split(",")[1] == f"sums={here}/sums.jsonl"


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-14B", "embedded:micro/teacher", "remote:gpt", "vllm:Qwen/Qwen2.5-72B"])
def test_names_are_no_paths(preset, model):
    text = f'task = "math"\nagent = "my_agents:Mine"\n[models]\nteacher = "{model}"\nstudent = "{model}"\n'
    config = load_preset(preset("own.toml", text))
    assert (config.task, config.agent) == ("math", "my_agents:Mine")
    assert (config.models.teacher, config.models.student) == (model, model)


def test_a_file_in_the_working_directory_is_taken_for_one_release(preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held_out.txt").write_text("x")
    own = preset("folder/own.toml", 'decontamination_files = ["held_out.txt"]')
    with pytest.warns(FutureWarning, match="held_out.txt is relative to .*folder.*the next release"):
        assert load_preset(own).decontamination_files == ("held_out.txt",)
