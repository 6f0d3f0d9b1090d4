"""Conversations as text, rendered by a tokenizer's chat template.

A template may trim, escape or repeat what it is given. Each prompt and each conversation is therefore rendered on its own,
exactly as ``apply_chat_template`` does it, and a template that loses the text is refused.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)

#: Date given to chat templates that ask for the current one, so that cache keys don't change daily; the default of
#: Llama's templates.
_TODAY = datetime(2024, 7, 26)
_DATE_CODES = "aAbBdHIjmMpSyY"
_QUESTION, _ANSWER = "\u241equestion\u241e", "\u241danswer\u241d"


class ChatTemplate:
    """Prompts and conversations of one tokenizer as text.

    A tokenizer without a chat template gets ``bos + prompt + newline + answer``.

    Args:
        tokenizer: Hugging Face tokenizer.

    Attributes:
        source: Jinja source of the template; None without one.
        around: text before and after the prompt, with the generation prompt.
        tail: text after the answer of a conversation: the end of the turn. Empty if conversations can't be rendered.
        fault: description of what is wrong with conversations; empty if nothing is.

    Raises:
        ReadEnvError: the template fails, or its result does not contain the prompt.

    Example:
        >>> from read_env.distillation.loading import load
        >>> ChatTemplate(load("embedded:micro/student").encoder.tokenizer).around
        ('<bos>', '')
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.source = self._find_source() if tokenizer.chat_template else None
        problem: ReadEnvError | None = None
        for self._in_parts in (False, True):  # templates of multimodal models read content as a list of parts
            try:
                rendered = self._render(_QUESTION)
            except ReadEnvError as error:
                problem = problem or error
                continue
            if _QUESTION in rendered:
                break
            problem = problem or self._error(f"its prompt does not contain the user's message: {rendered!r}")
        else:
            assert problem is not None
            raise problem
        before, _, after = rendered.partition(_QUESTION)
        self.around = (before, after)
        self.fault = self.tail = self._generation_prompt = self._header = ""
        try:
            whole = self._render(_QUESTION, _ANSWER)
        except ReadEnvError as error:
            self.fault = str(error)
            return
        shared = next((i for i, (a, b) in enumerate(zip(rendered, whole, strict=False)) if a != b), len(rendered))
        if shared < len(before) + len(_QUESTION) or _ANSWER not in whole[shared:]:
            lost = "the answer" if _QUESTION in whole else "the user's message"
            self.fault = str(self._error(f"a conversation with an answer does not contain {lost}: {whole!r}"))
            return
        self.tail = whole.rpartition(_ANSWER)[2]
        self._generation_prompt, self._header = rendered[shared:], whole[shared:].partition(_ANSWER)[0]
        if self._generation_prompt:
            _LOG.warning(
                "the chat template of %r begins an answer with %r in a conversation and with %r in a prompt: answers are "
                "trained and scored after the prompt", tokenizer.name_or_path, self._header, self._generation_prompt,
            )  # fmt: skip

    def prompt(self, text: str) -> str:
        """Prompt of a user's message, generation prompt included."""
        return self._render(text)

    def conversation(self, text: str, answer: str) -> str:
        """Conversation of a user's message and its answer, end of the turn included; it begins with the prompt.

        Raises:
            ReadEnvError: the template can't render conversations, or not this one.
        """
        if self.fault:
            raise ReadEnvError(self.fault)
        whole = self._render(text, answer)
        if not self._generation_prompt:
            return whole
        prompt = self._render(text)
        header = prompt.removesuffix(self._generation_prompt) + self._header
        if not whole.startswith(header):
            raise self._error(f"a conversation with an answer does not begin with {header!r}: {whole!r}")
        return prompt + whole[len(header) :]

    def _find_source(self) -> str:
        try:
            return _with_fixed_date(self._tokenizer.get_chat_template())
        except ValueError as error:  # a set of named templates without a default
            raise self._error(str(error).splitlines()[0]) from None

    def _render(self, text: str, answer: str | None = None) -> str:
        if self.source is None:
            return f"{self._tokenizer.bos_token or ''}{text}\n{answer or ''}"
        messages = [{"role": "user", "content": self._content(text)}]
        if answer is not None:
            messages.append({"role": "assistant", "content": self._content(answer)})
        try:
            return str(self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answer is None, chat_template=self.source
            ))  # fmt: skip
        except Exception as error:  # whatever Jinja and the template's author raise
            turns = "a user's message" if answer is None else "a user's message and an answer"
            raise self._error(f"it fails for {turns}: {type(error).__name__}: {error}") from None

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._in_parts else text

    def _error(self, problem: str) -> ReadEnvError:
        return ReadEnvError(
            f"models: the chat template of {self._tokenizer.name_or_path or 'the tokenizer'!r} can't be used; {problem}; "
            "right would be a template that renders one user's message, with a string as its content, and the answer after it"
        )


def _with_fixed_date(template: str) -> str:
    """Chat template with a fixed date: a Jinja macro shadows the ``strftime_now`` of transformers."""
    if "strftime_now" not in template:
        return template
    replaced = "".join(f"|replace('%{code}', '{_TODAY.strftime(f'%{code}')}')" for code in _DATE_CODES)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro -%}}{template}"
