-- A routing run keeps its whole input: the same input, policy and code give the same choice again.
CREATE TABLE routing_runs (
    id uuid NOT NULL CONSTRAINT pk_routing_runs PRIMARY KEY,
    order_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    mode varchar NOT NULL,
    previous_run_id uuid,
    policy_version integer NOT NULL,
    algorithm varchar NOT NULL,
    code_version varchar NOT NULL,
    input jsonb NOT NULL,
    input_hash varchar NOT NULL,
    currency char(3) NOT NULL,
    cost_minor bigint NOT NULL,
    lower_bound_minor bigint,
    cheapest_per_line_minor bigint,
    duration_us bigint NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT ck_routing_runs_mode CHECK (mode IN ('checkout', 'reroute', 'batch', 'what_if'))
);
CREATE INDEX ix_routing_runs_order_id ON routing_runs (order_id, created_at);
CALL protect_tenant_rows('routing_runs'::regclass, 'brand_id');

CREATE TABLE routing_candidates (
    run_id uuid NOT NULL CONSTRAINT fk_routing_candidates_run_id_routing_runs REFERENCES routing_runs,
    line_id uuid NOT NULL,
    location_id uuid NOT NULL,
    piece integer NOT NULL,
    quantity bigint NOT NULL,
    offer_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    eligible boolean NOT NULL,
    reject_code varchar,
    cost jsonb,
    chosen boolean NOT NULL,
    CONSTRAINT pk_routing_candidates PRIMARY KEY (run_id, line_id, location_id, piece),
    CONSTRAINT ck_routing_candidates_reason CHECK (eligible = (reject_code IS NULL) AND (eligible OR NOT chosen))
);
CALL protect_tenant_rows('routing_candidates'::regclass, 'brand_id');

CREATE TABLE routing_decisions (
    run_id uuid NOT NULL CONSTRAINT fk_routing_decisions_run_id_routing_runs REFERENCES routing_runs,
    line_id uuid NOT NULL,
    piece integer NOT NULL,
    brand_id uuid NOT NULL,
    quantity bigint NOT NULL,
    offer_id uuid,
    supplier_id uuid,
    location_id uuid,
    cost jsonb,
    runner_up_location_id uuid,
    margin_minor bigint NOT NULL,
    CONSTRAINT pk_routing_decisions PRIMARY KEY (run_id, line_id, piece)
);
CALL protect_tenant_rows('routing_decisions'::regclass, 'brand_id');

CREATE TABLE fulfillment_orders (
    id uuid NOT NULL CONSTRAINT pk_fulfillment_orders PRIMARY KEY,
    order_id uuid NOT NULL,
    reference uuid NOT NULL,
    brand_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    location_id uuid NOT NULL,
    parent_id uuid CONSTRAINT fk_fulfillment_orders_parent_id_fulfillment_orders REFERENCES fulfillment_orders,
    attempt_no integer NOT NULL,
    status varchar NOT NULL,
    request_status varchar NOT NULL,
    held_status varchar,
    hold_reason varchar,
    reason varchar,
    ship_by timestamptz,
    deliver_by timestamptz,
    address jsonb NOT NULL,
    dest_zone varchar NOT NULL,
    currency char(3) NOT NULL,
    freight_minor bigint NOT NULL,
    quirks varchar[] NOT NULL,
    submitted_at timestamptz,
    accepted_at timestamptz,
    shipped_at timestamptz,
    delivered_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version integer NOT NULL,
    CONSTRAINT ck_fulfillment_orders_status CHECK (status IN (
        'SCHEDULED', 'OPEN', 'IN_PROGRESS', 'ON_HOLD', 'PARTIALLY_SHIPPED', 'SHIPPED', 'DELIVERED',
        'INCOMPLETE', 'EXCEPTION', 'CANCELLED', 'CLOSED')),
    CONSTRAINT ck_fulfillment_orders_request CHECK (request_status IN (
        'UNSUBMITTED', 'SUBMITTED', 'ACCEPTED', 'REJECTED', 'CANCELLATION_REQUESTED', 'CANCELLED', 'CLOSED')),
    CONSTRAINT ck_fulfillment_orders_hold CHECK ((status = 'ON_HOLD') = (held_status IS NOT NULL)),
    CONSTRAINT ck_fulfillment_orders_money CHECK (freight_minor >= 0 AND attempt_no >= 1)
);
CREATE INDEX ix_fulfillment_orders_order_id ON fulfillment_orders (order_id);
CREATE INDEX ix_fulfillment_orders_supplier_id ON fulfillment_orders (supplier_id, updated_at, id);
CREATE INDEX ix_fulfillment_orders_location_id ON fulfillment_orders (location_id, submitted_at);
CALL protect_supply_rows('fulfillment_orders');

