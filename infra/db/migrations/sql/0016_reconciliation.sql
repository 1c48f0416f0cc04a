-- The provider's book beside ours (supply/settlement/reconciliation/models.py), the platform's own payouts, who
-- bears the provider's fees, and coupons.

CREATE TABLE psp_txn (
    provider varchar NOT NULL,
    id varchar NOT NULL,
    type varchar NOT NULL,
    reporting_category varchar NOT NULL,
    source_id varchar,
    ref varchar NOT NULL,
    inward boolean NOT NULL,
    amount_minor bigint NOT NULL,
    fee_minor bigint NOT NULL,
    net_minor bigint NOT NULL,
    currency char(3) NOT NULL,
    exchange_rate varchar,
    created_at timestamptz NOT NULL,
    available_on timestamptz NOT NULL,
    read_at timestamptz NOT NULL,
    state varchar NOT NULL,
    finding varchar,
    suspended_in integer,
    suspended_minor bigint NOT NULL,
    matched_at timestamptz,
    CONSTRAINT pk_psp_txn PRIMARY KEY (provider, id),
    CONSTRAINT ck_psp_txn_state CHECK (state IN ('open', 'suspended', 'matched'))
);
CREATE INDEX ix_psp_txn_ref ON psp_txn (provider, ref);
CREATE INDEX ix_psp_txn_created_at ON psp_txn (provider, created_at);
CREATE INDEX ix_psp_txn_unmatched ON psp_txn (provider, created_at) WHERE state <> 'matched';
CALL protect_platform_rows('psp_txn');

CREATE TABLE psp_postings (
    journal_id uuid NOT NULL,
    currency char(3) NOT NULL,
    provider varchar NOT NULL,
    key varchar NOT NULL,
    kind varchar NOT NULL,
    role varchar NOT NULL,
    ref varchar NOT NULL,
    inward boolean NOT NULL,
    amount_minor bigint NOT NULL,
    available_minor bigint NOT NULL,
    posted_at timestamptz NOT NULL,
    state varchar NOT NULL,
    finding varchar,
    CONSTRAINT pk_psp_postings PRIMARY KEY (journal_id, currency),
    CONSTRAINT ck_psp_postings_role CHECK (role IN ('amount', 'fee', 'conversion')),
    CONSTRAINT ck_psp_postings_state CHECK (state IN ('open', 'suspended', 'matched'))
);
CREATE INDEX ix_psp_postings_ref ON psp_postings (provider, ref);
CREATE INDEX ix_psp_postings_unmatched ON psp_postings (provider, posted_at) WHERE state <> 'matched';
CALL protect_platform_rows('psp_postings');

CREATE TABLE psp_cursors (
    provider varchar NOT NULL,
    rows_to timestamptz,
    postings_to xid8 NOT NULL,
    CONSTRAINT pk_psp_cursors PRIMARY KEY (provider)
);
CALL protect_platform_rows('psp_cursors');

CREATE TABLE reconciliation_runs (
    id uuid NOT NULL,
    provider varchar NOT NULL,
    cause varchar NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    rows_from timestamptz,
    rows_to timestamptz NOT NULL,
    rows_read integer NOT NULL,
    rows_new integer NOT NULL,
    matched integer NOT NULL,
    differences integer NOT NULL,
    ok boolean NOT NULL,
    report jsonb NOT NULL,
    CONSTRAINT pk_reconciliation_runs PRIMARY KEY (id)
);
CREATE INDEX ix_reconciliation_runs_provider ON reconciliation_runs (provider, id);
CALL protect_platform_rows('reconciliation_runs');

CREATE TABLE platform_payouts (
    id uuid NOT NULL,
    provider varchar NOT NULL,
    currency char(3) NOT NULL,
    amount_minor bigint NOT NULL,
    reference varchar NOT NULL,
    requested_by varchar NOT NULL,
    status varchar NOT NULL,
    payout_id varchar,
    failure varchar,
    tries integer NOT NULL,
    next_try_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL,
    arrives_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT pk_platform_payouts PRIMARY KEY (id),
    CONSTRAINT uq_platform_payouts_reference UNIQUE (reference),
    CONSTRAINT ck_platform_payouts_amount CHECK (amount_minor > 0),
    CONSTRAINT ck_platform_payouts_status
        CHECK (status IN ('requested', 'in_transit', 'arrived', 'returned', 'refused'))
);
CREATE INDEX ix_platform_payouts_open ON platform_payouts (next_try_at) WHERE status IN ('requested', 'in_transit');
CREATE UNIQUE INDEX uq_platform_payouts_payout_id ON platform_payouts (payout_id);
CALL protect_platform_rows('platform_payouts');

