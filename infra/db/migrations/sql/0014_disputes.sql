-- Disputes, returns, recovery, and what refunds and notices of the provider need besides.

CREATE TABLE disputes (
    id VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    charge_id VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    provider_status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    platform_minor BIGINT NOT NULL,
    settled_currency CHAR(3) NOT NULL,
    settled_minor BIGINT NOT NULL,
    fee_minor BIGINT NOT NULL,
    evidence_due_at TIMESTAMP WITH TIME ZONE,
    evidence_submissions INTEGER NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    looked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    next_look_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_disputes PRIMARY KEY (id),
    CONSTRAINT ck_disputes_stage CHECK (stage IN ('noticed', 'inquiry', 'open', 'won', 'lost', 'closed')),
    CONSTRAINT ck_disputes_amounts CHECK (amount_minor > 0 AND platform_minor >= 0)
);
CREATE INDEX ix_disputes_charge_id ON disputes (charge_id);
CREATE INDEX ix_disputes_due ON disputes (next_look_at) WHERE stage IN ('noticed', 'inquiry', 'open');

CREATE TABLE dispute_orders (
    dispute_id VARCHAR NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    freezes INTEGER NOT NULL,
    absorbed JSONB NOT NULL,
    lost JSONB,
    CONSTRAINT pk_dispute_orders PRIMARY KEY (dispute_id, order_id),
    CONSTRAINT ck_dispute_orders_amount CHECK (amount_minor > 0),
    CONSTRAINT fk_dispute_orders_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id)
);
CREATE INDEX ix_dispute_orders_order_id ON dispute_orders (order_id);
CREATE INDEX ix_dispute_orders_merchant_id ON dispute_orders (merchant_id);

CREATE TABLE dispute_shares (
    dispute_id VARCHAR NOT NULL,
    line_id UUID NOT NULL,
    seat VARCHAR NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    currency CHAR(3) NOT NULL,
    pending_minor BIGINT NOT NULL,
    available_minor BIGINT NOT NULL,
    CONSTRAINT pk_dispute_shares PRIMARY KEY (dispute_id, line_id, seat),
    CONSTRAINT fk_dispute_shares_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id)
);
CREATE INDEX ix_dispute_shares_order_id ON dispute_shares (order_id);
CREATE INDEX ix_dispute_shares_tenant_id ON dispute_shares (tenant_id);

CREATE TABLE dispute_evidence (
    id UUID NOT NULL,
    dispute_id VARCHAR NOT NULL,
    merchant_id UUID,
    fields JSONB NOT NULL,
    final BOOLEAN NOT NULL,
    status VARCHAR NOT NULL,
    failure VARCHAR,
    submitted_by VARCHAR NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_dispute_evidence PRIMARY KEY (id),
    CONSTRAINT ck_dispute_evidence_status CHECK (status IN ('queued', 'sent', 'refused')),
    CONSTRAINT fk_dispute_evidence_dispute_id_disputes FOREIGN KEY(dispute_id) REFERENCES disputes (id)
);
CREATE INDEX ix_dispute_evidence_dispute_id ON dispute_evidence (dispute_id);

CREATE TABLE settlement_policies (
    name VARCHAR NOT NULL,
    scope VARCHAR NOT NULL,
    body JSONB NOT NULL,
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_settlement_policies PRIMARY KEY (name, scope)
);

CREATE TABLE recoveries (
    id UUID NOT NULL,
    payout_id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    currency CHAR(3) NOT NULL,
    transfer_id VARCHAR NOT NULL,
    amount_minor BIGINT NOT NULL,
    status VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    first_sent_at TIMESTAMP WITH TIME ZONE NOT NULL,
    next_try_at TIMESTAMP WITH TIME ZONE NOT NULL,
    reversal_id VARCHAR,
    failure VARCHAR,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_recoveries PRIMARY KEY (id),
    CONSTRAINT ck_recoveries_status CHECK (status IN ('sending', 'done', 'refused')),
    CONSTRAINT ck_recoveries_amount CHECK (amount_minor > 0),
    CONSTRAINT fk_recoveries_payout_id_payouts FOREIGN KEY(payout_id) REFERENCES payouts (id)
);
CREATE INDEX ix_recoveries_open ON recoveries (next_try_at) WHERE status = 'sending';
CREATE UNIQUE INDEX uq_recoveries_one_at_a_time ON recoveries (payee_id, currency) WHERE status = 'sending';
CREATE INDEX ix_recoveries_payout_id ON recoveries (payout_id);

CREATE TABLE write_offs (
    id UUID NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    reason VARCHAR NOT NULL,
    asked_by VARCHAR NOT NULL,
    asked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    status VARCHAR NOT NULL,
    decided_by VARCHAR,
    decided_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_write_offs PRIMARY KEY (id),
    CONSTRAINT ck_write_offs_status CHECK (status IN ('asked', 'approved', 'declined')),
    CONSTRAINT ck_write_offs_amount CHECK (amount_minor > 0)
);
CREATE INDEX ix_write_offs_payee_id ON write_offs (payee_id);

