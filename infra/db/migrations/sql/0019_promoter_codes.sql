-- A promoter's codes (marketplace/promotion/coupons): a coupon that belongs to a tracked link. Entered at a checkout,
-- it is a touch of that link.
ALTER TABLE coupons
    ADD COLUMN link_id uuid,
    ADD COLUMN advertiser_id uuid,
    ADD COLUMN promoter_brand_id uuid,
    ADD COLUMN exclusive boolean NOT NULL DEFAULT false,
    ADD COLUMN leaked_since timestamptz,
    ADD CONSTRAINT fk_coupons_link_id_tracked_links FOREIGN KEY (link_id) REFERENCES tracked_links (id),
    ADD CONSTRAINT ck_coupons_whole_link CHECK (num_nonnulls(link_id, advertiser_id, promoter_brand_id) IN (0, 3)),
    ADD CONSTRAINT ck_coupons_exclusive_of_a_link CHECK (NOT exclusive OR link_id IS NOT NULL),
    ADD CONSTRAINT ck_coupons_leaked_when_exclusive CHECK (leaked_since IS NULL OR exclusive);
CREATE INDEX ix_coupons_link_id ON coupons (link_id) WHERE link_id IS NOT NULL;
-- Both sides of the link see its codes and may end them; who pays for them made them.
CREATE POLICY sides_of_its_link ON coupons FOR SELECT USING (
    advertiser_id = (SELECT app_tenant()) OR promoter_brand_id = (SELECT app_tenant()));
CREATE POLICY sides_may_end_it ON coupons FOR UPDATE USING (
    advertiser_id = (SELECT app_tenant()) OR promoter_brand_id = (SELECT app_tenant()));

-- One code entered for one checkout. owner_touched: whether the buyer had come by any of the promoter's placements;
-- unknown until the order is attributed. What share had not tells whether a code has leaked.
CREATE TABLE coupon_entries (
    touch_id uuid NOT NULL,
    coupon_id uuid NOT NULL,
    checkout_id uuid NOT NULL,
    entered_at timestamptz NOT NULL,
    owner_touched boolean,
    CONSTRAINT pk_coupon_entries PRIMARY KEY (touch_id),
    CONSTRAINT uq_coupon_entries_checkout_id_coupon_id UNIQUE (checkout_id, coupon_id),
    CONSTRAINT fk_coupon_entries_coupon_id_coupons FOREIGN KEY (coupon_id) REFERENCES coupons (id)
);
CREATE INDEX ix_coupon_entries_coupon_id_entered_at ON coupon_entries (coupon_id, entered_at);
CALL protect_platform_rows('coupon_entries');
