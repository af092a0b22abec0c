package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// remains are the fields that a row keeps when the person in it is erased: ids, times, and what says where a dossier
// stands but not who it is about.
var remains = map[mappings.Kind][]string{
	mappings.Contacts: {"id", "created_at"},
	mappings.Links:    {"dossier_id", "contact_id"},
	mappings.Dossiers: {"id", "organization_id", "type", "status", "flow_id", "current_stage_id", "created_at", "updated_at"},
	mappings.Notes:    {"id", "dossier_id", "created_at"},
}

// erasable reports whether rows of the kind can hold a person's data.
func (t *table) erasable() bool { return remains[t.mapping.Kind] != nil }

// withoutPerson is what remains of an object. A time that is none could be anything, and goes.
func (t *table) withoutPerson(object mappings.Object) mappings.Object {
	if object == nil {
		return nil
	}
	rest := make(mappings.Object)
	for _, field := range remains[t.mapping.Kind] {
		value, ok := object[field]
		if ok && (!t.times[field] || mappings.TimestampTZ.Convert(value) != nil) {
			rest[field] = value
		}
	}
	return rest
}

// suppressed finds, by position, which of ids stand in erasures, and which of them because LeadGrid had deleted them.
const suppressed = `
	SELECT k.n, e.reason = '` + ErasedUpstream + `' FROM unnest($1::text[]) WITH ORDINALITY AS k (id, n)
	JOIN erasures e ON e.token = erasure_token($2, k.id)
	WHERE EXISTS (SELECT FROM erasures)`

// queueSuppressed looks up which of the sightings are about somebody who was erased: whatever the read told of them, nothing
// but what remains may land (promise 11). A contact whose erasure followed its deletion in LeadGrid, and that a later read
// shows again, is back: there was a mistake in LeadGrid, or it took the deletion back.
func (t *table) queueSuppressed(batch *pgx.Batch, reads []*Read, sightings []*sighting) {
	if !t.erasable() {
		return
	}
	ids := make([]string, 0, len(sightings))
	numbers := make([]int64, 0, len(sightings))
	of := mappings.Dossiers
	for _, read := range reads {
		for _, s := range read.sightings {
			numbers = append(numbers, read.Number)
			id := s.row.id()
			if t.mapping.Kind == mappings.Notes {
				if id = text(s.told, "dossier_id"); id == "" {
					id = read.Parent
				}
			}
			ids = append(ids, id)
		}
	}
	if t.mapping.Kind == mappings.Contacts || t.mapping.Kind == mappings.Links {
		of = mappings.Contacts
	}
	batch.Queue(suppressed, ids, of).Query(func(r pgx.Rows) error {
		var n int64
		var deleted bool
		_, err := pgx.ForEachRow(r, []any{&n, &deleted}, func() error {
			s := sightings[n-1]
			if deleted && t.mapping.Kind == mappings.Contacts && s.row.deleted && s.row.later < numbers[n-1] {
				s.row.returned = true
				return nil
			}
			s.row.erased = true
			s.told = t.withoutPerson(s.told)
			s.body, s.hash = encode(s.told), t.hash(s.told)
			return nil
		})
		return err
	})
}

// restore lets the data of people land again who are back in LeadGrid.
func (m *Mirror) restore(ctx context.Context, tx pgx.Tx, rows []*row) error {
	var back []string
	for _, row := range rows {
		if row.returned {
			back = append(back, row.id())
		}
	}
	if len(back) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `DELETE FROM erasures WHERE token IN (SELECT erasure_token($1, k.id) FROM unnest($2::text[]) AS k (id))`,
		mappings.Contacts, back)
	if err != nil {
		return fmt.Errorf("take back the erasure of people who are back: %w", err)
	}
	return nil
}

// Why a person was erased.
const (
	// ErasedByCommand says that a person asked for it.
	ErasedByCommand = "command"
	// ErasedUpstream says that the contact is gone from LeadGrid.
	ErasedUpstream = "deleted"
)

// Erasure says who is to be erased, and how far.
type Erasure struct {
	Contacts []string // ids
	Reason   string
	// WithDossiers erases the dossiers about them as well, notes included; with Dossiers named, only those.
	WithDossiers bool
	Dossiers     []string

	gone []string // dossiers that LeadGrid no longer has, about people erased before
}

// Certificate says what an erasure removed. It names nobody: ids and counts only.
type Certificate struct {
	Contacts []string  `json:"contacts"`
	ErasedAt time.Time `json:"erased_at"`
	Reason   string    `json:"reason"`
	Removed  []Removed `json:"removed"`
	// Dossiers are about the same person, as far as anyone can tell.
	Dossiers []DossierAbout `json:"dossiers"`
	// UnderWay counts write-back commands about them that are being sent right now, and so were left alone.
	UnderWay int `json:"commands_under_way"`
}

