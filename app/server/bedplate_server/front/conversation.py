"""How one model chats: prompts of its chat template, the grammars it must keep to, and readers of its answers.

Slow like the tokenizer, so it is called in threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from llguidance import LLMatcher

from ..config import ToolParser
from ..errors import ApiError, bad_request
from .dialects import DIALECTS, THINK, THOUGHT, Dialect, Grammars, detected
from .reader import DialectReader, PlainReader, Reader
from .schemas.chat import ChatRequest
from .schemas.formats import schema_of
from .template_reader import TemplateReader
from .text import TextCodec


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the engine gets of a request, and who reads each choice of the answer.

    needs_special: the answer's special tokens are among what the reader looks for.
    """

    tokens: list[int]
    grammar: str | None = None
    reader: Callable[[], Reader] = PlainReader
    needs_special: bool = False


class Conversation:
    """Null parsers are settled by what the chat template says."""

    def __init__(
        self, codec: TextCodec, tool_parser: ToolParser | None, reasoning: Literal["think", "none"] | None
    ) -> None:
        self.codec = codec
        template = codec.chat_template
        self._parser = tool_parser or ("template" if codec.response_template else detected(template))
        self._dialect: Dialect | None = DIALECTS.get(self._parser or "none")
        thinks = THINK in template or THOUGHT in template
        self._thinks = (thinks if reasoning is None else reasoning == "think") and self._parser != "template"
        self._marker_tokens = codec.added_tokens
        self._grammars = Grammars(self._dialect, self._marker_tokens)

    def prepare(self, request: ChatRequest) -> Prepared:
        """ApiError 400 names what this model cannot do."""
        self._check(request)
        turns = [message.for_template() for message in request.messages]
        prompt = self.codec.chat_text(turns, **request.template_settings)
        thinking = self._thinks and self._opened(request, prompt)
        tools = request.offered_tools
        return Prepared(
            tokens=self.codec.tokens(prompt, special=False),
            grammar=self._grammar(request, thinking=thinking),
            reader=self._reader(request, prompt, thinking=thinking),
            needs_special=self._parser == "template" or self._shows_special(bool(tools)),
        )

    def _check(self, request: ChatRequest) -> None:
        template = self.codec.chat_template
        if request.offered_tools and "tools" not in template:
            raise _unsupported("tools", "the model's chat template knows no tools")
        if request.offered_tools and self._parser in (None, "none"):
            raise _unsupported("tools", "how this model writes calls is not known; its operator can set tool_parser")
        if request.forced_tools and self._dialect is None:
            raise _unsupported("tool_choice", "this model's way of writing calls cannot be demanded of it")
        if request.reasoning_effort is not None and "reasoning_effort" not in template:
            raise _unsupported("reasoning_effort", "the model's chat template does not know it")
        for name in request.chat_template_kwargs:
            if name not in template:
                raise _unsupported(f"chat_template_kwargs.{name}"[:200], "the model's chat template does not know it")

    def _opened(self, request: ChatRequest, prompt: str) -> bool:
        """Whether the prompt ends within reasoning."""
        if not request.continue_final_message:
            return prompt.rstrip().endswith(THINK)
        last = request.messages[-1].for_template()["content"]
        return bool(last.rfind(THINK) > last.rfind(THOUGHT))

    def _reader(self, request: ChatRequest, prompt: str, *, thinking: bool) -> Callable[[], Reader]:
        names = {tool.function.name for tool in request.offered_tools}
        several = request.parallel_tool_calls
        if self._parser == "template":
            tools = [tool.for_template() for tool in request.offered_tools]
            template = self.codec.response_template or {}
            return partial(TemplateReader, template, prompt, tools, several=several)
        begins = self._thinks and not request.continue_final_message
        if not (names or begins or thinking):
            return PlainReader
        dialect = self._dialect if names else None
        return partial(DialectReader, dialect, names, thinks=begins, thinking=thinking, several=several)

    def _grammar(self, request: ChatRequest, *, thinking: bool) -> str | None:
        schema = schema_of(request.response_format)
        if schema is not None:
            checked(self._grammars.json_answer(schema, thinks=False), "response_format.json_schema.schema")
            return checked(self._grammars.json_answer(schema, thinks=thinking), "response_format")
        for index, tool in enumerate(request.tools):
            if (request.forced_tools or tool.function.strict) and tool.function.parameters is not None:
                grammar = self._grammars.json_answer(tool.function.parameters, thinks=False)
                checked(grammar, f"tools[{index}].function.parameters")
        several = request.parallel_tool_calls
        if request.forced_tools:
            return checked(self._grammars.calls(request.forced_tools, several=several, thinks=thinking), "tools")
        strict = [index for index, tool in enumerate(request.offered_tools) if tool.function.strict]
        if not strict:
            return None
        grammar_if_possible = self._grammars.free_with_calls(request.offered_tools, several=several)
        if grammar_if_possible is None:
            raise _unsupported(
                f"tools[{strict[0]}].function.strict",
                "this model marks calls with nothing that text could not hold, too; tool_choice can demand a call",
            )
        return checked(grammar_if_possible, "tools")

    def _shows_special(self, tools: bool) -> bool:
        """Whether a marker is a special token, which answers are otherwise shown without."""
        markers = [THINK, THOUGHT] if self._thinks else []
        if tools and self._dialect is not None:
            markers += [marker for marker in (self._dialect.opens, self._dialect.closes) if marker]
            markers += [self._dialect.separator] if self._dialect.separator else []
        # A bare dialect is read without its marker.
        skippable = self._dialect is not None and self._dialect.bare
        return not skippable and any(marker in self.codec.special_tokens for marker in markers)


def checked(lark: str, param: str) -> str:
    """The grammar in llguidance's form; ApiError 400 naming `param` if it cannot be followed."""
    grammar = LLMatcher.grammar_from_lark(lark)
    failed, problems = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        problem = problems[0].splitlines()[0][:300]
        raise bad_request(f"Invalid value for '{param}': {problem}", param, "invalid_json_schema")
    return grammar


def _unsupported(param: str, problem: str) -> ApiError:
    return bad_request(f"'{param}' asks for what is not done here: {problem}.", param, "unsupported_parameter")
