-- Campaigns and offers (marketplace/promotion/offers), drafts of invitations, agreements that end with notice.

CREATE TABLE campaigns (
    id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    currency CHAR(3) NOT NULL,
    model VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE,
    used_up BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_campaigns PRIMARY KEY (id),
    CONSTRAINT ck_campaigns_known_status CHECK (status IN ('DRAFT', 'ACTIVE', 'PAUSED', 'ENDED')),
    CONSTRAINT ck_campaigns_known_model
        CHECK (model IN ('LAST_TOUCH', 'FIRST_TOUCH', 'LINEAR', 'POSITION_40_20_40')),
    CONSTRAINT ck_campaigns_starts_before_it_ends CHECK (starts_at < ends_at OR status = 'ENDED'),
    CONSTRAINT ck_campaigns_ended_at_a_moment CHECK (status <> 'ENDED' OR ends_at IS NOT NULL)
);
CREATE INDEX ix_campaigns_advertiser_id_id ON campaigns (advertiser_id, id);
CREATE INDEX ix_campaigns_ends_at ON campaigns (ends_at) WHERE ends_at IS NOT NULL;

CREATE TABLE campaign_status_log (
    campaign_id UUID NOT NULL,
    position INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    changed_by VARCHAR NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_campaign_status_log PRIMARY KEY (campaign_id, position),
    CONSTRAINT fk_campaign_status_log_campaign_id_campaigns FOREIGN KEY (campaign_id) REFERENCES campaigns (id)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON campaign_status_log
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();

-- The one row that orders of a campaign take turns on; only campaigns with a budget have one.
CREATE TABLE campaign_budgets (
    campaign_id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    limit_minor BIGINT NOT NULL,
    mode VARCHAR NOT NULL,
    reserved_minor BIGINT NOT NULL,
    spent_minor BIGINT NOT NULL,
    CONSTRAINT pk_campaign_budgets PRIMARY KEY (campaign_id),
    CONSTRAINT ck_campaign_budgets_known_mode CHECK (mode IN ('TRUNCATE', 'ALL_OR_NOTHING', 'FALLBACK_RATE')),
    CONSTRAINT ck_campaign_budgets_not_negative
        CHECK (limit_minor >= 0 AND reserved_minor >= 0 AND spent_minor >= 0),
    CONSTRAINT fk_campaign_budgets_campaign_id_campaigns FOREIGN KEY (campaign_id) REFERENCES campaigns (id)
);

CREATE TABLE budget_reservations (
    commission_line_id UUID NOT NULL,
    campaign_id UUID NOT NULL,
    amount_minor BIGINT NOT NULL,
    spent BOOLEAN NOT NULL,
    CONSTRAINT pk_budget_reservations PRIMARY KEY (commission_line_id),
    CONSTRAINT ck_budget_reservations_not_negative CHECK (amount_minor >= 0),
    CONSTRAINT fk_budget_reservations_commission_line_id_commission_lines
        FOREIGN KEY (commission_line_id) REFERENCES commission_lines (id),
    CONSTRAINT fk_budget_reservations_campaign_id_campaign_budgets
        FOREIGN KEY (campaign_id) REFERENCES campaign_budgets (campaign_id)
);
CREATE INDEX ix_budget_reservations_campaign_id ON budget_reservations (campaign_id);

CREATE TABLE offers (
    id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    campaign_id UUID NOT NULL,
    visibility VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    current_version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_offers PRIMARY KEY (id),
    CONSTRAINT ck_offers_known_status CHECK (status IN ('DRAFT', 'PUBLISHED', 'RETIRED')),
    CONSTRAINT ck_offers_known_visibility CHECK (visibility IN ('PUBLIC', 'INVITED')),
    CONSTRAINT ck_offers_published_has_a_version CHECK ((status = 'DRAFT') = (current_version = 0)),
    CONSTRAINT fk_offers_campaign_id_campaigns FOREIGN KEY (campaign_id) REFERENCES campaigns (id)
);
CREATE INDEX ix_offers_advertiser_id_id ON offers (advertiser_id, id);
CREATE INDEX ix_offers_campaign_id ON offers (campaign_id);
CREATE INDEX ix_offers_public ON offers (published_at, id) WHERE visibility = 'PUBLIC' AND status = 'PUBLISHED';

CREATE TABLE offer_drafts (
    offer_id UUID NOT NULL,
    advertiser_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    summary VARCHAR NOT NULL,
    terms JSONB NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_offer_drafts PRIMARY KEY (offer_id),
    CONSTRAINT fk_offer_drafts_offer_id_offers FOREIGN KEY (offer_id) REFERENCES offers (id)
);

CREATE TABLE offer_versions (
    offer_id UUID NOT NULL,
    version INTEGER NOT NULL,
    advertiser_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    summary VARCHAR NOT NULL,
    terms JSONB NOT NULL,
    content_hash VARCHAR NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE NOT NULL,
    published_by VARCHAR NOT NULL,
    rate_min_ppm INTEGER NOT NULL,
    rate_max_ppm INTEGER NOT NULL,
    window_s INTEGER NOT NULL,
    covers_everything BOOLEAN NOT NULL,
    category_paths VARCHAR[] NOT NULL,
    tokens TSVECTOR NOT NULL,
    CONSTRAINT pk_offer_versions PRIMARY KEY (offer_id, version),
    CONSTRAINT ck_offer_versions_sane_version CHECK (version >= 1),
    CONSTRAINT fk_offer_versions_offer_id_offers FOREIGN KEY (offer_id) REFERENCES offers (id)
);
CREATE INDEX ix_offer_versions_category_paths ON offer_versions USING gin (category_paths);
CREATE INDEX ix_offer_versions_tokens ON offer_versions USING gin (tokens);

-- What was published is what others read, applied to and signed.
CREATE FUNCTION keep_published_offer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a published version of an offer is immutable' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON offer_versions
    FOR EACH ROW EXECUTE FUNCTION keep_published_offer();

-- Currency and attribution model are what offers and agreements of a campaign rest on; an end is the end.
CREATE FUNCTION keep_campaign() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.advertiser_id, NEW.currency, NEW.model) IS DISTINCT FROM (OLD.advertiser_id, OLD.currency, OLD.model)
        OR OLD.status <> 'DRAFT' AND NEW.status = 'DRAFT'
        OR OLD.status = 'ENDED' AND (NEW.status, NEW.starts_at, NEW.ends_at)
            IS DISTINCT FROM (OLD.status, OLD.starts_at, OLD.ends_at)
    THEN
        RAISE EXCEPTION 'a campaign keeps its currency and model, an ended one its end'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER kept BEFORE UPDATE ON campaigns FOR EACH ROW EXECUTE FUNCTION keep_campaign();

