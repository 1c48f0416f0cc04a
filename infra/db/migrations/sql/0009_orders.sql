CREATE TABLE carts (
    id UUID NOT NULL,
    storefront_id UUID NOT NULL,
    brand_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    country VARCHAR NOT NULL,
    touch_tokens VARCHAR[] NOT NULL,
    session_key VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_carts PRIMARY KEY (id),
    CONSTRAINT ck_carts_status CHECK (status IN ('open', 'ordered'))
);

CREATE INDEX ix_carts_brand_id_id ON carts (brand_id, id);

CREATE TABLE cart_lines (
    id UUID NOT NULL,
    cart_id UUID NOT NULL,
    brand_id UUID NOT NULL,
    variant_id UUID NOT NULL,
    quantity INTEGER NOT NULL,
    quoted_minor BIGINT NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_cart_lines PRIMARY KEY (id),
    CONSTRAINT uq_cart_lines_cart_id_variant_id UNIQUE (cart_id, variant_id),
    CONSTRAINT ck_cart_lines_quantity CHECK (quantity BETWEEN 1 AND 9999),
    CONSTRAINT fk_cart_lines_cart_id_carts FOREIGN KEY(cart_id) REFERENCES carts (id)
);

CREATE TABLE checkouts (
    id UUID NOT NULL,
    cart_id UUID NOT NULL,
    storefront_id UUID NOT NULL,
    brand_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    contact_id UUID,
    buyer_key BYTEA NOT NULL,
    address JSONB NOT NULL,
    address_key BYTEA NOT NULL,
    dest_zone VARCHAR NOT NULL,
    email VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    goods_minor BIGINT NOT NULL,
    shipping_minor BIGINT NOT NULL,
    tax_minor BIGINT NOT NULL,
    total_minor BIGINT NOT NULL,
    routing_run_id UUID,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    placed_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    paid_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_checkouts PRIMARY KEY (id),
    CONSTRAINT ck_checkouts_status CHECK (status IN ('open', 'placed', 'paid', 'expired', 'cancelled')),
    CONSTRAINT fk_checkouts_cart_id_carts FOREIGN KEY(cart_id) REFERENCES carts (id)
);

CREATE INDEX ix_checkouts_brand_id_id ON checkouts (brand_id, id);

CREATE INDEX ix_checkouts_placed ON checkouts (expires_at) WHERE status = 'placed';

CREATE TABLE orders (
    id UUID NOT NULL,
    number VARCHAR NOT NULL,
    checkout_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    seller_id UUID NOT NULL,
    storefront_id UUID NOT NULL,
    buyer_key BYTEA NOT NULL,
    currency CHAR(3) NOT NULL,
    goods_minor BIGINT NOT NULL,
    shipping_minor BIGINT NOT NULL,
    tax_minor BIGINT NOT NULL,
    total_minor BIGINT NOT NULL,
    refunded_minor BIGINT NOT NULL,
    payment_status VARCHAR NOT NULL,
    fulfillment_status VARCHAR NOT NULL,
    country VARCHAR NOT NULL,
    placed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    paid_at TIMESTAMP WITH TIME ZONE,
    delivered_at TIMESTAMP WITH TIME ZONE,
    version INTEGER NOT NULL,
    CONSTRAINT pk_orders PRIMARY KEY (id),
    CONSTRAINT ck_orders_payment_status CHECK (payment_status IN ('pending', 'paid', 'partially_refunded', 'refunded', 'voided')),
    CONSTRAINT ck_orders_fulfillment_status CHECK (fulfillment_status IN ('unfulfilled', 'in_progress', 'shipped', 'delivered', 'on_hold', 'cancelled')),
    CONSTRAINT uq_orders_number UNIQUE (number),
    CONSTRAINT fk_orders_checkout_id_checkouts FOREIGN KEY(checkout_id) REFERENCES checkouts (id)
);

CREATE INDEX ix_orders_checkout_id ON orders (checkout_id);

CREATE INDEX ix_orders_merchant_id_id ON orders (merchant_id, id);

CREATE INDEX ix_orders_seller_id_id ON orders (seller_id, id);

