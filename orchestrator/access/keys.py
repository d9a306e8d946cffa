"""Keys and their tenants, read from a TOML file that holds only hashes of the keys."""

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
    """An entry of the file: a key's hash, the tenant it belongs to, and the tenant's limits; a missing field is no limit."""

    tenant: TenantName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] = 1
    """Number of requests that may arrive at once."""
    tokens_per_day: Annotated[int, Field(ge=1)] | None = None
    """Prompt and completion tokens of both roles, by days of UTC."""


class _File(Request):
    keys: Annotated[tuple[Tenant, ...], Field(min_length=1)]


class Keys:
    """Tenants by key and by name. A tenant may have several keys; its limits are those of its first entry."""

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

    def tenant_of(self, key: str) -> Tenant | None:
        """Return the tenant of a key, or None. The lookup is by hash, so its timing reveals nothing about the keys."""
        name = self._by_hash.get(digest(key))
        return None if name is None else self._by_name[name]

    def tenant_named(self, name: str) -> Tenant | None:
        """Return the tenant with a name, or None."""
        return self._by_name.get(name)


def digest(key: str) -> str:
    """Return the hash under which the file lists a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def generate_key() -> str:
    """Return a new random key of 256 bits."""
    return f"cp-{secrets.token_urlsafe(32)}"
