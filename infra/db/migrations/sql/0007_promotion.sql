-- Rows that two brands share: the one that pays and the one whose community sells.
CREATE PROCEDURE protect_shared_rows(target regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY both_parties ON %s USING (advertiser_id = (SELECT app_tenant())'
        ' OR promoter_brand_id = (SELECT app_tenant()) OR (SELECT app_sees_everything()))', target);
END $$;

-- Rows that belong to a shared row: visible with it.
CREATE PROCEDURE protect_rows_of(target regclass, parent regclass, parent_column name) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY with_their_parent ON %s USING ((SELECT app_sees_everything())'
        ' OR EXISTS (SELECT 1 FROM %s parent WHERE parent.id = %I))', target, parent, parent_column);
END $$;

CALL protect_shared_rows('invitations');
CALL protect_shared_rows('agreements');
CALL protect_shared_rows('tracked_links');
CALL protect_shared_rows('touches');
CALL protect_shared_rows('commission_lines');
CALL protect_tenant_rows('promoters', 'brand_id');
CALL protect_rows_of('agreement_versions', 'agreements', 'agreement_id');
CALL protect_rows_of('agreement_signatures', 'agreements', 'agreement_id');
CALL protect_rows_of('agreement_status_log', 'agreements', 'agreement_id');
CALL protect_rows_of('commission_shares', 'commission_lines', 'commission_line_id');
CALL protect_rows_of('commission_reversals', 'commission_lines', 'commission_line_id');

-- Everyone whose touch was judged may recompute the decision.
ALTER TABLE attribution_decisions ENABLE ROW LEVEL SECURITY;
CREATE POLICY parties ON attribution_decisions USING (advertiser_id = (SELECT app_tenant())
    OR (SELECT app_tenant()) = ANY (promoter_brand_ids) OR (SELECT app_sees_everything()));

-- The brand that pays may see which communities and slots of its partner it pays for; never who is in them.
CREATE POLICY partners_read ON communities FOR SELECT USING (EXISTS (
    SELECT 1 FROM agreements a WHERE a.promoter_brand_id = communities.brand_id
    AND a.advertiser_id = (SELECT app_tenant()) AND a.status IN ('ACTIVE', 'PAUSED')));
CREATE POLICY partners_read ON placements FOR SELECT USING (EXISTS (
    SELECT 1 FROM agreements a WHERE a.promoter_brand_id = placements.brand_id
    AND a.advertiser_id = (SELECT app_tenant()) AND a.status IN ('ACTIVE', 'PAUSED')));

-- What two brands signed, and what was decided about their money, is never rewritten.
CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agreement_signatures
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agreement_status_log
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON attribution_decisions
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON commission_reversals
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();

-- A version changes once at most: from proposed to in force, or to withdrawn.
CREATE FUNCTION keep_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.in_force_from IS NULL AND OLD.withdrawn_at IS NULL
        AND num_nonnulls(NEW.in_force_from, NEW.withdrawn_at) = 1
        AND (to_jsonb(OLD) - 'in_force_from' - 'withdrawn_at') = (to_jsonb(NEW) - 'in_force_from' - 'withdrawn_at')
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a version of an agreement is immutable' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON agreement_versions
    FOR EACH ROW EXECUTE FUNCTION keep_version();

-- The edge asks for links above the last number it saw.
CREATE SEQUENCE link_revision;
ALTER TABLE tracked_links ALTER COLUMN revision SET DEFAULT nextval('link_revision');
GRANT USAGE ON SEQUENCE link_revision TO lianyu_app;
