-- Who bought in a brand's own checkout, under the keys of a partner that holds members out: the platform's knowledge
-- alone, for as long as the holdout is measured.
CREATE TABLE told_buyers (
    order_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    place smallint NOT NULL,
    advertiser_id uuid NOT NULL,
    subject_key bytea NOT NULL,
    CONSTRAINT pk_told_buyers PRIMARY KEY (order_id, brand_id, place),
    CONSTRAINT ck_told_buyers_whole_key CHECK (octet_length(subject_key) = 32)
);
CREATE INDEX ix_told_buyers_brand_id_advertiser_id ON told_buyers (brand_id, advertiser_id);
CALL protect_platform_rows('told_buyers');

ALTER TABLE holdout_results ADD COLUMN comparable_ppm integer;
