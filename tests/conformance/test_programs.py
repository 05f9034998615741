"""Programs that people use with OpenAI-compatible services work with this one, and get the right answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.app.conftest import TUTOR

PAIRS = yaml.safe_load((TUTOR / "qa.yml").read_text(encoding="utf-8"))


def run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture
def llm(
    suites_python: Path, address: str, bare_environment: dict[str, str], tmp_path: Path
) -> tuple[list[str], dict[str, str]]:
    """Simon Willison's command line program, told of both models."""
    models = [
        {"model_id": name, "model_name": name, "api_base": address, "supports_schema": True, "supports_tools": True}
        for name in ("tutor", "tools")
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))
    return [str(suites_python), "-m", "llm"], {**bare_environment, "LLM_USER_PATH": str(tmp_path)}


@pytest.mark.parametrize("streamed", [True, False])
def test_llm_gets_the_tutors_answer(llm: tuple[list[str], dict[str, str]], tmp_path: Path, streamed: bool) -> None:
    command, environment = llm
    options = [] if streamed else ["--no-stream"]
    for pair in PAIRS[:2]:
        assert (
            run([*command, "-m", "tutor", *options, pair["question"]], environment, tmp_path).strip() == pair["answer"]
        )


def test_llm_gets_the_form_it_asks_for(llm: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, environment = llm
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    out = run([*command, "-m", "tools", "--schema", json.dumps(schema), "hello"], environment, tmp_path)
    assert set(json.loads(out)) == {"ok"}


def test_lm_eval_finds_every_answer_of_the_tutor(
    suites_python: Path, address: str, bare_environment: dict[str, str], tmp_path: Path
) -> None:
    """A task of its own over `local-chat-completions`: the tutor's questions, judged by exact match."""
    rows = [{"question": pair["question"], "answer": pair["answer"]} for pair in PAIRS[:40]]
    (tmp_path / "tutor.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "tutor",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "tutor.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["<never>"], "max_gen_toks": 120, "temperature": 0, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "tutor.yaml").write_text(yaml.safe_dump(task))
    arguments = (
        f"model=tutor,base_url={address}/chat/completions,num_concurrent=4,max_retries=1,tokenized_requests=False"
    )
    command = [str(suites_python), "-m", "lm_eval", "--model", "local-chat-completions", "--model_args", arguments]
    command += ["--tasks", "tutor", "--include_path", str(tmp_path), "--apply_chat_template"]
    environment = {**bare_environment, "HF_HOME": str(tmp_path / "hf")}
    run([*command, "--output_path", str(tmp_path / "out")], environment, tmp_path)
    (result,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(result.read_text())["results"]["tutor"]["exact_match,none"] == 1.0


def test_langchains_own_suite_passes(
    suites_python: Path, address: str, bare_environment: dict[str, str], tmp_path: Path
) -> None:
    suite = Path(__file__).parent / "langchain_suite.py"
    command = [str(suites_python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", str(suite)]
    # One event loop for all: LangChain keeps its client's connections from one test to the next.
    command += ["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session"]
    environment = {**bare_environment, "BEDPLATE_ADDRESS": address}
    out = run([*command, "--rootdir", str(tmp_path), "-W", "ignore"], environment, tmp_path)
    passed = int(out.rpartition(" passed")[0].split()[-1])
    assert passed >= 14, out[-2000:]
