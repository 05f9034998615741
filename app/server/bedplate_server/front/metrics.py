"""What /metrics tells: vLLM's metrics under vLLM's names and with their meanings, so that its dashboards and routers work.

GPUs are told under the names of NVIDIA's DCGM exporter. Everything else begins with `bedplate:`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..protocol import Embed, Generate, Stats, Step

_LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
_BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_PER_STEP = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)
_LABELS = ("model_name", "engine")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """All metrics of one service, and the registry they are in."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Gpus())
        # A series that is not there until its first event looks like a dead service: models begin with all of these.
        self.from_the_start: list[Counter | Histogram] = []

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            made = Histogram(f"vllm:{name}", what, _LABELS, buckets=buckets, registry=self.registry)
            self.from_the_start.append(made)
            return made

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(name, what, _LABELS, registry=self.registry)

        def counter(name: str, what: str) -> Counter:
            made = Counter(name, what, _LABELS, registry=self.registry)
            self.from_the_start.append(made)
            return made

        self.running = gauge("vllm:num_requests_running", "Number of requests in model execution batches.")
        self.waiting = gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.")
        self.kv_usage = gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        # The name older dashboards and routers know.
        self.gpu_usage = gauge("vllm:gpu_cache_usage_perc", "The same as vllm:kv_cache_usage_perc.")
        self.prefix_queries = counter("vllm:prefix_cache_queries", "Prefix cache queries, in queried tokens.")
        self.prefix_hits = counter("vllm:prefix_cache_hits", "Prefix cache hits, in cached tokens.")
        self.preempted = counter("vllm:num_preemptions", "Cumulative number of preemptions from the engine.")
        self.prompt_tokens = counter("vllm:prompt_tokens", "Number of prefill tokens processed.")
        self.generation_tokens = counter("vllm:generation_tokens", "Number of generation tokens processed.")
        self.first = histogram("time_to_first_token_seconds", "Time to first token in seconds.", _FIRST)
        self.between = histogram("inter_token_latency_seconds", "Inter-token latency in seconds.", _BETWEEN)
        self.per_token = histogram(
            "request_time_per_output_token_seconds", "Mean time per output token of a request in seconds.", _BETWEEN
        )
        self.whole = histogram("e2e_request_latency_seconds", "End to end request latency in seconds.", _LATENCY)
        self.queue = histogram("request_queue_time_seconds", "Time spent in WAITING phase for request.", _LATENCY)
        self.prefill = histogram("request_prefill_time_seconds", "Time spent in PREFILL phase for request.", _LATENCY)
        self.decode = histogram("request_decode_time_seconds", "Time spent in DECODE phase for request.", _LATENCY)
        self.inference = histogram("request_inference_time_seconds", "Time spent in RUNNING phase.", _LATENCY)
        self.request_prompt = histogram("request_prompt_tokens", "Number of prefill tokens of a request.", _TOKENS)
        self.request_answer = histogram("request_generation_tokens", "Number of generation tokens.", _TOKENS)
        self.request_most = histogram("request_params_max_tokens", "The max_tokens request parameter.", _TOKENS)
        self.per_step = histogram("iteration_tokens_total", "Number of tokens per engine step.", _PER_STEP)
        self.success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            (*_LABELS, "finished_reason"),
            registry=self.registry,
        )
        self.refused = Counter(
            "vllm:admission_rejections",
            "Number of requests rejected by a queue limit, by reason.",
            ("model_name", "reason"),
            registry=self.registry,
        )
        self.memory = gauge("bedplate:engine_resident_memory_bytes", "Resident memory of the engine's process.")
        self.starts = counter("bedplate:engine_starts", "Engines that have loaded this model.")
        self.http = Counter(
            "http_requests",
            "Requests by path, method and class of status.",
            ("handler", "method", "status"),
            registry=self.registry,
        )


class _Open:
    """A sequence or embedding job that has not ended, with its times (monotonic seconds)."""

    __slots__ = ("admitted", "begun", "first", "last", "most", "prompt", "tokens")

    def __init__(self, prompt: int, most: int, begun: float) -> None:
        self.prompt, self.most, self.begun = prompt, most, begun
        self.admitted = self.first = self.last = 0.0
        self.tokens = 0


