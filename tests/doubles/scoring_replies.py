"""Replies of inference servers that give probabilities, in vLLM's and SGLang's form, and what can be wrong with them.

The forms are those of vLLM 0.32 (``POST /v1/completions``) and SGLang 0.5.23 (``POST /generate``): a position of vLLM's prompt is a
mapping from token id to log-probability and rank, the token that stands there first, K or K + 1 in all; the first is null.
"""

from __future__ import annotations

from typing import Any

#: --max-logprobs of a vLLM server.
MAX_LOGPROBS = 20


class ServedModel:
    """Model with one sequence at a time, in float32."""

    def __init__(self, reference: str) -> None:
        from read_env.config import ModelConfig
        from read_env.distillation.loading import load

        loaded = load(reference, ModelConfig(dtype="float32", device="cpu"))
        self.model, self.tokenizer = loaded.model.eval(), loaded.encoder.tokenizer
        self.vocabulary, self.eos_id = loaded.encoder.vocabulary, loaded.encoder.eos_id
        self.context = loaded.model.config.max_position_embeddings
        self.calls = 0

    def log_probs(self, ids: list[int], fault: str) -> Any:
        """(n, V) log-probabilities of what follows each token."""
        import torch

        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0, :, : self.vocabulary].float()
        if fault == "noise":  # other batches, other last digits
            self.calls += 1
            logits = logits * (1 + 1e-3 * (self.calls % 3))
        if fault == "nan":
            logits = logits * float("nan")
        return logits if fault == "logits" else torch.log_softmax(logits, -1)

    def text(self, token: int, fault: str) -> str:
        token = (token * 7 + 3) % self.vocabulary if fault == "tokenizer" else token
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def vllm_reply(models: dict[str, ServedModel], request: dict[str, Any], fault: str) -> dict[str, Any]:
    if request["model"] not in models:
        raise Refusal(404, f"The model `{request['model']}` does not exist.")
    model, ids = models[request["model"]], list(request["prompt"])
    _refuse_unknown_tokens(model, ids, fault)
    limit = 4 if fault == "capped" else MAX_LOGPROBS
    for name, shown in (("prompt_logprobs", "prompt"), ("logprobs", "sample")):
        if (request.get(name) or 0) > limit:
            raise Refusal(
                400,
                f"Requested {shown} logprobs of {request[name]}, which is greater than max allowed: {limit} (parameter={name})",
            )
    if len(ids) >= model.context:
        raise Refusal(400, f"This model's maximum context length is {model.context} tokens. However, it has {len(ids)}")
    given: list[Any] | None = None
    count = request.get("prompt_logprobs")
    if count is not None and fault != "no-probabilities":
        rows = model.log_probs(ids, fault)
        given = [
            None,
            *(_vllm_position(model, row, token, count, fault) for row, token in zip(rows[:-1], ids[1:], strict=True)),
        ]
    made, tops, values = list(ids), [], []
    longest = request["max_tokens"] + (fault == "too long")
    while len(made) < min(len(ids) + longest, model.context):
        row = model.log_probs(made, fault)[-1]
        made.append(int(row.argmax()))
        top = _top(row, request.get("logprobs") or 1, fault)
        tops.append({f"token_id:{token}": value for token, value in reversed(top)})
        values.append(float(row[made[-1]]))
        stops = request.get("stop_token_ids", [])
        if made[-1] in stops or (made[-1] == model.eos_id and not request.get("ignore_eos")):
            break
    token_ids = _sent(made[len(ids) :], model, fault)
    names = [f"token_id:{token}" for token in token_ids]
    logprobs = {"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": [0] * len(names)}
    choice = {
        "index": 0, "text": model.tokenizer.decode(token_ids), "finish_reason": "stop" if token_ids[-1] in stops else "length",
        "stop_reason": None, "logprobs": None if request.get("logprobs") is None else logprobs, "prompt_logprobs": given,
        "token_ids": token_ids if request.get("return_token_ids") else None,
        "prompt_token_ids": _echo(ids, fault) if request.get("return_token_ids") else None,
    }  # fmt: skip
    usage = {"prompt_tokens": len(ids), "completion_tokens": len(token_ids), "total_tokens": len(made)}
    return {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice], "usage": usage,
            "system_fingerprint": "vllm-0.32.0-standin"}  # fmt: skip


