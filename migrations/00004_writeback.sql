-- +goose Up

-- What the functions below see, in the order they look: pg_temp last, so that nobody's temporary table takes the place of
-- one of ours in a function that runs with its owner's rights. They keep it by SET search_path FROM CURRENT.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Write-back. One row per command, written by the functions at the end of this file and carried out by the worker.
CREATE TABLE commands (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number      bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    operation   text NOT NULL,
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'done', 'refused', 'unknown')),
    leadgrid_id text,
    result      jsonb,
    error       text,
    attempts    integer NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,

    dossier_id  text,
    contact_id  text,
    arguments   jsonb NOT NULL DEFAULT '{}',
    expected    jsonb,
    depends_on  uuid[] NOT NULL DEFAULT '{}',
    cv_filename text,
    cv_sha256   bytea,
    written_by  name NOT NULL DEFAULT session_user,

    due_at      timestamptz DEFAULT '-infinity',
    sent_at     timestamptz,
    sent        bigint,
    answered_at timestamptz,
    certain_at  timestamptz,
    looks       integer NOT NULL DEFAULT 0,
    happened    boolean NOT NULL DEFAULT false,
    evidence    jsonb,
    confirms    smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
COMMENT ON TABLE commands IS 'write-back: one row per command, its state and what LeadGrid answered';
COMMENT ON COLUMN commands.number IS 'the order of writing, which is the order of commit for commands on one dossier or contact';
COMMENT ON COLUMN commands.state IS 'pending, sending, done, refused (nothing happened), unknown (it is being looked into, or waits for a person)';
COMMENT ON COLUMN commands.leadgrid_id IS 'the dossier, contact or note that LeadGrid made or changed; of a link, the contact';
COMMENT ON COLUMN commands.attempts IS 'how often it was sent so that LeadGrid may have seen it';
COMMENT ON COLUMN commands.dossier_id IS 'the dossier it is about; the id of an earlier command until that one is done';
COMMENT ON COLUMN commands.contact_id IS 'the contact it is about; the id of an earlier command until that one is done';
COMMENT ON COLUMN commands.arguments IS 'what is sent';
COMMENT ON COLUMN commands.cv_sha256 IS 'hash of the CV, which itself is kept in command_cvs only until the command is finished';
COMMENT ON COLUMN commands.due_at IS 'pending: not sent before; sending: given up after; unknown: looked into next, by a person when null; done: read once more';
COMMENT ON COLUMN commands.sent_at IS 'when it was first sent so that LeadGrid may have seen it';
COMMENT ON COLUMN commands.sent IS 'the place of that moment among the observations: what an earlier one saw was not made by this command';
COMMENT ON COLUMN commands.certain_at IS 'from when on a look that finds nothing shows that nothing happened';
COMMENT ON COLUMN commands.happened IS 'LeadGrid said that it was done, in an answer that could not be read';
COMMENT ON COLUMN commands.evidence IS 'what the last look found: ids and times only';
COMMENT ON COLUMN commands.confirms IS 'reads still to come that confirm what LeadGrid answered';
CREATE INDEX commands_due ON commands (due_at) WHERE state IN ('sending', 'unknown') OR confirms > 0;
CREATE INDEX commands_pending ON commands (number) WHERE state = 'pending';
CREATE INDEX commands_open ON commands (state) WHERE state IN ('pending', 'sending', 'unknown');
CREATE INDEX commands_refused ON commands (number) WHERE state = 'refused' OR error IS NOT NULL;
CREATE INDEX commands_dossier_id ON commands (dossier_id);
CREATE INDEX commands_contact_id ON commands (contact_id);
-- No two commands can have made the same thing.
CREATE UNIQUE INDEX commands_made ON commands (leadgrid_id, operation)
    WHERE operation IN ('create_dossier', 'create_contact', 'add_note');

-- One row per unfinished command and thing it touches: a command runs when no earlier one touches the same.
CREATE TABLE command_queue (
    object text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (object, number)
);
CREATE INDEX command_queue_number ON command_queue (number);

