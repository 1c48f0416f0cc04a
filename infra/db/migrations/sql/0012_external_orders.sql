-- One row per order of an outside storefront, under the name it has there: a second delivery finds it.
CREATE TABLE external_orders (
    source varchar NOT NULL,
    reference varchar NOT NULL,
    order_id uuid NOT NULL,
    brand_id uuid NOT NULL,
    status varchar NOT NULL,
    placed_at timestamptz NOT NULL,
    approved_at timestamptz,
    handed_over_at timestamptz,
    delivered_at timestamptz,
    promised_at timestamptz,
    quirks varchar[] NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT pk_external_orders PRIMARY KEY (source, reference),
    CONSTRAINT uq_external_orders_order_id UNIQUE (order_id),
    CONSTRAINT fk_external_orders_order_id_orders FOREIGN KEY (order_id) REFERENCES orders (id)
);
CALL protect_tenant_rows('external_orders', 'brand_id');

CREATE TABLE external_payments (
    source varchar NOT NULL,
    reference varchar NOT NULL,
    sequence integer NOT NULL,
    brand_id uuid NOT NULL,
    kind varchar NOT NULL,
    instalments integer NOT NULL,
    amount_minor bigint NOT NULL,
    currency char(3) NOT NULL,
    CONSTRAINT pk_external_payments PRIMARY KEY (source, reference, sequence),
    CONSTRAINT ck_external_payments_amount CHECK (amount_minor >= 0)
);
CALL protect_tenant_rows('external_payments', 'brand_id');
