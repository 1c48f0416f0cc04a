-- Entries lie in partitions by month of the journal's id (docs/decisions/0013). A UUIDv7 begins with the
-- milliseconds of its making, so that new entries fall into one partition, all legs of a journal lie together, and
-- the primary key (journal_id, leg) is unique over all of them. Whatever no month takes lies in ledger_entries_rest.
--
-- Partitions have a schema of their own that the application's role cannot enter: it reads and writes the parent,
-- under the parent's row security. The triggers that hold the books stand on each partition too, for statements
-- that name it.
CREATE SCHEMA ledger_partitions;

-- The smallest id made at this millisecond.
CREATE FUNCTION ledger_first_id(p_at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN (lpad(to_hex(floor(extract(epoch FROM p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

CREATE PROCEDURE ledger_guard(target regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER must_balance AFTER INSERT ON %s REFERENCING NEW TABLE AS added'
        ' FOR EACH STATEMENT EXECUTE FUNCTION ledger_must_balance()', target);
    EXECUTE format('CREATE TRIGGER is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON %s'
        ' FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_history()', target);
END $$;

CALL ledger_guard('ledger_entries');

CREATE TABLE ledger_partitions.ledger_entries_rest PARTITION OF ledger_entries DEFAULT;

CALL ledger_guard('ledger_partitions.ledger_entries_rest');

-- Makes the partitions of this month and ``p_ahead`` more; returns how many were not there. What had to go into
-- the rest meanwhile moves where it belongs. Readers of the ledger wait for it no longer than the lock timeout;
-- posting goes on, except that a rest with rows in it is locked.
CREATE FUNCTION make_ledger_partitions(p_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    v_month timestamp;
    v_from uuid;
    v_to uuid;
    v_name text;
    v_made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger partitions', 0));
    FOR i IN 0 .. least(p_ahead, 60) LOOP
        v_month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i);
        v_name := 'ledger_entries_p' || to_char(v_month, 'YYYYMM');
        CONTINUE WHEN to_regclass('ledger_partitions.' || v_name) IS NOT NULL;
        v_from := ledger_first_id(v_month AT TIME ZONE 'UTC');
        v_to := ledger_first_id((v_month + interval '1 month') AT TIME ZONE 'UTC');
        -- Made apart and attached: unlike CREATE … PARTITION OF, that lets postings go on.
        EXECUTE format('CREATE TABLE ledger_partitions.%I (LIKE ledger_entries INCLUDING ALL)', v_name);
        IF EXISTS (SELECT FROM ledger_partitions.ledger_entries_rest WHERE journal_id >= v_from AND journal_id < v_to) THEN
            ALTER TABLE ledger_partitions.ledger_entries_rest DISABLE TRIGGER is_history;
            EXECUTE format('WITH late AS (DELETE FROM ledger_partitions.ledger_entries_rest'
                ' WHERE journal_id >= $1 AND journal_id < $2 RETURNING *)'
                ' INSERT INTO ledger_partitions.%I SELECT * FROM late', v_name) USING v_from, v_to;
            ALTER TABLE ledger_partitions.ledger_entries_rest ENABLE TRIGGER is_history;
        END IF;
        CALL ledger_guard(('ledger_partitions.' || v_name)::regclass);
        EXECUTE format('ALTER TABLE ledger_entries ATTACH PARTITION ledger_partitions.%I FOR VALUES FROM (%L) TO (%L)',
            v_name, v_from, v_to);
        v_made := v_made + 1;
    END LOOP;
    RETURN v_made;
END $$;

-- Takes one month's entries out of the ledger, for an archive: their sums per account are carried, so that the
-- books still add up, and the table stays in the schema, by itself. Journals and their keys stay where they are.
-- Only the owner may. 55000 when the month is not over for long enough, or not all of it is rolled up.
CREATE FUNCTION detach_ledger_partition(p_month date) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    v_name text := 'ledger_entries_p' || to_char(p_month, 'YYYYMM');
    v_open bigint;
    v_entries bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger partitions', 0));
    IF date_trunc('month', p_month::timestamp) + interval '2 months' > now() AT TIME ZONE 'UTC' THEN
        RAISE EXCEPTION 'entries of % may still come', v_name USING ERRCODE = '55000';
    END IF;
    EXECUTE format('LOCK TABLE ledger_partitions.%I IN SHARE ROW EXCLUSIVE MODE', v_name);
    EXECUTE format('SELECT count(*) FROM ledger_partitions.%I e JOIN ledger_balances b ON b.account_id = e.account_id'
        ' WHERE NOT b.strict AND e.txid >= b.rolled_to', v_name) INTO v_open;
    IF v_open > 0 THEN
        RAISE EXCEPTION '% entries of % are not rolled up yet', v_open, v_name USING ERRCODE = '55000';
    END IF;
    EXECUTE format('INSERT INTO ledger_carried (account_id, amount_minor, entries)'
        ' SELECT account_id, sum(amount_minor), count(*) FROM ledger_partitions.%I GROUP BY account_id'
        ' ON CONFLICT (account_id) DO UPDATE SET amount_minor = ledger_carried.amount_minor + excluded.amount_minor,'
        ' entries = ledger_carried.entries + excluded.entries', v_name);
    EXECUTE format('SELECT count(*) FROM ledger_partitions.%I', v_name) INTO v_entries;
    EXECUTE format('ALTER TABLE ledger_entries DETACH PARTITION ledger_partitions.%I', v_name);
    RETURN v_entries;
END $$;

CALL protect_platform_rows('ledger_carried');

REVOKE ALL ON ledger_carried FROM lianyu_app;
GRANT SELECT ON ledger_carried TO lianyu_app;
REVOKE ALL ON SCHEMA ledger_partitions FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE ledger_guard(regclass) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION make_ledger_partitions(integer), detach_ledger_partition(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_ledger_partitions(integer) TO lianyu_app;

SELECT make_ledger_partitions(3);
