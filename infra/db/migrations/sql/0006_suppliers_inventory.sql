-- Rows of a supplier that the brand they concern may see and act on as well.
CREATE PROCEDURE protect_supply_rows(target regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY both_parties ON %s USING ((SELECT app_sees_everything())'
        ' OR supplier_id = (SELECT app_tenant()) OR brand_id = (SELECT app_tenant()))', target);
END $$;

-- Rows a supplier writes and every brand reads (it chooses among them).
CREATE PROCEDURE protect_published_supply(target regclass, supplier_column name) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY own_rows ON %s USING ((SELECT app_sees_everything()) OR %I = (SELECT app_tenant()))',
        target, supplier_column);
    EXECUTE format('CREATE POLICY brands_read ON %s FOR SELECT USING ((SELECT app_kind()) = ''brand'')', target);
END $$;

CREATE TABLE suppliers (
    id uuid NOT NULL CONSTRAINT pk_suppliers PRIMARY KEY,
    code varchar NOT NULL,
    name varchar NOT NULL,
    kind varchar NOT NULL,
    status varchar NOT NULL,
    accept_mode varchar NOT NULL,
    accept_sla_min integer NOT NULL,
    ship_sla_hours integer NOT NULL,
    feed_stale_after_min integer,
    tz varchar NOT NULL,
    settlement_days integer NOT NULL,
    created_at timestamptz NOT NULL,
    version integer NOT NULL,
    CONSTRAINT uq_suppliers_code UNIQUE (code),
    CONSTRAINT ck_suppliers_kind CHECK (kind IN ('dropship', 'own_warehouse', '3pl', 'aggregator')),
    CONSTRAINT ck_suppliers_status CHECK (status IN ('onboarding', 'active', 'paused', 'suspended', 'closed')),
    CONSTRAINT ck_suppliers_accept_mode CHECK (accept_mode IN ('auto', 'manual')),
    CONSTRAINT ck_suppliers_terms CHECK (
        accept_sla_min BETWEEN 1 AND 43200 AND ship_sla_hours BETWEEN 1 AND 2160
        AND settlement_days BETWEEN 0 AND 365 AND feed_stale_after_min > 0)
);
CALL protect_published_supply('suppliers', 'id');

CREATE TABLE locations (
    id uuid NOT NULL CONSTRAINT pk_locations PRIMARY KEY,
    supplier_id uuid NOT NULL CONSTRAINT fk_locations_supplier_id_suppliers REFERENCES suppliers,
    code varchar NOT NULL,
    name varchar NOT NULL,
    country varchar NOT NULL,
    region varchar,
    zone varchar NOT NULL,
    status varchar NOT NULL,
    handling_minor bigint NOT NULL,
    handling_hours integer NOT NULL,
    daily_capacity integer,
    accepts_returns boolean NOT NULL,
    currency char(3) NOT NULL,
    created_at timestamptz NOT NULL,
    version integer NOT NULL,
    CONSTRAINT uq_locations_supplier_id_code UNIQUE (supplier_id, code),
    CONSTRAINT ck_locations_status CHECK (status IN ('active', 'paused')),
    CONSTRAINT ck_locations_bounds CHECK (
        handling_minor >= 0 AND handling_hours BETWEEN 0 AND 2160 AND daily_capacity >= 0)
);
CALL protect_published_supply('locations', 'supplier_id');

CREATE TABLE brand_supplier_rules (
    brand_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    relation varchar NOT NULL,
    preference integer NOT NULL,
    valid_from timestamptz,
    valid_to timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_brand_supplier_rules PRIMARY KEY (brand_id, supplier_id),
    CONSTRAINT ck_brand_supplier_rules_relation CHECK (relation IN ('exclusive', 'authorised', 'forbidden')),
    CONSTRAINT ck_brand_supplier_rules_preference CHECK (preference BETWEEN -100 AND 100)
);
CALL protect_supply_rows('brand_supplier_rules');

