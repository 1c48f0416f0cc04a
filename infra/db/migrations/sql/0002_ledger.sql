-- The ledger: double entry, append only, written by two functions and by nothing else (docs: money.md §0-§2).
--
-- Strict accounts (parties) may never go below zero on their normal side: their balance row is locked and moved
-- with every posting. Deferred accounts (the provider's cash, revenue, tax) take no lock at all: their balance is
-- what was rolled up so far plus the tail of entries that are not, read in one statement.
--
-- Lock order, the same in every function here: journal keys (sorted), new accounts (sorted by key), balances of
-- strict accounts (sorted by account id). Whoever posts several journals in one transaction does it with
-- post_batch, or holds every balance first with hold_balances.
--
-- Plans are generic: the arrays' lengths would otherwise make every call plan every statement anew.
--
-- entries.txid orders entries by the cluster's own transaction ids. A logical dump restored into a new cluster
-- needs that cluster's counter set beyond the old one first (pg_resetwal -x), or new entries look rolled up.

-- code, what it is, its normal side (1 debit, -1 credit), and whether it may not go below zero.
CREATE VIEW ledger_chart AS
SELECT code, name, side::smallint, strict FROM (VALUES
    (1000, 'provider, pending',              1, false),
    (1010, 'provider, available',            1, false),
    (1020, 'bank, operating',                1, false),
    (1030, 'platform payout in transit',     1, false),
    (1100, 'receivable from a party',        1, true),
    (1110, 'receivable, disputed charge',    1, true),
    (1900, 'memo: frozen at a sharing rail', 1, false),
    (2000, 'payable, in the return window', -1, true),
    (2010, 'payable, available',            -1, true),
    (2020, 'payable, in payout',            -1, true),
    (2030, 'payable, reserved',             -1, true),
    (2100, 'refund to a customer, pending', -1, true),
    (2200, 'tax payable',                   -1, false),
    (2300, 'suspense',                      -1, false),
    (2400, 'platform fee, deferred',        -1, false),
    (2900, 'memo: entitled at a rail',      -1, false),
    (2910, 'memo: instructed at a rail',    -1, false),
    (4000, 'revenue, platform fee',         -1, false),
    (4010, 'revenue, processing recharge',  -1, false),
    (4090, 'rounding gain',                 -1, false),
    (5000, 'provider fees',                  1, false),
    (5010, 'dispute fees',                   1, false),
    (5020, 'chargeback losses',              1, false),
    (5030, 'goodwill and platform coupons',  1, false),
    (5040, 'currency differences',           1, false),
    (5050, 'rounding differences',           1, false),
    (5060, 'bad debt',                       1, false),
    (6000, 'currency position',              1, false)
) AS chart (code, name, side, strict);

-- What a key stands for: the kind, the order and the legs, which come sorted by account. Times, references and
-- remarks may differ between the provider's answer and its webhook, which post the same thing under the same key.
CREATE FUNCTION ledger_body_hash(
    kind text, order_id uuid, codes integer[], owners text[], currencies bpchar[], amounts bigint[]
) RETURNS bytea LANGUAGE sql IMMUTABLE
    RETURN sha256(convert_to(ROW(kind, order_id, codes, owners, currencies, amounts)::text, 'UTF8'));

CREATE FUNCTION ledger_account_ids(p_codes integer[], p_owners text[], p_currencies bpchar[]) RETURNS uuid[]
LANGUAGE sql STABLE AS $$
    SELECT array_agg(a.id ORDER BY l.ord)
    FROM unnest(p_codes, p_owners, p_currencies) WITH ORDINALITY AS l (code, owner, currency, ord)
    LEFT JOIN ledger_accounts a ON a.code = l.code AND a.owner = l.owner AND a.currency = l.currency
$$;

-- Opens whatever is missing; two openers of one account wait for each other in the order of the keys.
CREATE FUNCTION ledger_open_accounts(
    p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[]
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    v_unknown integer;
BEGIN
    SELECT code INTO v_unknown FROM unnest(p_codes) AS l (code)
    WHERE NOT EXISTS (SELECT FROM ledger_chart c WHERE c.code = l.code) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'account code % is not in the chart', v_unknown USING ERRCODE = '22023';
    END IF;
    WITH wanted AS (
        SELECT DISTINCT ON (code, owner, currency) code, owner, currency, tenant
        FROM unnest(p_codes, p_owners, p_currencies, p_tenants) AS l (code, owner, currency, tenant)
        ORDER BY code, owner, currency, tenant
    ), opened AS (
        INSERT INTO ledger_accounts (id, code, owner, currency, tenant_id, side, strict)
        SELECT gen_random_uuid(), w.code, w.owner, w.currency, w.tenant, c.side, c.strict
        FROM wanted w JOIN ledger_chart c USING (code)
        ORDER BY w.code, w.owner, w.currency
        ON CONFLICT (code, owner, currency) DO NOTHING
        RETURNING id, side, strict
    )
    INSERT INTO ledger_balances (account_id, side, strict, posted_minor, version, rolled_to)
    SELECT id, side, strict, 0, 0, '0' FROM opened;
    RETURN ledger_account_ids(p_codes, p_owners, p_currencies);
END $$;

-- One journal. Returns its id; the id of the first when the same key came before with the same body.
-- 23505 another body under this key; 23514 unbalanced, or a strict account would go below zero.
CREATE FUNCTION post_journal(
    p_id uuid, p_key text, p_kind text, p_posted_at timestamptz, p_effective_at timestamptz,
    p_order_id uuid, p_provider_ref text, p_memo text,
    p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[], p_amounts bigint[]
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_hash bytea;
    v_accounts uuid[];
    v_found record;
BEGIN
    v_hash := ledger_body_hash(p_kind, p_order_id, p_codes, p_owners, p_currencies, p_amounts);
    INSERT INTO ledger_journals (id, idem, body_hash, kind, order_id, provider_ref, memo, effective_at, posted_at)
    VALUES (p_id, p_key, v_hash, p_kind, p_order_id, p_provider_ref, p_memo, p_effective_at, p_posted_at)
    ON CONFLICT (idem) DO NOTHING;
    IF NOT FOUND THEN
        SELECT id, body_hash INTO v_found FROM ledger_journals WHERE idem = p_key;
        IF v_found.body_hash IS DISTINCT FROM v_hash THEN
            RAISE EXCEPTION 'the key % was used for another journal', p_key
                USING ERRCODE = '23505', CONSTRAINT = 'ledger_key_reused', DETAIL = p_key;
        END IF;
        RETURN v_found.id;
    END IF;

    v_accounts := ledger_account_ids(p_codes, p_owners, p_currencies);
    IF v_accounts IS NULL OR array_position(v_accounts, NULL) IS NOT NULL THEN
        v_accounts := ledger_open_accounts(p_codes, p_owners, p_currencies, p_tenants);
    END IF;
    FOR i IN 1 .. coalesce(cardinality(v_accounts), 0) - 1 LOOP
        IF array_position(v_accounts, v_accounts[i], i + 1) IS NOT NULL THEN
            RAISE EXCEPTION 'two legs on one account'
                USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
        END IF;
    END LOOP;

    -- Locks the strict balances in order of account and looks whether each can carry its leg.
    WITH locked AS MATERIALIZED (
        SELECT b.account_id, b.side, b.posted_minor FROM ledger_balances b
        WHERE b.account_id = ANY (v_accounts) AND b.strict
        ORDER BY b.account_id FOR NO KEY UPDATE
    )
    SELECT a.code || '|' || a.currency || '|' || k.posted_minor || '|' || -l.amount * k.side || '|' || a.owner AS detail
    INTO v_found
    FROM locked k
    JOIN unnest(v_accounts, p_amounts) AS l (account_id, amount) ON l.account_id = k.account_id
    JOIN ledger_accounts a ON a.id = k.account_id
    WHERE k.posted_minor + l.amount * k.side < 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'an account would go below zero: %', v_found.detail
            USING ERRCODE = '23514', CONSTRAINT = 'ledger_overdraft', DETAIL = v_found.detail;
    END IF;

    WITH moved AS (
        UPDATE ledger_balances b SET posted_minor = b.posted_minor + l.amount * b.side, version = b.version + 1
        FROM unnest(v_accounts, p_amounts) AS l (account_id, amount)
        WHERE b.account_id = l.account_id AND b.strict
        RETURNING b.account_id, b.posted_minor, b.version
    )
    INSERT INTO ledger_entries (journal_id, leg, account_id, currency, amount_minor, txid, balance_after, account_version)
    SELECT p_id, l.leg, l.account_id, l.currency, l.amount, pg_current_xact_id(), m.posted_minor, m.version
    FROM unnest(v_accounts, p_currencies, p_amounts) WITH ORDINALITY AS l (account_id, currency, amount, leg)
    LEFT JOIN moved m ON m.account_id = l.account_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a journal without legs' USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
    END IF;
    RETURN p_id;
END $$;

-- Which journals of a batch can never be posted, whatever the balances: the key when it is so, in input order.
CREATE FUNCTION ledger_malformed(
    p_keys text[], p_leg_journals integer[], p_codes integer[], p_owners text[], p_currencies bpchar[], p_amounts bigint[]
) RETURNS text[] LANGUAGE sql IMMUTABLE
    RETURN (
        SELECT array_agg(CASE WHEN coalesce(bad.bad, true) THEN 'ledger_unbalanced' END ORDER BY k.ord)
        FROM unnest(p_keys) WITH ORDINALITY AS k (key, ord)
        LEFT JOIN (
            SELECT per.journal, bool_or(per.total <> 0 OR per.zeros OR per.accounts < per.legs) AS bad
            FROM (
                SELECT l.journal, sum(l.amount) AS total, bool_or(l.amount = 0) AS zeros,
                       count(*) AS legs, count(DISTINCT (l.code, l.owner)) AS accounts
                FROM unnest(p_leg_journals, p_codes, p_owners, p_currencies, p_amounts)
                    AS l (journal, code, owner, currency, amount)
                GROUP BY l.journal, l.currency
            ) per GROUP BY per.journal
        ) bad ON bad.journal = k.ord
    );

-- Walks a batch in order over the balances as they stand and names the journals that would overdraw an account,
-- given that the ones named are left out. Called under the locks.
CREATE FUNCTION ledger_overdrawing(
    p_refused text[], p_leg_journals integer[], p_accounts uuid[], p_amounts bigint[]
) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_refused text[] := p_refused;
    v_held bigint[];
    v_journal record;
    v_short boolean;
    i integer;
BEGIN
    SELECT array_agg(b.posted_minor ORDER BY b.account_id) INTO v_held
    FROM ledger_balances b WHERE b.account_id = ANY (p_accounts) AND b.strict;
    FOR v_journal IN
        WITH dense AS (
            SELECT b.account_id, b.side, row_number() OVER (ORDER BY b.account_id)::integer AS slot
            FROM ledger_balances b WHERE b.account_id = ANY (p_accounts) AND b.strict
        )
        SELECT l.journal, array_agg(d.slot) AS slots, array_agg(l.amount * d.side) AS moves
        FROM unnest(p_leg_journals, p_accounts, p_amounts) AS l (journal, account_id, amount)
        JOIN dense d ON d.account_id = l.account_id
        WHERE p_refused[l.journal] IS NULL
        GROUP BY l.journal ORDER BY l.journal
    LOOP
        v_short := false;
        FOR i IN 1 .. cardinality(v_journal.slots) LOOP
            v_short := v_short OR v_held[v_journal.slots[i]] + v_journal.moves[i] < 0;
        END LOOP;
        IF v_short THEN
            v_refused[v_journal.journal] := 'ledger_overdraft';
        ELSE
            FOR i IN 1 .. cardinality(v_journal.slots) LOOP
                v_held[v_journal.slots[i]] := v_held[v_journal.slots[i]] + v_journal.moves[i];
            END LOOP;
        END IF;
    END LOOP;
    RETURN v_refused;
END $$;

-- Many journals in one pass: each is posted, replayed or refused by itself, as if posted one after the other.
-- Legs name their journal by its place in the batch (from 1).
CREATE FUNCTION post_batch(
    p_posted_at timestamptz,
    p_ids uuid[], p_keys text[], p_kinds text[], p_effective_at timestamptz[],
    p_order_ids uuid[], p_provider_refs text[], p_memos text[],
    p_leg_journals integer[], p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[],
    p_amounts bigint[]
) RETURNS TABLE (ord integer, journal_id uuid, outcome text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_hashes bytea[];
    v_refused text[];
    v_skipped text[];
    v_new uuid[];
    v_accounts uuid[];
BEGIN
    SELECT array_agg(h.hash ORDER BY h.ord) INTO v_hashes FROM (
        SELECT k.ord, ledger_body_hash(k.kind, k.order_id, array_agg(l.code ORDER BY l.ord),
            array_agg(l.owner ORDER BY l.ord), array_agg(l.currency ORDER BY l.ord),
            array_agg(l.amount ORDER BY l.ord)) AS hash
        FROM unnest(p_kinds, p_order_ids) WITH ORDINALITY AS k (kind, order_id, ord)
        LEFT JOIN unnest(p_leg_journals, p_codes, p_owners, p_currencies, p_amounts) WITH ORDINALITY
            AS l (journal, code, owner, currency, amount, ord) ON l.journal = k.ord
        GROUP BY k.ord, k.kind, k.order_id
    ) h;
    v_refused := ledger_malformed(p_keys, p_leg_journals, p_codes, p_owners, p_currencies, p_amounts);
    LOOP
        BEGIN
            WITH claimed AS (
                INSERT INTO ledger_journals
                    (id, idem, body_hash, kind, order_id, provider_ref, memo, effective_at, posted_at)
                SELECT k.id, k.key, k.hash, k.kind, k.order_id, k.ref, k.memo, k.effective_at, p_posted_at
                FROM unnest(p_ids, p_keys, v_hashes, p_kinds, p_order_ids, p_provider_refs, p_memos, p_effective_at,
                            v_refused)
                    AS k (id, key, hash, kind, order_id, ref, memo, effective_at, refused)
                WHERE k.refused IS NULL
                ORDER BY k.key
                ON CONFLICT (idem) DO NOTHING
                RETURNING id
            )
            SELECT array_agg(id) INTO v_new FROM claimed;
            EXIT WHEN v_new IS NULL;

            v_accounts := ledger_account_ids(p_codes, p_owners, p_currencies);
            IF array_position(v_accounts, NULL) IS NOT NULL THEN
                v_accounts := ledger_open_accounts(p_codes, p_owners, p_currencies, p_tenants);
            END IF;
            PERFORM FROM ledger_balances b WHERE b.account_id = ANY (v_accounts) AND b.strict
            ORDER BY b.account_id FOR NO KEY UPDATE;

            -- A key that was there before moves nothing; what it is worth is looked up at the end.
            SELECT array_agg(CASE WHEN k.id = ANY (v_new) THEN NULL ELSE coalesce(k.refused, '-') END ORDER BY k.ord)
            INTO v_skipped
            FROM unnest(p_ids, v_refused) WITH ORDINALITY AS k (id, refused, ord);

            PERFORM FROM (
                SELECT b.posted_minor + sum(l.amount * b.side)
                    OVER (PARTITION BY l.account_id ORDER BY l.journal) AS running
                FROM unnest(p_leg_journals, v_accounts, p_amounts) AS l (journal, account_id, amount)
                JOIN ledger_balances b ON b.account_id = l.account_id AND b.strict
                WHERE v_skipped[l.journal] IS NULL
            ) walk WHERE walk.running < 0;
            IF FOUND THEN
                v_skipped := ledger_overdrawing(v_skipped, p_leg_journals, v_accounts, p_amounts);
                SELECT array_agg(CASE WHEN s.skipped = 'ledger_overdraft' THEN s.skipped ELSE s.refused END ORDER BY s.ord)
                INTO v_refused
                FROM unnest(v_skipped, v_refused) WITH ORDINALITY AS s (skipped, refused, ord);
                -- Undo the claims of this round, then go again without the journals that cannot be carried.
                RAISE EXCEPTION USING ERRCODE = 'LY001', MESSAGE = 'batch goes another round';
            END IF;

            WITH legs AS (
                SELECT p_ids[l.journal] AS journal_id, l.ord,
                       row_number() OVER (PARTITION BY l.journal ORDER BY l.ord) AS leg,
                       l.account_id, l.currency, l.amount
                FROM unnest(p_leg_journals, v_accounts, p_currencies, p_amounts) WITH ORDINALITY
                    AS l (journal, account_id, currency, amount, ord)
                WHERE v_skipped[l.journal] IS NULL
            ), moved AS (
                UPDATE ledger_balances b
                SET posted_minor = b.posted_minor + t.total * b.side, version = b.version + t.legs
                FROM (SELECT account_id, sum(amount)::bigint AS total, count(*) AS legs FROM legs GROUP BY account_id) t
                WHERE b.account_id = t.account_id AND b.strict
                RETURNING b.account_id, b.side, b.posted_minor - t.total * b.side AS before, b.version - t.legs AS version
            )
            INSERT INTO ledger_entries
                (journal_id, leg, account_id, currency, amount_minor, txid, balance_after, account_version)
            SELECT l.journal_id, l.leg, l.account_id, l.currency, l.amount, pg_current_xact_id(),
                   m.before + sum(l.amount * m.side) OVER one_account, m.version + row_number() OVER one_account
            FROM legs l LEFT JOIN moved m ON m.account_id = l.account_id
            WINDOW one_account AS (PARTITION BY l.account_id ORDER BY l.ord ROWS UNBOUNDED PRECEDING);
            EXIT;
        EXCEPTION WHEN SQLSTATE 'LY001' THEN
            NULL;
        END;
    END LOOP;

    RETURN QUERY
    SELECT k.ord::integer, j.id,
           CASE WHEN k.refused IS NOT NULL THEN k.refused
                WHEN j.body_hash IS DISTINCT FROM k.hash THEN 'ledger_key_reused'
                WHEN j.id = k.id THEN 'posted' ELSE 'replayed' END
    FROM unnest(p_ids, p_keys, v_hashes, v_refused) WITH ORDINALITY AS k (id, key, hash, refused, ord)
    LEFT JOIN ledger_journals j ON j.idem = k.key
    ORDER BY k.ord;
END $$;

-- Locks the strict balances a transaction is about to move, in order, and tells what they hold on their normal
-- side. Deferred accounts are told without a lock.
CREATE FUNCTION hold_balances(p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[])
RETURNS TABLE (ord integer, balance_minor bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_accounts uuid[] := ledger_account_ids(p_codes, p_owners, p_currencies);
BEGIN
    IF array_position(v_accounts, NULL) IS NOT NULL THEN
        v_accounts := ledger_open_accounts(p_codes, p_owners, p_currencies, p_tenants);
    END IF;
    PERFORM FROM ledger_balances b WHERE b.account_id = ANY (v_accounts) AND b.strict
    ORDER BY b.account_id FOR NO KEY UPDATE;
    RETURN QUERY
    SELECT l.ord::integer, n.balance_minor
    FROM unnest(v_accounts) WITH ORDINALITY AS l (account_id, ord)
    JOIN ledger_balances_now n ON n.account_id = l.account_id ORDER BY l.ord;
END $$;

-- Balances as of this statement: rolled up plus tail, in one snapshot. Row security is the reader's.
CREATE VIEW ledger_balances_now WITH (security_invoker = true) AS
SELECT a.id AS account_id, a.code, a.owner, a.currency, a.tenant_id, a.side, a.strict,
       b.posted_minor + CASE WHEN a.strict THEN 0 ELSE a.side * coalesce((
           SELECT sum(e.amount_minor) FROM ledger_entries e
           WHERE e.account_id = a.id AND e.txid >= b.rolled_to), 0)::bigint END AS balance_minor
FROM ledger_accounts a JOIN ledger_balances b ON b.account_id = a.id;

-- Moves the tail of deferred accounts into their balance, up to the transaction horizon: below it every
-- transaction has ended, so no entry can still appear there. Returns how many accounts moved.
CREATE FUNCTION roll_up_ledger() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_account uuid;
    v_rolled integer := 0;
BEGIN
    FOR v_account IN SELECT account_id FROM ledger_balances WHERE NOT strict ORDER BY account_id LOOP
        -- Each statement sees anew: the lock first, then the horizon and the tail in one snapshot.
        PERFORM FROM ledger_balances WHERE account_id = v_account FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        UPDATE ledger_balances b
        SET posted_minor = b.posted_minor + b.side * tail.total, version = b.version + tail.entries,
            rolled_to = pg_snapshot_xmin(pg_current_snapshot())
        FROM (
            SELECT coalesce(sum(e.amount_minor), 0)::bigint AS total, count(*) AS entries
            FROM ledger_balances o JOIN ledger_entries e ON e.account_id = o.account_id AND e.txid >= o.rolled_to
            WHERE o.account_id = v_account AND e.txid < pg_snapshot_xmin(pg_current_snapshot())
        ) tail
        WHERE b.account_id = v_account AND tail.entries > 0;
        IF FOUND THEN
            v_rolled := v_rolled + 1;
        END IF;
    END LOOP;
    RETURN v_rolled;
END $$;

-- Every insert into entries sums to zero per journal and currency, whoever inserts.
CREATE FUNCTION ledger_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_found record;
BEGIN
    SELECT journal_id, currency, sum(amount_minor) AS total INTO v_found
    FROM added GROUP BY journal_id, currency HAVING sum(amount_minor) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal % is off by % %', v_found.journal_id, v_found.total, v_found.currency
            USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = v_found.journal_id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER must_balance AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_must_balance();

CREATE FUNCTION ledger_is_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is history: correct it with a new journal', TG_TABLE_NAME
        USING ERRCODE = '42501', CONSTRAINT = 'ledger_immutable';
END $$;

CREATE TRIGGER is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_history();

CREATE TRIGGER is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_journals
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_history();

-- A party's tenant sees its own accounts and what happened on them; the platform sees all.
ALTER TABLE ledger_accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_accounts ON ledger_accounts FOR SELECT
    USING ((SELECT app_sees_everything()) OR tenant_id = (SELECT app_tenant()));

ALTER TABLE ledger_balances ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_balances ON ledger_balances FOR SELECT USING (
    (SELECT app_sees_everything())
    OR account_id IN (SELECT id FROM ledger_accounts WHERE tenant_id = (SELECT app_tenant())));

ALTER TABLE ledger_entries ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_entries ON ledger_entries FOR SELECT USING (
    (SELECT app_sees_everything())
    OR account_id IN (SELECT id FROM ledger_accounts WHERE tenant_id = (SELECT app_tenant())));

ALTER TABLE ledger_journals ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_journals ON ledger_journals FOR SELECT USING (
    (SELECT app_sees_everything())
    OR EXISTS (SELECT FROM ledger_entries e WHERE e.journal_id = id));

-- The application reads, and posts through the functions; it writes nothing by itself.
REVOKE ALL ON ledger_accounts, ledger_journals, ledger_entries, ledger_balances FROM lianyu_app;
GRANT SELECT ON ledger_accounts, ledger_journals, ledger_entries, ledger_balances TO lianyu_app;
REVOKE ALL ON ledger_chart, ledger_balances_now FROM lianyu_app;
GRANT SELECT ON ledger_chart, ledger_balances_now TO lianyu_app;
REVOKE EXECUTE ON FUNCTION
    ledger_open_accounts(integer[], text[], bpchar[], uuid[]),
    ledger_overdrawing(text[], integer[], uuid[], bigint[]),
    hold_balances(integer[], text[], bpchar[], uuid[]),
    roll_up_ledger(),
    post_journal(uuid, text, text, timestamptz, timestamptz, uuid, text, text,
                 integer[], text[], bpchar[], uuid[], bigint[]),
    post_batch(timestamptz, uuid[], text[], text[], timestamptz[], uuid[], text[], text[],
               integer[], integer[], text[], bpchar[], uuid[], bigint[])
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    hold_balances(integer[], text[], bpchar[], uuid[]),
    roll_up_ledger(),
    post_journal(uuid, text, text, timestamptz, timestamptz, uuid, text, text,
                 integer[], text[], bpchar[], uuid[], bigint[]),
    post_batch(timestamptz, uuid[], text[], text[], timestamptz[], uuid[], text[], text[],
               integer[], integer[], text[], bpchar[], uuid[], bigint[])
TO lianyu_app;
