"""The statements of an import over ``stage`` (a row per variant of the file) and ``stage_products``.

Both are analysed and indexed; the tables they meet were perhaps small when those were last analysed, and only
their owner may do that again. So every join is on a unique column of the staged side, and whichever side the
planner walks, it finds the other by an index: none walks one table once for every row of the other.
"""

from __future__ import annotations

from sqlalchemy import text

TEXTS = ("title_zh", "title_en", "description_zh", "description_en", "category")
COLUMNS = (
    "number", "product_id", "variant_id", "handle", "sku", *TEXTS, "tags", "media", "attributes", "options",
    "gtin", "variant_title", "weight_g", "status", "prices",
)  # fmt: skip

CREATE_STAGE = text("""
    CREATE TEMP TABLE stage (
        number integer, product_id uuid, variant_id uuid, handle text, sku text, title_zh text, title_en text,
        description_zh text, description_en text, category text, tags text[], media text, attributes text,
        options text, gtin text, variant_title text, weight_g integer, status text, prices text
    ) ON COMMIT DROP
""")
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:brand, 4207))")
"""Two files of one brand: the second waits for the first, whatever rows they share."""
DROP_STAGE = text("DROP TABLE stage, stage_products")

PREPARE = (
    text("CREATE INDEX ON stage (sku)"),
    text("ANALYZE stage"),
    # A SKU that is known tells the product; one that is not names a new one.
    text("""
        UPDATE stage SET handle = p.handle FROM variants v JOIN products p ON p.id = v.product_id
        WHERE stage.handle IS NULL AND v.brand_id = :brand AND v.sku = stage.sku
    """),
    text("""
        UPDATE stage SET handle = coalesce(
            nullif(left(trim(BOTH '-' FROM regexp_replace(lower(sku), '[^a-z0-9]+', '-', 'g')), 80), ''),
            'p-' || left(md5(sku), 16))
        WHERE handle IS NULL
    """),
    text("CREATE INDEX ON stage (handle)"),
    text("ANALYZE stage"),
    # Nobody publishes or changes these products meanwhile.
    text("""
        SELECT FROM products WHERE brand_id = :brand AND handle IN (SELECT handle FROM stage) ORDER BY id FOR UPDATE
    """),
)

JUDGEMENTS = (
    (
        "DUPLICATE_SKU",
        "sku",
        "this SKU is in an earlier row of the file",
        text("""
            DELETE FROM stage USING (
                SELECT number, row_number() OVER (PARTITION BY sku ORDER BY number) AS nth FROM stage) AS twice
            WHERE stage.number = twice.number AND twice.nth > 1 RETURNING stage.number, stage.sku
        """),
    ),
    (
        "SKU_OF_ANOTHER_PRODUCT",
        "sku",
        "this SKU belongs to a product with another handle",
        text("""
            DELETE FROM stage USING variants v JOIN products p ON p.id = v.product_id
            WHERE v.brand_id = :brand AND v.sku = stage.sku AND p.handle <> stage.handle
            RETURNING stage.number, stage.sku
        """),
    ),
    (
        "TITLE_MISSING",
        "title_zh",
        "a new product has a Chinese or an English title",
        text("""
            DELETE FROM stage WHERE handle IN (
                SELECT s.handle FROM stage s
                WHERE NOT EXISTS (SELECT FROM products p WHERE p.brand_id = :brand AND p.handle = s.handle)
                GROUP BY s.handle
                HAVING coalesce(max(nullif(s.title_zh, '')), max(nullif(s.title_en, ''))) IS NULL)
            RETURNING number, sku
        """),
    ),
)