CREATE TABLE supplier_offers (
    id uuid NOT NULL CONSTRAINT pk_supplier_offers PRIMARY KEY,
    supplier_id uuid NOT NULL CONSTRAINT fk_supplier_offers_supplier_id_suppliers REFERENCES suppliers,
    location_id uuid NOT NULL CONSTRAINT fk_supplier_offers_location_id_locations REFERENCES locations,
    variant_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    sku varchar NOT NULL,
    supplier_sku varchar,
    currency char(3) NOT NULL,
    moq integer NOT NULL,
    order_multiple integer NOT NULL,
    lead_time_hours integer NOT NULL,
    priority integer NOT NULL,
    valid_from timestamptz,
    valid_to timestamptz,
    price_version integer NOT NULL,
    status varchar NOT NULL,
    paused_until timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version integer NOT NULL,
    CONSTRAINT uq_supplier_offers_location_id_variant_id UNIQUE (location_id, variant_id),
    CONSTRAINT ck_supplier_offers_status CHECK (status IN ('active', 'paused', 'stale', 'ended')),
    CONSTRAINT ck_supplier_offers_bounds CHECK (
        moq >= 1 AND order_multiple >= 1 AND lead_time_hours BETWEEN 0 AND 8760 AND price_version >= 1)
);
CREATE INDEX ix_supplier_offers_variant_id ON supplier_offers (variant_id);
CREATE INDEX ix_supplier_offers_supplier_id_sku ON supplier_offers (supplier_id, sku);
CALL protect_supply_rows('supplier_offers');

-- What an offer costs, and since when: never changed, only followed by the next version.
CREATE TABLE offer_price_changes (
    offer_id uuid NOT NULL CONSTRAINT fk_offer_price_changes_offer_id_supplier_offers REFERENCES supplier_offers,
    price_version integer NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    unit_cost_minor bigint NOT NULL,
    currency char(3) NOT NULL,
    effective_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    recorded_by varchar NOT NULL,
    CONSTRAINT pk_offer_price_changes PRIMARY KEY (offer_id, price_version),
    CONSTRAINT ck_offer_price_changes_cost CHECK (unit_cost_minor >= 0)
);
CALL protect_supply_rows('offer_price_changes');
REVOKE UPDATE, DELETE ON offer_price_changes FROM lianyu_app;

CREATE TABLE zone_rates (
    id uuid NOT NULL CONSTRAINT pk_zone_rates PRIMARY KEY,
    location_id uuid NOT NULL CONSTRAINT fk_zone_rates_location_id_locations REFERENCES locations,
    supplier_id uuid NOT NULL,
    dest_zone varchar NOT NULL,
    service varchar NOT NULL,
    base_minor bigint NOT NULL,
    per_kg_minor bigint NOT NULL,
    per_item_minor bigint NOT NULL,
    currency char(3) NOT NULL,
    transit_p50_h integer NOT NULL,
    transit_p90_h integer NOT NULL,
    max_weight_g integer,
    created_at timestamptz NOT NULL,
    CONSTRAINT uq_zone_rates_location_id_dest_zone_service UNIQUE (location_id, dest_zone, service),
    CONSTRAINT ck_zone_rates_bounds CHECK (
        base_minor >= 0 AND per_kg_minor >= 0 AND per_item_minor >= 0 AND max_weight_g > 0
        AND transit_p50_h BETWEEN 0 AND transit_p90_h AND transit_p90_h <= 8760)
);
CALL protect_published_supply('zone_rates', 'supplier_id');

-- A cache of the two ledgers below. What the supplier physically has is on_hand - short: a count below what
-- is already promised cannot lower on_hand under reserved, the rest is kept as short and never sold.
CREATE TABLE stock_levels (
    location_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL,
    safety bigint NOT NULL,
    short bigint NOT NULL,
    source_as_of timestamptz,
    updated_at timestamptz NOT NULL,
    version integer NOT NULL,
    CONSTRAINT pk_stock_levels PRIMARY KEY (location_id, variant_id),
    CONSTRAINT ck_stock_levels_never_oversold CHECK (reserved >= 0 AND reserved <= on_hand),
    CONSTRAINT ck_stock_levels_short CHECK (short >= 0 AND short <= on_hand),
    CONSTRAINT ck_stock_levels_safety CHECK (safety >= 0)
) WITH (fillfactor = 80);
CREATE INDEX ix_stock_levels_variant_id ON stock_levels (variant_id);
CREATE INDEX ix_stock_levels_supplier_id_variant_id ON stock_levels (supplier_id, variant_id);
CALL protect_supply_rows('stock_levels');

