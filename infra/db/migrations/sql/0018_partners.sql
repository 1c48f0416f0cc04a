-- Partners and ways to reach people (marketplace/promotion/directory, deep_links.py, qr_batches.py, server_touches.py).

-- What a brand has said of itself to possible partners, one row per change. Never rewritten: who reads terms of
-- today can look up what they were a month ago.
CREATE TABLE partner_profiles (
    brand_id UUID NOT NULL,
    version INTEGER NOT NULL,
    status VARCHAR NOT NULL,
    profile JSONB NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE NOT NULL,
    published_by VARCHAR NOT NULL,
    CONSTRAINT pk_partner_profiles PRIMARY KEY (brand_id, version),
    CONSTRAINT ck_partner_profiles_known_status CHECK (status IN ('LISTED', 'WITHDRAWN')),
    CONSTRAINT ck_partner_profiles_sane_version CHECK (version >= 1)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON partner_profiles
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();

-- The directory itself: one row per brand that wants to be found now. Withdrawing deletes it. The figures of the
-- track record are those that may be shown; the raw counts are in partner_records.
CREATE TABLE partner_listings (
    brand_id UUID NOT NULL,
    version INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    headline VARCHAR NOT NULL,
    offers VARCHAR NOT NULL,
    seeks VARCHAR NOT NULL,
    roles VARCHAR[] NOT NULL,
    categories VARCHAR[] NOT NULL,
    sought_categories VARCHAR[] NOT NULL,
    regions VARCHAR[] NOT NULL,
    audience_band VARCHAR,
    rate_min_ppm INTEGER,
    rate_max_ppm INTEGER,
    window_s INTEGER NOT NULL,
    return_window_days INTEGER NOT NULL,
    category_paths VARCHAR[] NOT NULL,
    region_paths VARCHAR[] NOT NULL,
    tokens TSVECTOR NOT NULL,
    brand_active BOOLEAN NOT NULL,
    listed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    record JSONB NOT NULL,
    conversion_rank INTEGER NOT NULL,
    refund_rank INTEGER NOT NULL,
    punctuality_rank INTEGER NOT NULL,
    CONSTRAINT pk_partner_listings PRIMARY KEY (brand_id),
    CONSTRAINT ck_partner_listings_known_band
        CHECK (audience_band IN ('UNDER_1K', 'FROM_1K', 'FROM_10K', 'FROM_100K', 'FROM_1M')),
    CONSTRAINT ck_partner_listings_rates CHECK (rate_min_ppm BETWEEN 0 AND rate_max_ppm)
);
CREATE INDEX ix_partner_listings_updated_at ON partner_listings (updated_at, brand_id);
CREATE INDEX ix_partner_listings_conversion_rank ON partner_listings (conversion_rank, brand_id);
CREATE INDEX ix_partner_listings_refund_rank ON partner_listings (refund_rank, brand_id);
CREATE INDEX ix_partner_listings_punctuality_rank ON partner_listings (punctuality_rank, brand_id);
CREATE INDEX ix_partner_listings_category_paths ON partner_listings USING gin (category_paths);
CREATE INDEX ix_partner_listings_region_paths ON partner_listings USING gin (region_paths);
CREATE INDEX ix_partner_listings_tokens ON partner_listings USING gin (tokens);
ALTER TABLE partner_listings ENABLE ROW LEVEL SECURITY;
-- A listing is published; the constant lets the indexes be used, which a condition on the caller would forbid.
CREATE POLICY published ON partner_listings FOR SELECT USING (true);
CREATE POLICY own_listing ON partner_listings USING (brand_id = (SELECT app_tenant())
    AND (SELECT app_kind()) = 'brand' OR (SELECT app_sees_everything()));

ALTER TABLE partner_profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_versions ON partner_profiles USING (brand_id = (SELECT app_tenant())
    AND (SELECT app_kind()) = 'brand' OR (SELECT app_sees_everything()));
CREATE POLICY listed ON partner_profiles FOR SELECT USING ((SELECT app_kind()) = 'brand'
    AND EXISTS (SELECT FROM partner_listings l WHERE l.brand_id = partner_profiles.brand_id AND l.brand_active));

CREATE FUNCTION hide_inactive_partner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE partner_listings SET brand_active = (NEW.status = 'active') WHERE brand_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER hide_inactive_partner AFTER UPDATE OF status ON tenants
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION hide_inactive_partner();

-- Counts behind a track record, per brand and the side it was on, over the last 90 days. Written by a sweep.
CREATE TABLE partner_records (
    brand_id UUID NOT NULL,
    role VARCHAR NOT NULL,
    clicks BIGINT NOT NULL,
    orders INTEGER NOT NULL,
    refunded_orders INTEGER NOT NULL,
    disputed_orders INTEGER NOT NULL,
    commissions_due INTEGER NOT NULL,
    commissions_in_time INTEGER NOT NULL,
    partners INTEGER NOT NULL,
    members INTEGER NOT NULL,
    computed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_partner_records PRIMARY KEY (brand_id, role),
    CONSTRAINT ck_partner_records_known_role CHECK (role IN ('ADVERTISER', 'PROMOTER'))
);
CALL protect_tenant_rows('partner_records', 'brand_id');
CREATE INDEX ix_commission_lines_created_at ON commission_lines (created_at);
-- Ninety days of touches are a run of blocks: a summary of each is enough, and costs a click nothing.
CREATE INDEX ix_touches_at ON touches USING brin (at);

-- How a storefront's mini-program is opened: kept by its brand, read by partners whose links lead there.
CREATE TABLE deep_links (
    storefront_id UUID NOT NULL,
    brand_id UUID NOT NULL,
    app_id VARCHAR NOT NULL,
    url VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    query VARCHAR NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_deep_links PRIMARY KEY (storefront_id)
);
CALL protect_tenant_rows('deep_links', 'brand_id');
CREATE POLICY partners_read ON deep_links FOR SELECT USING ((SELECT app_kind()) = 'brand' AND EXISTS (
    SELECT FROM agreements a WHERE a.status IN ('ACTIVE', 'PAUSED')
    AND (a.advertiser_id = deep_links.brand_id AND a.promoter_brand_id = (SELECT app_tenant())
         OR a.promoter_brand_id = deep_links.brand_id AND a.advertiser_id = (SELECT app_tenant()))));

ALTER TABLE tracked_links ADD COLUMN in_app_destination VARCHAR;
ALTER TABLE tracked_links ADD CONSTRAINT ck_tracked_links_one_touch_in_app
    CHECK (in_app_destination IS NULL OR in_app_destination LIKE '%{touch}%');
CREATE INDEX ix_tracked_links_expires_at ON tracked_links (expires_at)
    WHERE status = 'ACTIVE' AND expires_at IS NOT NULL;

-- Print batches of QR codes. Every arm of a batch has a link, so a code, of its own.
CREATE TABLE qr_batches (
    id UUID NOT NULL,
    brand_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    sku VARCHAR NOT NULL,
    warehouse VARCHAR NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_qr_batches PRIMARY KEY (id),
    CONSTRAINT ck_qr_batches_known_kind CHECK (kind IN ('PARCEL_CARD', 'POSTER', 'SHELF', 'PACKAGE', 'STAFF_CARD')),
    CONSTRAINT ck_qr_batches_card_of_a_parcel CHECK (kind <> 'PARCEL_CARD' OR (sku <> '' AND warehouse <> ''))
);
CREATE INDEX ix_qr_batches_brand_id_id ON qr_batches (brand_id, id);
CALL protect_tenant_rows('qr_batches', 'brand_id');

CREATE TABLE qr_assets (
    id UUID NOT NULL,
    brand_id UUID NOT NULL,
    batch_id UUID NOT NULL,
    link_id UUID NOT NULL,
    arm VARCHAR NOT NULL,
    caption_zh VARCHAR NOT NULL,
    caption_en VARCHAR NOT NULL,
    quantity INTEGER NOT NULL,
    CONSTRAINT pk_qr_assets PRIMARY KEY (id),
    CONSTRAINT uq_qr_assets_batch_id_arm UNIQUE (batch_id, arm),
    CONSTRAINT uq_qr_assets_link_id UNIQUE (link_id),
    CONSTRAINT ck_qr_assets_sane_quantity CHECK (quantity BETWEEN 1 AND 10000000),
    CONSTRAINT fk_qr_assets_batch_id_qr_batches FOREIGN KEY (batch_id) REFERENCES qr_batches (id),
    CONSTRAINT fk_qr_assets_link_id_tracked_links FOREIGN KEY (link_id) REFERENCES tracked_links (id)
);
CALL protect_tenant_rows('qr_assets', 'brand_id');

-- Touches that a brand's own server told of, once per event id of that brand. A lead keeps what it binds.
CREATE TABLE touch_events (
    brand_id UUID NOT NULL,
    event_id VARCHAR NOT NULL,
    body_hash BYTEA NOT NULL,
    touch_id UUID NOT NULL,
    link_id UUID NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    lead VARCHAR,
    contact_id UUID,
    binds_until TIMESTAMP WITH TIME ZONE,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_touch_events PRIMARY KEY (brand_id, event_id),
    CONSTRAINT ck_touch_events_known_lead CHECK (lead IN ('CONTACT_ADDED', 'GROUP_JOINED')),
    CONSTRAINT ck_touch_events_lead_of_somebody CHECK (lead IS NULL OR contact_id IS NOT NULL)
);
CREATE INDEX ix_touch_events_contact_id ON touch_events (contact_id, at) WHERE lead IS NOT NULL;
CREATE INDEX ix_touch_events_link_id ON touch_events (link_id) WHERE lead IS NOT NULL;
CALL protect_tenant_rows('touch_events', 'brand_id');