-- The CVs of unfinished commands.
CREATE TABLE command_cvs (
    number bigint PRIMARY KEY,
    cv     bytea NOT NULL
);
ALTER TABLE command_cvs ALTER COLUMN cv SET STORAGE EXTERNAL; -- a PDF is compressed already

CREATE VIEW commands_attention AS
SELECT c.id, c.operation, c.state, c.dossier_id, c.contact_id, c.leadgrid_id, c.error,
       CASE c.state WHEN 'unknown' THEN CASE WHEN c.due_at IS NULL THEN 'worker commands settle' ELSE 'wait: it is being looked into' END END AS to_do,
       c.attempts, c.evidence, c.created_at, c.sent_at, c.finished_at, c.written_by
FROM commands c
WHERE c.state IN ('refused', 'unknown') OR (c.state = 'done' AND c.error IS NOT NULL)
ORDER BY c.number;
COMMENT ON VIEW commands_attention IS 'Commands that were refused, whose outcome is unknown, or that LeadGrid carried out only in part';

-- A mistake in a call. The text names fields and ids, never what a person typed: Postgres logs it.
-- +goose StatementBegin
CREATE FUNCTION command_mistake(problem text, hint text DEFAULT NULL, code text DEFAULT 'invalid_parameter_value') RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION USING MESSAGE = problem, ERRCODE = code, HINT = coalesce(hint, '');
END $$;
-- +goose StatementEnd