CREATE TABLE fulfillment_lines (
    id uuid NOT NULL CONSTRAINT pk_fulfillment_lines PRIMARY KEY,
    fulfillment_order_id uuid NOT NULL
        CONSTRAINT fk_fulfillment_lines_fulfillment_order_id_fulfillment_orders REFERENCES fulfillment_orders,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    order_line_id uuid NOT NULL,
    variant_id uuid NOT NULL,
    sku varchar NOT NULL,
    title varchar NOT NULL,
    weight_g bigint NOT NULL,
    quantity bigint NOT NULL,
    accepted bigint NOT NULL,
    rejected bigint NOT NULL,
    cancelled bigint NOT NULL,
    shipped bigint NOT NULL,
    delivered bigint NOT NULL,
    returned bigint NOT NULL,
    unit_cost_minor bigint NOT NULL,
    price_version integer NOT NULL,
    reservation_id uuid,
    CONSTRAINT ck_fulfillment_lines_counters CHECK (
        quantity > 0 AND accepted >= 0 AND rejected >= 0 AND cancelled >= 0 AND shipped >= 0
        AND delivered >= 0 AND returned >= 0 AND unit_cost_minor >= 0
        AND shipped + cancelled + rejected <= quantity AND shipped <= accepted
        AND delivered <= shipped AND returned <= delivered)
);
CREATE INDEX ix_fulfillment_lines_fulfillment_order_id ON fulfillment_lines (fulfillment_order_id);
CREATE INDEX ix_fulfillment_lines_order_line_id ON fulfillment_lines (order_line_id);
CALL protect_supply_rows('fulfillment_lines');

