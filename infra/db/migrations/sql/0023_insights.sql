-- What links bring, by day (marketplace/insights).

-- Every click and every change of a commission line keeps the transaction that brought it: whoever counts them asks for
-- what no earlier snapshot showed, and misses nothing that was committed late.
ALTER TABLE touches ADD COLUMN txid XID8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX ix_touches_txid ON touches (txid);

ALTER TABLE commission_lines ADD COLUMN txid XID8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE commission_lines ADD COLUMN sold_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE commission_lines ADD COLUMN gross_minor BIGINT;
ALTER TABLE commission_lines ADD COLUMN new_customer BOOLEAN;
ALTER TABLE commission_lines ADD COLUMN opens_order BOOLEAN;
UPDATE commission_lines l SET sold_at = coalesce(o.paid_at, l.created_at), gross_minor = coalesce(x.gross_minor, l.basis_minor),
    new_customer = coalesce((d.input::jsonb -> 1 ->> 6)::boolean, false),
    opens_order = NOT EXISTS (SELECT FROM commission_lines b WHERE b.order_id = l.order_id
        AND b.agreement_id = l.agreement_id AND b.id < l.id)
FROM attribution_decisions d LEFT JOIN orders o ON o.id = d.order_id LEFT JOIN order_lines x ON x.order_id = d.order_id
WHERE d.id = l.decision_id AND (x.id = l.order_line_id OR x.id IS NULL);
ALTER TABLE commission_lines ALTER COLUMN sold_at SET NOT NULL, ALTER COLUMN gross_minor SET NOT NULL,
    ALTER COLUMN new_customer SET NOT NULL, ALTER COLUMN opens_order SET NOT NULL;
CREATE INDEX ix_commission_lines_txid ON commission_lines (txid);
DROP INDEX ix_commission_lines_link_id;
CREATE INDEX ix_commission_lines_link_id_sold_at ON commission_lines (link_id, sold_at);

CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.txid := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER note_change BEFORE UPDATE ON commission_lines FOR EACH ROW EXECUTE FUNCTION note_change();

-- Of a winner that is not the one the line names; most sales have one winner.
ALTER TABLE commission_shares ADD COLUMN link_id UUID;
UPDATE commission_shares s SET link_id = t.link_id FROM touches t, commission_lines l
    WHERE t.id = s.touch_id AND l.id = s.commission_line_id AND s.touch_id <> l.touch_id AND t.link_id <> l.link_id;
CREATE INDEX ix_commission_shares_link_id ON commission_shares (link_id) WHERE link_id IS NOT NULL;

-- One row a link, day (UTC) and currency; under XXX, which is no currency, what has none: visits.
CREATE TABLE link_performance (
    link_id UUID NOT NULL,
    day DATE NOT NULL,
    currency CHAR(3) NOT NULL,
    advertiser_id UUID NOT NULL,
    promoter_brand_id UUID NOT NULL,
    clicks INTEGER NOT NULL DEFAULT 0,
    unique_clicks INTEGER NOT NULL DEFAULT 0,
    scans INTEGER NOT NULL DEFAULT 0,
    leads INTEGER NOT NULL DEFAULT 0,
    bots INTEGER NOT NULL DEFAULT 0,
    orders INTEGER NOT NULL DEFAULT 0,
    assisted_orders INTEGER NOT NULL DEFAULT 0,
    new_customer_orders INTEGER NOT NULL DEFAULT 0,
    refunded_orders INTEGER NOT NULL DEFAULT 0,
    gross_minor BIGINT NOT NULL DEFAULT 0,
    basis_minor BIGINT NOT NULL DEFAULT 0,
    refunded_basis_minor BIGINT NOT NULL DEFAULT 0,
    pending_minor BIGINT NOT NULL DEFAULT 0,
    confirmed_minor BIGINT NOT NULL DEFAULT 0,
    paid_minor BIGINT NOT NULL DEFAULT 0,
    invalid_minor BIGINT NOT NULL DEFAULT 0,
    reversed_minor BIGINT NOT NULL DEFAULT 0,
    fee_minor BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT pk_link_performance PRIMARY KEY (link_id, day, currency)
);
CREATE INDEX ix_link_performance_advertiser_id_day ON link_performance (advertiser_id, day);
CREATE INDEX ix_link_performance_promoter_brand_id_day ON link_performance (promoter_brand_id, day);
CREATE INDEX ix_link_performance_day ON link_performance (day);
CALL protect_shared_rows('link_performance');

-- The snapshot that was counted last: what it showed is in the sums.
CREATE TABLE performance_counted (
    source VARCHAR NOT NULL,
    seen VARCHAR NOT NULL,
    CONSTRAINT pk_performance_counted PRIMARY KEY (source),
    CONSTRAINT ck_performance_counted_known_source CHECK (source IN ('touches', 'sales'))
);
INSERT INTO performance_counted (source, seen) VALUES ('touches', '3:3:'), ('sales', '3:3:');
CALL protect_platform_rows('performance_counted');

