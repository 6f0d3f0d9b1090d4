"""Presets that extend others, and errors of fields that may be ``auto``."""

import pytest

from read_env.errors import ReadEnvError
from read_env.preset_files import load_preset


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
        ('extends = "smolm2"', "unknown preset 'smolm2'.*smollm2"),
        ('extends = "gone.toml"', "gone.toml.*: no such file"),
        ("extends = 3", "extends is 3; right would be"),
        ("[distill]\nlearning_rate = -1", r"preset '.*': distill.learning_rate: Input should be greater than 0, got -1$"),
        ('[distill]\ntokens_per_update = "many"', r"tokens_per_update: Input should be a valid integer.* got 'many'$"),
    ],
)  # fmt: skip
def test_a_preset_that_is_wrong_says_where(preset, text, message):
    with pytest.raises(ReadEnvError, match=message):
        load_preset(preset("own.toml", text))
