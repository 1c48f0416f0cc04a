-- How far the provider's own list of events was read (marketplace/orders/missed_notices.py).
CREATE TABLE provider_event_cursors (
    provider VARCHAR NOT NULL,
    seen_to TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_provider_event_cursors PRIMARY KEY (provider)
);
CALL protect_platform_rows('provider_event_cursors');
