"""Settings: read once from the environment, checked, and passed down. Nothing else reads the environment."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, FilePath, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_DEVELOPMENT_SECRET = "development-only-secret-do-not-use"
_SHORTEST_SECRET = 32


class Environment(StrEnum):
    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Names are the environment variables in lower case; those of vendors carry no prefix."""

    model_config = SettingsConfigDict(env_prefix="LIANYU_", populate_by_name=True, extra="ignore")

    env: Environment = Environment.DEVELOPMENT
    data_dir: Path = Path(".lianyu")
    secret_key: SecretStr = SecretStr(_DEVELOPMENT_SECRET)
    """Signs touches and cookies, keys the hashes of identifiers. At least 32 characters in production."""
    clock_file: Path | None = None
    """The shared clock of an embedded stack; absent means real time."""

    database_url: str = Field("", validation_alias="DATABASE_URL")
    """The owner's role: migrations only."""
    app_database_url: str = Field("", validation_alias="APP_DATABASE_URL")
    """The application's role, which row-level security binds."""
    broker_url: str = Field("", validation_alias="BROKER_URL")
    db_pool_size: int = 10

    stripe_api_key: SecretStr = Field(SecretStr(""), validation_alias="STRIPE_API_KEY")
    stripe_api_base: str | None = Field(None, validation_alias="STRIPE_API_BASE")
    """Where paysim listens; absent means Stripe itself."""
    stripe_webhook_secret: SecretStr = Field(SecretStr(""), validation_alias="STRIPE_WEBHOOK_SECRET")
    stripe_publishable_key: str = Field("", validation_alias="STRIPE_PUBLISHABLE_KEY")

    brand_url: str = "http://127.0.0.1:8000/graphql"
    storefront_url: str = "http://127.0.0.1:8000/storefront/graphql"
    edge_url: str = "http://127.0.0.1:8001"
    fulfillment_url: str = "http://127.0.0.1:8002/fulfillment/v1"

    reservation_ttl_s: int = 1800
    """How long a checkout holds stock before payment."""
    platform_fee_ppm: int = 50_000
    """The platform's fee on goods sold, frozen on each order line."""
    print_font: FilePath | None = None
    """A TrueType file with Chinese letters to embed in print sheets; absent: a font that readers bring."""
    log_level: str = "INFO"
    log_format: str = "console"
    """``console`` for people, ``json`` for machines."""
    allow_private_webhooks: bool | None = None
    """Deliver webhooks to private addresses: only ever in development and tests."""

    @model_validator(mode="after")
    def _refuse_unsafe_production(self) -> Self:
        if self.env is not Environment.PRODUCTION:
            return self
        secret = self.secret_key.get_secret_value()
        problems = []
        if secret == _DEVELOPMENT_SECRET or len(secret) < _SHORTEST_SECRET:
            problems.append(f"LIANYU_SECRET_KEY must be set, at least {_SHORTEST_SECRET} characters")
        if not self.app_database_url:
            problems.append("APP_DATABASE_URL must name the application role")
        elif urlsplit(self.app_database_url).username in {"postgres", "root", "lianyu_owner"}:
            problems.append("APP_DATABASE_URL must not use an owner or superuser role")
        if not self.broker_url:
            problems.append("BROKER_URL must be set")
        if not self.stripe_api_key.get_secret_value():
            problems.append("STRIPE_API_KEY must be set")
        if not self.stripe_webhook_secret.get_secret_value():
            problems.append("STRIPE_WEBHOOK_SECRET must be set")
        if self.clock_file:
            problems.append("LIANYU_CLOCK_FILE is for development only")
        if self.allow_private_webhooks:
            problems.append("LIANYU_ALLOW_PRIVATE_WEBHOOKS is for development only")
        if problems:
            raise ValueError("unsafe in production: " + "; ".join(problems))
        return self

    @property
    def private_webhooks_allowed(self) -> bool:
        if self.allow_private_webhooks is None:
            return self.env is not Environment.PRODUCTION
        return self.allow_private_webhooks