CREATE TABLE returns (
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    supplier_id UUID NOT NULL,
    status VARCHAR NOT NULL,
    cause VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    refund_if_refused BOOLEAN NOT NULL,
    announced_by VARCHAR NOT NULL,
    announced_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE,
    closed_at TIMESTAMP WITH TIME ZONE,
    accepted_refund_id UUID,
    refused_refund_id UUID,
    CONSTRAINT pk_returns PRIMARY KEY (id),
    CONSTRAINT ck_returns_status CHECK (status IN ('announced', 'received', 'closed', 'withdrawn', 'expired')),
    CONSTRAINT fk_returns_order_id_orders FOREIGN KEY(order_id) REFERENCES orders (id)
);
CREATE INDEX ix_returns_order_id ON returns (order_id);
CREATE INDEX ix_returns_merchant_id_id ON returns (merchant_id, id);
CREATE INDEX ix_returns_supplier_id_id ON returns (supplier_id, id);
CREATE INDEX ix_returns_open ON returns (expires_at) WHERE status = 'announced';

CREATE TABLE return_lines (
    return_id UUID NOT NULL,
    order_line_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    supplier_id UUID NOT NULL,
    quantity INTEGER NOT NULL,
    received INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    CONSTRAINT pk_return_lines PRIMARY KEY (return_id, order_line_id),
    CONSTRAINT ck_return_lines_units CHECK (quantity > 0 AND received BETWEEN 0 AND quantity AND accepted BETWEEN 0 AND received),
    CONSTRAINT fk_return_lines_return_id_returns FOREIGN KEY(return_id) REFERENCES returns (id)
);
CREATE INDEX ix_return_lines_order_line_id ON return_lines (order_line_id);

-- Money the platform gave a customer out of its own pocket (5030), and how much of it came back since.
ALTER TABLE split_orders ADD COLUMN goodwill_minor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE split_orders ALTER COLUMN goodwill_minor DROP DEFAULT;

-- A notice of the provider is kept until it was applied, and tried again when it came too early.
ALTER TABLE provider_events
    ADD COLUMN account VARCHAR,
    ADD COLUMN tries INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN next_try_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN applied_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN parked VARCHAR;
ALTER TABLE provider_events ALTER COLUMN tries DROP DEFAULT;
CREATE INDEX ix_provider_events_due ON provider_events (next_try_at)
    WHERE applied_at IS NULL AND next_try_at IS NOT NULL;

-- A refund says what was asked for, so that a failed one can be asked for again, and which try is under way.
ALTER TABLE refunds
    ADD COLUMN kind VARCHAR NOT NULL DEFAULT 'shared',
    ADD COLUMN cause VARCHAR NOT NULL DEFAULT 'other',
    ADD COLUMN reference VARCHAR,
    ADD COLUMN request JSONB NOT NULL DEFAULT '{}',
    ADD COLUMN retry_of UUID,
    ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1,
    ADD COLUMN tries INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN first_sent_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN next_try_at TIMESTAMP WITH TIME ZONE;
UPDATE refunds SET next_try_at = created_at;
ALTER TABLE refunds
    ALTER COLUMN kind DROP DEFAULT,
    ALTER COLUMN cause DROP DEFAULT,
    ALTER COLUMN request DROP DEFAULT,
    ALTER COLUMN attempt DROP DEFAULT,
    ALTER COLUMN tries DROP DEFAULT,
    ALTER COLUMN next_try_at SET NOT NULL,
    ADD CONSTRAINT ck_refunds_kind CHECK (kind IN ('shared', 'goodwill'));
DROP INDEX ix_refunds_pending;
CREATE INDEX ix_refunds_pending ON refunds (next_try_at) WHERE status = 'pending';
CREATE UNIQUE INDEX uq_refunds_order_id_reference ON refunds (order_id, reference) WHERE reference IS NOT NULL;
CREATE UNIQUE INDEX uq_refunds_retry_of ON refunds (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX ix_refunds_provider_id ON refunds (provider_id);

-- A dispute shows the merchants of its orders what it is about; each sees its own part of it.
ALTER TABLE dispute_orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON dispute_orders USING (
    merchant_id = (SELECT app_tenant()) OR (SELECT app_sees_everything()));
ALTER TABLE disputes ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchants_of_its_orders ON disputes USING (
    (SELECT app_sees_everything())
    OR id IN (SELECT dispute_id FROM dispute_orders WHERE merchant_id = (SELECT app_tenant())));
ALTER TABLE dispute_shares ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchant_and_payee ON dispute_shares USING (
    (SELECT app_sees_everything()) OR merchant_id = (SELECT app_tenant()) OR tenant_id = (SELECT app_tenant()));
CALL protect_tenant_rows('dispute_evidence', 'merchant_id');
CALL protect_platform_rows('settlement_policies');
CALL protect_tenant_rows('recoveries');
CALL protect_tenant_rows('write_offs');

-- A return concerns the merchant and the supplier the goods go back to.
ALTER TABLE returns ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchant_and_supplier ON returns USING (
    (SELECT app_sees_everything()) OR merchant_id = (SELECT app_tenant()) OR supplier_id = (SELECT app_tenant()));
ALTER TABLE return_lines ENABLE ROW LEVEL SECURITY;
CREATE POLICY merchant_and_supplier ON return_lines USING (
    (SELECT app_sees_everything()) OR merchant_id = (SELECT app_tenant()) OR supplier_id = (SELECT app_tenant()));
