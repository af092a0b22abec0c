-- +goose Up

-- A command that is being sent while its person is erased ends with an answer that knows them: it is emptied as it ends.
ALTER TABLE commands ADD COLUMN _erase boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN commands._erase IS 'the person was erased while it was being sent: it is emptied when it ends';

-- +goose StatementBegin
CREATE FUNCTION empty_erased_command() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.arguments := '{}';
    NEW.expected := NULL;
    NEW.result := NULL;
    NEW.evidence := NULL;
    NEW.cv_filename := NULL;
    NEW.cv_sha256 := NULL;
    IF NEW.error IS NOT NULL THEN
        NEW.error := 'erased';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER empty_erased BEFORE UPDATE ON commands FOR EACH ROW
    WHEN (NEW._erase AND NEW.state IN ('done', 'refused')) EXECUTE FUNCTION empty_erased_command();

-- An event about a note that does not say of which dossier can only be followed by reading all notes.
CREATE INDEX webhook_events_unplaced_notes ON webhook_events (received_at) WHERE type = 'note.created' AND dossier_id IS NULL;

-- +goose Down

DROP INDEX webhook_events_unplaced_notes;
DROP TRIGGER empty_erased ON commands;
DROP FUNCTION empty_erased_command();
ALTER TABLE commands DROP COLUMN _erase;
