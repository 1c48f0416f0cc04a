-- A variant and its prices are on view exactly while their product is: kept here, so that no writer can
-- forget it and no policy has to look up the product for every row.
CREATE FUNCTION list_with_product() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE variants SET listed = (NEW.status = 'published') WHERE product_id = NEW.id;
    -- An array is looked up in the index under any plan: this runs once for every product of an import.
    UPDATE prices SET listed = (NEW.status = 'published')
        WHERE variant_id = ANY (ARRAY(SELECT id FROM variants WHERE product_id = NEW.id));
    RETURN NULL;
END $$;
CREATE TRIGGER list_with_product AFTER UPDATE OF status ON products
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION list_with_product();

CREATE FUNCTION list_new_variant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT status = 'published', brand_id INTO NEW.listed, NEW.brand_id FROM products WHERE id = NEW.product_id;
    RETURN NEW;
END $$;
CREATE TRIGGER list_new_variant BEFORE INSERT ON variants FOR EACH ROW EXECUTE FUNCTION list_new_variant();

CREATE FUNCTION list_new_price() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT listed, brand_id INTO NEW.listed, NEW.brand_id FROM variants WHERE id = NEW.variant_id;
    RETURN NEW;
END $$;
CREATE TRIGGER list_new_price BEFORE INSERT ON prices FOR EACH ROW EXECUTE FUNCTION list_new_price();

-- The brand's own rows are its members' to read and write. A shopper behind its storefront sees what
-- everybody sees: what is published.
ALTER TABLE products ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON products
    USING (brand_id = (SELECT app_tenant()) AND (SELECT app_kind()) = 'brand' OR (SELECT app_sees_everything()));
CREATE POLICY published ON products FOR SELECT
    USING (status = 'published' AND (SELECT app_kind()) <> 'nobody');

ALTER TABLE variants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON variants
    USING (brand_id = (SELECT app_tenant()) AND (SELECT app_kind()) = 'brand' OR (SELECT app_sees_everything()));
CREATE POLICY published ON variants FOR SELECT
    USING (listed AND (SELECT app_kind()) <> 'nobody');

ALTER TABLE prices ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON prices
    USING (brand_id = (SELECT app_tenant()) AND (SELECT app_kind()) = 'brand' OR (SELECT app_sees_everything()));
CREATE POLICY published ON prices FOR SELECT
    USING (listed AND (SELECT app_kind()) <> 'nobody');

CALL protect_tenant_rows('imports'::regclass, 'brand_id');
CALL protect_tenant_rows('import_errors'::regclass, 'brand_id');

ALTER TABLE tax_rates ENABLE ROW LEVEL SECURITY;
CREATE POLICY known_to_all ON tax_rates FOR SELECT USING (true);
CREATE POLICY platform_only ON tax_rates USING ((SELECT app_sees_everything()));

-- Standard and reduced rates of consumption taxes on goods; a country without a row is sold to untaxed.
-- The longest category prefix wins. United States: sales tax is a matter of states, so none by default.
INSERT INTO tax_rates (country, category_prefix, rate_ppm, included) VALUES
    ('AU', '', 100000, true),
    ('CA', '', 50000, false),
    ('CN', '', 130000, true),
    ('CN', 'books', 90000, true),
    ('CN', 'food/grain', 90000, true),
    ('CN', 'food/oil', 90000, true),
    ('DE', '', 190000, true),
    ('DE', 'books', 70000, true),
    ('DE', 'food', 70000, true),
    ('FR', '', 200000, true),
    ('GB', '', 200000, true),
    ('GB', 'books', 0, true),
    ('HK', '', 0, true),
    ('JP', '', 100000, true),
    ('JP', 'food', 80000, true),
    ('KR', '', 100000, true),
    ('MO', '', 0, true),
    ('SG', '', 90000, true),
    ('TH', '', 70000, true),
    ('TW', '', 50000, true),
    ('US', '', 0, false);
