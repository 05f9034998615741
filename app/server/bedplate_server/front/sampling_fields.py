"""How a request wants its tokens picked: the fields of OpenAI's and vLLM's wire, and what they mean to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from ..errors import bad_request
from ..protocol import Sampling
from .schemas.base import inconsistent

MAX_CHOICES = 128
MAX_LOGPROBS = 20
# Below, what is drawn is the best token, and dividing by it overflows.
_GREEDY = 1e-5
Setting = TypeVar("Setting")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_STOP_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 16}]}
_Token = Annotated[int, Field(ge=0)]


class SamplingFields(BaseModel):
    """What chat and plain completions share. None is not asked for: the model's own default counts, then OpenAI's."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] = 0
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    # JSON's keys are strings: token ids in decimal.
    logit_bias: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
        Field(max_length=1024),
    ] = {}
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]],
        Field(max_length=16),
        BeforeValidator(_as_list),
        WithJsonSchema(_STOP_SCHEMA),
    ] = []
    stop_token_ids: Annotated[list[_Token], Field(max_length=128)] = []
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1

    # How long an answer gets whose request says nothing; None is for the configuration to say.
    usual_limit: ClassVar[int | None] = None

    @property
    def token_limit(self) -> int | None:
        """How long the answer may get, if the request says so."""
        return self.max_tokens

    @property
    def wanted_logprobs(self) -> int | None:
        """How many alternatives beside each token's own log probability; None: no log probabilities."""
        return None

    @property
    def wanted_prompt_logprobs(self) -> int | None:
        """The same for the tokens of the prompt."""
        return None

    def sampling(self, defaults: Mapping[str, Any], vocabulary: int, grammar: str | None = None) -> Sampling:
        """For the engine: what is asked for, else generation_config.json's `defaults`, else OpenAI's.

        Raises ApiError 400 for token ids outside the vocabulary, and for what a grammar cannot go with.
        """
        for field, asked in (("min_tokens", self.min_tokens), ("ignore_eos", self.ignore_eos)):
            if grammar is not None and asked:
                raise bad_request(f"'{field}' cannot go with an answer whose form ends it.", field)
        biases = tuple((int(token), bias) for token, bias in self.logit_bias.items())
        biased = [token for token, _ in biases]
        for field, tokens in (("logit_bias", biased), ("stop_token_ids", self.stop_token_ids)):
            if tokens and max(tokens) >= vocabulary:
                raise bad_request(f"Invalid value for '{field}': the vocabulary has {vocabulary} tokens.", field)
        if defaults.get("do_sample") is False:
            defaults = {**defaults, "temperature": 0.0}

        def setting(name: str, wanted: Setting | None, otherwise: Setting) -> Setting:
            value = wanted if wanted is not None else defaults.get(name)
            return otherwise if value is None else value

        temperature = setting("temperature", self.temperature, 1.0)
        return Sampling(
            temperature=temperature if temperature >= _GREEDY else 0.0,
            top_p=setting("top_p", self.top_p, 1.0),
            top_k=min(max(setting("top_k", self.top_k, 0), 0), vocabulary),
            min_p=setting("min_p", self.min_p, 0.0),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=setting("repetition_penalty", self.repetition_penalty, 1.0),
            logit_bias=biases,
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            stop_token_ids=tuple(self.stop_token_ids),
            logprobs=self.wanted_logprobs,
            prompt_logprobs=self.wanted_prompt_logprobs,
            grammar=grammar,
            seed=None if self.seed is None else str(self.seed),
        )

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        if self.token_limit is not None and self.min_tokens > self.token_limit:
            raise inconsistent("min_tokens", "is more than the limit on the answer's tokens")
        return self


class ChatSamplingFields(SamplingFields):
    """With the two fields that only chat completions have, and their form of log probabilities."""

    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] = 0

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def wanted_logprobs(self) -> int | None:
        return self.top_logprobs if self.logprobs else None

    @model_validator(mode="after")
    def _chat_fields_agree(self) -> Self:
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise inconsistent("max_tokens", "differs from max_completion_tokens; give one of them")
        if self.top_logprobs and not self.logprobs:
            raise inconsistent("top_logprobs", "is only allowed when logprobs is true")
        return self


class CompletionSamplingFields(SamplingFields):
    """Plain completions ask for log probabilities by their number."""

    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        return self.logprobs
