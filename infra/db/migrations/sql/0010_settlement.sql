-- Splits, refunds, payees, payouts and statements (supply/settlement/models.py).

CREATE TABLE split_orders (
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    provider VARCHAR NOT NULL,
    charge_id VARCHAR NOT NULL,
    tax_jurisdiction VARCHAR NOT NULL,
    paid_at TIMESTAMP WITH TIME ZONE NOT NULL,
    return_window_days INTEGER NOT NULL,
    captured_minor BIGINT NOT NULL,
    refunded_minor BIGINT NOT NULL,
    releases INTEGER NOT NULL,
    number VARCHAR NOT NULL,
    CONSTRAINT pk_split_orders PRIMARY KEY (order_id)
);
CREATE INDEX ix_split_orders_charge_id ON split_orders (charge_id);
CREATE INDEX ix_split_orders_merchant_id ON split_orders (merchant_id);

CREATE TABLE split_lines (
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    order_line_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    supplier_id UUID NOT NULL,
    kind VARCHAR NOT NULL,
    quantity INTEGER NOT NULL,
    charged_minor BIGINT NOT NULL,
    basis_minor BIGINT NOT NULL,
    settlement_days INTEGER NOT NULL,
    returned_quantity INTEGER NOT NULL,
    accepted_quantity INTEGER NOT NULL,
    by_quantity_minor BIGINT NOT NULL,
    by_value_minor BIGINT NOT NULL,
    delivered_quantity INTEGER NOT NULL,
    delivered_at TIMESTAMP WITH TIME ZONE,
    open_holds INTEGER NOT NULL,
    sku VARCHAR NOT NULL,
    captured_minor BIGINT NOT NULL,
    discounts JSONB NOT NULL,
    CONSTRAINT pk_split_lines PRIMARY KEY (id),
    CONSTRAINT ck_split_lines_kind CHECK (kind IN ('goods', 'shipping', 'adjustment')),
    CONSTRAINT ck_split_lines_quantity CHECK (quantity >= 0 AND delivered_quantity >= 0),
    CONSTRAINT fk_split_lines_order_id_split_orders FOREIGN KEY(order_id) REFERENCES split_orders (order_id)
);
CREATE INDEX ix_split_lines_order_id ON split_lines (order_id);

CREATE TABLE split_parts (
    line_id UUID NOT NULL,
    seat VARCHAR NOT NULL,
    part VARCHAR NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    amount_minor BIGINT NOT NULL,
    by_line_minor BIGINT NOT NULL,
    by_amount_minor BIGINT NOT NULL,
    pending_minor BIGINT NOT NULL,
    released_minor BIGINT NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE,
    captured_minor BIGINT NOT NULL,
    captured_payee VARCHAR NOT NULL,
    agreement VARCHAR NOT NULL,
    rate_ppm INTEGER NOT NULL,
    CONSTRAINT pk_split_parts PRIMARY KEY (line_id, seat),
    CONSTRAINT ck_split_parts_part CHECK (part IN ('merchant', 'supplier', 'promoter_brand', 'individual', 'platform_commission', 'platform_fee', 'tax', 'coupon')),
    CONSTRAINT ck_split_parts_seat CHECK (seat = part OR seat LIKE part || '.%'),
    CONSTRAINT ck_split_parts_not_negative CHECK (pending_minor >= 0 AND released_minor >= 0),
    CONSTRAINT fk_split_parts_line_id_split_lines FOREIGN KEY(line_id) REFERENCES split_lines (id)
);
CREATE INDEX ix_split_parts_due_at ON split_parts (due_at) WHERE pending_minor > 0 AND due_at IS NOT NULL;
CREATE INDEX ix_split_parts_order_id ON split_parts (order_id);
CREATE INDEX ix_split_parts_payee_id ON split_parts (payee_id);

CREATE TABLE split_refunds (
    refund_id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    status VARCHAR NOT NULL,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    request_hash VARCHAR NOT NULL,
    changes JSONB NOT NULL,
    reserved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    provider_ref VARCHAR,
    CONSTRAINT pk_split_refunds PRIMARY KEY (refund_id),
    CONSTRAINT ck_split_refunds_status CHECK (status IN ('reserved', 'settled', 'voided'))
);
CREATE INDEX ix_split_refunds_order_id ON split_refunds (order_id);

