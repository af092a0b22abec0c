-- +goose Up

-- Every read of LeadGrid takes its number here before its request is sent: a higher number began later.
CREATE SEQUENCE observations;

-- The mirror. Columns are the documented fields under their own names; those that start with _ are ours:
--   _raw         the object as the API gave it, unknown fields included
--   _original    its bytes, where jsonb cannot hold them (U+0000, lone surrogates, broken UTF-8, absurd numbers)
--   _hash        hash of the canonical object, so that an unchanged row is known without reading it
--   _observed    the observation that last changed the row
--   _changed_at  when the mirror last saw it differ
--   _deleted_at  null while it exists upstream
-- No foreign key, CHECK or NOT NULL but on keys: an unknown stage or enum value must not stop a row.
CREATE TABLE flows (
    id          text PRIMARY KEY,
    name        text,
    type        text,
    is_default  boolean,
    _raw        jsonb,
    _original   bytea,
    _hash       bigint,
    _observed   bigint,
    _changed_at timestamptz,
    _deleted_at timestamptz
);

CREATE TABLE stages (
    id              text PRIMARY KEY,
    flow_id         text,
    name            text,
    position        numeric,
    deadline_days   numeric,
    win_probability numeric,
    color           text,
    _raw            jsonb,
    _original       bytea,
    _hash           bigint,
    _observed       bigint,
    _changed_at     timestamptz,
    _deleted_at     timestamptz
);
CREATE INDEX stages_flow_id ON stages (flow_id);

CREATE TABLE dossiers (
    id               text PRIMARY KEY,
    organization_id  text,
    type             text,
    name             text,
    email            text,
    phone            text,
    city             text,
    company          text,
    role             text,
    contact_person   text,
    deal_size        numeric,
    deal_currency    text,
    status           text,
    flow_id          text,
    current_stage_id text,
    assigned_to      text,
    intake_notes     text,
    cv_url           text,
    contact_id       text,
    created_at       timestamptz,
    updated_at       timestamptz,
    _raw             jsonb,
    _original        bytea,
    _hash            bigint,
    _observed        bigint,
    _changed_at      timestamptz,
    _deleted_at      timestamptz
);
CREATE INDEX dossiers_current_stage_id ON dossiers (current_stage_id);

CREATE TABLE contacts (
    id            text PRIMARY KEY,
    full_name     text,
    email         text,
    phone         text,
    linkedin_url  text,
    company       text,
    role          text,
    city          text,
    kind          text[],
    notes         text,
    dossier_count numeric,
    created_at    timestamptz,
    pool          text,
    _raw          jsonb,
    _original     bytea,
    _hash         bigint,
    _observed     bigint,
    _changed_at   timestamptz,
    _deleted_at   timestamptz
);
COMMENT ON COLUMN contacts.pool IS 'in_pool or expired, learned from the filtered lists; null when in neither';
CREATE INDEX contacts_email ON contacts (lower(email));

CREATE TABLE dossier_contacts (
    dossier_id      text,
    contact_id      text,
    full_name       text,
    email           text,
    company         text,
    role_on_dossier text,
    is_primary      boolean,
    _raw            jsonb,
    _original       bytea,
    _hash           bigint,
    _observed       bigint,
    _changed_at     timestamptz,
    _deleted_at     timestamptz,
    PRIMARY KEY (dossier_id, contact_id)
);
CREATE INDEX dossier_contacts_contact_id ON dossier_contacts (contact_id);

CREATE TABLE notes (
    id          text PRIMARY KEY,
    dossier_id  text,
    content     text,
    is_internal boolean,
    created_at  timestamptz,
    _raw        jsonb,
    _original   bytea,
    _hash       bigint,
    _observed   bigint,
    _changed_at timestamptz,
    _deleted_at timestamptz
);
CREATE INDEX notes_dossier_id ON notes (dossier_id);

