"""Loading teacher and student: embedded, from a folder, or from the hub."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from read_env.distillation.encoding import Encoder

EMBEDDED = "embedded:"


def model_location(reference: str) -> str:
    """The folder or hub id behind a model reference.

    Raises:
        ReadEnvError: an ``embedded:`` name that doesn't ship with the package.
    """
    if not reference.startswith(EMBEDDED):
        return reference
    folder = Path(str(resources.files("read_env") / "assets" / reference.removeprefix(EMBEDDED)))
    if not (folder / "config.json").is_file():
        raise ReadEnvError(
            f"model {reference!r}: no such embedded model; there are embedded:micro/teacher and embedded:micro/student"
        )
    return str(folder)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing bars for weights that are there in an instant."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def load_model(reference: str, *, trust_remote_code: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in fp32 with its tokenizer; weights come from safetensors only.

    Args:
        reference: ``embedded:NAME``, a local folder or a hub id.
        trust_remote_code: run code that comes with the model.

    Raises:
        ReadEnvError: nothing there, or the files can't be read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    location = model_location(reference)
    # "falling back to its reference implementation": true on every CPU, and nothing to be done about.
    logging.getLogger("transformers.integrations.hub_kernels").setLevel("ERROR")
    try:
        with no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=trust_remote_code)
            model = AutoModelForCausalLM.from_pretrained(
                location, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # the library below raises a dozen kinds, safetensors' own among them
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ReadEnvError(
            f"model {reference!r} could not be loaded ({type(error).__name__}: {reason}); expected a folder or hub id "
            "with config.json, tokenizer files and *.safetensors weights"
        ) from error
    model.eval()
    return model, tokenizer


def check_same_vocabulary(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
    """Distilling token by token needs one vocabulary: compared by content, not by size.

    Raises:
        ReadEnvError: naming the first token that differs.
    """
    ours, theirs = teacher.get_vocab(), student.get_vocab()
    if ours == theirs and teacher.eos_token_id == student.eos_token_id:
        return
    differing = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
    example = (
        f"token {differing[0]!r} has id {ours.get(differing[0])} in one and {theirs.get(differing[0])} in the other"
        if differing
        else (f"eos_token_id is {teacher.eos_token_id} in one and {student.eos_token_id} in the other")
    )
    raise ReadEnvError(
        f"models.student: its tokenizer differs from the teacher's ({len(ours)} and {len(theirs)} tokens; {example}); "
        "choose a student with the teacher's tokenizer"
    )


@torch.inference_mode()
def check_logits(model: PreTrainedModel, encoder: Encoder) -> None:
    """Whether body and head alone give the model's logits: some architectures scale or cap them afterwards.

    Raises:
        ReadEnvError: they don't, so that training would be on other logits than those that the model has.
    """
    from read_env.distillation.encoding import collate, completion_logits

    prompt = encoder.prompts(["1 2 3"])[0]
    batch = collate([prompt], [[encoder.eos_id]], encoder.pad_id).to(next(model.parameters()).device)
    ours, own = completion_logits(model, batch)[0], model(input_ids=batch.input_ids).logits[0, len(prompt) - 1]
    if not torch.allclose(ours, own, rtol=1e-3, atol=1e-3):
        raise ReadEnvError(
            f"models.student: {type(model).__name__} changes its logits after the head (by up to "
            f"{(ours - own).abs().max().item():.3g}), which this engine leaves out; choose a student of another architecture"
        )


def weights_fingerprint(model: torch.nn.Module) -> str:
    """Hex digest of all parameters and buffers by content: the identity of a set of weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
