package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// remains are the fields that a row keeps when its person is erased: ids, times, and a dossier's place in its flow.
var remains = map[mappings.Kind][]string{
	mappings.Contacts: {"id", "created_at"},
	mappings.Links:    {"dossier_id", "contact_id"},
	mappings.Dossiers: {"id", "organization_id", "type", "status", "flow_id", "current_stage_id", "created_at", "updated_at"},
	mappings.Notes:    {"id", "dossier_id", "created_at"},
}

// erasable reports whether rows of the kind can hold a person's data.
func (t *table) erasable() bool { return remains[t.mapping.Kind] != nil }

// withoutPerson returns what remains of an object. A time field that holds no time could hold anything, and is removed too.
func (t *table) withoutPerson(object mappings.Object) mappings.Object {
	if object == nil {
		return nil
	}
	rest := make(mappings.Object)
	for _, field := range remains[t.mapping.Kind] {
		value, ok := object[field]
		if ok && (!t.isTime([]byte(field)) || mappings.TimestampTZ.Convert(value) != nil) {
			rest[field] = value
		}
	}
	return rest
}

// Why a person was erased.
const (
	// ErasedByCommand: somebody asked for it.
	ErasedByCommand = "command"
	// ErasedUpstream: the contact is gone from LeadGrid.
	ErasedUpstream = "deleted"
)

// Erasure says who is to be erased, and how far.
type Erasure struct {
	Contacts []string // ids
	Reason   string
	// WithDossiers also erases the dossiers about them, with their notes; if Dossiers is not empty, only those.
	WithDossiers bool
	Dossiers     []string

	gone []string // dossiers that LeadGrid no longer has, about people erased before
}

// Certificate says what an erasure removed, in ids and counts only.
type Certificate struct {
	Contacts []string  `json:"contacts"`
	ErasedAt time.Time `json:"erased_at"`
	Reason   string    `json:"reason"`
	Removed  []Removed `json:"removed"`
	// Dossiers lists the dossiers that seem to be about the same person.
	Dossiers []DossierAbout `json:"dossiers"`
	// UnderWay counts write-back commands about them that are just being sent: they are emptied when they end.
	UnderWay int `json:"commands_under_way"`
}

// Removed says what was removed from one table.
type Removed struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	What  string `json:"what"`
}

// DossierAbout is a dossier that seems to be about an erased person.
type DossierAbout struct {
	ContactID string   `json:"contact_id"`
	ID        string   `json:"id"`
	Why       []string `json:"why"`
	Gone      bool     `json:"gone"` // from LeadGrid, and so erased without asking
	Erased    bool     `json:"erased"`
}

// Erase removes people from every table, payload, history and queue argument, in the caller's transaction, and keeps them
// from coming back (promise 11). It may be repeated, and works for ids the mirror does not know.
func (m *Mirror) Erase(ctx context.Context, tx pgx.Tx, erasure Erasure) (certificate Certificate, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("erase: %w", err)
		}
	}()
	certificate = Certificate{Contacts: erasure.Contacts, Reason: erasure.Reason}
	if err := m.lockPeople(ctx, tx); err != nil {
		return certificate, err
	}
	if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&certificate.ErasedAt); err != nil {
		return certificate, err
	}
	people, err := loadPeople(ctx, tx, erasure.Contacts)
	if err != nil {
		return certificate, err
	}
	if certificate.Dossiers, err = dossiersAbout(ctx, tx, erasure.Contacts); err != nil {
		return certificate, err
	}
	dossiers := erasure.gone // those whose rows are erased too
	for i := range certificate.Dossiers {
		d := &certificate.Dossiers[i]
		people.dossiers = append(people.dossiers, d.ID)
		if d.Gone || erasure.WithDossiers && (len(erasure.Dossiers) == 0 || slices.Contains(erasure.Dossiers, d.ID)) {
			d.Erased = true
			dossiers = append(dossiers, d.ID)
		}
	}
	for _, id := range erasure.Dossiers {
		if !slices.Contains(dossiers, id) {
			return certificate, fmt.Errorf("dossier %s is not about this person: it is neither linked nor has the same e-mail, phone or name", id)
		}
	}
	if err := people.addDossiers(ctx, tx, dossiers); err != nil {
		return certificate, err
	}

	people.dossiers = append(people.dossiers, erasure.gone...)
	if err := certificate.suppress(ctx, tx, dossiers); err != nil {
		return certificate, err
	}
	for _, step := range []struct {
		kind   mappings.Kind
		column string
		ids    []string
	}{
		{mappings.Contacts, "id", erasure.Contacts},
		{mappings.Links, "contact_id", erasure.Contacts},
		{mappings.Dossiers, "id", dossiers},
		{mappings.Notes, "dossier_id", dossiers},
	} {
		n, err := m.eraseRows(ctx, tx, m.tables[step.kind], step.column, step.ids)
		if err != nil {
			return certificate, err
		}
		certificate.add(string(step.kind), n, "everything but ids and times")
		if n, err = m.tables[step.kind].eraseHistory(ctx, tx, step.column, step.ids); err != nil {
			return certificate, err
		}
		certificate.add(string(step.kind)+"_history", n, "everything but ids and times, of every version")
	}
	return certificate, m.eraseTraces(ctx, tx, people, &certificate)
}

