"""A service that cannot work does not start: exit 1 and one line with code, cause and fix."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bedplate_server import checkpoint
from bedplate_server.engine.runner import Runner
from bedplate_server.errors import Refusal
from bedplate_server.protocol import Load
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Lfm2Config

from tests.app.support.server import SERVER_CODE


def start(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bedplate_server", *arguments],
        env={**os.environ, "PYTHONPATH": str(SERVER_CODE)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, done.stderr


def test_the_command_line_refuses_with_the_cause(tmp_path: Path, models: dict[str, Path]) -> None:
    llama = str(models["llama"])
    for arguments, said in [
        ([], "BP651 command line: models: Field required"),
        (["--config", str(tmp_path / "absent.yml")], "BP650"),
        (["--model", str(tmp_path)], "BP654"),
        (["--model", llama, "--host", "0.0.0.0", "--port", "0"], "BP652 0.0.0.0:0 is open to other machines"),
        (["--model", llama, "--keys", str(tmp_path / "absent.yml")], "BP653"),
        (["--model", llama, "--device", "tpu"], "BP651"),
    ]:
        status, heard = start(*arguments)
        assert status == 1, arguments
        assert said in heard
        assert "Fix: " in heard
        assert "Traceback" not in heard


def test_a_models_own_settings_that_are_no_numbers_are_left_out(tmp_path: Path, models: dict[str, Path]) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(models["llama"], odd)
    file = odd / "generation_config.json"
    usual = json.loads(file.read_text())
    wrong = {"temperature": "hot", "top_p": 7, "top_k": True, "repetition_penalty": 0, "min_p": [0.1]}
    file.write_text(json.dumps({**usual, **wrong, "max_new_tokens": 5}))
    assert checkpoint.read(odd, "auto").generation == {**usual, "max_new_tokens": 5}
    file.write_text(json.dumps({**usual, "temperature": 0.6, "top_k": 20.0, "top_p": None}))
    assert checkpoint.read(odd, "auto").generation == {**usual, "temperature": 0.6, "top_k": 20, "top_p": None}


def test_a_model_the_engine_cannot_load_ends_the_service(tmp_path: Path, models: dict[str, Path]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(models["llama"], broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    status, heard = start("--model", str(broken), "--port", "0")
    assert status == 1
    assert f"BP658 {broken}: cannot be loaded" in heard
    assert "Fix: " in heard


def load(path: Path, **settings: Any) -> Runner:
    defaults: dict[str, Any] = {
        "dtype": "auto",
        "device": "auto",
        "max_batch": 4,
        "context_length": None,
        "kv_memory_mb": None,
        "threads": 1,
    }
    return Runner(Load("m", str(path), True, **{**defaults, **settings}))


def test_models_without_keys_and_values_are_refused(tmp_path: Path) -> None:
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    hybrid = Lfm2Config(**sizes, num_attention_heads=2, num_key_value_heads=2, layer_types=["conv", "full_attention"])
    AutoModelForCausalLM.from_config(hybrid).save_pretrained(tmp_path)
    with pytest.raises(Refusal, match=r"BP657 .*cannot batch conv.*Fix: "):
        load(tmp_path)


def with_code(model: Path, folder: Path, **settings: str) -> Path:
    """A copy of a model that brings code of its own, which leaves a file `ran` beside the copy if it is ever run."""
    shutil.copytree(model, folder)
    (folder / "modeling_own.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w')\nclass Own: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def test_code_in_a_model_directory_is_never_run(tmp_path: Path, models: dict[str, Path]) -> None:
    hostile = with_code(models["llama"], tmp_path / "hostile", model_type="evil")
    with pytest.raises(Refusal, match="BP658"):
        load(hostile)
    assert not (tmp_path / "ran").exists()


def test_a_model_of_a_known_type_is_loaded_without_the_code_it_brings(tmp_path: Path, models: dict[str, Path]) -> None:
    own = with_code(models["llama"], tmp_path / "own")
    assert type(load(own).model).__name__ == "LlamaForCausalLM"
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_there_are_not_made_up(tmp_path: Path, models: dict[str, Path]) -> None:
    part = tmp_path / "part"
    shutil.copytree(models["llama"], part)
    weights = load_file(part / "model.safetensors")
    (lost,) = [name for name in weights if name.endswith("layers.1.mlp.up_proj.weight")]
    save_file(
        {name: tensor for name, tensor in weights.items() if name != lost}, part / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(Refusal, match=rf"BP658 .*1 tensors are not in its files, {re.escape(lost)} .*Fix: "):
        load(part)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_named(models: dict[str, Path]) -> None:
    with pytest.raises(Refusal, match=r"BP660 device cuda asked for, found 0 CUDA devices.*Fix: "):
        load(models["llama"], device="cuda")


def test_too_little_memory_for_keys_and_values_is_refused(models: dict[str, Path]) -> None:
    with pytest.raises(Refusal, match=r"BP659 .*Fix: "):
        load(models["endless"], kv_memory_mb=1, context_length=32768)
    small = load(models["endless"], kv_memory_mb=4)
    assert small.plan.bytes <= 4 * 2**20
    assert small.plan.tokens * 512 == small.plan.bytes


def test_half_precision_is_taken_as_asked(models: dict[str, Path]) -> None:
    assert load(models["llama"], dtype="bfloat16").facts.dtype == "bfloat16"
    assert load(models["llama"]).facts.dtype == "float32"
