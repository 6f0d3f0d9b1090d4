"""A teacher on a server that gives probabilities, served by another process: equal to the same model in this process."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from micro import SUITE, micro_config
from scoring_server import scoring_servers

from read_env.capabilities.stream import PromptStream
from read_env.config import ModelConfig, make_config
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.process import Distillation
from read_env.distillation.teachers.base import ScoringTeacher, TeacherCache
from read_env.distillation.teachers.remote import RemoteTeacher
from read_env.distillation.teachers.remote_requests import ServerClient
from read_env.distillation.teachers.remote_scoring import RemoteScoringTeacher
from read_env.distillation.teachers.store import BlockStore
from read_env.errors import ReadEnvError
from read_env.losses import get_objective
from read_env.running.identity import RunIdentity

pytest.importorskip("openai")

SECRET = "sk-very-secret-0123456789"
#: Nats.
EQUAL = 1e-5


@pytest.fixture(scope="module")
def running():
    """A server of either kind that serves the micro teacher."""
    with scoring_servers() as servers:
        yield servers


@pytest.fixture(params=["vllm", "sglang"])
def server(running, monkeypatch, request):
    """A running server, without a fault and without requests so far."""
    running = running[request.param]
    monkeypatch.setenv("READ_ENV_API_KEY", SECRET)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(ServerClient, "pause", lambda self, seconds: None)
    running.fault("")
    running.seen()
    return running


@pytest.fixture(scope="module")
def student():
    return load_student(micro_config())


def configured(server=None, loss="fkl", models=None, **distill):
    sizes = {"teacher_top_k": 6, "max_completion_tokens": 16, "teacher_batch_size": 4, "rollout_batch_size": 2}
    where = {"teacher": "remote:m", "remote_base_url": server.url, "remote_max_retries": 2} if server else {}
    return micro_config(240, 120, 2, models={**where, **(models or {})}, distill={"loss": loss, **sizes, **distill})


def texts_of(*names, count=3):
    return [prompt.text for name in names for prompt in PromptStream(SUITE[name], 1).slice(1, 0, count)]


def assert_equal(ours, theirs):
    """Equality of targets to 1e-5 nats, and to 1e-5 of what improbable tokens have. The tail is 1 minus K probabilities in float32, so its logarithm counts by its mass."""
    assert torch.equal(ours.tokens, theirs.tokens)
    for name in ("top_log_probs", "teacher_log_probs"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            assert mine.dtype == other.dtype == torch.float32 and mine.shape == other.shape
            torch.testing.assert_close(mine, other, atol=EQUAL, rtol=EQUAL)
    tails = ours.log_tail.exp(), theirs.log_tail.exp()
    assert (tails[0] - tails[1]).abs().max() < EQUAL / 10
    assert (tails[1] * (ours.log_tail - theirs.log_tail)).abs().max() < EQUAL
    assert ours.top_ids.dtype == torch.int64
    apart = theirs.top_log_probs[:, :-1] - theirs.top_log_probs[:, 1:] > 40 * EQUAL  # others may change places
    sure = torch.cat([apart, apart[:, -1:]], 1) & torch.cat([apart[:, :1], apart], 1)
    assert torch.equal(ours.top_ids[sure], theirs.top_ids[sure])


def test_answers_and_their_targets_are_those_of_the_teacher_in_process(server, student):
    remote, local = (load_teacher(configured(one), student) for one in (server, None))
    assert isinstance(remote, RemoteScoringTeacher) and isinstance(remote, ScoringTeacher)
    texts = texts_of("math", "long_context", "tool_use")
    server.seen()
    answers, expected = remote.complete(texts), local.complete(texts)
    assert len(server.seen()) == len(texts), "an answer and its targets come in one call"
    assert {answer.token_ids[-1] in remote.encoder.stop_ids for answer in expected} == {True, False}
    for answer, other in zip(answers, expected, strict=True):
        assert answer.token_ids == other.token_ids
        assert_equal(answer.targets, other.targets)


def test_completions_of_others_are_scored_as_by_the_teacher_in_process(server, student):
    remote, local = (load_teacher(configured(one), student) for one in (server, None))
    texts = texts_of("math", "code")
    last = remote.encoder.vocabulary - 1
    completions = [[5, 9, 2], [7], [30, 31, 32, 33], [2], [last, 41, last], [8, 8, 8]]
    for ours, theirs in zip(remote.score(texts, completions), local.score(texts, completions), strict=True):
        assert_equal(ours, theirs)


@pytest.mark.parametrize("loss", ["fkl", "jsd", "sft", "rkl", "tad"])
def test_losses_are_those_of_the_teacher_in_process(server, student, loss):
    texts = texts_of("math", "code", count=2)
    distill = {"teacher_top_k": 12, "tad_top_k": 8}
    remote, local = (load_teacher(configured(one, loss, **distill), student) for one in (server, None))
    function = get_objective(loss).bind(configured(None, loss, **distill).distill)
    generator = torch.Generator().manual_seed(0)
    for ours, theirs in zip(remote.complete(texts), local.complete(texts), strict=True):
        logits = torch.randn(len(ours), student.encoder.vocabulary, generator=generator) * 3
        # Their loss grows with the logarithm of the teacher's tail, and 1 minus a sum near 1 has few digits.
        tail = {"log_tail": theirs.targets.log_tail} if loss in ("rkl", "tad") else {}
        (one, _), (other, _) = (function(logits, t) for t in (replace(ours.targets, **tail), theirs.targets))
        assert ((one - other).abs() / other.abs().clamp(min=1)).max() < EQUAL


@pytest.mark.parametrize("loss", ["fkl", "gkd", "grpo", "rlad", "arkd"])
def test_every_kind_of_objective_learns_as_from_the_teacher_in_process(server, loss):
    one, other = (Distillation.load(configured(where, loss)).step(np.eye(10)[3]) for where in (server, None))
    assert one.completion_tokens == other.completion_tokens > 0
    np.testing.assert_allclose(one.profile, other.profile, atol=1e-4)
    assert one.metrics.keys() == other.metrics.keys()
    for name, value in other.metrics.items():
        assert one.metrics[name] == pytest.approx(value, rel=1e-2, abs=1e-3, nan_ok=True), name


def test_requests_ask_for_greedy_decoding_without_the_servers_own_settings(server, student):
    teacher = load_teacher(configured(server), student)
    server.seen()
    teacher.complete(["2+3"])
    teacher.score(["2+3"], [[5]])
    generation, scoring = server.seen()
    sampling = generation if server.kind == "vllm" else generation["sampling_params"]
    greedy = {"temperature": 0, "top_p": 1, "top_k": -1, "repetition_penalty": 1, "frequency_penalty": 0}
    assert greedy.items() <= sampling.items() and sampling["stop_token_ids"] == list(teacher.encoder.stop_ids)
    if server.kind == "vllm":
        assert (generation["max_tokens"], generation["logprobs"], scoring["prompt_logprobs"]) == (16, 6, 6)
        assert scoring["return_token_ids"] and generation["return_tokens_as_token_ids"]
    else:
        assert (sampling["max_new_tokens"], generation["top_logprobs_num"]) == (16, 6)
        assert scoring["return_logprob"] and scoring["logprob_start_len"] == 0


def test_the_context_leaves_room_for_the_token_that_a_request_generates(server, student):
    teacher = load_teacher(configured(server), student)
    assert teacher.context == 159
    prompt = teacher.encoder.prompts(["2"])[0]
    assert len(teacher.score(["2"], [[5] * (159 - len(prompt))])[0].tokens) == 159 - len(prompt)


# --- a server with a fault -----------------------------------------------------------------------------------------

PROBLEMS = [
    ("silently capped", r"grants 4 of the 6 most likely tokens: right would be .*--max-logprobs 6, or --distill.teacher-top-k 4"),
    ("no echo", "doesn't echo the token ids"),
    ("other ids", "doesn't echo the token ids"),
    ("tokenizer", r"its tokenizer differs from the local one \(token \d+ is '.+' there and '.+' here\).*models.remote_tokenizer"),
    ("no-probabilities", "a request for probabilities in .* form fails"),
    ("chat only", "form fails .*HTTP 404"),
    ("logits", "no log-probabilities: .* right would be a server with --logprobs-mode raw_logprobs"),
    ("page", r"form fails .*HTTP 200 an HTML page, 'Sign in'; right would be the server's own address in models.remote_base_url"),
    ("nan", "form fails .*'nan' in place of a log-probability"),
    ("small vocabulary", r"form fails .*HTTP 400 Token id \d+ is out of vocabulary"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "message"), PROBLEMS)
def test_a_loss_that_needs_probabilities_is_refused_with_the_reason(server, student, fault, message):
    server.fault(fault)
    with pytest.raises(ReadEnvError, match=rf"(?s)'remote:m' at http://127.* gives text alone: .*{message}") as error:
        load_teacher(configured(server), student)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(("fault", "message"), PROBLEMS)
def test_a_server_whose_probabilities_cannot_be_used_stays_a_teacher_of_text(server, student, fault, message, caplog):
    server.fault(fault)
    assert isinstance(load_teacher(configured(server, "sft"), student), RemoteTeacher)
    assert "stays a teacher of text alone" in caplog.text
    protocol = {"remote_protocol": server.kind}
    with pytest.raises(ReadEnvError, match=message):
        load_teacher(configured(server, "sft", protocol), student)


@pytest.mark.parametrize("server", ["vllm"], indirect=True)
def test_a_k_above_what_the_server_allows_is_refused_with_both_remedies(server, student):
    message = r"grants 20 of the 30 most likely tokens: right would be a server with --max-logprobs 30, or --distill.teacher-top-k 20"
    with pytest.raises(ReadEnvError, match=message):
        load_teacher(configured(server, teacher_top_k=30), student)
    assert load_teacher(configured(server, teacher_top_k=20), student).top_k == 20


def test_a_server_of_unknown_kind_gets_no_request(server, student):
    server.fault("unknown owner")
    assert isinstance(load_teacher(configured(server, "sft"), student), RemoteTeacher)
    assert server.seen() == [], "requests may cost money"
    with pytest.raises(ReadEnvError, match="names neither vLLM nor SGLang .*owned_by 'somebody'"):
        load_teacher(configured(server), student)
    named = configured(server, models={"remote_protocol": server.kind})
    assert isinstance(load_teacher(named, student), RemoteScoringTeacher), "the protocol may be named"


@pytest.mark.parametrize(
    "chat", [{"remote_temperature": 0.5}, {"remote_max_tokens": 99}, {"remote_extra_body": {"seed": 1}}, {"remote_reasoning": "keep"}]
)  # fmt: skip
def test_parameters_of_chat_requests_are_not_lost(server, student, chat):
    assert isinstance(load_teacher(configured(server, "sft", chat), student), RemoteTeacher)
    assert server.seen() == []
    protocol = {"remote_protocol": server.kind}
    if "remote_extra_body" not in chat:
        with pytest.raises(ReadEnvError, match=f"remote_protocol is '{server.kind}'.*{next(iter(chat))} is set"):
            make_config({"models": {**chat, **protocol}}, "test")


def test_extra_parameters_are_sent_with_a_named_protocol_and_change_the_identity(server, student):
    extra, plain = (
        load_teacher(configured(server, models={"remote_protocol": server.kind, **more}), student)
        for more in ({"remote_extra_body": {"priority": 3}}, {})
    )
    server.seen()
    extra.complete(["2+3"])
    assert server.seen()[0]["priority"] == 3 and extra.identity != plain.identity
    own = {"prompt": [1]} if server.kind == "vllm" else {"input_ids": [1]}
    with pytest.raises(ReadEnvError, match=r"remote_extra_body sets (prompt|input_ids), which read-env itself decides"):
        load_teacher(configured(server, models={"remote_protocol": server.kind, "remote_extra_body": own}), student)


@pytest.mark.parametrize("fault", ["500", "503", "page 502", "dropped", "cut", "no-probabilities", "nan", "text"])
def test_passing_trouble_is_waited_out(server, student, fault):
    remote, local = (load_teacher(configured(one), student) for one in (server, None))
    server.fault(fault, count=2)
    (ours,), (theirs,) = (teacher.score(["2+3"], [[5, 9]]) for teacher in (remote, local))
    assert_equal(ours, theirs)


def test_the_last_trouble_is_named_and_the_key_is_not(server, student, monkeypatch):
    teacher = load_teacher(configured(server), student)
    monkeypatch.setenv("READ_ENV_API_KEY", "an HTML page")  # a key that the server repeats
    for fault, message in {
        "page 502": r"HTTP 502 \$READ_ENV_API_KEY, 'Sign in'",
        "dropped": "can't be reached",
    }.items():
        server.fault(fault)
        with pytest.raises(ReadEnvError, match=rf"{message}.*answers so far are kept: run the same command again"):
            teacher.score(["2+3"], [[5, 9]])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("page", "HTTP 200 an HTML page, 'Sign in'; right would be the server's own address"),
        (
            "large vocabulary",
            r"answered with token \d+, and the local tokenizer has \d+; right would be the model's own tokenizer",
        ),
        ("too long", "sent an answer of 4 tokens where 3 were asked for"),
    ],
)
def test_what_will_not_pass_is_not_asked_again(server, student, fault, message):
    teacher = load_teacher(configured(server, max_completion_tokens=3), student)
    server.fault(fault)
    server.seen()
    with pytest.raises(ReadEnvError, match=message):
        teacher.complete(texts_of("math", count=1))
    assert len(server.seen()) == 1


def test_a_slow_server_is_asked_again_and_named_in_the_end(server, student):
    teacher = load_teacher(configured(server, models={"remote_timeout": 0.8}), student)
    server.fault("slow", count=1)
    assert len(teacher.complete(["2+3"])[0]) > 0
    server.fault("slow")
    with pytest.raises(ReadEnvError, match=r"did not answer within models.remote_timeout = 0.8, 3 times"):
        teacher.complete(["2+4"])
    server.fault("")


def test_other_ids_in_the_middle_of_a_run_end_it(server, student):
    teacher = load_teacher(configured(server), student)
    server.fault("other ids")
    with pytest.raises(ReadEnvError, match="read other token ids than it was sent"):
        teacher.score(["2+3"], [[5, 9]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_what_arrived_before_a_server_died_is_not_asked_again(kind, student, tmp_path, monkeypatch):
    monkeypatch.setenv("READ_ENV_API_KEY", SECRET)
    monkeypatch.setattr(ServerClient, "pause", lambda self, seconds: None)
    texts = texts_of("math", "code", count=5)
    with scoring_servers() as servers:
        server = servers[kind]
        config = configured(server, models={"remote_max_retries": 1, "remote_concurrency": 1})
        teacher = load_teacher(config, student)
        server.fault("death", after=6)
        with pytest.raises(
            ReadEnvError, match="can't be reached .* answers so far are kept: run the same command again"
        ):
            TeacherCache(teacher, store=BlockStore(tmp_path, 10**9)).complete(texts)
        assert server.process.wait(20) == 1
    cache, calls = TeacherCache(teacher, store=BlockStore(tmp_path, 10**9)), []
    (first,) = cache.complete(texts[:1])

    def answer_again(left, on_answer):
        calls.append(left)
        for index in range(len(left)):
            on_answer(index, first)

    monkeypatch.setattr(teacher, "complete", answer_again)
    assert len(cache.complete(texts)) == len(texts)
    assert calls == [texts[6:]]


def test_a_server_that_is_gone_is_an_error_at_the_start(student):
    config = configured(
        models={"teacher": "remote:m", "remote_base_url": "http://127.0.0.1:9/v1", "remote_max_retries": 0}
    )
    with pytest.raises(ReadEnvError, match="can't be reached"):
        load_teacher(config, student)


# --- identity ------------------------------------------------------------------------------------------------------


def test_what_changes_a_number_belongs_to_the_identity_and_the_key_does_not(server, student, monkeypatch, caplog):
    caplog.set_level(10)

    def identity(models=None, **distill):
        return load_teacher(configured(server, models=models, **distill), student).identity

    plain = identity()
    others = [
        identity({"remote_revision": "2"}), identity({"remote_logprobs_mode": "processed_logprobs"}),
        identity(max_completion_tokens=17), identity(teacher_top_k=5), load_teacher(configured(), student).identity,
    ]  # fmt: skip
    assert len({plain, *others}) == 6
    assert ("vllm-0.32.0-standin" if server.kind == "vllm" else "default") in plain
    monkeypatch.setenv("READ_ENV_API_KEY", "another-secret-0123456789")
    assert identity({"remote_timeout": 7, "remote_max_retries": 1, "remote_concurrency": 2}) == plain
    assert all(SECRET not in text for text in (plain, caplog.text))


def test_runs_without_a_server_keep_the_identity_from_before_there_were_settings_of_probabilities():
    own = {"remote_protocol", "remote_tokenizer", "remote_logprobs_mode"}
    plain, remote, other = (
        RunIdentity.of_run(micro_config(models=models))
        for models in (
            {},
            {"teacher": "remote:m"},
            {"teacher": "remote:m", "remote_logprobs_mode": "processed_logprobs"},
        )
    )
    assert not plain.settings["models"].keys() & {*own, "teachers"}
    assert own < remote.settings["models"].keys() and "teachers" not in remote.settings["models"]
    (line,) = remote.differences(other)
    assert line.startswith("models.remote_logprobs_mode: ")


def test_two_kinds_of_numbers_are_refused_early():
    with pytest.raises(ReadEnvError, match="remote_logprobs_mode"):
        make_config({"models": {"remote_logprobs_mode": "raw_logits"}}, "test")
    assert ModelConfig().remote_protocol == "auto" and not math.isnan(ModelConfig().remote_temperature)
