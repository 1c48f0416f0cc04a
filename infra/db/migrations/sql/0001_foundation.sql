-- Who acts is told by the application at the start of every transaction (infra/db/session.py).
CREATE FUNCTION app_kind() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(nullif(current_setting('lianyu.kind', true), ''), 'nobody');

CREATE FUNCTION app_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('lianyu.tenant', true), '')::uuid;

-- True for the platform's own work. Policies call these as (SELECT …): once per statement, not per row.
CREATE FUNCTION app_sees_everything() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    RETURN app_kind() IN ('system', 'platform');

-- Rows of one tenant: the owner and the platform see and write them, nobody else.
CREATE PROCEDURE protect_tenant_rows(target regclass, tenant_column name DEFAULT 'tenant_id') LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY own_rows ON %s USING (%I = (SELECT app_tenant()) OR (SELECT app_sees_everything()))',
        target, tenant_column);
END $$;

-- Rows of the platform alone.
CREATE PROCEDURE protect_platform_rows(target regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('CREATE POLICY platform_only ON %s USING ((SELECT app_sees_everything()))', target);
END $$;

-- The application's role: reads and writes rows, owns nothing, bypasses nothing.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lianyu_app') THEN
        CREATE ROLE lianyu_app NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database of this server made it at the same moment
END $$;

GRANT USAGE ON SCHEMA public TO lianyu_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO lianyu_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO lianyu_app;
REVOKE EXECUTE ON ALL PROCEDURES IN SCHEMA public FROM PUBLIC;
