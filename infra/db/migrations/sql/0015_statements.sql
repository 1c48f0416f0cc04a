-- Settlement cycles (supply/settlement/statements/models.py).

CREATE TABLE settlement_terms (
    payee_id VARCHAR NOT NULL,
    currency CHAR(3) NOT NULL,
    tenant_id UUID,
    cycle VARCHAR NOT NULL,
    time_zone VARCHAR NOT NULL,
    reserve_ppm INTEGER NOT NULL,
    reserve_days INTEGER NOT NULL,
    legal_name VARCHAR NOT NULL,
    tax_id VARCHAR NOT NULL,
    open_from TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_settlement_terms PRIMARY KEY (payee_id, currency),
    CONSTRAINT ck_settlement_terms_cycle CHECK (cycle IN ('daily', 'weekly', 'half_monthly', 'monthly')),
    CONSTRAINT ck_settlement_terms_reserve CHECK (reserve_ppm BETWEEN 0 AND 1000000 AND reserve_days >= 0),
    CONSTRAINT ck_settlement_terms_period CHECK (open_from < due_at)
);
CREATE INDEX ix_settlement_terms_due_at ON settlement_terms (due_at);
CREATE INDEX ix_settlement_terms_tenant_id ON settlement_terms (tenant_id);
CALL protect_tenant_rows('settlement_terms');

-- Payouts of connected accounts to their banks (supply/settlement/bank_payouts.py): status rows, nothing is posted.
CREATE TABLE bank_payouts (
    payout_id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    status VARCHAR NOT NULL,
    failure VARCHAR,
    arrives_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_bank_payouts PRIMARY KEY (payout_id)
);
CREATE INDEX ix_bank_payouts_payee_id_created_at ON bank_payouts (payee_id, created_at);
CREATE INDEX ix_bank_payouts_tenant_id ON bank_payouts (tenant_id);
CALL protect_tenant_rows('bank_payouts');

-- Caps and tiers of agreements (marketplace/promotion/counters.py), and where a commission line stands.
CREATE TABLE commission_counters (
    agreement_id UUID NOT NULL,
    kind VARCHAR NOT NULL,
    promoter VARCHAR NOT NULL,
    period_from TIMESTAMP WITH TIME ZONE NOT NULL,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    CONSTRAINT pk_commission_counters PRIMARY KEY (agreement_id, kind, promoter, period_from, currency),
    CONSTRAINT ck_commission_counters_not_negative CHECK (amount_minor >= 0),
    CONSTRAINT fk_commission_counters_agreement_id_agreements FOREIGN KEY(agreement_id) REFERENCES agreements (id)
);
CALL protect_rows_of('commission_counters', 'agreements', 'agreement_id');

ALTER TABLE commission_lines
    ADD COLUMN counters JSONB NOT NULL DEFAULT '[]'::jsonb,
    ADD COLUMN expected_pay_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now() + interval '45 days',
    ADD COLUMN confirmed_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN confirmed_txid BIGINT,
    ADD COLUMN payable_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN paid_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN invalid_reason VARCHAR;

-- Objections to lines of statements (supply/settlement/statements/contesting.py): visible to both sides.
CREATE TABLE statement_contests (
    id UUID NOT NULL,
    statement_id UUID NOT NULL,
    entry VARCHAR NOT NULL,
    payee_id VARCHAR NOT NULL,
    tenant_id UUID,
    against VARCHAR NOT NULL,
    against_tenant_id UUID,
    currency CHAR(3) NOT NULL,
    claimed_minor BIGINT NOT NULL,
    granted_minor BIGINT NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    reply VARCHAR NOT NULL,
    escalation VARCHAR NOT NULL,
    ruling VARCHAR NOT NULL,
    decided_by VARCHAR NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_statement_contests PRIMARY KEY (id),
    CONSTRAINT fk_statement_contests_statement_id_statements FOREIGN KEY(statement_id) REFERENCES statements (id),
    CONSTRAINT ck_statement_contests_status CHECK (status IN ('OPEN', 'ADVERTISER_REPLY', 'ESCALATED', 'UPHELD', 'REJECTED', 'RULED')),
    CONSTRAINT ck_statement_contests_amounts CHECK (claimed_minor > 0 AND granted_minor BETWEEN 0 AND claimed_minor)
);
CREATE UNIQUE INDEX uq_statement_contests_statement_id_entry ON statement_contests (statement_id, entry);
CREATE INDEX ix_statement_contests_due_at ON statement_contests (due_at) WHERE status IN ('OPEN', 'ADVERTISER_REPLY');
CREATE INDEX ix_statement_contests_tenant_id ON statement_contests (tenant_id);
CREATE INDEX ix_statement_contests_against_tenant_id ON statement_contests (against_tenant_id);
ALTER TABLE statement_contests ENABLE ROW LEVEL SECURITY;
CREATE POLICY both_sides ON statement_contests USING ((SELECT app_sees_everything())
    OR tenant_id = (SELECT app_tenant()) OR against_tenant_id = (SELECT app_tenant()));
