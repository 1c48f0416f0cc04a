-- Refunds on sharing rails are composed (supply/settlement/rails/composing.py): the split of each order is kept, and
-- what each refund changed in it. A payee sees the currency of what is told for it.

-- No order was paid on such a rail before this.
ALTER TABLE rail_orders ADD COLUMN split JSONB NOT NULL DEFAULT '{"refunded_minor": 0, "lines": []}';
ALTER TABLE rail_orders ALTER COLUMN split DROP DEFAULT;
ALTER TABLE rail_refunds ADD COLUMN request_hash VARCHAR, ADD COLUMN changes JSONB;
ALTER TABLE rail_instructions ADD COLUMN currency CHAR(3);
UPDATE rail_instructions i SET currency = o.currency FROM rail_orders o WHERE o.order_id = i.order_id;
ALTER TABLE rail_instructions ALTER COLUMN currency SET NOT NULL;