-- Where an invitation and an agreement come from; which brand ended an agreement, and when that takes effect.
ALTER TABLE invitations
    ALTER COLUMN sent_at DROP NOT NULL,
    ALTER COLUMN expires_at DROP NOT NULL,
    ADD COLUMN campaign_id UUID,
    ADD COLUMN offer_id UUID,
    ADD COLUMN offer_version INTEGER,
    ADD CONSTRAINT fk_invitations_campaign_id_campaigns FOREIGN KEY (campaign_id) REFERENCES campaigns (id),
    ADD CONSTRAINT fk_invitations_offer_id_offer_version_offer_versions
        FOREIGN KEY (offer_id, offer_version) REFERENCES offer_versions (offer_id, version),
    ADD CONSTRAINT ck_invitations_offer_of_a_campaign
        CHECK (num_nonnulls(offer_id, offer_version) IN (0, 2) AND (offer_id IS NULL OR campaign_id IS NOT NULL)),
    ADD CONSTRAINT ck_invitations_sent_unless_a_draft
        CHECK ((sent_at IS NULL) = (expires_at IS NULL) AND (sent_at IS NOT NULL OR status IN ('DRAFT', 'WITHDRAWN'))
               AND (sent_at IS NULL OR status <> 'DRAFT'));
ALTER TABLE agreements
    ADD COLUMN campaign_id UUID,
    ADD COLUMN offer_id UUID,
    ADD COLUMN offer_version INTEGER,
    ADD COLUMN ends_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN ended_by UUID,
    ADD COLUMN end_reason VARCHAR,
    ADD CONSTRAINT fk_agreements_campaign_id_campaigns FOREIGN KEY (campaign_id) REFERENCES campaigns (id),
    ADD CONSTRAINT fk_agreements_offer_id_offer_version_offer_versions
        FOREIGN KEY (offer_id, offer_version) REFERENCES offer_versions (offer_id, version),
    ADD CONSTRAINT ck_agreements_offer_of_a_campaign
        CHECK (num_nonnulls(offer_id, offer_version) IN (0, 2) AND (offer_id IS NULL OR campaign_id IS NOT NULL));
