package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// hashOnly is what is kept of an object that cannot be stored as a row while the mapping keeps something out: nobody can tell which
// part of it must not be stored, and privacy wins (promise 12).
func hashOnly(body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte("sha256:" + hex.EncodeToString(sum[:]))
}

// oddity returns what is kept of an object without a usable id.
func (t *table) oddity(body json.RawMessage) json.RawMessage {
	if t.mapping.Strict() {
		return hashOnly(body)
	}
	return body
}

// Remapped counts what a new mapping changed.
type Remapped struct {
	Rows   int64
	Events int64
}

// remapAtOnce is how many rows are read at a time.
const remapAtOnce = 500

// Remap makes the database follow the mirror's mapping: it adds columns, fills them from _raw without asking LeadGrid, removes
// what must not be kept from rows, their history and stored events, and begins or ends histories. It may be repeated, and only
// writes what does not follow the mapping yet. From its beginning on, programs with another mapping write nothing that the
// mapping might keep out.
func (m *Mirror) Remap(ctx context.Context) (remapped Remapped, err error) {
	// Lock the others out first, in a short transaction, after which nobody adds data that would need remapping.
	if err := m.InTx(ctx, func(tx pgx.Tx) error { return m.announce(ctx, tx) }); err != nil {
		return remapped, fmt.Errorf("announce the mapping: %w", err)
	}
	err = m.InTx(ctx, func(tx pgx.Tx) error {
		remapped = Remapped{}
		if err := m.lockAll(ctx, tx); err != nil {
			return err
		}
		for _, kind := range mappings.Kinds {
			if err := m.tables[kind].remap(ctx, tx, &remapped); err != nil {
				return fmt.Errorf("remap %s: %w", kind, err)
			}
			if err := m.tables[kind].keepHistory(ctx, tx); err != nil {
				return fmt.Errorf("history of %s: %w", kind, err)
			}
		}
		if m.mapping.Strict() {
			if remapped.Events, err = remapEvents(ctx, tx, m.mapping); err != nil {
				return fmt.Errorf("remap events: %w", err)
			}
			if _, err := tx.Exec(ctx, `DELETE FROM sync_oddities WHERE NOT starts_with(encode(body, 'escape'), 'sha256:')`); err != nil {
				return fmt.Errorf("remap oddities: %w", err)
			}
		}
		_, err := tx.Exec(ctx, `UPDATE sync_mapping SET applied_at = now()`)
		return err
	})
	return remapped, err
}

// Mapped reports whether everything stored follows the mirror's mapping.
func (m *Mirror) Mapped(ctx context.Context) (mapped bool, err error) {
	err = m.pool.QueryRow(ctx, `SELECT digest = $1 AND applied_at IS NOT NULL FROM sync_mapping`, m.digest).Scan(&mapped)
	if err != nil {
		return false, fmt.Errorf("look for the mapping applied last: %w", err)
	}
	return mapped, nil
}

// lockAll waits for all writes of rows under way, and keeps others out until the transaction ends.
func (m *Mirror) lockAll(ctx context.Context, tx pgx.Tx) error {
	batch := &pgx.Batch{}
	for _, kind := range mappings.Kinds {
		batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, m.tables[kind].lock)
	}
	return tx.SendBatch(ctx, batch).Close()
}