# To be published without any price, in the file or stored: taken as a draft, and told.
UNPRICED = text("""
    WITH bare AS (
        SELECT s.handle, min(s.number) FILTER (WHERE s.status = 'published') AS first FROM stage s
        GROUP BY s.handle
        HAVING bool_or(s.status = 'published') AND NOT bool_or(s.prices <> '{}')),
    unpriced AS (
        SELECT b.handle, b.first FROM bare b WHERE NOT EXISTS (
            SELECT FROM products p JOIN variants v ON v.product_id = p.id JOIN prices c ON c.variant_id = v.id
            WHERE p.brand_id = :brand AND p.handle = b.handle)),
    drafted AS (
        UPDATE stage SET status = NULL FROM unpriced u WHERE stage.handle = u.handle)
    SELECT s.number, s.sku FROM stage s JOIN unpriced u ON u.first = s.number
""")

# Of every product of the file, what its rows say: the first row that says something is heard.
STAGE_PRODUCTS = (
    text("""
        CREATE TEMP TABLE stage_products ON COMMIT DROP AS
        SELECT f.*, coalesce(p.id, f.new_id) AS id, p.id IS NOT NULL AS known
        FROM (
            SELECT handle, (array_agg(product_id ORDER BY number))[1] AS new_id,
                (array_agg(title_zh ORDER BY number) FILTER (WHERE title_zh IS NOT NULL))[1] AS title_zh,
                (array_agg(title_en ORDER BY number) FILTER (WHERE title_en IS NOT NULL))[1] AS title_en,
                (array_agg(description_zh ORDER BY number)
                    FILTER (WHERE description_zh IS NOT NULL))[1] AS description_zh,
                (array_agg(description_en ORDER BY number)
                    FILTER (WHERE description_en IS NOT NULL))[1] AS description_en,
                (array_agg(category ORDER BY number) FILTER (WHERE category IS NOT NULL))[1] AS category,
                (array_agg(to_jsonb(tags) ORDER BY number) FILTER (WHERE tags IS NOT NULL))[1] AS tags,
                (array_agg(media ORDER BY number) FILTER (WHERE media IS NOT NULL))[1]::jsonb AS media,
                (array_agg(attributes ORDER BY number)
                    FILTER (WHERE attributes IS NOT NULL))[1]::jsonb AS attributes,
                (array_agg(status ORDER BY number) FILTER (WHERE status IS NOT NULL))[1] AS status
            FROM stage GROUP BY handle) f
        LEFT JOIN products p ON p.brand_id = :brand AND p.handle = f.handle
    """),
    text("ALTER TABLE stage_products ADD PRIMARY KEY (id), ADD UNIQUE (handle)"),
    text("ANALYZE stage_products"),
)
_TAGS = "ARRAY(SELECT jsonb_array_elements_text(f.tags))"

NEW_PRODUCTS = text(f"""
    INSERT INTO products (id, brand_id, handle, status, title_zh, title_en, description_zh, description_en,
        category, tags, media, attributes, version, created_at, updated_at)
    SELECT f.id, :brand, f.handle, coalesce(f.status, 'draft'), coalesce(f.title_zh, ''),
        coalesce(f.title_en, ''), coalesce(f.description_zh, ''), coalesce(f.description_en, ''),
        coalesce(f.category, ''), CASE WHEN f.tags IS NULL THEN '{{}}' ELSE {_TAGS} END,
        coalesce(f.media, '[]'), coalesce(f.attributes, '{{}}'), 1, :now, :now
    FROM stage_products f WHERE NOT f.known ORDER BY f.handle
    ON CONFLICT (brand_id, handle) DO NOTHING
    RETURNING id
""")

# Somebody else made a product with a handle of this file after it was looked for.
FOUND_PRODUCTS = text("""
    UPDATE stage_products f SET id = p.id, known = true FROM products p
    WHERE NOT f.known AND p.brand_id = :brand AND p.handle = f.handle AND p.id <> f.id
""")