def _vllm_position(model: ServedModel, row: Any, token: int, count: int, fault: str) -> dict[str, Any]:
    ranked = [(token, int((row >= row[token]).sum()), float(row[token]))]
    ranked += [(i, rank, value) for rank, (i, value) in enumerate(_top(row, count, fault), 1)]
    return {str(i): {"logprob": v, "rank": rank, "decoded_token": model.text(i, fault)} for i, rank, v in ranked}


def sglang_reply(models: dict[str, ServedModel], request: dict[str, Any], fault: str) -> dict[str, Any]:
    model, ids = models["m"], list(request["input_ids"])
    count, sampling = request["top_logprobs_num"], request["sampling_params"]
    _refuse_unknown_tokens(model, ids, fault)
    if len(ids) >= model.context:
        raise Refusal(
            400, f"The input ({len(ids)} tokens) is longer than the model's context length ({model.context} tokens)."
        )

    def shown(token: int) -> str | None:
        return model.text(token, fault) if request.get("return_text_in_logprobs") else None

    def entries(row: Any) -> list[list[Any]]:
        return [[value, token, shown(token)] for token, value in _top(row, count, fault)]

    info: dict[str, Any] = {"id": "1", "prompt_tokens": len(ids), "weight_version": "default"}
    if request.get("logprob_start_len", -1) == 0 and fault != "no-probabilities":
        rows = model.log_probs(ids, fault)[:-1]
        echo = _echo([token if token < model.vocabulary - 1 else 0 for token in ids], fault) or [None] * len(ids)
        values = [None, *(float(row[token]) for row, token in zip(rows, ids[1:], strict=True))]
        texts = [shown(token) for token in (echo if None not in echo else ids)]
        info["input_token_logprobs"] = [list(one) for one in zip(values, echo, texts, strict=True)]
        info["input_top_logprobs"] = [None, *map(entries, rows)]
    made, info["output_token_logprobs"], info["output_top_logprobs"] = list(ids), [], []
    finish: dict[str, Any] = {"type": "length", "length": sampling["max_new_tokens"]}
    for _ in range(min(sampling["max_new_tokens"] + (fault == "too long"), model.context - len(ids))):
        row = model.log_probs(made, fault)[-1]
        made.append(int(row.argmax()))
        info["output_token_logprobs"].append([float(row[made[-1]]), *_sent(made[-1:], model, fault), shown(made[-1])])
        info["output_top_logprobs"].append(entries(row))
        if made[-1] in {model.eos_id, *sampling.get("stop_token_ids", [])}:
            finish = {"type": "stop", "matched": made[-1]}
            break
    info |= {"finish_reason": finish, "completion_tokens": len(made) - len(ids)}
    return {"text": model.tokenizer.decode(made[len(ids) :]), "output_ids": made[len(ids) :], "meta_info": info}


def _top(row: Any, count: int, fault: str) -> list[tuple[int, float]]:
    top = row.topk(min(count, 4) if fault == "silently capped" else count)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def _refuse_unknown_tokens(model: ServedModel, ids: list[int], fault: str) -> None:
    if max(ids) >= model.vocabulary - (fault == "small vocabulary"):
        raise Refusal(400, f"Token id {max(ids)} is out of vocabulary")


def _sent(ids: list[int], model: ServedModel, fault: str) -> list[int]:
    return [token + model.vocabulary for token in ids] if fault == "large vocabulary" else ids


def _echo(ids: list[int], fault: str) -> list[int] | None:
    return None if fault == "no echo" else [1, *ids[:-1]] if fault == "other ids" else ids
