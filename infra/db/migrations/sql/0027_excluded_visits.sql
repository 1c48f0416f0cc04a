-- Visits that fraud keeps from earning, beside those that are counted (marketplace/insights/counting.py).
ALTER TABLE link_performance ADD COLUMN excluded_visits INTEGER NOT NULL DEFAULT 0;

ALTER TABLE excluded_touches ADD COLUMN txid XID8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX ix_excluded_touches_txid ON excluded_touches (txid);
CREATE TRIGGER note_change BEFORE UPDATE ON excluded_touches FOR EACH ROW EXECUTE FUNCTION note_change();

ALTER TABLE performance_counted DROP CONSTRAINT ck_performance_counted_known_source;
ALTER TABLE performance_counted ADD CONSTRAINT ck_performance_counted_known_source
    CHECK (source IN ('touches', 'sales', 'exclusions'));
INSERT INTO performance_counted (source, seen) VALUES ('exclusions', '3:3:');
