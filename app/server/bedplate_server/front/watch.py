"""Looks after the engines: ends one that is stuck, and feeds systemd's watchdog as long as every model makes progress."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection

from ..config import Limits
from .sdnotify import notify
from .service import ModelService


def watchdog_period() -> float | None:
    """Seconds between two signs of life, three within systemd's limit; None without WatchdogSec= in the unit."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 3e6 if microseconds.isdigit() and int(microseconds) else None


async def watch(services: Collection[ModelService], limits: Limits) -> None:
    """Never returns. A turning event loop alone is no sign of life: each model must have made a token."""
    period = watchdog_period()
    while True:
        await asyncio.sleep(min(limits.stuck_seconds / 4, period or limits.stuck_seconds))
        for service in services:
            service.engine.end_if_stuck(limits.stuck_seconds)
        if period is not None and all(await asyncio.gather(*(_progresses(one, period, limits) for one in services))):
            notify("WATCHDOG=1")


async def _progresses(service: ModelService, period: float, limits: Limits) -> bool:
    """Whether the model made a token within the period, or is being loaded for no longer than that may take."""
    if service.engine.loading_seconds is not None:
        return service.engine.loading_seconds < limits.start_wait_seconds
    return await service.prove(period, min(period, 5.0)) is None
