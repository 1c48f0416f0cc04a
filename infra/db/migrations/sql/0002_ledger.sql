-- The ledger: double entry, append only, written by two functions and by nothing else (docs: money.md §0-§2).
--
-- Strict accounts (parties) may never go below zero on their normal side: their balance row is locked and moved
-- with every posting. Deferred accounts (the provider's cash, revenue, tax) take no lock at all: their balance is
-- what was rolled up so far plus the tail of entries that are not, read in one statement.
--
-- Lock order, the same in every function here: journal keys (sorted), new accounts, balances of strict accounts,
-- the latter two sorted by account: code, owner (by bytes), currency. Whoever posts several journals in one
-- transaction does it with post_batch, or holds every balance first with hold_balances.
--
-- An account's id is made from its name, so that postings need not look it up.
--
-- entries.txid orders entries by the cluster's own transaction ids. A logical dump restored into a new cluster
-- needs that cluster's counter set beyond the old one first (pg_resetwal -x), or new entries look rolled up.

-- The normal side of an account: 1 debit, -1 credit.
CREATE FUNCTION ledger_side(code integer) RETURNS integer LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN code < 2000 OR code >= 5000 THEN 1 ELSE -1 END;

-- Whether it may not go below zero on it.
CREATE FUNCTION ledger_strict(code integer) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN code IN (1100, 1110, 2000, 2010, 2020, 2030, 2100);

CREATE VIEW ledger_chart AS
SELECT code, name, ledger_side(code)::smallint AS side, ledger_strict(code) AS strict FROM (VALUES
    (1000, 'provider, pending'),
    (1010, 'provider, available'),
    (1020, 'bank, operating'),
    (1030, 'platform payout in transit'),
    (1040, 'provider, reserved'),
    (1100, 'receivable from a party'),
    (1110, 'receivable, disputed charge'),
    (1900, 'memo: frozen at a sharing rail'),
    (2000, 'payable, in the return window'),
    (2010, 'payable, available'),
    (2020, 'payable, in payout'),
    (2030, 'payable, reserved'),
    (2100, 'refund to a customer, pending'),
    (2200, 'tax payable'),
    (2300, 'suspense'),
    (2400, 'platform fee, deferred'),
    (2900, 'memo: entitled at a rail'),
    (2910, 'memo: instructed at a rail'),
    (4000, 'revenue, platform fee'),
    (4010, 'revenue, processing recharge'),
    (4090, 'rounding gain'),
    (5000, 'provider fees'),
    (5010, 'dispute fees'),
    (5020, 'chargeback losses'),
    (5030, 'goodwill and platform coupons'),
    (5040, 'currency differences'),
    (5050, 'rounding differences'),
    (5060, 'bad debt'),
    (6000, 'currency position')
) AS chart (code, name);

-- STABLE, as convert_to is, although it depends on nothing else: otherwise it would not be inlined.
CREATE FUNCTION ledger_account_id(code integer, owner text, currency text) RETURNS uuid LANGUAGE sql STABLE
    RETURN encode(substr(sha256(convert_to(code::text || '|' || owner || '|' || currency, 'UTF8')), 1, 16), 'hex')::uuid;

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
REVOKE EXECUTE ON FUNCTION roll_up_ledger() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION roll_up_ledger() TO lianyu_app;
