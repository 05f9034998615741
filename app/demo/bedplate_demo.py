"""A quick look at what models can do: chat with sampling settings, two models side by side, the likeness of two texts.

    python bedplate_demo.py --base-url https://server/v1 --ca-file server.pem

A page for any OpenAI-compatible service, made with Gradio. Options may stand in a file, one `--name=value` per line:
`python bedplate_demo.py @/etc/bedplate/demo.conf`. By default each visitor enters an API key, so the demo opens nothing
that the key does not; with --api-key-file everybody who reaches the page uses that key.
Nothing is loaded from elsewhere and nothing is reported, so it works in a closed network.
"""

from __future__ import annotations

import argparse
import math
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import httpx2
import openai
import uvicorn

TEXTS = {
    "en": {
        "key": "API key",
        "key_hint": "Sent with each request, kept nowhere.",
        "model": "Model",
        "chat": "Chat",
        "system": "System prompt",
        "temperature": "Temperature",
        "temperature_hint": "0 always takes the likeliest word",
        "top_p": "Top p",
        "max_tokens": "Longest answer, in tokens",
        "side": "Side by side",
        "question": "Question",
        "ask": "Ask both",
        "left": "Model on the left",
        "right": "Model on the right",
        "similarity": "Similarity",
        "first": "First text",
        "second": "Second text",
        "compare": "Compare",
        "cosine": "Cosine similarity",
        "cosine_hint": "1: same direction, 0: unrelated",
    },
    "zh": {
        "key": "API 密钥",
        "key_hint": "随每次请求发送，不作任何保存。",
        "model": "模型",
        "chat": "对话",
        "system": "系统提示词",
        "temperature": "温度",
        "temperature_hint": "0 表示总是选最可能的词",
        "top_p": "Top p",
        "max_tokens": "回答的最大长度（token）",
        "side": "并排比较",
        "question": "问题",
        "ask": "同时提问",
        "left": "左侧模型",
        "right": "右侧模型",
        "similarity": "相似度",
        "first": "第一段文本",
        "second": "第二段文本",
        "compare": "比较",
        "cosine": "余弦相似度",
        "cosine_hint": "1：方向相同，0：无关",
    },
}
TITLE = "Bedplate"  # Gradio translates no title of a page
# Gradio translates whatever reads like a key, a model's name too: these read like none. It looks by the browser's whole tag.
KEYED = {language: {f"demo: {key}": text for key, text in texts.items()} for language, texts in TEXTS.items()}
I18N = gr.I18n(**KEYED, **{"zh-CN": KEYED["zh"]})


def text(key: str) -> Any:
    """A text in the visitor's language."""
    return I18N(f"demo: {key}")


@dataclass(frozen=True)
class Service:
    """The OpenAI-compatible service behind the page."""

    client: openai.OpenAI
    shared_key: str | None

    def using(self, key: str) -> openai.OpenAI:
        """Return a client with the visitor's key; one without a key may ask a service that needs none."""
        return self.client.with_options(api_key=self.shared_key or key.strip() or "none")

    def models(self, key: str) -> list[str]:
        """Return what the service offers to this key: nothing, if it refuses the key."""
        try:
            return [model.id for model in self.using(key).models.list()]
        except openai.AuthenticationError:
            return []

    def chat(self, key: str, **request: Any) -> Iterator[str]:
        """Yield the answer as far as it has come; an answer that does not say how it ended is an error."""
        answer, finish = "", None
        for chunk in self.using(key).chat.completions.create(stream=True, **request):
            for choice in chunk.choices:
                answer += choice.delta.content or ""
                finish = choice.finish_reason or finish
            yield answer
        if finish is None:
            raise openai.OpenAIError("The answer was cut off: no finish_reason came.")

    def similarity(self, key: str, model: str, first: str, second: str) -> float:
        """Return the cosine of the angle between the embeddings of two texts."""
        data = self.using(key).embeddings.create(model=model, input=[first, second]).data
        return cosine(data[0].embedding, data[1].embedding)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Return a·b / |a||b|, and 0 where one of them has no direction."""
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def connect(base_url: str, ca_file: Path | None, key_file: Path | None) -> Service:
    """Reach a service by URL or, with `unix:/path`, by its socket on this machine."""
    transport = None
    if base_url.startswith("unix:"):
        transport = httpx2.HTTPTransport(uds=base_url.removeprefix("unix:"))
        base_url = "http://localhost/v1"
    verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
    client = openai.DefaultHttpxClient(verify=verify, transport=transport)
    key = key_file.read_text().strip() if key_file else None
    # No silent retries: whoever tries a service out wants to see that it is busy.
    return Service(openai.OpenAI(base_url=base_url, api_key="none", http_client=client, max_retries=0), key)


def words(content: Any) -> str:
    """Return the text of a message as Gradio keeps it: a string, or a list of parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def failure(error: Exception) -> gr.ChatMessage:
    """Tell of a failure in the conversation; `turns` knows it by its title."""
    return gr.ChatMessage(role="assistant", content="", metadata={"title": f"⚠ {error}"})


def turns(history: Sequence[Any]) -> list[dict[str, str]]:
    """Return what the model is told of a conversation: questions with their answers, no failures."""
    told: list[dict[str, str]] = []
    for turn in history:
        if (turn.get("metadata") or {}).get("title"):
            continue
        if told and told[-1]["role"] == turn["role"] == "user":
            told.pop()  # it got no answer
        told.append({"role": turn["role"], "content": words(turn["content"])})
    return told[:-1] if told and told[-1]["role"] == "user" else told