-- Who bears the provider's fee on a merchant's orders (R2b). Without a row the platform does.
CREATE TABLE processing_fee_policies (
    merchant_id uuid NOT NULL,
    bearer varchar NOT NULL,
    reason varchar NOT NULL,
    decided_by varchar NOT NULL,
    decided_at timestamptz NOT NULL,
    CONSTRAINT pk_processing_fee_policies PRIMARY KEY (merchant_id),
    CONSTRAINT ck_processing_fee_policies_bearer CHECK (bearer IN ('platform', 'merchant'))
);
CALL protect_tenant_rows('processing_fee_policies', 'merchant_id');

-- What a charge settles in when the provider converts it, and when to ask again about one it refused to show.
ALTER TABLE provider_charges
    ADD COLUMN settled_currency char(3),
    ADD COLUMN ask_again_at timestamptz,
    ADD COLUMN asked integer NOT NULL DEFAULT 0;

CREATE TABLE currency_rates (
    currency char(3) NOT NULL,
    settled_currency char(3) NOT NULL,
    rate varchar NOT NULL,
    source varchar NOT NULL,
    observed_at timestamptz NOT NULL,
    CONSTRAINT pk_currency_rates PRIMARY KEY (currency, settled_currency)
);
CALL protect_platform_rows('currency_rates');

-- Coupons: codes that take something off the price at the cost of the platform, the merchant, the supplier or the
-- promoter (marketplace/promotion/coupon_models.py). The platform's own have no owner.
CREATE TABLE coupons (
    id uuid NOT NULL,
    owner_id uuid,
    funder varchar NOT NULL,
    code varchar NOT NULL,
    currency char(3) NOT NULL,
    amount_minor bigint,
    rate_ppm integer,
    most_minor bigint,
    minimum_minor bigint NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    max_uses integer,
    uses integer NOT NULL,
    status varchar NOT NULL,
    created_by varchar NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_coupons PRIMARY KEY (id),
    CONSTRAINT ck_coupons_funder CHECK (funder IN ('platform', 'advertiser', 'supplier', 'promoter')),
    CONSTRAINT ck_coupons_status CHECK (status IN ('active', 'stopped')),
    CONSTRAINT ck_coupons_owner CHECK ((owner_id IS NULL) = (funder = 'platform')),
    CONSTRAINT ck_coupons_worth CHECK (num_nonnulls(amount_minor, rate_ppm) = 1
        AND coalesce(amount_minor, 1) > 0 AND coalesce(rate_ppm, 1) BETWEEN 1 AND 1000000),
    CONSTRAINT ck_coupons_uses CHECK (uses >= 0 AND uses <= coalesce(max_uses, uses))
);
CREATE UNIQUE INDEX uq_coupons_owner_id_code ON coupons (owner_id, code) NULLS NOT DISTINCT;
CREATE INDEX ix_coupons_code ON coupons (code);
CALL protect_tenant_rows('coupons', 'owner_id');

CREATE TABLE coupon_redemptions (
    checkout_id uuid NOT NULL,
    coupon_id uuid NOT NULL,
    currency char(3) NOT NULL,
    amount_minor bigint NOT NULL,
    redeemed_at timestamptz NOT NULL,
    returned_at timestamptz,
    CONSTRAINT pk_coupon_redemptions PRIMARY KEY (checkout_id),
    CONSTRAINT fk_coupon_redemptions_coupon_id_coupons FOREIGN KEY (coupon_id) REFERENCES coupons (id)
);
CREATE INDEX ix_coupon_redemptions_coupon_id ON coupon_redemptions (coupon_id);
CALL protect_platform_rows('coupon_redemptions');

ALTER TABLE carts ADD COLUMN coupon_code varchar;
ALTER TABLE checkouts ADD COLUMN discount_minor bigint NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN discount_minor bigint NOT NULL DEFAULT 0;
ALTER TABLE order_lines ADD COLUMN discount_funder varchar;

CREATE TABLE payout_costs (
    payout_id uuid NOT NULL,
    currency char(3) NOT NULL,
    amount_minor bigint NOT NULL,
    rate varchar NOT NULL,
    CONSTRAINT pk_payout_costs PRIMARY KEY (payout_id),
    CONSTRAINT ck_payout_costs_amount CHECK (amount_minor > 0)
);
CALL protect_platform_rows('payout_costs');
