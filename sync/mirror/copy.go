package mirror

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// leastCopied is how many new rows are worth a COPY, which is a round trip of its own: it costs Postgres a third of what
// an upsert does.
const leastCopied = 16

// copyIn adds rows that are not in the table, and that nobody else can add meanwhile: the caller holds the kind's lock.
func (t *table) copyIn(ctx context.Context, tx pgx.Tx, rows []*row, now time.Time) error {
	at := now.UTC().Format("2006-01-02 15:04:05.999999Z07:00")
	// Made while Postgres takes in what came before.
	reader, writer := io.Pipe()
	go func() {
		var b bytes.Buffer
		for _, row := range rows {
			t.copyRow(&b, row, at)
			if b.Len() < 60<<10 {
				continue
			}
			if _, err := writer.Write(b.Bytes()); err != nil {
				return
			}
			b.Reset()
		}
		_, err := writer.Write(b.Bytes())
		_ = writer.CloseWithError(err)
	}()
	_, err := tx.Conn().PgConn().CopyFrom(ctx, reader, t.copy)
	_ = reader.Close()
	return err
}

// copyRow writes the row's line, its columns in the order in which newTable names them.
func (t *table) copyRow(b *bytes.Buffer, row *row, now string) {
	for _, value := range t.mapping.Row(row.known) {
		if value == nil {
			b.WriteString(`\N`)
		} else {
			copyText(b, *value)
		}
		b.WriteByte('\t')
	}
	raw, original := t.raw(row)
	if raw == nil {
		b.WriteString(`\N`)
	} else {
		copyText(b, *raw)
	}
	if original == nil {
		b.WriteString("\t\\N")
	} else {
		b.WriteString("\t\\\\x" + hex.EncodeToString(original))
	}
	b.WriteString("\t" + strconv.FormatInt(row.hash, 10) + "\t" + now + "\t\\N")
	if t.erasable() {
		if row.erased {
			b.WriteString("\t" + now)
		} else {
			b.WriteString("\t\\N")
		}
	}
	b.WriteString("\t" + strconv.FormatInt(row.changed, 10) + "\n")
}

// copyText escapes what COPY's text format takes for its own.
func copyText(b *bytes.Buffer, s string) {
	from := 0
	for i := range len(s) {
		var escaped byte
		switch s[i] {
		case '\\':
			escaped = '\\'
		case '\n':
			escaped = 'n'
		case '\r':
			escaped = 'r'
		case '\t':
			escaped = 't'
		default:
			continue
		}
		b.WriteString(s[from:i])
		b.WriteByte('\\')
		b.WriteByte(escaped)
		from = i + 1
	}
	b.WriteString(s[from:])
}
