"""The composition root: settings become real objects here and nowhere else."""

from __future__ import annotations

from core.clock import Clock, clock_from_path
from infra.config import Settings
from infra.db.session import Database, make_engine
from infra.gateways import Gateways
from infra.observability.logs import configure_logging
from infra.payments.profit_sharing import CAPABILITIES as SHARING
from infra.payments.profit_sharing import ProfitSharing
from infra.payments.sharing import SharingRail
from infra.payments.stripe_gateway import StripeGateway
from infra.search.postgres_index import PostgresIndex
from infra.suppliers.http_endpoint import HttpEndpoint


def read_settings() -> Settings:
    settings = Settings()
    configure_logging(level=settings.log_level, style=settings.log_format)
    return settings


def make_clock(settings: Settings) -> Clock:
    return clock_from_path(settings.clock_file)


def make_database(settings: Settings) -> Database:
    """As the application's role, which row-level security binds."""
    return Database(make_engine(settings.app_database_url, pool_size=settings.db_pool_size))


def make_payments(settings: Settings) -> StripeGateway:
    return StripeGateway(
        secret_key=settings.stripe_api_key.get_secret_value(),
        webhook_secret=settings.stripe_webhook_secret.get_secret_value(),
        api_base=settings.stripe_api_base,
        instrument_secret=settings.secret_key.get_secret_value(),
    )


def make_rails(settings: Settings, clock: Clock) -> dict[str, SharingRail]:
    """The sharing rail lives beside the embedded provider, behind the same key."""
    if settings.stripe_api_base is None:
        return {}
    key = settings.stripe_api_key.get_secret_value()
    return {SHARING.name: ProfitSharing(base=settings.stripe_api_base, key=key, clock=clock)}


def make_gateways(settings: Settings) -> Gateways:
    clock = make_clock(settings)
    db = make_database(settings)
    return Gateways(
        db=db,
        clock=clock,
        payments=make_payments(settings),
        search=PostgresIndex(),
        endpoints=HttpEndpoint(allow_private=settings.private_webhooks_allowed),
        settings=settings,
        rails=make_rails(settings, clock),
    )