-- Which stage a dossier entered, and when. From a stage_changed event the time is exact (entered_at); from a read it
-- lies between two observations (entered_after, entered_before) and entered_at is null.
CREATE TABLE dossier_stage_history (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dossier_id     text NOT NULL,
    stage_id       text,
    entered_at     timestamptz,
    entered_after  timestamptz,
    entered_before timestamptz,
    source         text NOT NULL,
    event_id       text UNIQUE,
    observation    bigint,
    recorded_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN dossier_stage_history.source IS 'event: entered_at is exact; observed: between entered_after and entered_before';
CREATE INDEX dossier_stage_history_dossier_id ON dossier_stage_history (dossier_id, id);

-- Every authentic webhook, also those nobody understands. A row never changes, retention apart.
CREATE TABLE webhook_events (
    digest      bytea PRIMARY KEY,
    id          text NOT NULL,
    type        text,
    created_at  timestamptz,
    received_at timestamptz NOT NULL DEFAULT now(),
    dossier_id  text,
    stage_id    text,
    payload     jsonb,
    body        bytea,
    odd         text,
    flush       bigint NOT NULL
);
COMMENT ON COLUMN webhook_events.digest IS 'SHA-256 of the body: the same bytes again are the same event';
COMMENT ON COLUMN webhook_events.body IS 'the bytes received, where payload could not hold them';
COMMENT ON COLUMN webhook_events.odd IS 'why the event was not understood; null when it was';
COMMENT ON COLUMN webhook_events.flush IS 'the transaction that stored it; also its place among the observations';
CREATE INDEX webhook_events_flush ON webhook_events (flush);

-- One row per transaction that stored events, the unit in which they are processed.
CREATE TABLE sync_flushes (
    flush       bigint PRIMARY KEY,
    events      integer NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz
);
CREATE INDEX sync_flushes_waiting ON sync_flushes (received_at) WHERE done_at IS NULL;

-- The ledger: the number of the last finished read, per object and per list page swept. It guards rows against older
-- reads that finish later, tells an event that its dossier has been read since, and is what a sweep has seen.
CREATE TABLE sync_reads (
    kind        text NOT NULL,
    id          text NOT NULL,
    observation bigint NOT NULL,
    began_at    timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 70);

CREATE TABLE sync_pages (
    kind        text NOT NULL,
    observation bigint NOT NULL,
    sweep       bigint,
    pass        integer,
    filter      text,
    keys        bigint[] NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN sync_pages.keys IS 'hashtextextended of the ids on the page: eight bytes an object instead of a row';
CREATE INDEX sync_pages_kind_observation ON sync_pages (kind, observation);
CREATE INDEX sync_pages_sweep ON sync_pages (sweep) WHERE sweep IS NOT NULL;

-- Rows about which LeadGrid must be asked again: absent from a complete read, or shown older than they are known.
CREATE TABLE sync_doubts (
    kind        text NOT NULL,
    id          text NOT NULL,
    parent      text NOT NULL DEFAULT '',
    reason      text NOT NULL,
    observation bigint NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, parent, id)
);

-- Which keys each endpoint has ever shown, and whether it ever showed an explicit null.
CREATE TABLE sync_shapes (
    endpoint text NOT NULL,
    key      text NOT NULL,
    nulls    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (endpoint, key)
);

CREATE TABLE sync_sweeps (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind             text NOT NULL,
    resources        text[] NOT NULL,
    state            text NOT NULL DEFAULT 'queued',
    accept_deletions boolean NOT NULL DEFAULT false,
    observation      bigint,
    progress         jsonb,
    step             bigint NOT NULL DEFAULT 0,
    requests         bigint NOT NULL DEFAULT 0,
    rows_changed     bigint NOT NULL DEFAULT 0,
    rows_deleted     bigint NOT NULL DEFAULT 0,
    message          text,
    requested_at     timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz
) WITH (fillfactor = 50);
COMMENT ON COLUMN sync_sweeps.state IS 'queued, running, done, stopped (by the breaker or a refusal; message says why), superseded';
CREATE INDEX sync_sweeps_open ON sync_sweeps (id) WHERE state IN ('queued', 'running');

CREATE TABLE sync_freshness (
    table_name     text PRIMARY KEY,
    complete_as_of timestamptz,
    observation    bigint,
    sweep          bigint
);
INSERT INTO sync_freshness (table_name)
VALUES ('flows'), ('stages'), ('dossiers'), ('contacts'), ('dossier_contacts'), ('notes');

-- The organization this mirror belongs to, and what keeps us from asking LeadGrid: scope '*' is all of it.
CREATE TABLE sync_organization (
    singleton       boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    organization_id text,
    adopted_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sync_pauses (
    scope    text PRIMARY KEY,
    reason   text NOT NULL,
    message  text NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    probe_at timestamptz NOT NULL
);

CREATE VIEW freshness AS
SELECT f.table_name,
       f.complete_as_of,
       now() - f.complete_as_of AS age,
       (SELECT coalesce(sum(events), 0) FROM sync_flushes WHERE done_at IS NULL) AS events_waiting,
       (SELECT min(received_at) FROM sync_flushes WHERE done_at IS NULL) AS oldest_event_waiting,
       (SELECT string_agg(message, '; ' ORDER BY since) FROM sync_pauses) AS problem
FROM sync_freshness f;
COMMENT ON VIEW freshness IS 'Per table, as of when it is complete: every change LeadGrid made before that moment is in it';

-- Objects that LeadGrid sent without an id to file them under.
CREATE TABLE sync_oddities (
    kind        text NOT NULL,
    endpoint    text NOT NULL,
    body        bytea NOT NULL,
    digest      bytea GENERATED ALWAYS AS (sha256(body)) STORED,
    observation bigint NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, digest)
);
