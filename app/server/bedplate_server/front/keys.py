"""API keys: who may use the service, read from a file that may change while it runs.

The file holds SHA-256 digests of whole keys (`bp-<id>-<secret>`), so reading it gives nobody access.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..config import read_yaml
from ..errors import Refusal

log = structlog.get_logger(__name__)


class ApiKey(BaseModel):
    """One line of the keys file; `id` is public and appears in logs. `expires` without a zone is UTC.

    The limits are the key's own, in place of the configured ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-z]{4,32}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    name: str = ""
    expires: AwareDatetime | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None

    @field_validator("id", mode="before")
    @classmethod
    def _digits_are_text(cls, value: object) -> object:
        """YAML reads an unquoted id of digits alone as a number."""
        return str(value) if isinstance(value, int) else value

    @field_validator("expires", mode="before")
    @classmethod
    def _utc(cls, value: object) -> object:
        """YAML gives a date, a naive or an aware time, or text; all but the text are settled here."""
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        return f"{value}T00:00:00Z" if value is not None and not isinstance(value, str) else value


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[ApiKey]


class KeyRing:
    """The keys of one file, read again whenever the file changes.

    Raises Refusal BP653 when the first read fails. A later unreadable version is logged and the last good one
    kept: a slip in an edit must not lock everybody out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = self._stat()
        self._keys = _read(path)

    def holder(self, presented: str) -> ApiKey | None:
        """The key that `presented` is, if known and not expired; every key is compared, in constant time."""
        self._refresh()
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest()
        matches = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        now = datetime.now(UTC)
        return next((key for key in matches if key.expires is None or now < key.expires), None)

    def _refresh(self) -> None:
        version = self._stat()
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = _read(self._path)
        except Refusal as refusal:
            log.error("keys file not taken over, the former keys stay valid", problem=str(refusal))
        else:
            log.info("keys file read again", keys=len(self._keys))

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except (OSError, ValueError):
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> list[ApiKey]:
    try:
        return _KeysFile.model_validate(read_yaml(path)).keys
    except ValidationError as error:  # a ValueError, too
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        reason = str(error)
    raise Refusal("BP653", f"{path}: no usable keys file: {reason}.", "write `keys: [{id, sha256, name, expires}]`.")