CREATE TABLE provider_charges (
    charge_id VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    currency CHAR(3) NOT NULL,
    captured_at TIMESTAMP WITH TIME ZONE NOT NULL,
    transaction_id VARCHAR,
    fee_minor BIGINT,
    net_minor BIGINT,
    available_on TIMESTAMP WITH TIME ZONE,
    available BOOLEAN NOT NULL,
    CONSTRAINT pk_provider_charges PRIMARY KEY (charge_id)
);
CREATE INDEX ix_provider_charges_open ON provider_charges (available_on, captured_at) WHERE NOT available;

CREATE TABLE payees (
    payee_id VARCHAR NOT NULL,
    currency CHAR(3) NOT NULL,
    tenant_id UUID,
    provider VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    minimum_minor BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_payees PRIMARY KEY (payee_id, currency),
    CONSTRAINT ck_payees_status CHECK (status IN ('pending', 'active', 'blocked')),
    CONSTRAINT ck_payees_minimum CHECK (minimum_minor >= 0)
);
CREATE INDEX ix_payees_tenant_id ON payees (tenant_id);

CREATE TABLE payout_batches (
    id UUID NOT NULL,
    cycle VARCHAR NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_payout_batches PRIMARY KEY (id)
);
CREATE UNIQUE INDEX uq_payout_batches_cycle ON payout_batches (cycle);

CREATE TABLE payouts (
    id UUID NOT NULL,
    batch_id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    provider VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    first_sent_at TIMESTAMP WITH TIME ZONE,
    next_try_at TIMESTAMP WITH TIME ZONE NOT NULL,
    transfer_id VARCHAR,
    reversed_minor BIGINT NOT NULL,
    failure VARCHAR,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_payouts PRIMARY KEY (id),
    CONSTRAINT ck_payouts_status CHECK (status IN ('reserved', 'sending', 'paid', 'refused')),
    CONSTRAINT ck_payouts_amount CHECK (amount_minor > 0),
    CONSTRAINT fk_payouts_batch_id_payout_batches FOREIGN KEY(batch_id) REFERENCES payout_batches (id)
);
CREATE INDEX ix_payouts_open ON payouts (status, next_try_at) WHERE status IN ('reserved', 'sending');
CREATE INDEX ix_payouts_payee_id ON payouts (payee_id, created_at);
CREATE UNIQUE INDEX uq_payouts_batch_id_payee_id_currency ON payouts (batch_id, payee_id, currency);

CREATE TABLE statements (
    id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    currency CHAR(3) NOT NULL,
    number INTEGER NOT NULL,
    period_from TIMESTAMP WITH TIME ZONE NOT NULL,
    period_to TIMESTAMP WITH TIME ZONE NOT NULL,
    opening_minor BIGINT NOT NULL,
    closing_minor BIGINT NOT NULL,
    pending_minor BIGINT NOT NULL,
    available_minor BIGINT NOT NULL,
    in_payout_minor BIGINT NOT NULL,
    reserved_minor BIGINT NOT NULL,
    receivable_minor BIGINT NOT NULL,
    cutoff xid8 NOT NULL,
    resume xid8 NOT NULL,
    cycle VARCHAR NOT NULL,
    time_zone VARCHAR NOT NULL,
    legal_name VARCHAR NOT NULL,
    tax_id VARCHAR NOT NULL,
    previous_hash VARCHAR NOT NULL,
    hash VARCHAR NOT NULL,
    document VARCHAR NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_statements PRIMARY KEY (id),
    CONSTRAINT ck_statements_period CHECK (period_from < period_to)
);
CREATE INDEX ix_statements_tenant_id ON statements (tenant_id);
CREATE INDEX ix_statements_undecided ON statements (payee_id, currency) WHERE decided_at IS NULL;
CREATE UNIQUE INDEX uq_statements_payee_id_currency_number ON statements (payee_id, currency, number);
CREATE UNIQUE INDEX uq_statements_payee_id_currency_period_from ON statements (payee_id, currency, period_from);

-- The merchant sees its order's split; every other party its own part of it.
CALL protect_tenant_rows('split_orders', 'merchant_id');
CALL protect_tenant_rows('split_refunds', 'merchant_id');

ALTER TABLE split_lines ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchant_and_supplier ON split_lines USING (
    (SELECT app_sees_everything()) OR merchant_id = (SELECT app_tenant()) OR supplier_id = (SELECT app_tenant()));

ALTER TABLE split_parts ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchant_and_payee ON split_parts USING (
    (SELECT app_sees_everything()) OR merchant_id = (SELECT app_tenant()) OR tenant_id = (SELECT app_tenant()));

CALL protect_tenant_rows('payees');
CALL protect_tenant_rows('payouts');
CALL protect_tenant_rows('statements');
CALL protect_platform_rows('payout_batches');
CALL protect_platform_rows('provider_charges');