-- Both sides of a link see by which printed arm people came.
CREATE POLICY sides_read ON qr_assets FOR SELECT USING ((SELECT app_kind()) = 'brand' AND EXISTS (
    SELECT FROM tracked_links l WHERE l.id = qr_assets.link_id));

-- Past orders replayed under other terms (marketplace/insights/simulation.py): a job, and what everybody would have.
CREATE INDEX ix_attribution_decisions_advertiser_id_decided_at ON attribution_decisions (advertiser_id, decided_at);

CREATE TABLE offer_simulations (
    id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    requested_by VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    terms JSONB NOT NULL,
    offer_id UUID,
    offer_version INTEGER,
    agreement_ids UUID[],
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    orders_total INTEGER NOT NULL,
    orders_done INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    orders_changed INTEGER NOT NULL,
    orders_won INTEGER NOT NULL,
    orders_lost INTEGER NOT NULL,
    orders_unreadable INTEGER NOT NULL,
    requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_offer_simulations PRIMARY KEY (id),
    CONSTRAINT ck_offer_simulations_known_status CHECK (status IN ('QUEUED', 'RUNNING', 'DONE')),
    CONSTRAINT ck_offer_simulations_finished CHECK ((status = 'DONE') = (finished_at IS NOT NULL)),
    CONSTRAINT ck_offer_simulations_period CHECK (since < until)
);
CREATE INDEX ix_offer_simulations_advertiser_id_id ON offer_simulations (advertiser_id, id);
CALL protect_tenant_rows('offer_simulations', 'advertiser_id');

CREATE TABLE offer_simulation_payees (
    simulation_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    role VARCHAR NOT NULL,
    payee VARCHAR NOT NULL,
    promoter_brand_id UUID NOT NULL,
    before_minor BIGINT NOT NULL,
    after_minor BIGINT NOT NULL,
    orders_before INTEGER NOT NULL,
    orders_after INTEGER NOT NULL,
    CONSTRAINT pk_offer_simulation_payees PRIMARY KEY (simulation_id, currency, role, payee, promoter_brand_id),
    CONSTRAINT ck_offer_simulation_payees_known_role CHECK (role IN ('individual', 'promoter_brand', 'platform')),
    CONSTRAINT fk_offer_simulation_payees_simulation_id_offer_simulations
        FOREIGN KEY (simulation_id) REFERENCES offer_simulations (id)
);
CALL protect_rows_of('offer_simulation_payees', 'offer_simulations', 'simulation_id');

-- Members who are not shown what an agreement is about (marketplace/matching/holdouts.py), and what showing it brought
-- (marketplace/insights/measuring.py). Who is held out is a keyed hash; there is no list of them.
CREATE TABLE holdouts (
    id UUID NOT NULL,
    community_id UUID NOT NULL,
    agreement_id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    promoter_brand_id UUID NOT NULL,
    set_by UUID NOT NULL,
    share_ppm INTEGER NOT NULL,
    draw UUID NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_holdouts PRIMARY KEY (id),
    CONSTRAINT ck_holdouts_share CHECK (share_ppm BETWEEN 10000 AND 500000),
    CONSTRAINT ck_holdouts_set_by_a_side CHECK (set_by IN (advertiser_id, promoter_brand_id)),
    CONSTRAINT ck_holdouts_ended CHECK (ended_at IS NULL OR ended_at >= started_at)
);
CREATE UNIQUE INDEX uq_holdouts_running ON holdouts (community_id, agreement_id) WHERE ended_at IS NULL;
CREATE INDEX ix_holdouts_advertiser_id_id ON holdouts (advertiser_id, id);
CREATE INDEX ix_holdouts_promoter_brand_id_id ON holdouts (promoter_brand_id, id);
CALL protect_shared_rows('holdouts');

-- One row for each side: what an order leaves a brand is its own affair.
CREATE TABLE holdout_results (
    holdout_id UUID NOT NULL,
    brand_id UUID NOT NULL,
    measured_at TIMESTAMP WITH TIME ZONE NOT NULL,
    measured_until TIMESTAMP WITH TIME ZONE NOT NULL,
    members_shown INTEGER NOT NULL,
    members_held_out INTEGER NOT NULL,
    buyers_shown INTEGER NOT NULL,
    buyers_held_out INTEGER NOT NULL,
    held_out_visitors INTEGER NOT NULL,
    estimates JSONB NOT NULL,
    attributed JSONB NOT NULL,
    CONSTRAINT pk_holdout_results PRIMARY KEY (holdout_id, brand_id),
    CONSTRAINT fk_holdout_results_holdout_id_holdouts FOREIGN KEY (holdout_id) REFERENCES holdouts (id)
);
CALL protect_tenant_rows('holdout_results', 'brand_id');
