"""Keys and their tenants, out of a TOML file that holds hashes only."""

import hashlib
import secrets
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError

from services.contracts.base import Request
from services.settings import SettingsError

TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Tenant(Request):
    """Whose key it is, and what it may ask. No limit where a field is missing."""

    tenant: TenantName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] = 1
    """Requests that may come at once."""
    tokens_per_day: Annotated[int, Field(ge=1)] | None = None
    """Prompts and completions of both roles, by days of UTC."""


class _File(Request):
    keys: Annotated[tuple[Tenant, ...], Field(min_length=1)]


class Keys:
    """Tenants by their keys. A tenant may have several keys; its limits are those of its first one."""

    def __init__(self, tenants: tuple[Tenant, ...]) -> None:
        self._by_hash = {tenant.sha256: tenant.tenant for tenant in tenants}
        self._by_name = {tenant.tenant: tenant for tenant in reversed(tenants)}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `[[keys]]`. Raises `SettingsError`."""
        try:
            return cls(_File.model_validate(tomllib.loads(path.read_text("utf-8"))).keys)
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: {error}") from error
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"{path}: {where}: {first['msg']}") from error

    def of(self, key: str) -> Tenant | None:
        """Whose key it is. Hashes are looked up, so how long it takes tells nothing of a key."""
        name = self._by_hash.get(digest(key))
        return None if name is None else self._by_name[name]

    def named(self, name: str) -> Tenant | None:
        """A tenant."""
        return self._by_name.get(name)


def digest(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def fresh() -> str:
    """A new key, 256 bits."""
    return f"cp-{secrets.token_urlsafe(32)}"