class Meter:
    """Watches one engine of a model and books what its jobs do. Proofs of readiness are not booked: nobody asked them."""

    def __init__(self, metrics: Metrics, model: str, engine: int = 0) -> None:
        self._metrics = metrics
        self._model, self._engine = model, str(engine)
        self._open: dict[int, _Open] = {}
        self._of: dict[Any, Any] = {}
        self.pid: Callable[[], int | None] = lambda: None
        self._stats = Stats(0)
        self._metric(metrics.running).set_function(self._running)
        self._metric(metrics.waiting).set_function(lambda: len(self._open) - self._running())
        self._metric(metrics.kv_usage).set_function(self._kv_usage)
        self._metric(metrics.gpu_usage).set_function(self._kv_usage)
        self._metric(metrics.memory).set_function(lambda: _resident(self.pid()))
        for reason in ("stop", "length", "abort", "error"):
            metrics.success.labels(model, self._engine, reason)
        for reason in ("max_num_queued_reqs", "max_num_queued_tokens"):
            metrics.refused.labels(model, reason)
        for one in metrics.from_the_start:
            self._metric(one)

    def submitted(self, message: Generate | Embed) -> None:
        if isinstance(message, Generate):
            self._open[message.id] = _Open(len(message.prompt), message.max_tokens, time.monotonic())
        else:
            self._open[message.id] = _Open(sum(map(len, message.inputs)), 0, time.monotonic())

    def stepped(self, step: Step) -> None:
        """Book what a pass of the engine brought, before its jobs are told."""
        metrics, now, tokens = self._metrics, step.ended, 0
        for job_id, _cached in step.admitted:
            if (one := self._open.get(job_id)) is not None:
                # With the pass that reads the first of it, which has ended by now.
                one.admitted = step.began
                self._metric(metrics.queue).observe(step.began - one.begun)
        between = self._metric(metrics.between)
        for job_id, _token, finish, *_ in step.tokens:
            if (one := self._open.get(job_id)) is None:
                continue
            tokens += 1
            one.tokens += 1
            if one.first:
                between.observe(now - one.last)
            else:
                one.first = now
                tokens += one.prompt
                self._metric(metrics.first).observe(now - one.begun)
                self._metric(metrics.prefill).observe(now - one.admitted)
                self._metric(metrics.prompt_tokens).inc(one.prompt)
            one.last = now
            self._metric(metrics.generation_tokens).inc()
            if finish is not None:
                self.ended(job_id, finish)
        for job_id, *_ in step.vectors:
            if (one := self._open.get(job_id)) is not None:
                tokens += one.prompt
                self._metric(metrics.prompt_tokens).inc(one.prompt)
                self.ended(job_id, "stop")
        for job_id, _cause in (*step.failures, *step.unfit):
            self.ended(job_id, "error")
        if tokens:
            self._metric(metrics.per_step).observe(tokens)
        if step.stats is not None:
            self._take_over(step.stats)

    def ended(self, job_id: int, reason: str) -> None:
        """The job's end, once: stop, length, abort (its client went away) or error."""
        if (one := self._open.pop(job_id, None)) is None:
            return
        metrics, now = self._metrics, time.monotonic()
        metrics.success.labels(self._model, self._engine, reason).inc()
        self._metric(metrics.whole).observe(now - one.begun)
        self._metric(metrics.request_prompt).observe(one.prompt)
        if one.most:
            self._metric(metrics.request_answer).observe(one.tokens)
            self._metric(metrics.request_most).observe(one.most)
        if one.first:
            self._metric(metrics.decode).observe(one.last - one.first)
            self._metric(metrics.inference).observe(one.last - one.admitted)
            if one.tokens > 1:
                self._metric(metrics.per_token).observe((one.last - one.first) / (one.tokens - 1))

    def refused(self, reason: str) -> None:
        self._metrics.refused.labels(self._model, reason).inc()

    def started(self) -> None:
        """A new engine counts from zero again."""
        self._stats = Stats(0)
        self._metric(self._metrics.starts).inc()

    def _take_over(self, stats: Stats) -> None:
        metrics, before = self._metrics, self._stats
        self._stats = stats
        self._metric(metrics.prefix_queries).inc(stats.prefix_queries - before.prefix_queries)
        self._metric(metrics.prefix_hits).inc(stats.prefix_hits - before.prefix_hits)

    def _running(self) -> int:
        """As the engine last said, but never more than there are."""
        return min(self._stats.running, len(self._open))

    def _kv_usage(self) -> float:
        return self._stats.kv_used / self._stats.kv_tokens if self._open and self._stats.kv_tokens else 0.0

    def _metric(self, metric: Any) -> Any:
        """The metric with this engine's labels, looked up once."""
        found = self._of.get(metric)
        if found is None:
            found = self._of[metric] = metric.labels(self._model, self._engine)
        return found


def _resident(pid: int | None) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


class _Gpus(Collector):
    """The GPUs as NVML shows them at the time of asking; nothing where there is no NVIDIA driver."""

    def __init__(self) -> None:
        self._nvml: Any = None
        with contextlib.suppress(Exception):
            import pynvml  # type: ignore[import-untyped]  # it comes without types

            pynvml.nvmlInit()
            self._nvml = pynvml

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        if self._nvml is None:
            return
        nvml, labels = self._nvml, ("gpu", "UUID", "modelName")
        read: dict[str, tuple[str, Callable[[Any], float]]] = {
            "DCGM_FI_DEV_GPU_UTIL": ("GPU utilization (%).", lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            "DCGM_FI_DEV_FB_USED": ("Memory used (MiB).", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used >> 20),
            "DCGM_FI_DEV_FB_FREE": ("Memory free (MiB).", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).free >> 20),
            "DCGM_FI_DEV_GPU_TEMP": ("Temperature (C).", lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, 0)),
            "DCGM_FI_DEV_POWER_USAGE": ("Power draw (W).", lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
            "DCGM_FI_DEV_SM_CLOCK": ("SM clock (MHz).", lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, 1)),
        }
        families = {name: GaugeMetricFamily(name, what, labels=labels) for name, (what, _) in read.items()}
        for index in range(self._count()):
            with contextlib.suppress(Exception):
                gpu = nvml.nvmlDeviceGetHandleByIndex(index)
                values = [str(index), _text(nvml.nvmlDeviceGetUUID(gpu)), _text(nvml.nvmlDeviceGetName(gpu))]
                for name, (_, value) in read.items():
                    # A card need not have every sensor.
                    with contextlib.suppress(nvml.NVMLError):
                        families[name].add_metric(values, value(gpu))
        yield from families.values()

    def _count(self) -> int:
        with contextlib.suppress(Exception):
            return int(self._nvml.nvmlDeviceGetCount())
        return 0


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