// announce adds the mapping's columns, and makes it the one that counts from now on.
func (m *Mirror) announce(ctx context.Context, tx pgx.Tx) error {
	if err := m.lockAll(ctx, tx); err != nil {
		return err
	}
	for _, statement := range m.mapping.NewColumns() {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	// A receiver may be storing an event by the old mapping right now: wait for it, so that Remap sees that event.
	if _, err := tx.Exec(ctx, `LOCK TABLE webhook_events IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return err
	}
	// The worker that is started with the mapping will apply it to finished commands.
	_, err := tx.Exec(ctx, `
		WITH again AS (UPDATE commands SET mapped = false WHERE mapped AND $1 <> (SELECT digest FROM sync_mapping))
		UPDATE sync_mapping SET digest = $1, applied_at = NULL`, m.digest)
	return err
}

// remap writes the rows of a table, and of its history, that do not follow its mapping.
func (t *table) remap(ctx context.Context, tx pgx.Tx, remapped *Remapped) error {
	for _, history := range []bool{false, true} {
		n, err := t.remapRows(ctx, tx, history)
		if err != nil {
			return err
		}
		remapped.Rows += n
	}
	return nil
}

func (t *table) remapRows(ctx context.Context, tx pgx.Tx, history bool) (total int64, err error) {
	name, original := t.name, "_original"
	if history {
		name, original = t.history, "NULL::bytea"
	}
	update, err := t.remapping(ctx, tx, name, history)
	if err != nil {
		return 0, err
	}
	// Nobody else writes here meanwhile, so each row stays where the cursor saw it.
	_, err = tx.Exec(ctx, `DECLARE remapping NO SCROLL CURSOR FOR
		SELECT ctid::text, _raw, `+original+`, CASE WHEN _raw IS NULL THEN to_jsonb(t) END FROM `+name+` t`)
	if err != nil {
		return 0, err
	}
	for {
		places, rows, err := t.nextToRemap(ctx, tx)
		if err != nil {
			return total, err
		}
		if len(rows) == 0 {
			_, err := tx.Exec(ctx, `CLOSE remapping`)
			return total, err
		}
		args := t.upsertArgs(rows)
		values := len(t.mapping.Columns) + 1 // and _raw
		if !history {
			values += 2 // _original and _hash
		}
		tag, err := tx.Exec(ctx, update, append([]any{places}, args[:values]...)...)
		if err != nil {
			return total, err
		}
		total += tag.RowsAffected()
	}
}

// nextToRemap reads the next rows and maps them anew.
func (t *table) nextToRemap(ctx context.Context, tx pgx.Tx) (places []string, rows []*row, err error) {
	result, err := tx.Query(ctx, fmt.Sprintf(`FETCH %d FROM remapping`, remapAtOnce))
	if err != nil {
		return nil, nil, err
	}
	var place string
	var raw, columns json.RawMessage
	var original []byte
	_, err = pgx.ForEachRow(result, []any{&place, &raw, &original, &columns}, func() error {
		known, err := t.knownFrom(raw, original, columns)
		if err != nil {
			return err
		}
		r := &row{known: t.mapping.Shape(known)}
		if r.rawless = raw == nil && original == nil; !r.rawless || t.mapping.Raw == mappings.RawDrop {
			r.hash = t.hash(r.known)
		} // and else the next read writes the row again, with its _raw
		places, rows = append(places, place), append(rows, r)
		return nil
	})
	return places, rows, err
}

// remapping returns the statement that updates rows, by their ctid, if they differ.
func (t *table) remapping(ctx context.Context, tx pgx.Tx, name string, history bool) (string, error) {
	var assign, differs []string
	add := func(column, value string) {
		assign = append(assign, column+" = "+value)
		differs = append(differs, fmt.Sprintf("t.%s IS DISTINCT FROM %s", column, value))
	}
	params, fields := []string{"$1::text[]"}, []string{"place"}
	unnested := func(array string) string {
		params = append(params, fmt.Sprintf("$%d::%s[]", len(params)+1, array))
		fields = append(fields, fmt.Sprintf("v%d", len(params)))
		return "x." + fields[len(fields)-1]
	}
	for _, column := range t.mapping.Columns {
		value := unnested("text")
		if !slices.Contains(t.mapping.Key, column.Name) {
			add(quote(column.Name), value+"::"+string(column.Type))
		}
	}
	add("_raw", unnested("text")+"::jsonb")
	changed := ""
	if !history {
		add("_original", unnested("bytea"))
		add("_hash", unnested("bigint"))
		changed = ", _changed_at = now()"
	}
	filled := []string{"valid_from", "valid_to"}
	for _, column := range t.mapping.Columns {
		filled = append(filled, column.Name)
	}
	emptied, err := columnsBut(ctx, tx, name, filled) // which stay, empty, for the views that use them
	if err != nil {
		return "", err
	}
	for _, column := range emptied {
		add(column, "NULL")
	}
	return fmt.Sprintf(`UPDATE %s t SET %s%s FROM unnest(%s) AS x (%s) WHERE t.ctid = x.place::tid AND (%s)`,
		name, strings.Join(assign, ", "), changed, strings.Join(params, ", "), strings.Join(fields, ", "), strings.Join(differs, " OR ")), nil
}

// remapEvents removes from stored events what must not be kept; of events that cannot be understood only the hash stays.
func remapEvents(ctx context.Context, tx pgx.Tx, mapping *mappings.Mapping) (total int64, err error) {
	tag, err := tx.Exec(ctx, `UPDATE webhook_events SET body = '' WHERE body <> ''`)
	if err != nil {
		return 0, err
	}
	total = tag.RowsAffected()
	for last := []byte{}; ; {
		rows, err := tx.Query(ctx, `SELECT digest, payload FROM webhook_events WHERE payload IS NOT NULL AND digest > $1 ORDER BY digest LIMIT $2`,
			last, remapAtOnce)
		if err != nil {
			return total, err
		}
		var digests [][]byte
		var payloads []*string
		var digest []byte
		var payload json.RawMessage
		_, err = pgx.ForEachRow(rows, []any{&digest, &payload}, func() error {
			var kept *string
			if shaped, ok := mapping.Payload(payload); ok {
				text := string(shaped)
				kept = &text
			}
			digests, payloads = append(digests, slices.Clone(digest)), append(payloads, kept)
			return nil
		})
		if err != nil || len(digests) == 0 {
			return total, err
		}
		last = digests[len(digests)-1]
		tag, err := tx.Exec(ctx, `
			UPDATE webhook_events e SET payload = x.payload::jsonb FROM unnest($1::bytea[], $2::text[]) AS x (digest, payload)
			WHERE e.digest = x.digest AND e.payload IS DISTINCT FROM x.payload::jsonb`, digests, payloads)
		if err != nil {
			return total, err
		}
		total += tag.RowsAffected()
	}
}
