-- People and tokens of a tenant: its own members see them, a shopper behind its storefront never does.
ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_members ON memberships
    USING (tenant_id = (SELECT app_tenant()) AND (SELECT app_kind()) <> 'storefront'
           OR (SELECT app_sees_everything()));

ALTER TABLE api_tokens ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tokens ON api_tokens
    USING (tenant_id = (SELECT app_tenant()) AND (SELECT app_kind()) <> 'storefront'
           OR (SELECT app_sees_everything()));

-- A person may belong to several tenants: seen by each of them, written by the platform's sign-up alone.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY fellow_members ON users FOR SELECT USING (id IN (SELECT user_id FROM memberships));
CREATE POLICY platform_only ON users USING ((SELECT app_sees_everything()));

-- A profile that its brand made discoverable is read by everyone who is somebody.
ALTER TABLE brand_profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_profile ON brand_profiles
    USING (brand_id = (SELECT app_tenant()) AND (SELECT app_kind()) <> 'storefront'
           OR (SELECT app_sees_everything()));
CREATE POLICY discoverable ON brand_profiles FOR SELECT
    USING (discoverable AND (SELECT app_kind()) <> 'nobody');

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_row ON tenants
    USING (id = (SELECT app_tenant()) AND (SELECT app_kind()) <> 'storefront'
           OR (SELECT app_sees_everything()));
CREATE POLICY discoverable ON tenants FOR SELECT
    USING (status = 'active' AND id IN (SELECT brand_id FROM brand_profiles WHERE discoverable));

-- A storefront reads its brand's storefronts, and changes none.
ALTER TABLE storefronts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON storefronts
    USING (brand_id = (SELECT app_tenant()) OR (SELECT app_sees_everything()))
    WITH CHECK (brand_id = (SELECT app_tenant()) AND (SELECT app_kind()) = 'brand'
                OR (SELECT app_sees_everything()));

-- Authentication runs before anybody is known. These two answer only to the exact secret, so the
-- application's role needs no policy that reads every tenant's rows.
CREATE FUNCTION token_by_hash(wanted bytea)
    RETURNS TABLE (id uuid, tenant_id uuid, user_id uuid, kind text, status text, scopes text[],
                   expires_at timestamptz, revoked_at timestamptz, last_used_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT a.id, a.tenant_id, a.user_id, t.kind, t.status, a.scopes, a.expires_at, a.revoked_at, a.last_used_at
    FROM api_tokens a JOIN tenants t ON t.id = a.tenant_id
    WHERE a.token_hash = wanted
$$;

CREATE FUNCTION storefront_by_key(wanted text)
    RETURNS TABLE (id uuid, brand_id uuid, name text, currency text, country text, locale text, channel text,
                   status text, brand_status text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT s.id, s.brand_id, s.name, s.currency::text, s.country::text, s.locale, s.channel, s.status, t.status
    FROM storefronts s JOIN tenants t ON t.id = s.brand_id
    WHERE s.publishable_key = wanted
$$;

-- Names of counterparties, for whoever already holds the id: nothing can be listed with it.
CREATE FUNCTION tenant_names(wanted uuid[]) RETURNS TABLE (id uuid, kind text, name text, slug text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT t.id, t.kind, t.name, t.slug FROM tenants t
    WHERE t.id = ANY(wanted) AND app_kind() <> 'nobody'
$$;