CREATE TABLE stock_movements (
    id uuid NOT NULL CONSTRAINT pk_stock_movements PRIMARY KEY,
    location_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    kind varchar NOT NULL,
    delta bigint NOT NULL,
    source varchar NOT NULL,
    source_event_id varchar,
    as_of timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT uq_stock_movements_supplier_id_source_source_event_id UNIQUE (supplier_id, source, source_event_id),
    CONSTRAINT ck_stock_movements_kind CHECK (
        kind IN ('receipt', 'feed_set', 'adjust', 'ship', 'return_in', 'write_off'))
);
CREATE INDEX ix_stock_movements_location_id_variant_id_as_of ON stock_movements (location_id, variant_id, as_of);
CALL protect_supply_rows('stock_movements');
REVOKE UPDATE, DELETE ON stock_movements FROM lianyu_app;

CREATE TABLE reservations (
    id uuid NOT NULL CONSTRAINT pk_reservations PRIMARY KEY,
    reference uuid NOT NULL,
    line_id uuid NOT NULL,
    location_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    quantity bigint NOT NULL,
    consumed bigint NOT NULL,
    released bigint NOT NULL,
    state varchar NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT ck_reservations_state CHECK (state IN ('HELD', 'COMMITTED', 'CONSUMED', 'RELEASED')),
    CONSTRAINT ck_reservations_quantity CHECK (
        quantity > 0 AND consumed >= 0 AND released >= 0 AND consumed + released <= quantity),
    CONSTRAINT ck_reservations_closed CHECK (
        (state IN ('HELD', 'COMMITTED')) = (consumed + released < quantity))
);
CREATE INDEX ix_reservations_reference ON reservations (reference);
CREATE INDEX ix_reservations_line_id ON reservations (line_id);
CREATE INDEX ix_reservations_expiring ON reservations (expires_at) WHERE state = 'HELD';
CALL protect_supply_rows('reservations');

-- The ledger of promises: signed; the sum by location and variant is stock_levels.reserved.
CREATE TABLE reservation_entries (
    reservation_id uuid NOT NULL CONSTRAINT fk_reservation_entries_reservation_id_reservations REFERENCES reservations,
    kind varchar NOT NULL,
    cause varchar NOT NULL,
    location_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    quantity bigint NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT pk_reservation_entries PRIMARY KEY (reservation_id, kind, cause),
    CONSTRAINT ck_reservation_entries_sign CHECK (
        (kind = 'hold' AND quantity > 0) OR (kind = 'commit' AND quantity = 0)
        OR (kind IN ('release', 'consume') AND quantity < 0))
);
CREATE INDEX ix_reservation_entries_location_id_variant_id ON reservation_entries (location_id, variant_id);
CALL protect_supply_rows('reservation_entries');
REVOKE UPDATE, DELETE ON reservation_entries FROM lianyu_app;

