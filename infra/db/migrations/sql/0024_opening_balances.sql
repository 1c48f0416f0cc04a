-- Where reconciliation begins at an account that was in use before (supply/settlement/reconciliation/opening.py).

CREATE OR REPLACE VIEW ledger_chart AS
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
    (3000, 'opening balances'),
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

ALTER TABLE psp_cursors ADD COLUMN starts_at timestamptz, ADD COLUMN opened_at timestamptz;

CREATE TABLE psp_openings (
    provider varchar NOT NULL,
    currency char(3) NOT NULL,
    starts_at timestamptz NOT NULL,
    available_minor bigint NOT NULL,
    pending_minor bigint NOT NULL,
    booked_at timestamptz NOT NULL,
    booked_by varchar NOT NULL,
    CONSTRAINT pk_psp_openings PRIMARY KEY (provider, currency)
);
CALL protect_platform_rows('psp_openings');
