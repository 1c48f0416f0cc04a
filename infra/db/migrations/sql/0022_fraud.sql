-- Fraud signals and what follows from them (marketplace/promotion/fraud), disputes of commissions
-- (marketplace/promotion/disputes), and what settlement holds back or has given back for them.

-- Rows that two brands may read; the platform's own rules and verbs write them.
CREATE PROCEDURE show_to_both_parties(target regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY platform_writes ON %s USING ((SELECT app_sees_everything()))', target);
    EXECUTE format(
        'CREATE POLICY both_parties_read ON %s FOR SELECT USING (advertiser_id = (SELECT app_tenant())'
        ' OR promoter_brand_id = (SELECT app_tenant()))', target);
END $$;

-- A row is here as long as the commission of its order line is held under this name.
CREATE TABLE release_holds (
    order_line_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_release_holds PRIMARY KEY (order_line_id, name)
);
CREATE INDEX ix_release_holds_name ON release_holds (name);
CALL protect_tenant_rows('release_holds', 'merchant_id');

-- What a denial took of each share of a commission, so that it can be given back as it was. The merchant's figures
-- are those of its part of the line right after the denial.
CREATE TABLE denied_shares (
    reference VARCHAR NOT NULL,
    line_id UUID NOT NULL,
    seat VARCHAR NOT NULL,
    order_id UUID NOT NULL,
    order_line_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    amount_minor BIGINT NOT NULL,
    merchant_held_minor BIGINT NOT NULL,
    merchant_by_amount_minor BIGINT NOT NULL,
    denied_at TIMESTAMP WITH TIME ZONE NOT NULL,
    restored_minor BIGINT,
    restored_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_denied_shares PRIMARY KEY (reference, line_id, seat),
    CONSTRAINT ck_denied_shares_amounts CHECK (amount_minor >= 0 AND restored_minor BETWEEN 0 AND amount_minor)
);
CREATE INDEX ix_denied_shares_order_line_id ON denied_shares (order_line_id);
CALL protect_tenant_rows('denied_shares', 'merchant_id');

-- What was found not earned, apart from what refunds took back.
ALTER TABLE commission_lines ADD COLUMN denied_minor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE commission_lines ADD CONSTRAINT ck_commission_lines_denied_within_commission
    CHECK (denied_minor >= 0 AND reversed_minor + denied_minor <= commission_minor);
ALTER TABLE commission_shares ADD COLUMN denied_minor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE commission_shares ADD CONSTRAINT ck_commission_shares_denied_within_share
    CHECK (denied_minor >= 0 AND reversed_minor + denied_minor <= earned_minor);
CREATE INDEX ix_commission_shares_touch_id ON commission_shares (touch_id);

-- Which shares a denial took how much of, and whether it was undone.
CREATE TABLE commission_denials (
    commission_line_id UUID NOT NULL,
    reference VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    amount_minor BIGINT NOT NULL,
    reason VARCHAR NOT NULL,
    denied_by VARCHAR NOT NULL,
    denied_at TIMESTAMP WITH TIME ZONE NOT NULL,
    restored_by VARCHAR,
    restored_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_commission_denials PRIMARY KEY (commission_line_id, reference, position),
    CONSTRAINT fk_commission_denials_commission_line_id_commission_lines FOREIGN KEY (commission_line_id)
        REFERENCES commission_lines (id),
    CONSTRAINT ck_commission_denials_restored CHECK ((restored_at IS NULL) = (restored_by IS NULL))
);
CALL protect_rows_of('commission_denials', 'commission_lines', 'commission_line_id');

-- The names of advertising networks' parameters that a click brought along, never their values.
ALTER TABLE touches ADD COLUMN ad_parameters VARCHAR;

-- What the rules look at of a credited order: one row per agreement that earns from it. Digests are keyed; only the
-- platform reads them.
CREATE TABLE credited_sales (
    order_id UUID NOT NULL,
    agreement_id UUID NOT NULL,
    agreement_version INTEGER NOT NULL,
    advertiser_id UUID NOT NULL,
    promoter_brand_id UUID NOT NULL,
    promoter UUID NOT NULL,
    placement_id UUID NOT NULL,
    touch_id UUID NOT NULL,
    touch_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ordered_at TIMESTAMP WITH TIME ZONE NOT NULL,
    paid_at TIMESTAMP WITH TIME ZONE NOT NULL,
    window_s INTEGER NOT NULL,
    at_new_rate BOOLEAN NOT NULL,
    buyer VARCHAR NOT NULL,
    device BYTEA,
    instrument VARCHAR,
    address VARCHAR,
    CONSTRAINT pk_credited_sales PRIMARY KEY (order_id, agreement_id)
);
CREATE INDEX ix_credited_sales_paid_at ON credited_sales (paid_at);
CREATE INDEX ix_credited_sales_agreement_id_promoter ON credited_sales (agreement_id, promoter, paid_at);
CREATE INDEX ix_credited_sales_advertiser_id ON credited_sales (advertiser_id, paid_at);
CREATE INDEX ix_credited_sales_placement_id ON credited_sales (placement_id, touch_at);
CREATE INDEX ix_credited_sales_device ON credited_sales (promoter, device, paid_at)
    WHERE at_new_rate AND device IS NOT NULL;
CREATE INDEX ix_credited_sales_instrument ON credited_sales (promoter, instrument, paid_at)
    WHERE at_new_rate AND instrument IS NOT NULL;
CREATE INDEX ix_credited_sales_address ON credited_sales (promoter, address, paid_at)
    WHERE at_new_rate AND address IS NOT NULL;
CALL protect_platform_rows('credited_sales');

-- Clicks of a placement under an agreement by day (UTC), bots and repeats left out: the history that a day is held
-- against.
CREATE TABLE click_days (
    placement_id UUID NOT NULL,
    agreement_id UUID NOT NULL,
    day DATE NOT NULL,
    clicks INTEGER NOT NULL,
    CONSTRAINT pk_click_days PRIMARY KEY (placement_id, agreement_id, day),
    CONSTRAINT ck_click_days_clicks CHECK (clicks > 0)
);
CALL protect_platform_rows('click_days');

-- How far a sweep has looked.
CREATE TABLE fraud_progress (
    sweep VARCHAR NOT NULL,
    looked_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_fraud_progress PRIMARY KEY (sweep)
);
CALL protect_platform_rows('fraud_progress');

CREATE TABLE fraud_signals (
    id UUID NOT NULL,
    key VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    rule_version VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    advertiser_id UUID NOT NULL,
    promoter_brand_id UUID NOT NULL,
    agreement_id UUID NOT NULL,
    promoter UUID NOT NULL,
    placement_id UUID,
    link_id UUID,
    touch_id UUID,
    order_id UUID,
    coupon_id UUID,
    evidence JSONB NOT NULL,
    threshold JSONB NOT NULL,
    detected_at TIMESTAMP WITH TIME ZONE NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    window_until TIMESTAMP WITH TIME ZONE,
    decided_at TIMESTAMP WITH TIME ZONE,
    decided_by VARCHAR,
    decision VARCHAR,
    CONSTRAINT pk_fraud_signals PRIMARY KEY (id),
    CONSTRAINT uq_fraud_signals_key UNIQUE (key),
    CONSTRAINT ck_fraud_signals_known_rule CHECK (rule IN ('SELF_REFERRAL', 'CLICK_FLOOD', 'TIME_TO_ORDER_SHORT',
        'TIME_TO_ORDER_FLAT', 'DEVICE_REUSE', 'COUPON_LEAK', 'REFUND_RING', 'VELOCITY', 'BANNED_SOURCE')),
    CONSTRAINT ck_fraud_signals_known_action CHECK (action IN ('invalidate', 'hold', 'exclude_clicks',
        'deny_new_rate', 'lower_coupon', 'lengthen_window')),
    CONSTRAINT ck_fraud_signals_known_status CHECK (status IN ('OPEN', 'DISMISSED', 'UPHELD', 'CLEARED'))
);
CREATE INDEX ix_fraud_signals_advertiser_id_id ON fraud_signals (advertiser_id, id);
CREATE INDEX ix_fraud_signals_promoter_brand_id_id ON fraud_signals (promoter_brand_id, id);
CREATE INDEX ix_fraud_signals_order_id ON fraud_signals (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX ix_fraud_signals_longer_window ON fraud_signals (agreement_id, promoter)
    WHERE window_until IS NOT NULL AND status <> 'DISMISSED';
CALL show_to_both_parties('fraud_signals');

-- Clicks that qualify for nothing from when they were excluded, as long as that is not lifted.
CREATE TABLE excluded_touches (
    touch_id UUID NOT NULL,
    signal_id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    promoter_brand_id UUID NOT NULL,
    excluded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    lifted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_excluded_touches PRIMARY KEY (touch_id, signal_id),
    CONSTRAINT fk_excluded_touches_signal_id_fraud_signals FOREIGN KEY (signal_id) REFERENCES fraud_signals (id)
);
CREATE INDEX ix_excluded_touches_signal_id ON excluded_touches (signal_id);
CALL show_to_both_parties('excluded_touches');

CREATE TABLE commission_holds (
    id UUID NOT NULL,
    commission_line_id UUID NOT NULL,
    order_id UUID NOT NULL,
    order_line_id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    promoter_brand_id UUID NOT NULL,
    signal_id UUID,
    opened_by VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    clears_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    ended_by VARCHAR,
    decision VARCHAR,
    CONSTRAINT pk_commission_holds PRIMARY KEY (id),
    CONSTRAINT uq_commission_holds_commission_line_id_opened_by UNIQUE (commission_line_id, opened_by),
    CONSTRAINT ck_commission_holds_known_status CHECK (status IN ('OPEN', 'RELEASED', 'UPHELD')),
    CONSTRAINT ck_commission_holds_ended CHECK ((status = 'OPEN') = (ended_at IS NULL)),
    CONSTRAINT fk_commission_holds_commission_line_id_commission_lines FOREIGN KEY (commission_line_id)
        REFERENCES commission_lines (id),
    CONSTRAINT fk_commission_holds_signal_id_fraud_signals FOREIGN KEY (signal_id) REFERENCES fraud_signals (id)
);
CREATE INDEX ix_commission_holds_clears_at ON commission_holds (clears_at) WHERE status = 'OPEN';
CREATE INDEX ix_commission_holds_signal_id ON commission_holds (signal_id);
CREATE INDEX ix_commission_holds_advertiser_id_id ON commission_holds (advertiser_id, id);
CREATE INDEX ix_commission_holds_promoter_brand_id_id ON commission_holds (promoter_brand_id, id);
CALL show_to_both_parties('commission_holds');

CREATE TABLE commission_disputes (
    id UUID NOT NULL,
    subject VARCHAR NOT NULL,
    about VARCHAR NOT NULL,
    order_id UUID NOT NULL,
    commission_line_id UUID,
    hold_id UUID,
    touch_id UUID,
    agreement_id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    promoter_brand_id UUID NOT NULL,
    opener_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    claimed_minor BIGINT NOT NULL,
    granted_minor BIGINT NOT NULL,
    answer_days INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    reply VARCHAR NOT NULL,
    escalation VARCHAR NOT NULL,
    ruling VARCHAR NOT NULL,
    decided_by VARCHAR NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_commission_disputes PRIMARY KEY (id),
    CONSTRAINT uq_commission_disputes_about_opener_id UNIQUE (about, opener_id),
    CONSTRAINT ck_commission_disputes_known_subject CHECK (subject IN ('INVALID', 'HOLD', 'TOUCH', 'AMOUNT')),
    CONSTRAINT ck_commission_disputes_known_status
        CHECK (status IN ('OPEN', 'ADVERTISER_REPLY', 'ESCALATED', 'UPHELD', 'REJECTED', 'RULED')),
    CONSTRAINT ck_commission_disputes_opener CHECK (opener_id IN (advertiser_id, promoter_brand_id)),
    CONSTRAINT ck_commission_disputes_amounts CHECK (granted_minor >= 0 AND claimed_minor >= 0)
);
CREATE INDEX ix_commission_disputes_due_at ON commission_disputes (due_at)
    WHERE status IN ('OPEN', 'ADVERTISER_REPLY');
CREATE INDEX ix_commission_disputes_advertiser_id_id ON commission_disputes (advertiser_id, id);
CREATE INDEX ix_commission_disputes_promoter_brand_id_id ON commission_disputes (promoter_brand_id, id);
CALL show_to_both_parties('commission_disputes');
