"""The front's application: the services of all models behind the routes, their start and their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from .. import __version__, checkpoint
from ..config import Config
from ..errors import Refusal, from_http_exception, internal_error
from .connection import ClientGone, Uploads
from .keys import KeyRing
from .metrics import Metrics
from .middleware import Gate
from .registry import Registry
from .routes import chat, completions, embeddings, health, models, rerank, tokens
from .routes import metrics as metrics_route
from .sdnotify import notify
from .service import ModelService
from .traces import Traces
from .watch import watch

log = structlog.get_logger(__name__)


class Service:
    """The whole front: `gate` is what uvicorn serves. `refused` is called when a model cannot be served."""

    def __init__(self, config: Config, refused: Callable[[Refusal], None]) -> None:
        keys = KeyRing(config.keys_file) if config.keys_file else None
        metrics = Metrics()
        services = {
            model.name: ModelService(
                model,
                checkpoint.read(model.path, model.task),
                config.limits,
                config.threads_per_engine,
                refused,
                metrics,
            )
            for model in config.models
        }
        self._config = config
        self._services = services.values()
        self._app = _application(Registry(config, services, metrics), self._lifespan)
        self._traces = Traces(config.traces_endpoint) if config.traces_endpoint else None
        self.gate = Gate(self._app, keys, config.limits, metrics, self._traces)

    def drain(self) -> None:
        """Stop being ready; what runs gets `drain_seconds`, then a final error. Called on the event loop."""
        if self._app.state.draining:
            return
        self._app.state.draining = self.gate.draining = True
        notify("STOPPING=1", "STATUS=Finishing the answers in progress")
        log.info("draining", seconds=self._config.limits.drain_seconds)
        asyncio.get_running_loop().call_later(self._config.limits.drain_seconds, self.abort)

    def abort(self) -> None:
        """End everything that runs, waits or is still being sent with an error."""
        self._app.state.uploads.end()
        for service in self._services:
            service.abort()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        for service in self._services:
            service.start()
        tasks = [
            asyncio.create_task(self._announce()),
            asyncio.create_task(watch(self._services, self._config.limits)),
        ]
        if self._traces is not None:
            tasks.append(asyncio.create_task(self._traces.run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            try:
                if self._traces is not None:
                    await self._traces.flush()
            finally:
                await asyncio.gather(*(service.stop() for service in self._services))

    async def _announce(self) -> None:
        """READY=1 once every model has generated its first token."""
        for service in self._services:
            notify(f"STATUS=Loading {service.name}")
            await service.first_token()
        notify("READY=1", f"STATUS=Serving {', '.join(service.name for service in self._services)}")
        log.info("ready", models=[service.name for service in self._services])


def _application(
    registry: Registry, lifespan: Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]
) -> FastAPI:
    app = FastAPI(
        title="Bedplate",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # the pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.registry = registry
    app.state.draining = False
    app.state.uploads = Uploads()
    for group in (models, chat, completions, embeddings, rerank, tokens, health, metrics_route):
        app.include_router(group.router)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        refusal = from_http_exception(error, request.method, request.url.path)
        return Response(refusal.body, refusal.status_code, dict(refusal.headers or {}), media_type="application/json")

    @app.exception_handler(ClientGone)
    async def nobody_listens(_request: Request, _error: ClientGone) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def fail(_request: Request, _error: Exception) -> Response:
        error = internal_error()
        return Response(error.body, 500, dict(error.headers or {}), media_type="application/json")

    return app
