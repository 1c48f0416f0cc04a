INSERT INTO search_generations (number, status) VALUES (1, 'live');

-- What is in the index is published, so everybody who is somebody may read it; which brands' products a query
-- may find is part of every query (infra/search/index.py). Only the platform's indexer writes.
ALTER TABLE search_documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY found_by_all ON search_documents FOR SELECT USING ((SELECT app_kind()) <> 'nobody');
CREATE POLICY platform_only ON search_documents USING ((SELECT app_sees_everything()));

ALTER TABLE search_generations ENABLE ROW LEVEL SECURITY;
CREATE POLICY known_to_all ON search_generations FOR SELECT USING ((SELECT app_kind()) <> 'nobody');
CREATE POLICY platform_only ON search_generations USING ((SELECT app_sees_everything()));
