"""Tables that anybody may meet, and why; every other one is shut."""

from __future__ import annotations

PUBLIC = {
    "products", "variants", "prices", "search_documents", "suppliers", "locations", "zone_rates", "brand_profiles",
    "search_generations", "tax_rates", "ledger_chart", "alembic_version", "outbox", "handled_messages",
    "failed_messages",
}  # fmt: skip
"""Tables whose ids anybody may meet: published goods, what brands are told of suppliers, machinery."""

OPEN_TO_THE_ROLE = {
    "alembic_version": "the name of the schema's version",
    "outbox": "ids of what happened; no surface reads it",
    "handled_messages": "names of handlers; no surface reads it",
    "failed_messages": "names of handlers and kinds of errors; no surface reads it",
    "idempotency_keys": "read by owner and key together, in one function; the owner is the authenticated caller",
}
"""Tables without row-level security, and why."""

READABLE = {
    "brand": {"suppliers", "locations", "zone_rates", "partner_profiles"},
    "every": {
        "products", "variants", "prices", "search_documents", "search_generations", "tax_rates", "tenants",
        "brand_profiles", "partner_listings", *OPEN_TO_THE_ROLE,
    },
}  # fmt: skip
"""What another tenant may read in the database: goods on sale, tax, brands that want to be found; brands also
where suppliers send from and for how much freight, and what listed brands said of themselves before."""