CREATE TABLE order_lines (
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    seller_id UUID NOT NULL,
    variant_id UUID NOT NULL,
    product_id UUID NOT NULL,
    sku VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    category VARCHAR NOT NULL,
    quantity INTEGER NOT NULL,
    unit_price_minor BIGINT NOT NULL,
    gross_minor BIGINT NOT NULL,
    discount_minor BIGINT NOT NULL,
    tax_minor BIGINT NOT NULL,
    tax_ppm INTEGER NOT NULL,
    tax_included BOOLEAN NOT NULL,
    shipping_minor BIGINT NOT NULL,
    shipping_tax_minor BIGINT NOT NULL,
    platform_fee_ppm INTEGER NOT NULL,
    supplier_id UUID NOT NULL,
    location_id UUID NOT NULL,
    supplier_cost_minor BIGINT NOT NULL,
    refunded_quantity INTEGER NOT NULL,
    refunded_shipping_minor BIGINT NOT NULL,
    CONSTRAINT pk_order_lines PRIMARY KEY (id),
    CONSTRAINT ck_order_lines_quantity CHECK (quantity > 0 AND refunded_quantity BETWEEN 0 AND quantity),
    CONSTRAINT fk_order_lines_order_id_orders FOREIGN KEY(order_id) REFERENCES orders (id)
);

CREATE INDEX ix_order_lines_order_id ON order_lines (order_id);

CREATE TABLE payments (
    id UUID NOT NULL,
    checkout_id UUID NOT NULL,
    brand_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    intent_id VARCHAR,
    client_secret VARCHAR,
    charge_id VARCHAR,
    instrument_key VARCHAR,
    status VARCHAR NOT NULL,
    captured_minor BIGINT NOT NULL,
    refunded_minor BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    captured_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_payments PRIMARY KEY (id),
    CONSTRAINT ck_payments_status CHECK (status IN ('pending', 'paid', 'partially_refunded', 'refunded', 'voided')),
    CONSTRAINT uq_payments_checkout_id UNIQUE (checkout_id),
    CONSTRAINT uq_payments_intent_id UNIQUE (intent_id),
    CONSTRAINT ck_payments_refunded CHECK (refunded_minor BETWEEN 0 AND captured_minor),
    CONSTRAINT fk_payments_checkout_id_checkouts FOREIGN KEY(checkout_id) REFERENCES checkouts (id)
);

CREATE TABLE refunds (
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    payment_id UUID NOT NULL,
    merchant_id UUID NOT NULL,
    currency CHAR(3) NOT NULL,
    amount_minor BIGINT NOT NULL,
    reason VARCHAR NOT NULL,
    lines JSONB NOT NULL,
    status VARCHAR NOT NULL,
    provider_id VARCHAR,
    failure VARCHAR,
    requested_by VARCHAR NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_refunds PRIMARY KEY (id),
    CONSTRAINT ck_refunds_status CHECK (status IN ('pending', 'succeeded', 'failed')),
    CONSTRAINT ck_refunds_amount CHECK (amount_minor > 0),
    CONSTRAINT fk_refunds_order_id_orders FOREIGN KEY(order_id) REFERENCES orders (id),
    CONSTRAINT fk_refunds_payment_id_payments FOREIGN KEY(payment_id) REFERENCES payments (id)
);

CREATE INDEX ix_refunds_order_id ON refunds (order_id);

CREATE INDEX ix_refunds_pending ON refunds (created_at) WHERE status = 'pending';

CREATE TABLE provider_events (
    id VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    type VARCHAR NOT NULL,
    object_id VARCHAR NOT NULL,
    body JSONB NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_provider_events PRIMARY KEY (id)
);

CALL protect_tenant_rows('carts', 'brand_id');
CALL protect_tenant_rows('cart_lines', 'brand_id');
CALL protect_tenant_rows('checkouts', 'brand_id');
CALL protect_tenant_rows('payments', 'brand_id');
CALL protect_tenant_rows('refunds', 'merchant_id');
CALL protect_platform_rows('provider_events');

-- An order concerns the merchant who is paid and the brand whose storefront sold it.
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY party_rows ON orders USING (
    merchant_id = (SELECT app_tenant()) OR seller_id = (SELECT app_tenant()) OR (SELECT app_sees_everything())
);
ALTER TABLE order_lines ENABLE ROW LEVEL SECURITY;
CREATE POLICY party_rows ON order_lines USING (
    merchant_id = (SELECT app_tenant()) OR seller_id = (SELECT app_tenant()) OR (SELECT app_sees_everything())
);