-- The longest zone that serves a destination: a rate for "CN" serves every "CN-…".
CREATE FUNCTION zone_serves(rate_zone text, dest_zone text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN rate_zone = dest_zone OR starts_with(dest_zone, rate_zone || '-');

-- Nobody delivers a brand's goods unless the brand said so: an offer alone is an offer to the brand, or anyone
-- could undercut on any published SKU and take the orders. An exclusive supplier shuts out the others.
CREATE FUNCTION supplier_is_authorised(brand uuid, supplier uuid, at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (
        SELECT coalesce(bool_or(r.supplier_id = supplier AND r.relation IN ('authorised', 'exclusive')), false)
            AND NOT coalesce(bool_or(r.supplier_id <> supplier AND r.relation = 'exclusive'), false)
        FROM brand_supplier_rules r
        WHERE r.brand_id = brand AND (r.supplier_id = supplier OR r.relation = 'exclusive')
            AND (r.valid_from IS NULL OR r.valid_from <= at) AND (r.valid_to IS NULL OR r.valid_to > at)
    );

-- What a shop window may say about stock: one number per variant and destination, nobody's levels. Runs as
-- the owner because a storefront sees none of the rows behind it.
CREATE FUNCTION sellable_stock(variants uuid[], dest_zone text, at timestamptz)
    RETURNS TABLE (variant_id uuid, sellable bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT s.variant_id, sum(greatest(s.on_hand - s.short - s.reserved - s.safety, 0))::bigint
    FROM stock_levels s
    JOIN supplier_offers o ON o.location_id = s.location_id AND o.variant_id = s.variant_id
    JOIN locations l ON l.id = s.location_id
    JOIN suppliers p ON p.id = s.supplier_id
    WHERE s.variant_id = ANY (variants) AND p.status = 'active' AND l.status = 'active'
      AND o.status IN ('active', 'paused') AND (o.status = 'active' OR o.paused_until <= at)
      AND (o.valid_from IS NULL OR o.valid_from <= at) AND (o.valid_to IS NULL OR o.valid_to > at)
      AND (p.feed_stale_after_min IS NULL
           OR s.source_as_of >= at - make_interval(mins => p.feed_stale_after_min))
      AND supplier_is_authorised(o.brand_id, o.supplier_id, at)
      AND (dest_zone = '' OR EXISTS (
          SELECT FROM zone_rates z WHERE z.location_id = l.id AND zone_serves(z.dest_zone, sellable_stock.dest_zone)))
    GROUP BY s.variant_id
$$;

-- Holds stock for all the rows, or for none: ok is the same on every row returned. `rows` are reservations to
-- be: id, line_id, location_id, variant_id, quantity, and (where they differ) reference and cause. Locks levels by location and variant, so that two callers
-- cannot deadlock.
-- Locking and writing are two statements because an UPDATE that finds its row changed since its snapshot checks
-- the constraints against the old row first: it would refuse stock that was given back while it waited.
CREATE FUNCTION reserve_stock(
    rows jsonb, for_reference uuid, because varchar, until timestamptz, at timestamptz)
    RETURNS TABLE (location_id uuid, variant_id uuid, quantity bigint, free bigint, ok boolean)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    checked jsonb;
    fits boolean;
BEGIN
    WITH total AS (
        SELECT w.location_id, w.variant_id, sum(w.quantity)::bigint AS quantity
        FROM jsonb_to_recordset(rows) AS w(location_id uuid, variant_id uuid, quantity bigint) GROUP BY 1, 2
    ), locked AS (
        SELECT s.location_id, s.variant_id, s.on_hand - s.short - s.reserved - s.safety AS free
        FROM stock_levels s JOIN total t ON t.location_id = s.location_id AND t.variant_id = s.variant_id
        ORDER BY s.location_id, s.variant_id FOR UPDATE OF s
    )
    SELECT jsonb_agg(jsonb_build_object('location_id', t.location_id, 'variant_id', t.variant_id,
               'quantity', t.quantity, 'free', greatest(coalesce(k.free, 0), 0))
               ORDER BY t.location_id, t.variant_id),
           bool_and(coalesce(k.free, 0) >= t.quantity)
    INTO checked, fits
    FROM total t LEFT JOIN locked k ON k.location_id = t.location_id AND k.variant_id = t.variant_id;

    IF fits THEN
        UPDATE stock_levels s SET reserved = s.reserved + t.quantity, updated_at = at, version = s.version + 1
        FROM jsonb_to_recordset(checked) AS t(location_id uuid, variant_id uuid, quantity bigint)
        WHERE s.location_id = t.location_id AND s.variant_id = t.variant_id;

        WITH held AS (
            INSERT INTO reservations (id, reference, line_id, location_id, variant_id, supplier_id, brand_id,
                quantity, consumed, released, state, expires_at, created_at, updated_at)
            SELECT w.id, coalesce(w.reference, for_reference), w.line_id, w.location_id, w.variant_id, s.supplier_id, s.brand_id,
                w.quantity, 0, 0, 'HELD', until, at, at
            FROM jsonb_to_recordset(rows)
                AS w(id uuid, line_id uuid, location_id uuid, variant_id uuid, quantity bigint, reference uuid)
            JOIN stock_levels s ON s.location_id = w.location_id AND s.variant_id = w.variant_id
            RETURNING *
        )
        INSERT INTO reservation_entries (reservation_id, kind, cause, location_id, variant_id, supplier_id,
            brand_id, quantity, at)
        SELECT h.id, 'hold', coalesce(w.cause, because), h.location_id, h.variant_id, h.supplier_id,
            h.brand_id, h.quantity, at
        FROM held h JOIN jsonb_to_recordset(rows) AS w(id uuid, cause varchar) ON w.id = h.id;
    END IF;
    RETURN QUERY SELECT c.location_id, c.variant_id, c.quantity, c.free, fits
        FROM jsonb_to_recordset(checked) AS c(location_id uuid, variant_id uuid, quantity bigint, free bigint)
        ORDER BY 1, 2;
END $$;
