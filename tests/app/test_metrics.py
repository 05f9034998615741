"""/metrics under vLLM's names: what is counted is what was asked and answered, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bedplate_server.front import metrics as module
from bedplate_server.front.metrics import Meter, Metrics
from bedplate_server.protocol import Embed, Generate, Sampling, Step
from prometheus_client.parser import text_string_to_metric_families

from tests.app.support.server import ServerProcess
from tests.app.test_api_limits import CHAT, ENDLESS, occupy, wait_until_free

# What vLLM's own dashboard and production-stack's router ask for.
KNOWN = [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:request_time_per_output_token_seconds_bucket",
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:request_queue_time_seconds_bucket",
    "vllm:request_prefill_time_seconds_bucket",
    "vllm:request_decode_time_seconds_bucket",
    "vllm:request_inference_time_seconds_bucket",
    "vllm:request_prompt_tokens_bucket",
    "vllm:request_generation_tokens_bucket",
    "vllm:iteration_tokens_total_bucket",
]


def scraped(server: ServerProcess) -> dict[str, float]:
    """Every series of the service and its value."""
    answer = server.http().get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return series(answer.text)


def series(text: str) -> dict[str, float]:
    """By `name/model/engine`, with the values of other labels behind."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            known = [labels.pop(name) for name in ("model_name", "engine") if name in labels]
            found["/".join([sample.name, *known, *labels.values()])] = sample.value
    return found