CHANGED_PRODUCTS = text(f"""
    UPDATE products p SET title_zh = coalesce(f.title_zh, p.title_zh),
        title_en = coalesce(f.title_en, p.title_en),
        description_zh = coalesce(f.description_zh, p.description_zh),
        description_en = coalesce(f.description_en, p.description_en),
        category = coalesce(f.category, p.category),
        tags = CASE WHEN f.tags IS NULL THEN p.tags ELSE {_TAGS} END,
        media = coalesce(f.media, p.media), attributes = coalesce(f.attributes, p.attributes)
    FROM stage_products f
    WHERE p.id = f.id AND f.known AND (p.title_zh <> f.title_zh OR p.title_en <> f.title_en
        OR p.description_zh <> f.description_zh OR p.description_en <> f.description_en
        OR p.category <> f.category OR p.media <> f.media OR p.attributes <> f.attributes
        OR f.tags IS NOT NULL AND p.tags::text[] <> {_TAGS})
    RETURNING p.id
""")

VARIANTS = text("""
    WITH rows AS (
        SELECT s.*, f.id AS product, coalesce(last.position, -1)
            + row_number() OVER (PARTITION BY f.id ORDER BY s.number) AS place
        FROM stage s JOIN stage_products f ON f.handle = s.handle
        LEFT JOIN LATERAL (SELECT max(position) AS position FROM variants v WHERE v.product_id = f.id) last ON true)
    INSERT INTO variants AS v (id, product_id, brand_id, sku, gtin, title, options, weight_g, position, listed,
        created_at)
    SELECT variant_id, product, :brand, sku, gtin, coalesce(variant_title, ''), coalesce(options::jsonb, '{}'),
        coalesce(weight_g, 0), place, false, :now
    FROM rows ORDER BY sku
    ON CONFLICT (brand_id, sku) DO UPDATE SET
        gtin = coalesce(excluded.gtin, v.gtin), title = coalesce(nullif(excluded.title, ''), v.title),
        options = CASE WHEN excluded.options = '{}' THEN v.options ELSE excluded.options END,
        weight_g = CASE WHEN excluded.weight_g = 0 THEN v.weight_g ELSE excluded.weight_g END
    WHERE (v.gtin, v.title, v.options, v.weight_g) IS DISTINCT FROM (
        coalesce(excluded.gtin, v.gtin), coalesce(nullif(excluded.title, ''), v.title),
        CASE WHEN excluded.options = '{}' THEN v.options ELSE excluded.options END,
        CASE WHEN excluded.weight_g = 0 THEN v.weight_g ELSE excluded.weight_g END)
    RETURNING product_id
""")

PRICES = text("""
    WITH put AS (
        INSERT INTO prices AS c (variant_id, currency, brand_id, amount_minor, compare_at_minor, listed, updated_at)
        SELECT v.id, p.key, :brand, (p.value ->> 0)::bigint, (p.value ->> 1)::bigint, false, :now
        FROM stage s JOIN variants v ON v.brand_id = :brand AND v.sku = s.sku
        CROSS JOIN LATERAL jsonb_each(s.prices::jsonb) p ORDER BY v.id, p.key
        ON CONFLICT (variant_id, currency) DO UPDATE SET amount_minor = excluded.amount_minor,
            compare_at_minor = excluded.compare_at_minor, updated_at = excluded.updated_at
        WHERE (c.amount_minor, c.compare_at_minor)
            IS DISTINCT FROM (excluded.amount_minor, excluded.compare_at_minor)
        RETURNING variant_id)
    SELECT DISTINCT v.product_id FROM put JOIN variants v ON v.id = put.variant_id
""")

# An archived product stays archived, whatever the file says.
STATUSES = text("""
    UPDATE products p SET status = f.status FROM stage_products f
    WHERE p.id = f.id AND f.known AND p.status <> f.status AND p.status <> 'archived'
    RETURNING p.id
""")
COUNT_PRODUCTS = text("SELECT count(*), count(*) FILTER (WHERE NOT known) FROM stage_products")
NEW_VERSIONS = text("UPDATE products SET version = version + 1, updated_at = :now WHERE id = ANY(:ids)")
