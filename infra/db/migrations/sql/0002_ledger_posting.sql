-- Posting: the functions that alone write the ledger. 0002_ledger.sql says what they write and in which order they lock.
--
-- Plans are generic: the arrays' lengths would otherwise make every call plan every statement anew.

-- What a key stands for: the kind, the order and the legs, which come sorted by account. Times, references and
-- remarks may differ between the provider's answer and its webhook, which post the same thing under the same key.
-- STABLE for the same reason.
CREATE FUNCTION ledger_body_hash(
    kind text, order_id uuid, codes integer[], owners text[], currencies bpchar[], amounts bigint[]
) RETURNS bytea LANGUAGE sql STABLE
    RETURN sha256(convert_to(ROW(kind, order_id, codes, owners, currencies, amounts)::text, 'UTF8'));

-- Opens whatever is missing; two openers of one account wait for each other in the order of the accounts.
CREATE FUNCTION ledger_open_accounts(
    p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_unknown integer;
BEGIN
    SELECT code INTO v_unknown FROM unnest(p_codes) AS l (code)
    WHERE NOT EXISTS (SELECT FROM ledger_chart c WHERE c.code = l.code) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'account code % is not in the chart', v_unknown USING ERRCODE = '22023';
    END IF;
    WITH wanted AS (
        SELECT DISTINCT ON (code, owner COLLATE "C", currency) code, owner, currency, tenant
        FROM unnest(p_codes, p_owners, p_currencies, p_tenants) AS l (code, owner, currency, tenant)
        ORDER BY code, owner COLLATE "C", currency, tenant
    ), opened AS (
        INSERT INTO ledger_accounts (id, code, owner, currency, tenant_id, side, strict)
        SELECT ledger_account_id(code, owner, currency), code, owner, currency, tenant, ledger_side(code),
               ledger_strict(code)
        FROM wanted ORDER BY code, owner COLLATE "C", currency
        ON CONFLICT DO NOTHING -- of either index: who opens the same account at the same moment meets one or the other
        RETURNING id, side, strict
    )
    INSERT INTO ledger_balances (account_id, side, strict, posted_minor, version, rolled_to)
    SELECT id, side, strict, 0, 0, '0' FROM opened;
    PERFORM FROM unnest(p_codes, p_owners, p_currencies) AS l (code, owner, currency)
    JOIN ledger_accounts a ON a.id = ledger_account_id(l.code, l.owner, l.currency)
    WHERE (a.code, a.owner, a.currency) <> (l.code, l.owner, l.currency);
    IF FOUND THEN
        RAISE EXCEPTION 'two names of accounts have one id' USING ERRCODE = '23505';
    END IF;
END $$;

-- Which journals of a batch can never be posted, whatever the balances: the word for it, or NULL, in input order.
-- Their legs are none, zero, not in the order of accounts (each once), not of the chart, or do not balance.
CREATE FUNCTION ledger_malformed(
    p_keys text[], p_leg_journals integer[], p_codes integer[], p_owners text[], p_currencies bpchar[], p_amounts bigint[]
) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(CASE WHEN coalesce(bad.bad, true) THEN 'ledger_unbalanced' END ORDER BY k.ord)
    FROM unnest(p_keys) WITH ORDINALITY AS k (key, ord)
    LEFT JOIN (
        SELECT per.journal, bool_or(per.total <> 0 OR per.wrong) AS bad
        FROM (
            SELECT l.journal, sum(l.amount) AS total, bool_or(l.amount = 0 OR l.unsorted
                OR l.code NOT IN (SELECT code FROM ledger_chart) OR l.currency !~ '^[A-Z]{3}$') AS wrong
            FROM (
                SELECT journal, code, currency, amount,
                    (code, owner, currency) <= (lag(code) OVER legs, lag(owner) OVER legs, lag(currency) OVER legs)
                    IS TRUE AS unsorted
                FROM (SELECT journal, code, owner COLLATE "C" AS owner, currency, amount, ord
                      FROM unnest(p_leg_journals, p_codes, p_owners, p_currencies, p_amounts) WITH ORDINALITY
                          AS u (journal, code, owner, currency, amount, ord)) l
                WINDOW legs AS (PARTITION BY journal ORDER BY ord)
            ) l GROUP BY l.journal, l.currency
        ) per GROUP BY per.journal
    ) bad ON bad.journal = k.ord
$$;

-- Refuses legs that can never be posted. Asked before a journal is refused for any other reason.
CREATE FUNCTION ledger_well_formed(
    p_key text, p_codes integer[], p_owners text[], p_currencies bpchar[], p_amounts bigint[]
) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (ledger_malformed(ARRAY[p_key], array_fill(1, ARRAY[cardinality(p_codes)]), p_codes, p_owners, p_currencies,
                         p_amounts))[1] IS NOT NULL THEN
        RAISE EXCEPTION 'the legs do not balance'
            USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
    END IF;
END $$;

-- One journal, its legs in the order of accounts. Returns its id; the id of the first when the same key came before
-- with the same body. 23505 another body under this key; 23514 unbalanced, or a strict account would go below zero.
CREATE FUNCTION post_journal(
    p_id uuid, p_key text, p_kind text, p_posted_at timestamptz, p_effective_at timestamptz,
    p_order_id uuid, p_provider_ref text, p_memo text,
    p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[], p_amounts bigint[]
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_legs integer := coalesce(cardinality(p_codes), 0);
    v_hash bytea := ledger_body_hash(p_kind, p_order_id, p_codes, p_owners, p_currencies, p_amounts);
    v_found record;
    v_known bigint;
    v_move bigint;
    v_posted bigint;
    v_version bigint;
    v_accounts uuid[];
    v_after bigint[];
    v_versions bigint[];
BEGIN
    FOR i IN 1 .. v_legs LOOP
        IF i > 1 AND (p_codes[i], p_owners[i] COLLATE "C", p_currencies[i])
            <= (p_codes[i - 1], p_owners[i - 1] COLLATE "C", p_currencies[i - 1]) THEN
            RAISE EXCEPTION 'legs come in the order of accounts, each account once'
                USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
        END IF;
        v_accounts[i] := ledger_account_id(p_codes[i], p_owners[i], p_currencies[i]);
        v_after[i] := NULL;
        v_versions[i] := NULL;
    END LOOP;

    INSERT INTO ledger_journals (id, idem, body_hash, kind, order_id, provider_ref, memo, effective_at, posted_at)
    VALUES (p_id, p_key, v_hash, p_kind, p_order_id, p_provider_ref, p_memo, p_effective_at, p_posted_at)
    ON CONFLICT (idem) DO NOTHING
    RETURNING (SELECT count(*) FROM ledger_accounts a WHERE a.id = ANY (v_accounts)) INTO v_known;
    IF NOT FOUND THEN
        SELECT id, body_hash INTO v_found FROM ledger_journals WHERE idem = p_key;
        IF v_found.body_hash = v_hash THEN
            RETURN v_found.id;
        END IF;
        PERFORM ledger_well_formed(p_key, p_codes, p_owners, p_currencies, p_amounts);
        RAISE EXCEPTION 'the key % was used for another journal', p_key
            USING ERRCODE = '23505', CONSTRAINT = 'ledger_key_reused', DETAIL = p_key;
    END IF;
    IF v_known < v_legs THEN
        PERFORM ledger_open_accounts(p_codes, p_owners, p_currencies, p_tenants);
    END IF;

    -- Taking the lock, looking whether the account carries the leg and moving it are one update.
    FOR i IN 1 .. v_legs LOOP
        CONTINUE WHEN NOT ledger_strict(p_codes[i]);
        v_move := p_amounts[i] * ledger_side(p_codes[i]);
        UPDATE ledger_balances b SET posted_minor = b.posted_minor + v_move, version = b.version + 1
        WHERE b.account_id = v_accounts[i] AND b.posted_minor + v_move >= 0
        RETURNING b.posted_minor, b.version INTO v_posted, v_version;
        IF NOT FOUND THEN
            PERFORM ledger_well_formed(p_key, p_codes, p_owners, p_currencies, p_amounts);
            SELECT p_codes[i] || '|' || p_currencies[i] || '|' || b.posted_minor || '|' || -v_move || '|' || p_owners[i]
                AS detail INTO v_found FROM ledger_balances b WHERE b.account_id = v_accounts[i];
            RAISE EXCEPTION 'an account would go below zero: %', v_found.detail
                USING ERRCODE = '23514', CONSTRAINT = 'ledger_overdraft', DETAIL = v_found.detail;
        END IF;
        v_after[i] := v_posted;
        v_versions[i] := v_version;
    END LOOP;

    INSERT INTO ledger_entries (journal_id, leg, account_id, currency, amount_minor, txid, balance_after, account_version)
    SELECT p_id, l.leg, l.account_id, l.currency, l.amount, pg_current_xact_id(), l.after, l.version
    FROM unnest(v_accounts, p_currencies, p_amounts, v_after, v_versions) WITH ORDINALITY
        AS l (account_id, currency, amount, after, version, leg);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a journal without legs' USING ERRCODE = '23514', CONSTRAINT = 'ledger_unbalanced', DETAIL = p_key;
    END IF;
    RETURN p_id;
END $$;

-- Walks a batch in order over the balances as they stood before it and names the journals that would overdraw an
-- account, given that the ones named are left out. Of several under one key the first that can be carried counts.
-- ``p_moved`` and ``p_totals`` are what the batch has moved already, on the account's normal side. Called under the
-- locks.
CREATE FUNCTION ledger_overdrawing(
    p_ids uuid[], p_keys text[], p_new uuid[], p_refused text[], p_leg_journals integer[], p_accounts uuid[],
    p_amounts bigint[], p_moved uuid[], p_totals bigint[]
) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_refused text[] := p_refused;
    v_done boolean[] := array_fill(false, ARRAY[cardinality(p_ids)]);
    v_held bigint[];
    v_journal record;
    v_short boolean;
BEGIN
    SELECT array_agg(b.posted_minor - coalesce(m.total, 0) ORDER BY b.account_id) INTO v_held
    FROM ledger_balances b LEFT JOIN unnest(p_moved, p_totals) AS m (account_id, total) USING (account_id)
    WHERE b.account_id = ANY (p_accounts) AND b.strict;
    FOR v_journal IN
        WITH dense AS (
            SELECT b.account_id, b.side, row_number() OVER (ORDER BY b.account_id)::integer AS slot
            FROM ledger_balances b WHERE b.account_id = ANY (p_accounts) AND b.strict
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
-- Legs name their journal by its place in the batch (from 1) and come in its order, by account within it.
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
    v_refused text[] := ledger_malformed(p_keys, p_leg_journals, p_codes, p_owners, p_currencies, p_amounts);
    v_new uuid[];
    v_live boolean[]; -- by journal: posted in this round
    v_open boolean[]; -- by journal: not refused yet, so either posted or a key that was there before
    v_accounts uuid[]; -- by leg, as the three that follow
    v_numbers smallint[];
    v_running bigint[];
    v_nth bigint[];
    v_moved uuid[]; -- by strict account, in order, as the four that follow
    v_totals bigint[];
    v_lowest bigint[];
    v_counts bigint[];
    v_locked bigint;
    v_missing boolean := false;
    v_found uuid[];
    v_befores bigint[];
    v_versions bigint[];
BEGIN
    SELECT array_agg(ledger_body_hash(k.kind, k.order_id, l.codes, l.owners, l.currencies, l.amounts) ORDER BY k.ord)
    INTO v_hashes
    FROM unnest(p_kinds, p_order_ids) WITH ORDINALITY AS k (kind, order_id, ord)
    LEFT JOIN (
        SELECT u.journal, array_agg(u.code ORDER BY u.ord) AS codes, array_agg(u.owner ORDER BY u.ord) AS owners,
               array_agg(u.currency ORDER BY u.ord) AS currencies, array_agg(u.amount ORDER BY u.ord) AS amounts
        FROM unnest(p_leg_journals, p_codes, p_owners, p_currencies, p_amounts) WITH ORDINALITY
            AS u (journal, code, owner, currency, amount, ord) GROUP BY u.journal
    ) l ON l.journal = k.ord;
    SELECT array_agg(u.account ORDER BY u.ord), array_agg(u.number ORDER BY u.ord) INTO v_accounts, v_numbers
    FROM (
        SELECT ledger_account_id(l.code, l.owner, l.currency) AS account, l.ord,
               row_number() OVER (PARTITION BY l.journal ORDER BY l.ord)::smallint AS number
        FROM unnest(p_leg_journals, p_codes, p_owners, p_currencies) WITH ORDINALITY
            AS l (journal, code, owner, currency, ord)
    ) u;
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

            -- Accounts are opened before any is locked. That all strict ones are there shows when they are locked;
            -- when not, this round is undone and the next one looks for them here.
            PERFORM FROM (
                SELECT DISTINCT l.account_id FROM unnest(v_accounts, p_codes, p_leg_journals) AS l (account_id, code, journal)
                WHERE v_open[l.journal] AND (v_missing OR NOT ledger_strict(l.code))
            ) l WHERE NOT EXISTS (SELECT FROM ledger_accounts a WHERE a.id = l.account_id);
            IF FOUND THEN
                PERFORM ledger_open_accounts(
                    array_agg(l.code), array_agg(l.owner), array_agg(l.currency), array_agg(l.tenant))
                FROM unnest(p_codes, p_owners, p_currencies, p_tenants, p_leg_journals)
                    AS l (code, owner, currency, tenant, journal) WHERE v_open[l.journal];
            END IF;

            -- What the batch takes each strict account through, known before it is locked. Accounts of replays are
            -- among them: one of those may turn out to be the first of its key.
            SELECT array_agg(r.running ORDER BY r.ord), array_agg(r.nth ORDER BY r.ord) INTO v_running, v_nth
            FROM (
                SELECT l.ord,
                       CASE WHEN ledger_strict(l.code) THEN sum(CASE WHEN v_live[l.journal]
                           THEN l.amount * ledger_side(l.code) ELSE 0 END) OVER legs END::bigint AS running,
                       count(*) FILTER (WHERE v_live[l.journal]) OVER legs AS nth
                FROM unnest(v_accounts, p_codes, p_amounts, p_leg_journals) WITH ORDINALITY
                    AS l (account_id, code, amount, journal, ord)
                WINDOW legs AS (PARTITION BY l.account_id ORDER BY l.ord ROWS UNBOUNDED PRECEDING)
            ) r;
            SELECT array_agg(m.account_id ORDER BY m.place), array_agg(m.total ORDER BY m.place),
                   array_agg(m.lowest ORDER BY m.place), array_agg(m.legs ORDER BY m.place)
            INTO v_moved, v_totals, v_lowest, v_counts
            FROM (
                SELECT g.account_id, g.total, g.lowest, g.legs,
                       row_number() OVER (ORDER BY g.code, g.owner COLLATE "C", g.currency) AS place
                FROM (
                    SELECT l.account_id, min(l.code) AS code, min(l.owner) AS owner, min(l.currency) AS currency,
                           sum(l.amount * ledger_side(l.code)) FILTER (WHERE v_live[l.journal])::bigint AS total,
                           min(l.running) AS lowest, count(*) FILTER (WHERE v_live[l.journal]) AS legs
                    FROM unnest(v_accounts, p_codes, p_owners, p_currencies, p_amounts, v_running, p_leg_journals)
                        AS l (account_id, code, owner, currency, amount, running, journal)
                    WHERE ledger_strict(l.code) AND v_open[l.journal] GROUP BY l.account_id
                ) g
            ) m;

            PERFORM FROM unnest(v_moved) WITH ORDINALITY AS m (account_id, place)
            JOIN ledger_balances b USING (account_id) ORDER BY m.place FOR NO KEY UPDATE OF b;
            GET DIAGNOSTICS v_locked = ROW_COUNT;
            IF v_locked < cardinality(v_moved) THEN
                v_missing := true;
                RAISE EXCEPTION USING ERRCODE = 'LY001', MESSAGE = 'batch goes another round';
            END IF;
            WITH moved AS (
                UPDATE ledger_balances b SET posted_minor = b.posted_minor + m.total, version = b.version + m.legs
                FROM unnest(v_moved, v_totals, v_lowest, v_counts) AS m (account_id, total, lowest, legs)
                WHERE b.account_id = m.account_id AND m.legs > 0 AND b.posted_minor + m.lowest >= 0
                RETURNING b.account_id, b.posted_minor - m.total AS before, b.version - m.legs AS version
            )
            SELECT array_agg(account_id), array_agg(before), array_agg(version) INTO v_found, v_befores, v_versions
            FROM moved;
            IF coalesce(cardinality(v_found), 0)
                < (SELECT count(*) FROM unnest(v_counts) AS m (legs) WHERE m.legs > 0) THEN
                v_refused := ledger_overdrawing(p_ids, p_keys, v_new, v_refused, p_leg_journals, v_accounts, p_amounts,
                    v_found, (SELECT array_agg(m.total ORDER BY f.place) FROM unnest(v_found) WITH ORDINALITY
                        AS f (account_id, place) JOIN unnest(v_moved, v_totals) AS m (account_id, total) USING (account_id)));
                -- Undo the claims of this round, then go again without the journals that cannot be carried.
                RAISE EXCEPTION USING ERRCODE = 'LY001', MESSAGE = 'batch goes another round';
            END IF;

            INSERT INTO ledger_entries
                (journal_id, leg, account_id, currency, amount_minor, txid, balance_after, account_version)
            SELECT p_ids[l.journal], l.number, l.account_id, l.currency, l.amount, pg_current_xact_id(),
                   m.before + l.running, m.version + l.nth
            FROM unnest(v_accounts, p_currencies, p_amounts, p_leg_journals, v_numbers, v_running, v_nth)
                AS l (account_id, currency, amount, journal, number, running, nth)
            LEFT JOIN unnest(v_found, v_befores, v_versions) AS m (account_id, before, version) USING (account_id)
            WHERE v_live[l.journal];
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
    LEFT JOIN ledger_journals j ON j.idem = CASE WHEN NOT k.live AND k.refused IS NULL THEN k.key END
    ORDER BY k.ord;
END $$;

-- Locks the strict balances a transaction is about to move, in order, and tells what they hold on their normal
-- side. Deferred accounts are told without a lock.
CREATE FUNCTION hold_balances(p_codes integer[], p_owners text[], p_currencies bpchar[], p_tenants uuid[])
RETURNS TABLE (ord integer, balance_minor bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_accounts uuid[];
BEGIN
    SELECT array_agg(ledger_account_id(l.code, l.owner, l.currency) ORDER BY l.ord) INTO v_accounts
    FROM unnest(p_codes, p_owners, p_currencies) WITH ORDINALITY AS l (code, owner, currency, ord);
    PERFORM FROM unnest(v_accounts) AS l (id) WHERE NOT EXISTS (SELECT FROM ledger_accounts a WHERE a.id = l.id);
    IF FOUND THEN
        PERFORM ledger_open_accounts(p_codes, p_owners, p_currencies, p_tenants);
    END IF;
    PERFORM FROM unnest(v_accounts, p_codes, p_owners, p_currencies) AS l (account_id, code, owner, currency)
    JOIN ledger_balances b USING (account_id) WHERE b.strict
    ORDER BY l.code, l.owner COLLATE "C", l.currency FOR NO KEY UPDATE OF b;
    RETURN QUERY
    SELECT l.ord::integer, n.balance_minor
    FROM unnest(v_accounts) WITH ORDINALITY AS l (account_id, ord)
    JOIN ledger_balances_now n ON n.account_id = l.account_id ORDER BY l.ord;
END $$;

REVOKE EXECUTE ON FUNCTION
    ledger_open_accounts(integer[], text[], bpchar[], uuid[]),
    ledger_overdrawing(uuid[], text[], uuid[], text[], integer[], uuid[], bigint[], uuid[], bigint[]),
    hold_balances(integer[], text[], bpchar[], uuid[]),
    post_journal(uuid, text, text, timestamptz, timestamptz, uuid, text, text,
                 integer[], text[], bpchar[], uuid[], bigint[]),
    post_batch(timestamptz, uuid[], text[], text[], timestamptz[], uuid[], text[], text[],
               integer[], integer[], text[], bpchar[], uuid[], bigint[])
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    hold_balances(integer[], text[], bpchar[], uuid[]),
    post_journal(uuid, text, text, timestamptz, timestamptz, uuid, text, text,
                 integer[], text[], bpchar[], uuid[], bigint[]),
    post_batch(timestamptz, uuid[], text[], text[], timestamptz[], uuid[], text[], text[],
               integer[], integer[], text[], bpchar[], uuid[], bigint[])
TO lianyu_app;