// Removed says what left one table.
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
	dossiers := erasure.gone // those whose rows go as well
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

// lockPeople locks every table that an erasure touches, in one order, so that no two wait for each other.
func (m *Mirror) lockPeople(ctx context.Context, tx pgx.Tx) error {
	batch := &pgx.Batch{}
	for _, kind := range mappings.Kinds {
		if m.tables[kind].erasable() {
			batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, m.tables[kind].lock)
		}
	}
	return tx.SendBatch(ctx, batch).Close()
}

// suppress keeps the erased from coming back, and notes the dossiers that somebody must decide about: once a name is gone,
// nothing finds them by it.
func (c *Certificate) suppress(ctx context.Context, tx pgx.Tx, dossiers []string) error {
	var contact, kept []string
	for _, d := range c.Dossiers {
		if !d.Erased {
			contact, kept = append(contact, d.ContactID), append(kept, d.ID)
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO erasures (token, kind, reason, dossiers)
		SELECT DISTINCT erasure_token($1, k.id), $1, $3,
		       (SELECT array_agg(DISTINCT d.id) FROM unnest($4::text[], $5::text[]) AS d (contact_id, id) WHERE d.contact_id = k.id)
		FROM unnest($2::text[]) AS k (id)
		ON CONFLICT (token) DO UPDATE SET dossiers = excluded.dossiers,
			reason = CASE excluded.reason WHEN '`+ErasedByCommand+`' THEN excluded.reason ELSE erasures.reason END`,
		mappings.Contacts, c.Contacts, c.Reason, contact, kept)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO erasures (token, kind, reason)
		SELECT DISTINCT erasure_token($1, k.id), $1, $3 FROM unnest($2::text[]) AS k (id)
		ON CONFLICT DO NOTHING`, mappings.Dossiers, dossiers, c.Reason)
	return err
}

func (c *Certificate) add(table string, rows int64, what string) {
	if rows > 0 {
		c.Removed = append(c.Removed, Removed{table, rows, what})
	}
}

// eraseRows clears every column but those that remain, also columns that no mapping fills any more.
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
	cleared, err := clearedColumns(ctx, tx, t.name, remains[t.mapping.Kind])
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

// clearedColumns lists the columns that are emptied: all of LeadGrid's and the customer's but those that remain.
func clearedColumns(ctx context.Context, tx pgx.Tx, name string, remain []string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT quote_ident(attname) FROM pg_attribute
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
		  AND left(attname, 1) <> '_' AND attname <> ALL ($2)`, name, remain)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// dossiersAbout lists the dossiers that are about these contacts as far as anyone can tell, those erased already excepted.
func dossiersAbout(ctx context.Context, tx pgx.Tx, contacts []string) ([]DossierAbout, error) {
	rows, err := tx.Query(ctx, `
		WITH people AS (
			SELECT k.id, nullif(lower(c.email), '') AS email, nullif(lower(c.full_name), '') AS name, nullif(c.phone, '') AS phone
			FROM unnest($1::text[]) AS k (id) LEFT JOIN contacts c ON c.id = k.id
		), reasons AS (
			SELECT l.contact_id, l.dossier_id, 'linked' AS why FROM dossier_contacts l WHERE l.contact_id = ANY ($1)
			UNION SELECT k.id, unnest(e.dossiers), 'listed before'
			FROM unnest($1::text[]) AS k (id) JOIN erasures e ON e.token = erasure_token('contacts', k.id)
			UNION SELECT d.contact_id, d.id, 'created for the contact' FROM dossiers d WHERE d.contact_id = ANY ($1)
			UNION SELECT p.id, d.id, 'same e-mail' FROM people p JOIN dossiers d ON lower(d.email) = p.email
			UNION SELECT p.id, d.id, 'same phone' FROM people p JOIN dossiers d ON d.phone = p.phone
			UNION SELECT p.id, d.id, 'same name' FROM people p JOIN dossiers d ON p.name IN (lower(d.name), lower(d.contact_person))
		)
		SELECT r.contact_id, r.dossier_id, array_agg(r.why ORDER BY r.why), d._deleted_at IS NOT NULL, false
		FROM reasons r JOIN dossiers d ON d.id = r.dossier_id AND d._erased_at IS NULL
		GROUP BY r.contact_id, r.dossier_id, d._deleted_at ORDER BY 1, 2`, contacts)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DossierAbout])
}

// people is what gives the erased away wherever it stands.
type people struct {
	ids      []string // of contacts
	words    []string // names, addresses, numbers; in lower case
	dossiers []string // about them
}

func loadPeople(ctx context.Context, tx pgx.Tx, contacts []string) (*people, error) {
	p := &people{ids: contacts}
	err := p.addWords(ctx, tx, `
		SELECT v FROM contacts c, unnest(ARRAY[c.full_name, c.email, c.phone, c.linkedin_url]) AS v WHERE c.id = ANY ($1)
		UNION SELECT v FROM contacts_history c, unnest(ARRAY[c.full_name, c.email, c.phone, c.linkedin_url]) AS v WHERE c.id = ANY ($1)
		UNION SELECT v FROM dossier_contacts l, unnest(ARRAY[l.full_name, l.email]) AS v WHERE l.contact_id = ANY ($1)
		UNION SELECT v FROM dossier_contacts_history l, unnest(ARRAY[l.full_name, l.email]) AS v WHERE l.contact_id = ANY ($1)`, contacts)
	return p, err
}

// addDossiers adds what the rows of dossiers that go as well say about them.
func (p *people) addDossiers(ctx context.Context, tx pgx.Tx, dossiers []string) error {
	return p.addWords(ctx, tx, `
		SELECT v FROM dossiers d, unnest(ARRAY[d.name, d.email, d.phone]) AS v WHERE d.id = ANY ($1)
		UNION SELECT v FROM dossiers_history d, unnest(ARRAY[d.name, d.email, d.phone]) AS v WHERE d.id = ANY ($1)
		UNION SELECT content FROM notes WHERE dossier_id = ANY ($1)
		UNION SELECT content FROM notes_history WHERE dossier_id = ANY ($1)`, dossiers)
}

func (p *people) addWords(ctx context.Context, tx pgx.Tx, sql string, ids []string) error {
	rows, err := tx.Query(ctx, sql, ids)
	if err != nil {
		return err
	}
	words, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	for _, word := range words {
		// What is shorter than that stands everywhere and gives nobody away.
		if word != nil && len([]rune(strings.TrimSpace(*word))) >= 4 {
			p.words = append(p.words, strings.ToLower(strings.TrimSpace(*word)))
		}
	}
	return err
}

// in reports whether a text that may be JSON, or nearly, mentions them.
func (p *people) in(text []byte) bool {
	plain := strings.ToLower(string(text))
	readable := strings.ToLower(unescape(string(text)))
	return slices.ContainsFunc(append(p.words, p.ids...), func(word string) bool {
		word = strings.ToLower(word)
		return strings.Contains(plain, word) || strings.Contains(readable, word)
	})
}

// unescape reads what can be read of JSON's escapes, wherever they stand.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			i++
			continue
		}
		end := i + 2
		if text[i+1] == 'u' {
			end = i + 6
			if strings.HasPrefix(text[min(end, len(text)):], `\u`) {
				end += 6 // perhaps the other half of a pair
			}
		}
		end = min(end, len(text))
		var s string
		if json.Unmarshal([]byte(`"`+text[i:end]+`"`), &s) != nil {
			s, end = text[i:i+2], i+2
		}
		b.WriteString(s)
		i = end
	}
	return b.String()
}

// eraseGone erases what a removal from LeadGrid leaves nobody a reason to keep: people who are gone, and dossiers about
// people erased before.
func (m *Mirror) eraseGone(ctx context.Context, tx pgx.Tx, kind mappings.Kind, ids []string) error {
	erasure := Erasure{Contacts: ids, Reason: ErasedUpstream}
	if kind == mappings.Dossiers {
		rows, err := tx.Query(ctx, `
			SELECT dossier_id FROM dossier_contacts WHERE dossier_id = ANY ($1) AND _erased_at IS NOT NULL
			UNION SELECT d.id FROM dossiers d JOIN contacts c ON c.id = d.contact_id
			WHERE d.id = ANY ($1) AND c._erased_at IS NOT NULL
			UNION SELECT k.id FROM unnest($1::text[]) AS k (id) WHERE k.id IN (SELECT unnest(dossiers) FROM erasures)`, ids)
		if err != nil {
			return fmt.Errorf("look for dossiers about erased people: %w", err)
		}
		erasure.Contacts = nil
		if erasure.gone, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return fmt.Errorf("look for dossiers about erased people: %w", err)
		}
	}
	if len(erasure.Contacts)+len(erasure.gone) == 0 {
		return nil
	}
	_, err := m.Erase(ctx, tx, erasure)
	return err
}