-- What may be sent for which field. A rule that ends in ! allows no null.
-- +goose StatementBegin
CREATE FUNCTION command_rules(operation text) RETURNS TABLE (field text, rule text)
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT r.field, r.rule FROM (VALUES
        ('dossier', 'create', 'type',             'one of candidate, sales!'),
        ('dossier', 'both',   'name',             'words!'),
        ('dossier', 'both',   'email',            'email'),
        ('dossier', 'both',   'phone',            'text'),
        ('dossier', 'both',   'city',             'text'),
        ('dossier', 'both',   'company',          'text'),
        ('dossier', 'both',   'role',             'text'),
        ('dossier', 'create', 'flow_id',          'text'),
        ('dossier', 'both',   'assigned_to',      'text'),
        ('dossier', 'both',   'intake_notes',     'text'),
        ('dossier', 'both',   'contact_person',   'text'),
        ('dossier', 'both',   'deal_size',        'amount'),
        ('dossier', 'both',   'deal_currency',    'currency'),
        ('dossier', 'update', 'status',           'one of active, won, lost, archived!'),
        ('dossier', 'update', 'current_stage_id', 'words!'),
        ('contact', 'both',   'full_name',        'words!'),
        ('contact', 'both',   'email',            'email'),
        ('contact', 'both',   'phone',            'text'),
        ('contact', 'both',   'linkedin_url',     'text'),
        ('contact', 'both',   'company',          'text'),
        ('contact', 'both',   'role',             'text'),
        ('contact', 'both',   'city',             'text'),
        ('contact', 'both',   'kind',             'some of candidate, prospect, client, supplier, partner!'),
        ('contact', 'both',   'notes',            'text'),
        ('link',    'create', 'role_on_dossier',  'one of primary, hiring_manager, decision_maker, champion, gatekeeper, introducer, other!'),
        ('link',    'create', 'is_primary',       'flag!'),
        ('note',    'create', 'content',          'words!'),
        ('note',    'create', 'is_internal',      'flag!')
    ) AS r (object, verb, field, rule)
    WHERE operation IN ('create_' || r.object, 'add_' || r.object) AND r.verb IN ('create', 'both')
       OR operation = r.object || '_contact' AND r.object = 'link'
       OR operation = 'update_' || r.object AND r.verb IN ('update', 'both')
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION command_check(operation text, fields jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    wrong text;
    given record;
    sort  text;
    words text[];
BEGIN
    IF jsonb_typeof(fields) IS DISTINCT FROM 'object' OR operation LIKE 'update%' AND fields = '{}' THEN
        PERFORM command_mistake('changes must be a JSON object with at least one field',
            'For example ''{"phone": "+32 2 555 01 00", "assigned_to": null}''');
    END IF;
    SELECT string_agg(format('"%s"', f.key), ', ' ORDER BY f.key) INTO wrong
    FROM jsonb_object_keys(fields) AS f (key)
    WHERE f.key NOT IN (SELECT r.field FROM command_rules(operation) r);
    IF wrong IS NOT NULL THEN
        PERFORM command_mistake(format('%s cannot change %s', operation, wrong),
            format('It can change %s', (SELECT string_agg(r.field, ', ') FROM command_rules(operation) r)));
    END IF;
    FOR given IN
        SELECT r.field, r.rule, fields -> r.field AS value, fields ->> r.field AS text, jsonb_typeof(fields -> r.field) AS type
        FROM command_rules(operation) r
        WHERE fields ? r.field
           OR operation NOT LIKE 'update%' AND r.rule LIKE '%!' AND r.rule NOT LIKE 'flag%' AND r.rule NOT LIKE 'some%'
    LOOP
        IF coalesce(given.type, 'null') = 'null' THEN
            CONTINUE WHEN given.rule NOT LIKE '%!';
            PERFORM command_mistake(format('%s %s', given.field, CASE WHEN fields ? given.field THEN 'cannot be null' ELSE 'is required' END),
                NULL, 'null_value_not_allowed');
        END IF;
        sort := rtrim(given.rule, '!');
        IF sort = 'amount' THEN
            IF given.type <> 'number' THEN
                PERFORM command_mistake(format('%s must be a number', given.field), 'In whole currency units, for example 12500 or 12500.50');
            END IF;
        ELSIF sort = 'flag' THEN
            IF given.type <> 'boolean' THEN
                PERFORM command_mistake(format('%s must be true or false', given.field));
            END IF;
        ELSIF sort LIKE 'some of %' THEN
            words := string_to_array(substr(sort, 9), ', ');
            IF given.type <> 'array' OR EXISTS (
                SELECT FROM jsonb_array_elements(given.value) AS e (value)
                WHERE jsonb_typeof(e.value) <> 'string' OR e.value #>> '{}' <> ALL (words)) THEN
                PERFORM command_mistake(format('%s holds something that LeadGrid does not know', given.field),
                    format('It is a list of some of: %s', substr(sort, 9)));
            END IF;
        ELSIF given.type <> 'string' THEN
            PERFORM command_mistake(format('%s must be a text', given.field));
        ELSIF sort LIKE 'one of %' THEN
            IF given.text <> ALL (string_to_array(substr(sort, 8), ', ')) THEN
                PERFORM command_mistake(format('%s cannot be "%s"', given.field, left(given.text, 40)), format('It is one of: %s', substr(sort, 8)));
            END IF;
        ELSIF sort = 'words' THEN
            IF btrim(given.text, E' \t\r\n') = '' THEN
                PERFORM command_mistake(format('%s cannot be empty', given.field));
            END IF;
        ELSIF sort = 'email' THEN
            IF given.text !~ '^[^@[:space:]<>,;:"()\\]+@[^@[:space:]<>,;:"()\\]+$' THEN
                PERFORM command_mistake(format('%s is not an e-mail address', given.field));
            END IF;
        ELSIF sort = 'currency' THEN
            IF given.text !~ '^[A-Z]{3}$' THEN
                PERFORM command_mistake(format('%s must be an ISO 4217 code', given.field), 'Three capital letters, such as EUR');
            END IF;
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd

-- Finds what an id argument names: something the mirror knows, or what an earlier command will make. objects are the names
-- the queue knows it by; source is the command that has not made it yet.
-- +goose StatementBegin
CREATE FUNCTION command_target(kind text, given text, OUT id text, OUT source uuid, OUT objects text[])
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    maker   commands%ROWTYPE;
    found   boolean;
    deleted boolean;
BEGIN
    IF coalesce(btrim(given), '') = '' THEN
        PERFORM command_mistake(format('%s_id is required', kind), NULL, 'null_value_not_allowed');
    END IF;
    IF kind = 'dossier' THEN
        SELECT true, d._deleted_at IS NOT NULL INTO found, deleted FROM dossiers d WHERE d.id = given;
    ELSE
        SELECT true, t._deleted_at IS NOT NULL INTO found, deleted FROM contacts t WHERE t.id = given;
    END IF;
    IF deleted THEN
        PERFORM command_mistake(format('%s %s is deleted in LeadGrid', kind, given), NULL, 'foreign_key_violation');
    END IF;
    SELECT c.* INTO maker FROM commands c WHERE c.leadgrid_id = given AND c.operation = 'create_' || kind;
    IF maker.id IS NULL AND given ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' AND found IS NULL THEN
        SELECT c.* INTO maker FROM commands c WHERE c.id = given::uuid;
        IF maker.id IS NOT NULL AND maker.operation <> 'create_' || kind THEN
            PERFORM command_mistake(format('command %s is %s, which makes no %s', given, maker.operation, kind), NULL, 'foreign_key_violation');
        ELSIF maker.state = 'refused' THEN
            PERFORM command_mistake(format('command %s, which should have made the %s, was refused', given, kind),
                'Its error says why', 'foreign_key_violation');
        END IF;
    END IF;
    IF found IS NULL AND maker.id IS NULL THEN
        PERFORM command_mistake(format('there is no %s %s', kind, given),
            format('It is the id of a %s that the mirror knows, or of an earlier create_%s; `worker status` says how fresh the mirror is', kind, kind),
            'foreign_key_violation');
    END IF;
    id := coalesce(maker.leadgrid_id, given);
    IF maker.id IS NOT NULL THEN
        objects := ARRAY['command:' || maker.id];
    END IF;
    IF maker.id IS NULL OR maker.leadgrid_id IS NOT NULL THEN
        objects := objects || (kind || ':' || id);
    ELSE
        source := maker.id;
    END IF;
END $$;
-- +goose StatementEnd

-- Holds the things that a command touches for the rest of the caller's transaction, so that commands on one thing are
-- numbered in the order in which they are committed.
-- +goose StatementBegin
CREATE FUNCTION command_lock(objects text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    object text;
BEGIN
    FOR object IN SELECT DISTINCT o FROM unnest(objects) AS o ORDER BY o LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || ':' || object, 7));
    END LOOP;
END $$;
-- +goose StatementEnd

-- Writes the command. Whoever passes objects has locked them.
-- +goose StatementBegin
CREATE FUNCTION command_write(
    operation text, fields jsonb, dossier text, contact text, sources uuid[], objects text[],
    expected jsonb DEFAULT NULL, cv bytea DEFAULT NULL, cv_filename text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    command uuid := gen_random_uuid();
    place   bigint;
BEGIN
    INSERT INTO commands (id, operation, arguments, dossier_id, contact_id, depends_on, expected, cv_filename, cv_sha256)
    VALUES (command, command_write.operation, fields, dossier, contact, array_remove(sources, NULL), command_write.expected,
            command_write.cv_filename, sha256(command_write.cv))
    RETURNING number INTO place;
    INSERT INTO command_queue (object, number)
    SELECT DISTINCT o, place FROM unnest(objects || ('command:' || command)) AS o;
    IF command_write.cv IS NOT NULL THEN
        INSERT INTO command_cvs (number, cv) VALUES (place, command_write.cv);
    END IF;
    PERFORM pg_notify('leadgrid_commands', current_schema());
    RETURN command;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION command_check_cv(cv bytea) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF octet_length(cv) > 10 * 1024 * 1024 THEN
        PERFORM command_mistake(format('the CV is %s bytes long, and LeadGrid takes at most 10 MB', octet_length(cv)));
    ELSIF substr(cv, 1, 5) <> '\x255044462d' THEN
        PERFORM command_mistake('the CV is not a PDF', 'LeadGrid takes PDF files only; their content starts with %PDF-');
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION command_check_email(address text, self text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    other text;
BEGIN
    SELECT t.id INTO other FROM contacts t
    WHERE lower(t.email) = lower(address) AND t._deleted_at IS NULL AND t.id IS DISTINCT FROM self LIMIT 1;
    IF other IS NOT NULL THEN
        PERFORM command_mistake(format('contact %s has this e-mail already', other),
            'LeadGrid allows one contact per e-mail: use that one''s id', 'unique_violation');
    END IF;
    SELECT c.id INTO other FROM commands c JOIN command_queue q ON q.number = c.number
    WHERE q.object = 'email:' || md5(lower(address)) AND c.operation = 'create_contact';
    IF other IS NOT NULL THEN
        PERFORM command_mistake(format('command %s is creating a contact with this e-mail already', other),
            'Use that command''s id in place of the contact''s', 'unique_violation');
    END IF;
END $$;
-- +goose StatementEnd

-- Refuses a stage that is not of the dossier's flow, and what only sales dossiers have, as far as the mirror or the command
-- that makes the dossier tells what it is.
-- +goose StatementBegin
CREATE FUNCTION command_check_dossier(dossier text, source uuid, fields jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    type    text;
    flow    text;
    stage   stages%ROWTYPE;
    refused text;
BEGIN
    SELECT d.type, coalesce(d.flow_id, s.flow_id) INTO type, flow
    FROM dossiers d LEFT JOIN stages s ON s.id = d.current_stage_id WHERE d.id = dossier;
    IF NOT FOUND THEN
        SELECT c.arguments ->> 'type', c.arguments ->> 'flow_id' INTO type, flow
        FROM commands c WHERE c.id = source OR c.leadgrid_id = dossier AND c.operation = 'create_dossier';
    END IF;
    IF type = 'candidate' THEN
        SELECT string_agg(f.key, ', ') INTO refused
        FROM jsonb_each(fields) AS f WHERE f.key IN ('contact_person', 'deal_size', 'deal_currency') AND f.value <> 'null';
        IF refused IS NOT NULL THEN
            PERFORM command_mistake(format('a candidate''s dossier has no %s', refused), 'Only sales dossiers do');
        END IF;
    END IF;
    IF fields ? 'current_stage_id' THEN
        SELECT s.* INTO stage FROM stages s WHERE s.id = fields ->> 'current_stage_id' AND s._deleted_at IS NULL;
        IF stage.id IS NULL THEN
            PERFORM command_mistake(format('there is no stage %s', fields ->> 'current_stage_id'), NULL, 'foreign_key_violation');
        ELSIF stage.flow_id <> flow THEN
            PERFORM command_mistake(format('stage %s is not of flow %s, in which the dossier is', stage.id, flow),
                format('Its stages are: %s', (SELECT string_agg(format('%s (%s)', s.id, s.name), ', ' ORDER BY s.position)
                                              FROM stages s WHERE s.flow_id = flow AND s._deleted_at IS NULL)), 'foreign_key_violation');
        END IF;
    END IF;
END $$;
-- +goose StatementEnd

-- The twelve functions. Each checks what it is told, locks what it touches, and returns the command's id; nothing is sent
-- before the caller commits.

-- +goose StatementBegin
CREATE FUNCTION create_dossier(
    type text, name text, email text DEFAULT NULL, phone text DEFAULT NULL, city text DEFAULT NULL, company text DEFAULT NULL,
    role text DEFAULT NULL, contact_id text DEFAULT NULL, flow_id text DEFAULT NULL, assigned_to text DEFAULT NULL,
    intake_notes text DEFAULT NULL, contact_person text DEFAULT NULL, deal_size numeric DEFAULT NULL,
    deal_currency text DEFAULT NULL, cv bytea DEFAULT NULL, cv_filename text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    fields  jsonb;
    contact record;
    objects text[];
    flow    flows%ROWTYPE;
BEGIN
    IF deal_size IN ('NaN', 'Infinity', '-Infinity') THEN
        PERFORM command_mistake('deal_size must be a number', 'In whole currency units, for example 12500 or 12500.50');
    END IF;
    fields := jsonb_strip_nulls(jsonb_build_object(
        'type', type, 'name', name, 'email', nullif(email, ''), 'phone', nullif(phone, ''), 'city', nullif(city, ''),
        'company', nullif(company, ''), 'role', nullif(role, ''), 'flow_id', nullif(flow_id, ''),
        'assigned_to', nullif(assigned_to, ''), 'intake_notes', nullif(intake_notes, ''),
        'contact_person', nullif(contact_person, ''), 'deal_size', deal_size, 'deal_currency', nullif(deal_currency, '')));
    PERFORM command_check('create_dossier', fields);
    IF type = 'candidate' AND fields ?| ARRAY['contact_person', 'deal_size', 'deal_currency'] THEN
        PERFORM command_mistake('a candidate''s dossier has no contact_person, deal_size or deal_currency', 'Only sales dossiers do');
    END IF;
    IF nullif(flow_id, '') IS NOT NULL THEN
        SELECT f.* INTO flow FROM flows f WHERE f.id = flow_id AND f._deleted_at IS NULL;
        IF flow.id IS NULL THEN
            PERFORM command_mistake(format('there is no flow %s', flow_id), NULL, 'foreign_key_violation');
        ELSIF flow.type <> type THEN
            PERFORM command_mistake(format('flow %s is for %s dossiers', flow_id, flow.type), NULL, 'foreign_key_violation');
        END IF;
    END IF;
    IF cv IS NULL AND cv_filename IS NOT NULL THEN
        PERFORM command_mistake('cv_filename is given without cv');
    END IF;
    PERFORM command_check_cv(cv);
    IF nullif(contact_id, '') IS NOT NULL THEN
        SELECT t.* INTO contact FROM command_target('contact', contact_id) t;
    ELSE
        SELECT NULL::text AS id, NULL::uuid AS source, '{}'::text[] AS objects INTO contact;
    END IF;
    -- Of two that look the same only one is ever under way: LeadGrid's answer could not tell which was done.
    objects := contact.objects || ('same:' || md5('create_dossier' || fields::text || coalesce(contact.id, '')));
    PERFORM command_lock(objects);
    RETURN command_write('create_dossier', fields, NULL, contact.id, ARRAY[contact.source], objects, NULL, cv, cv_filename);
END $$;

CREATE FUNCTION update_dossier(dossier_id text, changes jsonb, expected jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    PERFORM command_check('update_dossier', changes);
    PERFORM command_check_expected(expected, 'dossiers');
    PERFORM command_lock(dossier.objects);
    PERFORM command_check_dossier(dossier.id, dossier.source, changes);
    RETURN command_write('update_dossier', changes, dossier.id, NULL, ARRAY[dossier.source], dossier.objects, expected);
END $$;

CREATE FUNCTION move_dossier(dossier_id text, stage_id text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
    fields  jsonb := jsonb_build_object('current_stage_id', stage_id);
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    IF coalesce(stage_id, '') = '' THEN
        PERFORM command_mistake('stage_id is required', NULL, 'null_value_not_allowed');
    END IF;
    PERFORM command_lock(dossier.objects);
    PERFORM command_check_dossier(dossier.id, dossier.source, fields);
    RETURN command_write('move_dossier', fields, dossier.id, NULL, ARRAY[dossier.source], dossier.objects);
END $$;

CREATE FUNCTION archive_dossier(dossier_id text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    PERFORM command_lock(dossier.objects);
    RETURN command_write('archive_dossier', '{}', dossier.id, NULL, ARRAY[dossier.source], dossier.objects);
END $$;

CREATE FUNCTION restore_dossier(dossier_id text, status text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    IF status NOT IN ('active', 'won', 'lost') THEN
        PERFORM command_mistake(format('status cannot be "%s"', left(status, 40)), 'A dossier is restored as one of: active (if nothing is said), won, lost');
    END IF;
    PERFORM command_lock(dossier.objects);
    RETURN command_write('restore_dossier', jsonb_build_object('status', coalesce(status, 'active')),
                         dossier.id, NULL, ARRAY[dossier.source], dossier.objects);
END $$;

CREATE FUNCTION upload_cv(dossier_id text, cv bytea, filename text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    IF cv IS NULL THEN
        PERFORM command_mistake('cv is required', NULL, 'null_value_not_allowed');
    END IF;
    PERFORM command_check_cv(cv);
    PERFORM command_lock(dossier.objects);
    RETURN command_write('upload_cv', '{}', dossier.id, NULL, ARRAY[dossier.source], dossier.objects, NULL, cv, filename);
END $$;

CREATE FUNCTION create_contact(
    full_name text, email text DEFAULT NULL, phone text DEFAULT NULL, linkedin_url text DEFAULT NULL, company text DEFAULT NULL,
    role text DEFAULT NULL, city text DEFAULT NULL, kind text[] DEFAULT NULL, notes text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    fields jsonb := jsonb_strip_nulls(jsonb_build_object(
        'full_name', full_name, 'email', nullif(email, ''), 'phone', nullif(phone, ''), 'linkedin_url', nullif(linkedin_url, ''),
        'company', nullif(company, ''), 'role', nullif(role, ''), 'city', nullif(city, ''),
        'kind', to_jsonb(nullif(kind, '{}')), 'notes', nullif(notes, '')));
    object text;
BEGIN
    PERFORM command_check('create_contact', fields);
    IF fields ? 'email' THEN
        object := 'email:' || md5(lower(email));
    ELSE
        object := 'same:' || md5('create_contact' || fields::text);
    END IF;
    PERFORM command_lock(ARRAY[object]);
    IF fields ? 'email' THEN
        PERFORM command_check_email(email, NULL);
    END IF;
    RETURN command_write('create_contact', fields, NULL, NULL, '{}', ARRAY[object]);
END $$;

CREATE FUNCTION update_contact(contact_id text, changes jsonb, expected jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    contact record;
    objects text[];
BEGIN
    SELECT t.* INTO contact FROM command_target('contact', contact_id) t;
    PERFORM command_check('update_contact', changes);
    PERFORM command_check_expected(expected, 'contacts');
    objects := contact.objects;
    IF changes ->> 'email' IS NOT NULL THEN
        objects := objects || ('email:' || md5(lower(changes ->> 'email')));
    END IF;
    PERFORM command_lock(objects);
    IF changes ->> 'email' IS NOT NULL AND contact.source IS NULL THEN
        PERFORM command_check_email(changes ->> 'email', contact.id);
    END IF;
    RETURN command_write('update_contact', changes, NULL, contact.id, ARRAY[contact.source], objects, expected);
END $$;

CREATE FUNCTION delete_contact(contact_id text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    contact record;
BEGIN
    SELECT t.* INTO contact FROM command_target('contact', contact_id) t;
    PERFORM command_lock(contact.objects);
    RETURN command_write('delete_contact', '{}', NULL, contact.id, ARRAY[contact.source], contact.objects);
END $$;

CREATE FUNCTION link_contact(dossier_id text, contact_id text, role_on_dossier text, is_primary boolean DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
    contact record;
    fields  jsonb := jsonb_strip_nulls(jsonb_build_object('role_on_dossier', role_on_dossier, 'is_primary', is_primary));
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    SELECT t.* INTO contact FROM command_target('contact', contact_id) t;
    PERFORM command_check('link_contact', fields);
    PERFORM command_lock(dossier.objects || contact.objects);
    RETURN command_write('link_contact', fields, dossier.id, contact.id, ARRAY[dossier.source, contact.source],
                         dossier.objects || contact.objects);
END $$;

CREATE FUNCTION unlink_contact(dossier_id text, contact_id text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
    contact record;
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    SELECT t.* INTO contact FROM command_target('contact', contact_id) t;
    PERFORM command_lock(dossier.objects || contact.objects);
    RETURN command_write('unlink_contact', '{}', dossier.id, contact.id, ARRAY[dossier.source, contact.source],
                         dossier.objects || contact.objects);
END $$;

CREATE FUNCTION add_note(dossier_id text, content text, is_internal boolean DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    dossier record;
    fields  jsonb := jsonb_strip_nulls(jsonb_build_object('content', content, 'is_internal', is_internal));
BEGIN
    SELECT t.* INTO dossier FROM command_target('dossier', dossier_id) t;
    PERFORM command_check('add_note', fields);
    PERFORM command_lock(dossier.objects);
    RETURN command_write('add_note', fields, dossier.id, NULL, ARRAY[dossier.source], dossier.objects);
END $$;

CREATE FUNCTION command_check_expected(expected jsonb, kind text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    wrong text;
BEGIN
    IF expected IS NULL THEN
        RETURN;
    ELSIF jsonb_typeof(expected) <> 'object' THEN
        PERFORM command_mistake('expected must be a JSON object', 'For example ''{"status": "active"}''');
    END IF;
    SELECT string_agg(format('"%s"', f.key), ', ' ORDER BY f.key) INTO wrong
    FROM jsonb_object_keys(expected) AS f (key)
    WHERE f.key LIKE '\_%' OR NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = kind::regclass AND a.attname = f.key AND a.attnum > 0 AND NOT a.attisdropped);
    IF wrong IS NOT NULL THEN
        PERFORM command_mistake(format('expected names %s, which %s do not have', wrong, kind));
    END IF;
END $$;
-- +goose StatementEnd

-- A command's id, as these functions return it, may stand for an id without a cast.
-- +goose StatementBegin
CREATE FUNCTION update_dossier(dossier_id uuid, changes jsonb, expected jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT update_dossier(dossier_id::text, changes, expected) $$;
CREATE FUNCTION move_dossier(dossier_id uuid, stage_id text) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT move_dossier(dossier_id::text, stage_id) $$;
CREATE FUNCTION archive_dossier(dossier_id uuid) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT archive_dossier(dossier_id::text) $$;
CREATE FUNCTION restore_dossier(dossier_id uuid, status text DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT restore_dossier(dossier_id::text, status) $$;
CREATE FUNCTION upload_cv(dossier_id uuid, cv bytea, filename text DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT upload_cv(dossier_id::text, cv, filename) $$;
CREATE FUNCTION update_contact(contact_id uuid, changes jsonb, expected jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT update_contact(contact_id::text, changes, expected) $$;
CREATE FUNCTION delete_contact(contact_id uuid) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT delete_contact(contact_id::text) $$;
CREATE FUNCTION link_contact(dossier_id uuid, contact_id uuid, role_on_dossier text, is_primary boolean DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT link_contact(dossier_id::text, contact_id::text, role_on_dossier, is_primary) $$;
CREATE FUNCTION link_contact(dossier_id uuid, contact_id text, role_on_dossier text, is_primary boolean DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT link_contact(dossier_id::text, contact_id, role_on_dossier, is_primary) $$;
CREATE FUNCTION link_contact(dossier_id text, contact_id uuid, role_on_dossier text, is_primary boolean DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT link_contact(dossier_id, contact_id::text, role_on_dossier, is_primary) $$;
CREATE FUNCTION unlink_contact(dossier_id uuid, contact_id uuid) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT unlink_contact(dossier_id::text, contact_id::text) $$;
CREATE FUNCTION unlink_contact(dossier_id uuid, contact_id text) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT unlink_contact(dossier_id::text, contact_id) $$;
CREATE FUNCTION unlink_contact(dossier_id text, contact_id uuid) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT unlink_contact(dossier_id, contact_id::text) $$;
CREATE FUNCTION add_note(dossier_id uuid, content text, is_internal boolean DEFAULT NULL) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT add_note(dossier_id::text, content, is_internal) $$;
-- Here contact_id stands third and is required: a call without it must find one function, not two.
CREATE FUNCTION create_dossier(
    type text, name text, contact_id uuid, email text DEFAULT NULL, phone text DEFAULT NULL, city text DEFAULT NULL,
    company text DEFAULT NULL, role text DEFAULT NULL, flow_id text DEFAULT NULL, assigned_to text DEFAULT NULL,
    intake_notes text DEFAULT NULL, contact_person text DEFAULT NULL, deal_size numeric DEFAULT NULL,
    deal_currency text DEFAULT NULL, cv bytea DEFAULT NULL, cv_filename text DEFAULT NULL
) RETURNS uuid
LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT create_dossier(type, name, email, phone, city, company, role, contact_id::text, flow_id, assigned_to, intake_notes,
                          contact_person, deal_size, deal_currency, cv, cv_filename)
$$;
-- +goose StatementEnd

-- Nobody may call them but whom `worker migrate --writeback-role` names.
-- +goose StatementBegin
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
          AND (p.proname LIKE 'command\_%' OR p.proname IN (
              'create_dossier', 'update_dossier', 'move_dossier', 'archive_dossier', 'restore_dossier', 'upload_cv', 'create_contact',
              'update_contact', 'delete_contact', 'link_contact', 'unlink_contact', 'add_note'))
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
-- +goose StatementEnd