@pytest.fixture(scope="module")
def busy(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One slot and one place in the queue, and an embedding model beside it."""
    served = [
        {"name": "endless", "path": str(models["endless"]), "max_batch": 1},
        {"name": "encoder", "path": str(models["encoder"]), "task": "embedding"},
    ]
    process = ServerProcess(tmp_path_factory.mktemp("busy"), {"models": served, "limits": {"max_queue": 1}})
    yield process.wait_ready()
    process.stop()


def test_every_series_is_there_before_the_first_request(busy: ServerProcess) -> None:
    names = {name.split("/")[0] for name in scraped(busy)}
    assert set(KNOWN) <= names
    # Readiness was proven by a token that nobody asked for.
    assert scraped(busy)["vllm:generation_tokens_total/endless/0"] == 0


def test_requests_and_their_tokens_are_counted(busy: ServerProcess) -> None:
    before = scraped(busy)
    for count in (5, 7):
        answer = busy.openai().chat.completions.create(**{**ENDLESS, "max_tokens": count})
    assert answer.usage is not None
    busy.openai().embeddings.create(model="encoder", input=["one text", "and another"])
    after = scraped(busy)

    def grown(name: str, model: str = "endless") -> float:
        key = f"{name}/{model}/0"
        return after[key] - before[key]

    assert grown("vllm:generation_tokens_total") == 12
    assert grown("vllm:prompt_tokens_total") == 2 * answer.usage.prompt_tokens
    assert grown("vllm:time_to_first_token_seconds_count") == 2
    assert grown("vllm:inter_token_latency_seconds_count") == 10
    for name in ("e2e_request_latency", "request_queue_time", "request_prefill_time", "request_inference_time"):
        assert grown(f"vllm:{name}_seconds_count") == 2, name
    reading, until = (grown(f"vllm:{name}_seconds_sum") for name in ("request_prefill_time", "time_to_first_token"))
    assert 0 < reading < until
    assert grown("vllm:request_queue_time_seconds_sum") == pytest.approx(until - reading)
    assert grown("vllm:prefix_cache_queries_total") == grown("vllm:prompt_tokens_total")
    assert grown("vllm:request_generation_tokens_sum") == 12
    length = "vllm:request_success_total/endless/0/length"
    assert after[length] - before[length] == 2
    assert grown("vllm:prompt_tokens_total", "encoder") > 2
    assert after["vllm:request_success_total/encoder/0/stop"] == 1
    assert after["bedplate:engine_resident_memory_bytes/endless/0"] > 50e6
    assert after["http_requests_total//v1/chat/completions/POST/2xx"] >= 2


def test_running_waiting_refused_and_aborted_are_told_apart(busy: ServerProcess) -> None:
    before = scraped(busy)
    streams = occupy(busy, 2)
    reading = streams[0].iter_raw()  # closes the stream when it is let go
    next(reading)
    seen = scraped(busy)
    assert (seen["vllm:num_requests_running/endless/0"], seen["vllm:num_requests_waiting/endless/0"]) == (1, 1)
    assert 0 < seen["vllm:kv_cache_usage_perc/endless/0"] <= 1
    assert busy.http().post(CHAT, json=ENDLESS).status_code == 429
    for stream in streams:
        stream.close()
    wait_until_free(busy)
    after = scraped(busy)
    refused, aborted = (
        "vllm:admission_rejections_total/endless/max_num_queued_reqs",
        "vllm:request_success_total/endless/0/abort",
    )
    assert after[refused] - before[refused] >= 1
    assert after[aborted] - before[aborted] == 2
    assert after["vllm:num_requests_running/endless/0"] == after["vllm:num_requests_waiting/endless/0"] == 0


def test_what_clients_make_up_makes_no_series(busy: ServerProcess) -> None:
    with busy.http() as http:
        for number in range(20):
            http.get(f"/made/up/{number}")
            http.request(f"VERB{number}", "/v1/models")
        http.post(CHAT, json={**ENDLESS, "model": "made-up"})
    text = busy.http().get("/metrics").text
    assert "made" not in text and "VERB" not in text


def told(metrics: Metrics) -> dict[str, float]:
    from prometheus_client import generate_latest

    return series(generate_latest(metrics.registry).decode())


def test_a_job_ends_once_however_often_it_is_told() -> None:
    metrics = Metrics()
    meter = Meter(metrics, "m")
    meter.submitted(Generate(1, [1, 2, 3], 10, Sampling()))
    meter.submitted(Embed(2, [[1, 2], [3]]))
    meter.stepped(Step(tokens=[(1, 5, "stop", None), (99, 5, "stop", None)], failures=[(2, "no")]))
    meter.ended(1, "abort")
    meter.ended(2, "abort")
    found = told(metrics)
    ends = {
        reason: found[f"vllm:request_success_total/m/0/{reason}"] for reason in ("stop", "length", "abort", "error")
    }
    assert ends == {"stop": 1, "length": 0, "abort": 0, "error": 1}
    assert found["vllm:generation_tokens_total/m/0"] == 1


class Nvml:
    """A double of NVML with one card that has no fan and no clock to read."""

    NVMLError = RuntimeError
    nvmlDeviceGetCount = staticmethod(lambda: 1)
    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)
    nvmlDeviceGetUUID = staticmethod(lambda gpu: "GPU-1")
    nvmlDeviceGetName = staticmethod(lambda gpu: b"NVIDIA H100")
    nvmlDeviceGetTemperature = staticmethod(lambda gpu, sensor: 41)
    nvmlDeviceGetPowerUsage = staticmethod(lambda gpu: 125_000)

    @staticmethod
    def nvmlDeviceGetUtilizationRates(gpu: Any) -> Any:
        return type("Rates", (), {"gpu": 87})

    @staticmethod
    def nvmlDeviceGetMemoryInfo(gpu: Any) -> Any:
        return type("Memory", (), {"used": 10 << 30, "free": 70 << 30})

    @staticmethod
    def nvmlDeviceGetClockInfo(gpu: Any, domain: int) -> int:
        raise RuntimeError("not supported")


def test_gpus_are_told_under_dcgms_names_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = module._Gpus()
    monkeypatch.setattr(collector, "_nvml", Nvml)
    found = {sample.name: sample for family in collector.collect() for sample in family.samples}
    assert found["DCGM_FI_DEV_GPU_UTIL"].value == 87
    assert found["DCGM_FI_DEV_FB_USED"].value == 10 << 10
    assert found["DCGM_FI_DEV_POWER_USAGE"].value == 125
    assert found["DCGM_FI_DEV_GPU_TEMP"].labels == {"gpu": "0", "UUID": "GPU-1", "modelName": "NVIDIA H100"}
    assert "DCGM_FI_DEV_SM_CLOCK" not in found