CREATE TABLE fo_events (
    id uuid NOT NULL CONSTRAINT pk_fo_events PRIMARY KEY,
    fulfillment_order_id uuid NOT NULL
        CONSTRAINT fk_fo_events_fulfillment_order_id_fulfillment_orders REFERENCES fulfillment_orders,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    event varchar NOT NULL,
    from_status varchar,
    to_status varchar NOT NULL,
    from_request varchar,
    to_request varchar NOT NULL,
    actor varchar NOT NULL,
    detail jsonb NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX ix_fo_events_fulfillment_order_id ON fo_events (fulfillment_order_id, id);
CALL protect_supply_rows('fo_events');
REVOKE UPDATE, DELETE ON fo_events FROM lianyu_app;

CREATE TABLE sla_clocks (
    fulfillment_order_id uuid NOT NULL
        CONSTRAINT fk_sla_clocks_fulfillment_order_id_fulfillment_orders REFERENCES fulfillment_orders,
    kind varchar NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    state varchar NOT NULL,
    started_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    paused_at timestamptz,
    paused_ms bigint NOT NULL,
    ended_at timestamptz,
    CONSTRAINT pk_sla_clocks PRIMARY KEY (fulfillment_order_id, kind),
    CONSTRAINT ck_sla_clocks_kind CHECK (kind IN ('ack', 'ship', 'first_scan', 'deliver', 'cancel')),
    CONSTRAINT ck_sla_clocks_state CHECK (state IN ('running', 'paused', 'met', 'breached', 'stopped'))
);
CREATE INDEX ix_sla_clocks_due ON sla_clocks (due_at) WHERE state = 'running';
CALL protect_supply_rows('sla_clocks');

CREATE TABLE shipments (
    id uuid NOT NULL CONSTRAINT pk_shipments PRIMARY KEY,
    fulfillment_order_id uuid NOT NULL
        CONSTRAINT fk_shipments_fulfillment_order_id_fulfillment_orders REFERENCES fulfillment_orders,
    order_id uuid NOT NULL,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    carrier varchar NOT NULL,
    tracking_no varchar NOT NULL,
    status varchar NOT NULL,
    status_at timestamptz NOT NULL,
    handed_over_at timestamptz NOT NULL,
    delivered_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT ck_shipments_status CHECK (status IN (
        'LABELLED', 'INFO_RECEIVED', 'IN_TRANSIT', 'OUT_FOR_DELIVERY', 'DELIVERED', 'ATTEMPT_FAILED',
        'AVAILABLE_FOR_PICKUP', 'EXCEPTION', 'EXPIRED', 'RETURNED'))
);
CREATE INDEX ix_shipments_fulfillment_order_id ON shipments (fulfillment_order_id);
CREATE INDEX ix_shipments_carrier_tracking_no ON shipments (carrier, tracking_no);
CALL protect_supply_rows('shipments');

-- Whether a carrier's number was used since a time, by anybody; the lock makes two who ask take turns. Runs as
-- the owner because a supplier sees only its own shipments.
CREATE FUNCTION tracking_number_used(of_carrier varchar, number varchar, since timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(of_carrier || '/' || number, 0));
    RETURN EXISTS (SELECT FROM shipments s
        WHERE s.carrier = of_carrier AND s.tracking_no = number AND s.created_at >= since);
END $$;

CREATE TABLE shipment_lines (
    shipment_id uuid NOT NULL CONSTRAINT fk_shipment_lines_shipment_id_shipments REFERENCES shipments,
    fulfillment_line_id uuid NOT NULL
        CONSTRAINT fk_shipment_lines_fulfillment_line_id_fulfillment_lines REFERENCES fulfillment_lines,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    quantity bigint NOT NULL,
    CONSTRAINT pk_shipment_lines PRIMARY KEY (shipment_id, fulfillment_line_id),
    CONSTRAINT ck_shipment_lines_quantity CHECK (quantity > 0)
);
CALL protect_supply_rows('shipment_lines');

CREATE TABLE tracking_events (
    id uuid NOT NULL CONSTRAINT pk_tracking_events PRIMARY KEY,
    shipment_id uuid NOT NULL CONSTRAINT fk_tracking_events_shipment_id_shipments REFERENCES shipments,
    supplier_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    event_id varchar NOT NULL,
    status varchar NOT NULL,
    carrier_time timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    correction boolean NOT NULL,
    raw varchar,
    CONSTRAINT uq_tracking_events_shipment_id_event_id UNIQUE (shipment_id, event_id)
);
CALL protect_supply_rows('tracking_events');
REVOKE UPDATE, DELETE ON tracking_events FROM lianyu_app;

CREATE TABLE webhook_endpoints (
    id uuid NOT NULL CONSTRAINT pk_webhook_endpoints PRIMARY KEY,
    supplier_id uuid NOT NULL,
    url varchar NOT NULL,
    events varchar[] NOT NULL,
    status varchar NOT NULL,
    disabled_reason varchar,
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_until timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version integer NOT NULL,
    CONSTRAINT ck_webhook_endpoints_status CHECK (status IN ('active', 'disabled'))
);
CREATE INDEX ix_webhook_endpoints_supplier_id ON webhook_endpoints (supplier_id);
CALL protect_tenant_rows('webhook_endpoints'::regclass, 'supplier_id');

CREATE TABLE webhook_deliveries (
    id uuid NOT NULL CONSTRAINT pk_webhook_deliveries PRIMARY KEY,
    endpoint_id uuid NOT NULL CONSTRAINT fk_webhook_deliveries_endpoint_id_webhook_endpoints
        REFERENCES webhook_endpoints ON DELETE CASCADE,
    supplier_id uuid NOT NULL,
    message_key varchar NOT NULL,
    event_type varchar NOT NULL,
    payload varchar NOT NULL,
    state varchar NOT NULL,
    attempts integer NOT NULL,
    next_attempt_at timestamptz,
    last_status integer,
    last_error varchar,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT uq_webhook_deliveries_endpoint_id_message_key UNIQUE (endpoint_id, message_key),
    CONSTRAINT ck_webhook_deliveries_state CHECK (state IN ('pending', 'delivered', 'failed'))
);
CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (next_attempt_at) WHERE state = 'pending';
CREATE INDEX ix_webhook_deliveries_supplier_id ON webhook_deliveries (supplier_id, id);
CALL protect_tenant_rows('webhook_deliveries'::regclass, 'supplier_id');