def page(service: Service) -> Any:
    """Lay out the page."""

    def stream(
        question: str,
        history: list[Any],
        key: str,
        model: str,
        system: str,
        temperature: float,
        top_p: float,
        limit: float,
    ) -> Iterator[str]:
        opening = [{"role": "system", "content": system}] if system.strip() else []
        messages = [*opening, *turns(history), {"role": "user", "content": question}]
        settings = {"temperature": temperature, "top_p": top_p, "max_tokens": int(limit)}
        yield from service.chat(key, model=model, messages=messages, **settings)

    def reply(question: str, history: list[Any], *asked: Any) -> Iterator[Any]:
        answer = ""
        try:
            for answer in stream(question, history, *asked):
                yield answer
        except openai.OpenAIError as error:
            yield [answer, failure(error)] if answer else failure(error)

    def alone(question: str, *asked: Any) -> Iterator[str]:
        answer = ""
        try:
            for answer in stream(question, [], *asked):
                yield answer
        except openai.OpenAIError as error:
            yield f"{answer}\n\n⚠ {error}"

    def compare(key: str, model: str, first: str, second: str) -> float:
        try:
            return round(service.similarity(key, model, first, second), 4)
        except openai.OpenAIError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def offer(key: str) -> list[Any]:
        names = service.models(key)
        first = names[0] if names else None
        second = names[1] if len(names) > 1 else first
        return [gr.update(choices=names, value=name) for name in (first, first, second)]

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_height=True) as blocks:
        with gr.Sidebar():
            asks = service.shared_key is None
            key = gr.Textbox(label=text("key"), info=text("key_hint"), type="password", visible=asks)
            model = gr.Dropdown([], label=text("model"), allow_custom_value=True)
            settings = [
                gr.Textbox(label=text("system"), lines=2),
                gr.Slider(0, 2, 0, step=0.05, label=text("temperature"), info=text("temperature_hint")),
                gr.Slider(0.05, 1, 1, step=0.05, label=text("top_p")),
                gr.Slider(1, 4096, 512, step=1, label=text("max_tokens")),
            ]
        with gr.Tab(text("chat")):
            gr.ChatInterface(
                reply,
                chatbot=gr.Chatbot(show_label=False, height="70vh", buttons=["copy"]),  # not Gradio's "share"
                additional_inputs=[key, model, *settings],
                analytics_enabled=False,
                api_visibility="private",
            )
        with gr.Tab(text("side")):
            question = gr.Textbox(label=text("question"), lines=2)
            both = gr.Button(text("ask"), variant="primary")
            with gr.Row():
                sides = [side(text("left")), side(text("right"))]
            for other, answer in sides:
                gr.on(
                    [both.click, question.submit],
                    alone,
                    [question, key, other, *settings],
                    answer,
                    concurrency_limit=None,  # else the right side would wait for the left
                    api_visibility="private",
                )
        with gr.Tab(text("similarity")):
            with gr.Row():
                first = gr.Textbox(label=text("first"), lines=4)
                second = gr.Textbox(label=text("second"), lines=4)
            button = gr.Button(text("compare"), variant="primary")
            result = gr.Number(label=text("cosine"), info=text("cosine_hint"), interactive=False)
            button.click(compare, [key, model, first, second], result, api_visibility="private")
        models = [model, *(other for other, _ in sides)]
        blocks.load(offer, key, models, api_visibility="private")
        gr.on([key.submit, key.blur], offer, key, models, api_visibility="private")
    return blocks


def side(label: Any) -> tuple[Any, Any]:
    """Lay out a model to choose and the place of its answer."""
    with gr.Column():
        return gr.Dropdown([], label=label, allow_custom_value=True), gr.Markdown(container=True, min_height=120)


def serve(blocks: gr.Blocks, listen: str, root_path: str) -> None:
    """Serve the page at `HOST:PORT`, at `unix:/path`, or at the socket `fd:N` that systemd passes."""
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        blocks,
        path="/",
        root_path=root_path,
        i18n=I18N,
        theme=gr.themes.Default(primary_hue="emerald"),
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        max_file_size=1,
        show_error=False,
    )
    scheme, _, rest = listen.rpartition(":")
    where: dict[str, Any] = {"host": scheme, "port": int(rest)} if rest.isdigit() and scheme != "fd" else {}
    if listen.startswith("unix:"):
        where = {"uds": listen.removeprefix("unix:")}
    elif scheme == "fd":
        where = {"fd": int(rest)}
    uvicorn.run(app, log_level="warning", timeout_keep_alive=75, **where)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, fromfile_prefix_chars="@", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--base-url", default="http://127.0.0.1:8000/v1", help="the service, or unix:/path of its socket"
    )
    parser.add_argument("--ca-file", type=Path, help="certificates to trust, for a self-signed server")
    parser.add_argument("--api-key-file", type=Path, help="use this key for every visitor")
    parser.add_argument("--listen", default="127.0.0.1:7861", help="HOST:PORT, unix:/path or fd:N (%(default)s)")
    parser.add_argument("--root-path", default="", help="where a proxy serves the page, such as /demo")
    options = parser.parse_args(arguments)
    service = connect(options.base_url, options.ca_file, options.api_key_file)
    serve(page(service), options.listen, options.root_path)


if __name__ == "__main__":
    main()
