-- Orders of a brand's own checkout: told to us signed, kept at source, their commission owed by the brand.

-- Nobody of ours delivers them, and not everything sold there is in the catalogue here.
ALTER TABLE order_lines ALTER COLUMN variant_id DROP NOT NULL, ALTER COLUMN product_id DROP NOT NULL,
    ALTER COLUMN supplier_id DROP NOT NULL, ALTER COLUMN location_id DROP NOT NULL;
ALTER TABLE split_lines ALTER COLUMN supplier_id DROP NOT NULL;

-- What a storefront signs with, sealed under a key that is not in the database.
CREATE TABLE signing_secrets (
    id uuid NOT NULL,
    storefront_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    valid_until timestamptz,
    revoked_at timestamptz,
    CONSTRAINT pk_signing_secrets PRIMARY KEY (id),
    CONSTRAINT fk_signing_secrets_storefront_id_storefronts FOREIGN KEY (storefront_id) REFERENCES storefronts (id)
);
CREATE INDEX ix_signing_secrets_storefront_id ON signing_secrets (storefront_id);
CALL protect_tenant_rows('signing_secrets', 'brand_id');

CREATE TABLE told_orders (
    storefront_id uuid NOT NULL,
    reference varchar NOT NULL,
    brand_id uuid NOT NULL,
    order_id uuid NOT NULL,
    content jsonb NOT NULL,
    content_hash varchar NOT NULL,
    buyer_keys bytea[] NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT pk_told_orders PRIMARY KEY (storefront_id, reference),
    CONSTRAINT uq_told_orders_order_id UNIQUE (order_id),
    CONSTRAINT fk_told_orders_order_id_orders FOREIGN KEY (order_id) REFERENCES orders (id)
);
CREATE INDEX ix_told_orders_buyer_keys ON told_orders USING gin (buyer_keys);
CALL protect_tenant_rows('told_orders', 'brand_id');

-- An event may come before its order: then it waits here.
CREATE TABLE told_events (
    storefront_id uuid NOT NULL,
    event_id varchar NOT NULL,
    brand_id uuid NOT NULL,
    reference varchar NOT NULL,
    kind varchar NOT NULL,
    at timestamptz NOT NULL,
    body jsonb NOT NULL,
    body_hash varchar NOT NULL,
    received_at timestamptz NOT NULL,
    applied_at timestamptz,
    CONSTRAINT pk_told_events PRIMARY KEY (storefront_id, event_id),
    CONSTRAINT ck_told_events_kind CHECK (kind IN ('paid', 'shipped', 'delivered', 'cancelled', 'refunded'))
);
CREATE INDEX ix_told_events_storefront_id_reference ON told_events (storefront_id, reference);
CALL protect_tenant_rows('told_events', 'brand_id');

-- Contacts that other brands have of the buyer, as far as a lead of theirs may bind: the platform's knowledge alone.
CREATE TABLE lead_matches (
    order_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    CONSTRAINT pk_lead_matches PRIMARY KEY (order_id, contact_id)
);
CALL protect_platform_rows('lead_matches');

CREATE TABLE commission_dues (
    order_line_id uuid NOT NULL,
    order_id uuid NOT NULL,
    merchant_id uuid NOT NULL,
    payee_id varchar NOT NULL,
    currency char(3) NOT NULL,
    owed_minor bigint NOT NULL,
    covered_minor bigint NOT NULL,
    opened_at timestamptz NOT NULL,
    claimed_at timestamptz,
    CONSTRAINT pk_commission_dues PRIMARY KEY (order_line_id),
    CONSTRAINT ck_commission_dues_covered CHECK (covered_minor BETWEEN 0 AND owed_minor),
    CONSTRAINT ck_commission_dues_claimed_first CHECK (covered_minor = 0 OR claimed_at IS NOT NULL)
);
CREATE INDEX ix_commission_dues_order_id ON commission_dues (order_id);
CREATE INDEX ix_commission_dues_uncovered ON commission_dues (payee_id, currency, claimed_at)
    WHERE covered_minor < owed_minor;
CALL protect_tenant_rows('commission_dues', 'merchant_id');

CREATE TABLE debt_payments (
    id uuid NOT NULL,
    payee_id varchar NOT NULL,
    tenant_id uuid NOT NULL,
    currency char(3) NOT NULL,
    amount_minor bigint NOT NULL,
    status varchar NOT NULL,
    intent_id varchar,
    client_secret varchar,
    charge_id varchar,
    covered_minor bigint,
    created_at timestamptz NOT NULL,
    paid_at timestamptz,
    CONSTRAINT pk_debt_payments PRIMARY KEY (id),
    CONSTRAINT ck_debt_payments_status CHECK (status IN ('open', 'paid', 'cancelled')),
    CONSTRAINT ck_debt_payments_amount CHECK (amount_minor > 0),
    CONSTRAINT uq_debt_payments_intent_id UNIQUE (intent_id)
);
CREATE UNIQUE INDEX uq_debt_payments_open ON debt_payments (payee_id, currency) WHERE status = 'open';
CREATE INDEX ix_debt_payments_quiet ON debt_payments (created_at) WHERE status = 'open';
CALL protect_tenant_rows('debt_payments');

CREATE OR REPLACE FUNCTION ledger_strict(code integer) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN code IN (1100, 1110, 1120, 2000, 2010, 2020, 2030, 2100);

CREATE OR REPLACE VIEW ledger_chart AS
SELECT code, name, ledger_side(code)::smallint AS side, ledger_strict(code) AS strict FROM (VALUES
    (1000, 'provider, pending'),
    (1010, 'provider, available'),
    (1020, 'bank, operating'),
    (1030, 'platform payout in transit'),
    (1040, 'provider, reserved'),
    (1100, 'receivable from a party'),
    (1110, 'receivable, disputed charge'),
    (1120, 'receivable from a party, not due'),
    (1900, 'memo: frozen at a sharing rail'),
    (2000, 'payable, in the return window'),
    (2010, 'payable, available'),
    (2020, 'payable, in payout'),
    (2030, 'payable, reserved'),
    (2100, 'refund to a customer, pending'),
    (2200, 'tax payable'),
    (2300, 'suspense'),
    (2400, 'platform fee, deferred'),
    (2900, 'memo: entitled at a rail'),
    (2910, 'memo: instructed at a rail'),
    (3000, 'opening balances'),
    (4000, 'revenue, platform fee'),
    (4010, 'revenue, processing recharge'),
    (4090, 'rounding gain'),
    (5000, 'provider fees'),
    (5010, 'dispute fees'),
    (5020, 'chargeback losses'),
    (5030, 'goodwill and platform coupons'),
    (5040, 'currency differences'),
    (5050, 'rounding differences'),
    (5060, 'bad debt'),
    (6000, 'currency position')
) AS chart (code, name);