// lockPeople locks every table that an erasure touches, always in the same order, so that two erasures cannot deadlock.
func (m *Mirror) lockPeople(ctx context.Context, tx pgx.Tx) error {
	batch := &pgx.Batch{}
	for _, kind := range mappings.Kinds {
		if m.tables[kind].erasable() {
			batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, m.tables[kind].lock)
		}
	}
	return tx.SendBatch(ctx, batch).Close()
}

func (c *Certificate) add(table string, rows int64, what string) {
	if rows > 0 {
		c.Removed = append(c.Removed, Removed{table, rows, what})
	}
}

// eraseRows clears every column except those that remain, even columns that no mapping fills any more.
func (m *Mirror) eraseRows(ctx context.Context, tx pgx.Tx, t *table, column string, ids []string) (int64, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	keys := `ARRAY[` + quoteAll(t.mapping.Key) + `]::text[]`
	result, err := tx.Query(ctx, `SELECT `+keys+` FROM `+t.name+` WHERE `+quote(column)+` = ANY ($1) AND _erased_at IS NULL`, ids)
	if err != nil {
		return 0, err
	}
	found, err := pgx.CollectRows(result, pgx.RowTo[[]string])
	if err != nil || len(found) == 0 {
		return 0, err
	}
	rows := make([]*row, len(found))
	for i, key := range found {
		rows[i] = &row{key: key, exists: true}
	}
	if err := t.loadKnown(ctx, tx, rows); err != nil {
		return 0, err
	}
	raws, hashes := make([]string, len(rows)), make([]int64, len(rows))
	for i, row := range rows {
		rest := t.withoutPerson(row.known)
		raws[i], hashes[i] = string(encode(rest)), t.hash(rest)
	}
	cleared, err := columnsBut(ctx, tx, t.name, remains[t.mapping.Kind])
	if err != nil {
		return 0, err
	}
	args := t.keyArrays(rows)
	n := len(args)
	var join []string
	for i, key := range t.mapping.Key {
		join = append(join, fmt.Sprintf("t.%s = k.k%d", quote(key), i+1))
	}
	tag, err := tx.Exec(ctx, fmt.Sprintf(`
		UPDATE %s t SET %s = NULL, _raw = CASE WHEN t._raw IS NOT NULL THEN k.raw::jsonb END, _original = NULL, _hash = k.hash,
		       _erased_at = now(), _changed_at = now()
		FROM unnest(%s, $%d::text[], $%d::bigint[]) AS k (%s, raw, hash) WHERE %s`,
		t.name, strings.Join(cleared, " = NULL, "), t.keyParams, n+1, n+2, t.keyFields, strings.Join(join, " AND ")), append(args, raws, hashes)...)
	if err != nil {
		return 0, err
	}
	return tag.RowsAffected(), nil
}

// columnsBut lists a table's columns but those named and the mirror's own.
func columnsBut(ctx context.Context, tx pgx.Tx, name string, but []string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT quote_ident(attname) FROM pg_attribute
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
		  AND left(attname, 1) <> '_' AND attname <> ALL ($2)`, name, but)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// eraseGone erases what there is no reason to keep after a removal from LeadGrid: people who are gone, and dossiers about people
// erased before. If somebody asked for the person's erasure, such a dossier stays erased even if it comes back.
func (m *Mirror) eraseGone(ctx context.Context, tx pgx.Tx, kind mappings.Kind, ids []string) error {
	all := []Erasure{{Contacts: ids, Reason: ErasedUpstream}}
	if kind == mappings.Dossiers {
		gone, asked, err := dossiersAboutErased(ctx, tx, ids)
		if err != nil {
			return fmt.Errorf("look for dossiers about erased people: %w", err)
		}
		all = []Erasure{{gone: gone, Reason: ErasedUpstream}, {gone: asked, Reason: ErasedByCommand}}
	}
	for _, erasure := range all {
		if len(erasure.Contacts)+len(erasure.gone) == 0 {
			continue
		}
		if _, err := m.Erase(ctx, tx, erasure); err != nil {
			return err
		}
	}
	return nil
}

// dossiersAboutErased returns which of the dossiers are about people who were erased: because LeadGrid had deleted them (gone), or
// because somebody asked.
func dossiersAboutErased(ctx context.Context, tx pgx.Tx, ids []string) (gone, asked []string, err error) {
	rows, err := tx.Query(ctx, `
		SELECT about.id, coalesce(bool_or(e.reason = '`+ErasedByCommand+`'), false) FROM (
			SELECT dossier_id AS id, erasure_token('contacts', contact_id) AS token
			FROM dossier_contacts WHERE dossier_id = ANY ($1) AND _erased_at IS NOT NULL
			UNION SELECT d.id, erasure_token('contacts', c.id) FROM dossiers d JOIN contacts c ON c.id = d.contact_id
			WHERE d.id = ANY ($1) AND c._erased_at IS NOT NULL
			UNION SELECT k.id, e.token FROM unnest($1::text[]) AS k (id) JOIN erasures e ON k.id = ANY (e.dossiers)
		) AS about LEFT JOIN erasures e USING (token) GROUP BY about.id`, ids)
	if err != nil {
		return nil, nil, err
	}
	var id string
	var byCommand bool
	_, err = pgx.ForEachRow(rows, []any{&id, &byCommand}, func() error {
		if byCommand {
			asked = append(asked, id)
		} else {
			gone = append(gone, id)
		}
		return nil
	})
	return gone, asked, err
}
