-- Rails that pay by instruction (supply/settlement/rails/models.py).

CREATE TABLE rail_accounts (
    rail VARCHAR NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    kind VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_rail_accounts PRIMARY KEY (rail, payee_id),
    CONSTRAINT ck_rail_accounts_kind CHECK (kind IN ('merchant', 'business', 'individual', 'platform'))
);
CREATE INDEX ix_rail_accounts_tenant_id ON rail_accounts (tenant_id);

CREATE TABLE rail_orders (
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    rail VARCHAR NOT NULL,
    merchant_account VARCHAR NOT NULL,
    payment_id VARCHAR NOT NULL,
    currency CHAR(3) NOT NULL,
    paid_minor BIGINT NOT NULL,
    fee_minor BIGINT NOT NULL,
    merchant_minor BIGINT NOT NULL,
    paid_at TIMESTAMP WITH TIME ZONE NOT NULL,
    return_window_days INTEGER NOT NULL,
    undelivered JSONB NOT NULL,
    delivered_at TIMESTAMP WITH TIME ZONE,
    closed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_rail_orders PRIMARY KEY (order_id)
);
CREATE INDEX ix_rail_orders_merchant_id ON rail_orders (merchant_id);

CREATE TABLE rail_requests (
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    rail VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    finish BOOLEAN NOT NULL,
    status VARCHAR NOT NULL,
    send_at TIMESTAMP WITH TIME ZONE NOT NULL,
    send_before TIMESTAMP WITH TIME ZONE,
    tries INTEGER NOT NULL,
    next_try_at TIMESTAMP WITH TIME ZONE NOT NULL,
    failure VARCHAR,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_rail_requests PRIMARY KEY (id),
    CONSTRAINT ck_rail_requests_status CHECK (status IN ('planned', 'sending', 'accepted', 'finished', 'refused', 'abandoned', 'lost')),
    CONSTRAINT fk_rail_requests_order_id_rail_orders FOREIGN KEY(order_id) REFERENCES rail_orders (order_id)
);
CREATE INDEX ix_rail_requests_merchant_id ON rail_requests (merchant_id);
CREATE INDEX ix_rail_requests_open ON rail_requests (status, next_try_at)
    WHERE status IN ('planned', 'sending', 'accepted', 'refused');
CREATE UNIQUE INDEX uq_rail_requests_order_id_number ON rail_requests (order_id, number);

CREATE TABLE rail_instructions (
    request_id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    tenant_id UUID,
    kind VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    amount_minor BIGINT NOT NULL,
    days INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    failure VARCHAR,
    detail_ref VARCHAR,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_rail_instructions PRIMARY KEY (request_id, payee_id),
    CONSTRAINT ck_rail_instructions_kind CHECK (kind IN ('merchant', 'business', 'individual', 'platform')),
    CONSTRAINT ck_rail_instructions_status CHECK (status IN ('planned', 'instructed', 'paid', 'failed')),
    CONSTRAINT ck_rail_instructions_amount CHECK (amount_minor > 0),
    CONSTRAINT fk_rail_instructions_request_id_rail_requests FOREIGN KEY(request_id) REFERENCES rail_requests (id) ON DELETE CASCADE
);
CREATE INDEX ix_rail_instructions_order_id ON rail_instructions (order_id);
CREATE INDEX ix_rail_instructions_payee_id ON rail_instructions (payee_id);

CREATE TABLE rail_refunds (
    refund_id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    rail VARCHAR NOT NULL,
    amount_minor BIGINT NOT NULL,
    returned_minor BIGINT NOT NULL,
    fee_back_minor BIGINT NOT NULL,
    taken JSONB NOT NULL,
    status VARCHAR NOT NULL,
    next_try_at TIMESTAMP WITH TIME ZONE NOT NULL,
    failure VARCHAR,
    reserved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_rail_refunds PRIMARY KEY (refund_id),
    CONSTRAINT ck_rail_refunds_status CHECK (status IN ('reserved', 'sending', 'settled', 'refused', 'voided')),
    CONSTRAINT ck_rail_refunds_amount CHECK (amount_minor > 0),
    CONSTRAINT fk_rail_refunds_order_id_rail_orders FOREIGN KEY(order_id) REFERENCES rail_orders (order_id)
);
CREATE INDEX ix_rail_refunds_merchant_id ON rail_refunds (merchant_id);
CREATE INDEX ix_rail_refunds_open ON rail_refunds (next_try_at) WHERE status IN ('reserved', 'sending');
CREATE INDEX ix_rail_refunds_order_id ON rail_refunds (order_id);

CREATE TABLE rail_returns (
    refund_id UUID NOT NULL,
    request_id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    merchant_id UUID NOT NULL,
    tenant_id UUID,
    account_id VARCHAR NOT NULL,
    amount_minor BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    failure VARCHAR,
    CONSTRAINT pk_rail_returns PRIMARY KEY (refund_id, request_id, payee_id),
    CONSTRAINT ck_rail_returns_status CHECK (status IN ('asked', 'done', 'failed')),
    CONSTRAINT ck_rail_returns_amount CHECK (amount_minor > 0),
    CONSTRAINT fk_rail_returns_refund_id_rail_refunds FOREIGN KEY(refund_id) REFERENCES rail_refunds (refund_id)
);

-- The merchant sees what its payments were told; every other party what is told for itself.
CALL protect_tenant_rows('rail_accounts');
CALL protect_tenant_rows('rail_orders', 'merchant_id');
CALL protect_tenant_rows('rail_requests', 'merchant_id');
CALL protect_tenant_rows('rail_refunds', 'merchant_id');

ALTER TABLE rail_returns ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchant_and_payee ON rail_returns USING (
    (SELECT app_sees_everything()) OR merchant_id = (SELECT app_tenant()) OR tenant_id = (SELECT app_tenant()));

ALTER TABLE rail_instructions ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchant_and_payee ON rail_instructions USING (
    (SELECT app_sees_everything()) OR merchant_id = (SELECT app_tenant()) OR tenant_id = (SELECT app_tenant()));
