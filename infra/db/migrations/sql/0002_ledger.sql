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
    (1040, 'provider, reserved',             1, false),
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
-- STABLE, although it depends on nothing: an IMMUTABLE one would not be inlined, for record's text is STABLE.
CREATE FUNCTION ledger_body_hash(
    kind text, order_id uuid, codes integer[], owners text[], currencies bpchar[], amounts bigint[]
) RETURNS bytea LANGUAGE sql STABLE
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

-- Which journals of a batch can never be posted, whatever the balances: the word for it, or NULL, in input order.
CREATE FUNCTION ledger_malformed(
    p_keys text[], p_leg_journals integer[], p_codes integer[], p_owners text[], p_currencies bpchar[], p_amounts bigint[]
) RETURNS text[] LANGUAGE sql STABLE AS $$
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
$$;

-- One journal. Returns its id; the id of the first when the same key came before with the same body.
-- 23505 another body under this key; 23514 unbalanced, or a strict account would go below zero.
CREATE FUNCTION post_journal(
    p_id uuid, p_key text, p_kind text, p_posted_at timestamptz, p_effective_at timestamptz,
    p_order_id uuid, p_provider_ref text, p_memo text,
    p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[], p_amounts bigint[]
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_hash bytea := ledger_body_hash(p_kind, p_order_id, p_codes, p_owners, p_currencies, p_amounts);
    v_found record;
    v_leg record;
    v_move bigint;
    v_posted bigint;
    v_version bigint;
    v_last uuid;
    v_legs smallint[];
    v_accounts uuid[];
    v_after bigint[];
    v_versions bigint[];
BEGIN
    INSERT INTO ledger_journals (id, idem, body_hash, kind, order_id, provider_ref, memo, effective_at, posted_at)
    VALUES (p_id, p_key, v_hash, p_kind, p_order_id, p_provider_ref, p_memo, p_effective_at, p_posted_at)
    ON CONFLICT (idem) DO NOTHING;
    IF NOT FOUND THEN
        SELECT id, body_hash INTO v_found FROM ledger_journals WHERE idem = p_key;
        IF v_found.body_hash = v_hash THEN
            RETURN v_found.id;
        END IF;
        IF (ledger_malformed(ARRAY[p_key], array_fill(1, ARRAY[cardinality(p_codes)]), p_codes, p_owners,
                             p_currencies, p_amounts))[1] IS NULL THEN
            RAISE EXCEPTION 'the key % was used for another journal', p_key
                USING ERRCODE = '23505', CONSTRAINT = 'ledger_key_reused', DETAIL = p_key;
        END IF;
        RAISE EXCEPTION 'the legs do not balance'
            USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
    END IF;

    -- One row after the other in order of account: taking its lock, looking whether it carries the leg and moving
    -- it are one update. Missing accounts come first: they are opened before anything is locked.
    <<again>>
    LOOP
        FOR v_leg IN
            SELECT l.leg, l.amount, a.id, a.side, a.strict AS locked
            FROM unnest(p_codes, p_owners, p_currencies, p_amounts) WITH ORDINALITY
                AS l (code, owner, currency, amount, leg)
            LEFT JOIN LATERAL (
                SELECT * FROM ledger_accounts o
                WHERE o.code = l.code AND o.owner = l.owner AND o.currency = l.currency LIMIT 1
            ) a ON true
            ORDER BY a.id NULLS FIRST
        LOOP
            IF v_leg.id IS NULL THEN
                PERFORM ledger_open_accounts(p_codes, p_owners, p_currencies, p_tenants);
                CONTINUE again;
            ELSIF v_leg.id = v_last THEN
                RAISE EXCEPTION 'two legs on one account'
                    USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
            END IF;
            v_last := v_leg.id;
            v_posted := NULL;
            v_version := NULL;
            IF v_leg.locked THEN
                v_move := v_leg.amount * v_leg.side;
                UPDATE ledger_balances b SET posted_minor = b.posted_minor + v_move, version = b.version + 1
                WHERE b.account_id = v_last AND b.posted_minor + v_move >= 0
                RETURNING b.posted_minor, b.version INTO v_posted, v_version;
                IF NOT FOUND THEN
                    SELECT a.code || '|' || a.currency || '|' || b.posted_minor || '|' || -v_move || '|' || a.owner AS detail
                    INTO v_found FROM ledger_balances b JOIN ledger_accounts a ON a.id = b.account_id
                    WHERE b.account_id = v_last;
                    RAISE EXCEPTION 'an account would go below zero: %', v_found.detail
                        USING ERRCODE = '23514', CONSTRAINT = 'ledger_overdraft', DETAIL = v_found.detail;
                END IF;
            END IF;
            v_legs := v_legs || v_leg.leg::smallint;
            v_accounts := v_accounts || v_last;
            v_after := v_after || v_posted;
            v_versions := v_versions || v_version;
        END LOOP;
        EXIT;
    END LOOP;

    INSERT INTO ledger_entries (journal_id, leg, account_id, currency, amount_minor, txid, balance_after, account_version)
    SELECT p_id, l.leg, l.account_id, p_currencies[l.leg], p_amounts[l.leg], pg_current_xact_id(), l.after, l.version
    FROM unnest(v_legs, v_accounts, v_after, v_versions) AS l (leg, account_id, after, version);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a journal without legs' USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
    END IF;
    RETURN p_id;
END $$;

-- Walks a batch in order over the balances as they stood before it and names the journals that would overdraw an
-- account, given that the ones named are left out. Of several under one key the first that can be carried counts.
-- ``p_moved`` and ``p_totals`` are what the batch has moved already, on the account's normal side. Locks the rest
-- of the batch's balances.
CREATE FUNCTION ledger_overdrawing(
    p_ids uuid[], p_keys text[], p_new uuid[], p_refused text[], p_leg_journals integer[], p_accounts uuid[],
    p_amounts bigint[], p_moved uuid[], p_totals bigint[]
) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_refused text[] := p_refused;
    v_accounts uuid[];
    v_done boolean[] := array_fill(false, ARRAY[cardinality(p_ids)]);
    v_held bigint[];
    v_journal record;
    v_short boolean;
    i integer;
BEGIN
    SELECT array_agg(l.account_id) INTO v_accounts
    FROM unnest(p_leg_journals, p_accounts) AS l (journal, account_id) WHERE p_refused[l.journal] IS NULL;
    PERFORM FROM ledger_balances b WHERE b.account_id = ANY (v_accounts) AND b.strict
    ORDER BY b.account_id FOR NO KEY UPDATE;
    SELECT array_agg(b.posted_minor - coalesce(m.total, 0) ORDER BY b.account_id) INTO v_held
    FROM ledger_balances b LEFT JOIN unnest(p_moved, p_totals) AS m (account_id, total) USING (account_id)
    WHERE b.account_id = ANY (v_accounts) AND b.strict;
    FOR v_journal IN
        WITH dense AS (
            SELECT b.account_id, b.side, row_number() OVER (ORDER BY b.account_id)::integer AS slot
            FROM ledger_balances b WHERE b.account_id = ANY (v_accounts) AND b.strict
        ), named AS (
            SELECT k.ord, k.id, min(k.ord) OVER one_key AS first, first_value(k.id) OVER one_key AS first_id
            FROM unnest(p_ids, p_keys, p_refused) WITH ORDINALITY AS k (id, key, refused, ord)
            WHERE k.refused IS NULL WINDOW one_key AS (PARTITION BY k.key ORDER BY k.ord)
        )
        SELECT n.ord, n.first, array_agg(d.slot) FILTER (WHERE d.slot IS NOT NULL) AS slots,
               array_agg(l.amount * d.side) FILTER (WHERE d.slot IS NOT NULL) AS moves
        FROM named n
        JOIN unnest(p_new) AS c (id) ON c.id = n.first_id
        JOIN unnest(p_leg_journals, p_accounts, p_amounts) AS l (journal, account_id, amount) ON l.journal = n.ord
        LEFT JOIN dense d ON d.account_id = l.account_id
        GROUP BY n.ord, n.first ORDER BY n.ord
    LOOP
        CONTINUE WHEN v_done[v_journal.first];
        v_short := false;
        FOR i IN 1 .. coalesce(cardinality(v_journal.slots), 0) LOOP
            v_short := v_short OR v_held[v_journal.slots[i]] + v_journal.moves[i] < 0;
        END LOOP;
        IF v_short THEN
            v_refused[v_journal.ord] := 'ledger_overdraft';
            CONTINUE;
        END IF;
        FOR i IN 1 .. coalesce(cardinality(v_journal.slots), 0) LOOP
            v_held[v_journal.slots[i]] := v_held[v_journal.slots[i]] + v_journal.moves[i];
        END LOOP;
        v_done[v_journal.first] := true;
    END LOOP;
    RETURN v_refused;
END $$;

-- Many journals in one pass: each is posted, replayed or refused by itself, as if posted one after the other.
-- Legs name their journal by its place in the batch (from 1) and come in its order.
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
    v_new uuid[];
    v_live boolean[]; -- posted in this round
    v_open boolean[]; -- not refused yet: posted, or a key that was there before
    v_accounts uuid[];
    v_sides smallint[];
    v_strict boolean[];
    v_move record;
    v_before bigint;
    v_version bigint;
    v_moved uuid[];
    v_totals bigint[];
    v_befores bigint[];
    v_versions bigint[];
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
                            v_refused) WITH ORDINALITY
                    AS k (id, key, hash, kind, order_id, ref, memo, effective_at, refused, ord)
                WHERE k.refused IS NULL
                ORDER BY k.key, k.ord
                ON CONFLICT (idem) DO NOTHING
                RETURNING id
            )
            SELECT array_agg(id) INTO v_new FROM claimed;
            SELECT array_agg(c.id IS NOT NULL ORDER BY k.ord), array_agg(k.refused IS NULL ORDER BY k.ord)
            INTO v_live, v_open
            FROM unnest(p_ids, v_refused) WITH ORDINALITY AS k (id, refused, ord)
            LEFT JOIN unnest(v_new) AS c (id) USING (id);
            EXIT WHEN v_new IS NULL;

            FOR attempt IN 1 .. 2 LOOP
                SELECT array_agg(a.id ORDER BY l.ord), array_agg(a.side ORDER BY l.ord), array_agg(a.strict ORDER BY l.ord)
                INTO v_accounts, v_sides, v_strict
                FROM unnest(p_codes, p_owners, p_currencies) WITH ORDINALITY AS l (code, owner, currency, ord)
                LEFT JOIN LATERAL (
                    SELECT * FROM ledger_accounts o
                    WHERE o.code = l.code AND o.owner = l.owner AND o.currency = l.currency LIMIT 1
                ) a ON true;
                EXIT WHEN array_position(v_accounts, NULL) IS NULL;
                PERFORM ledger_open_accounts(p_codes, p_owners, p_currencies, p_tenants);
            END LOOP;

            -- A row per strict account, in order: what the batch takes it through is known before it is locked, so
            -- that taking the lock, looking whether it carries everything and moving it are one update. Accounts of
            -- replays are locked too: one of them may turn out to be the first of its key.
            v_moved := '{}';
            v_totals := '{}';
            v_befores := '{}';
            v_versions := '{}';
            FOR v_move IN
                SELECT r.account_id, sum(r.move)::bigint AS total, min(r.running)::bigint AS lowest,
                       count(*) FILTER (WHERE r.live) AS legs
                FROM (
                    SELECT l.account_id, v_live[l.journal] AS live, m.move,
                           sum(m.move) OVER (PARTITION BY l.account_id ORDER BY l.ord ROWS UNBOUNDED PRECEDING) AS running
                    FROM unnest(v_accounts, v_sides, v_strict, p_amounts, p_leg_journals) WITH ORDINALITY
                        AS l (account_id, side, strict, amount, journal, ord)
                    CROSS JOIN LATERAL (SELECT CASE WHEN v_live[l.journal] THEN l.amount * l.side ELSE 0 END AS move) m
                    WHERE l.strict AND v_open[l.journal]
                ) r GROUP BY r.account_id ORDER BY r.account_id
            LOOP
                UPDATE ledger_balances b
                SET posted_minor = b.posted_minor + v_move.total, version = b.version + v_move.legs
                WHERE b.account_id = v_move.account_id AND b.posted_minor + v_move.lowest >= 0
                RETURNING b.posted_minor - v_move.total, b.version - v_move.legs INTO v_before, v_version;
                IF NOT FOUND THEN
                    v_refused := ledger_overdrawing(
                        p_ids, p_keys, v_new, v_refused, p_leg_journals, v_accounts, p_amounts, v_moved, v_totals);
                    -- Undo the claims of this round, then go again without the journals that cannot be carried.
                    RAISE EXCEPTION USING ERRCODE = 'LY001', MESSAGE = 'batch goes another round';
                END IF;
                v_moved := v_moved || v_move.account_id;
                v_totals := v_totals || v_move.total;
                v_befores := v_befores || v_before;
                v_versions := v_versions || v_version;
            END LOOP;

            INSERT INTO ledger_entries
                (journal_id, leg, account_id, currency, amount_minor, txid, balance_after, account_version)
            SELECT p_ids[l.journal], row_number() OVER (PARTITION BY l.journal ORDER BY l.ord), l.account_id, l.currency,
                   l.amount, pg_current_xact_id(),
                   m.before + sum(l.amount * l.side) OVER one_account, m.version + row_number() OVER one_account
            FROM unnest(v_accounts, v_sides, p_currencies, p_amounts, p_leg_journals) WITH ORDINALITY
                AS l (account_id, side, currency, amount, journal, ord)
            LEFT JOIN unnest(v_moved, v_befores, v_versions) AS m (account_id, before, version) USING (account_id)
            WHERE v_live[l.journal]
            WINDOW one_account AS (PARTITION BY l.account_id ORDER BY l.ord ROWS UNBOUNDED PRECEDING);
            EXIT;
        EXCEPTION WHEN SQLSTATE 'LY001' THEN
            NULL;
        END;
    END LOOP;

    RETURN QUERY
    SELECT k.ord::integer, CASE WHEN k.live THEN k.id ELSE j.id END,
           CASE WHEN k.refused IS NOT NULL THEN k.refused WHEN k.live THEN 'posted'
                WHEN j.body_hash = k.hash THEN 'replayed' ELSE 'ledger_key_reused' END
    FROM unnest(p_ids, p_keys, v_hashes, v_refused, v_live) WITH ORDINALITY AS k (id, key, hash, refused, live, ord)
    LEFT JOIN ledger_journals j ON j.idem = k.key AND NOT k.live AND k.refused IS NULL
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

-- Every insert into entries sums to zero per journal and currency, whoever inserts (ledger_guard sets it up).
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

CREATE FUNCTION ledger_is_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is history: correct it with a new journal', TG_TABLE_NAME
        USING ERRCODE = '42501', CONSTRAINT = 'ledger_immutable';
END $$;

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
    ledger_overdrawing(uuid[], text[], uuid[], text[], integer[], uuid[], bigint[], uuid[], bigint[]),
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
