-- Of the units a supplier took back, those it can sell again (supply/inventory/returns.py). Returns that were closed
-- before put nothing on a shelf.
ALTER TABLE return_lines ADD COLUMN restocked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE return_lines ALTER COLUMN restocked DROP DEFAULT;
ALTER TABLE return_lines ADD CONSTRAINT ck_return_lines_restocked CHECK (restocked BETWEEN 0 AND accepted);