ALTER TABLE agreement_versions ADD COLUMN offer_version INTEGER;
CREATE INDEX ix_invitations_campaign_id ON invitations (campaign_id) WHERE campaign_id IS NOT NULL;
CREATE INDEX ix_invitations_offer_id ON invitations (offer_id) WHERE offer_id IS NOT NULL;
CREATE INDEX ix_agreements_campaign_id ON agreements (campaign_id) WHERE campaign_id IS NOT NULL;
CREATE INDEX ix_agreements_offer_id ON agreements (offer_id) WHERE offer_id IS NOT NULL;
CREATE INDEX ix_agreements_ends_at ON agreements (ends_at)
    WHERE ends_at IS NOT NULL AND status NOT IN ('ENDED', 'TERMINATED');

-- A draft is its author's alone, a discarded one too: the other brand sees what was sent.
DROP POLICY both_parties ON invitations;
CREATE POLICY both_parties ON invitations USING (
    sender_id = (SELECT app_tenant()) OR (SELECT app_sees_everything())
    OR sent_at IS NOT NULL AND (SELECT app_tenant()) IN (advertiser_id, promoter_brand_id));

CREATE PROCEDURE protect_advertisers_rows(target regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY advertiser ON %s USING (advertiser_id = (SELECT app_tenant())'
        ' AND (SELECT app_kind()) = ''brand'' OR (SELECT app_sees_everything()))', target);
END $$;
CALL protect_advertisers_rows('campaigns');
CALL protect_advertisers_rows('campaign_budgets');
CALL protect_advertisers_rows('offers');
CALL protect_advertisers_rows('offer_drafts');
CALL protect_advertisers_rows('offer_versions');

ALTER TABLE campaign_status_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY advertiser ON campaign_status_log USING ((SELECT app_sees_everything()) OR EXISTS (
    SELECT FROM campaigns c WHERE c.id = campaign_id AND c.advertiser_id = (SELECT app_tenant())));
ALTER TABLE budget_reservations ENABLE ROW LEVEL SECURITY;
CREATE POLICY advertiser ON budget_reservations USING ((SELECT app_sees_everything()) OR EXISTS (
    SELECT FROM campaign_budgets b WHERE b.campaign_id = budget_reservations.campaign_id));

-- Others read an offer that is public, or that they were invited with or have agreed on; with it its versions and its
-- campaign. (The subqueries see what the reader may see: its own agreements and invitations.)
CREATE POLICY public_offer ON offers FOR SELECT
    USING (visibility = 'PUBLIC' AND status = 'PUBLISHED' AND (SELECT app_kind()) = 'brand');
CREATE POLICY offered_to_me ON offers FOR SELECT USING (
    EXISTS (SELECT FROM agreements a WHERE a.offer_id = offers.id)
    OR EXISTS (SELECT FROM invitations i WHERE i.offer_id = offers.id));
CREATE POLICY with_its_offer ON offer_versions FOR SELECT
    USING (EXISTS (SELECT FROM offers o WHERE o.id = offer_id));
CREATE POLICY partners_read ON campaigns FOR SELECT USING (
    EXISTS (SELECT FROM agreements a WHERE a.campaign_id = campaigns.id)
    OR EXISTS (SELECT FROM offers o WHERE o.campaign_id = campaigns.id)
    OR EXISTS (SELECT FROM invitations i WHERE i.campaign_id = campaigns.id));
