package mirror

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// leastCopied is how many new rows are worth a COPY, which is a round trip of its own: it costs Postgres a third of what
// an upsert does.
const leastCopied = 16

// copyIn adds rows that are not in the table, and that nobody else can add meanwhile: the caller holds the kind's lock. They go
// in Postgres's binary format, which spares it a third of the work of reading text.
func (t *table) copyIn(ctx context.Context, tx pgx.Tx, rows []*row, now time.Time) error {
	// Made while Postgres takes in what came before.
	reader, writer := io.Pipe()
	go func() {
		const enough = 60 << 10
		c := copier{table: t, now: now, buffer: make([]byte, 0, enough+enough/4)}
		c.buffer = append(c.buffer, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...) // without flags or an extension
		for _, row := range rows {
			c.row(row)
			if len(c.buffer) < enough {
				continue
			}
			if _, err := writer.Write(c.buffer); err != nil {
				return
			}
			c.buffer = c.buffer[:0]
		}
		_, err := writer.Write(append(c.buffer, 0xff, 0xff)) // the end
		_ = writer.CloseWithError(err)
	}()
	_, err := tx.Conn().PgConn().CopyFrom(ctx, reader, t.copy)
	_ = reader.Close()
	return err
}

// copier writes rows as COPY's binary format has them.
type copier struct {
	table    *table
	now      time.Time
	splitter splitter
	buffer   []byte
}

// row appends the row, its columns in the order in which newTable names them.
func (c *copier) row(row *row) {
	t := c.table
	get := func(field string) (json.RawMessage, bool) { value, found := row.known[field]; return value, found }
	if row.known == nil {
		object, _ := c.splitter.split(row.body)
		get = func(field string) (json.RawMessage, bool) {
			if i, found := object.find(field); found {
				return object[i].value, true
			}
			return nil, false
		}
	}
	count := len(t.mapping.Columns) + 6
	if t.erasable() {
		count++
	}
	c.buffer = binary.BigEndian.AppendUint16(c.buffer, uint16(count))
	for _, column := range t.mapping.Columns {
		value := column.In(get)
		c.field(func(b []byte) ([]byte, bool) { return appendBinary(b, column.Type, value) })
	}
	raw, original := t.raw(row)
	c.field(func(b []byte) ([]byte, bool) { return append(append(b, jsonbVersion), raw...), raw != nil })
	c.field(func(b []byte) ([]byte, bool) { return append(b, original...), original != nil })
	c.number(row.hash)
	c.number(sinceEpoch(c.now))
	c.null()
	switch {
	case row.erased:
		c.number(sinceEpoch(c.now))
	case t.erasable():
		c.null()
	}
	c.number(row.changed)
}

// field appends what write appends, with its length; null where write says that there is nothing.
func (c *copier) field(write func(b []byte) (_ []byte, ok bool)) {
	from := len(c.buffer)
	b, ok := write(append(c.buffer, 0, 0, 0, 0))
	if !ok {
		c.null()
		return
	}
	binary.BigEndian.PutUint32(b[from:], uint32(len(b)-from-4))
	c.buffer = b
}

func (c *copier) number(n int64) {
	c.field(func(b []byte) ([]byte, bool) { return binary.BigEndian.AppendUint64(b, uint64(n)), true })
}

func (c *copier) null() { c.buffer = append(c.buffer, 0xff, 0xff, 0xff, 0xff) }

const jsonbVersion = 1

// sinceEpoch is how Postgres writes a time: in microseconds since the year 2000.
func sinceEpoch(at time.Time) int64 { return at.UnixMicro() - 946_684_800_000_000 }

// pgTypes holds *pgtype.Map, which know how Postgres writes what is more than bytes. Each serves one writer at a time: a Map
// remembers what it has met, without a lock.
var pgTypes = sync.Pool{New: func() any { return pgtype.NewMap() }}

// appendBinary appends what Convert gives, in Postgres's binary form; ok is false for null.
func appendBinary(b []byte, as mappings.Type, value json.RawMessage) (_ []byte, ok bool) {
	var rich any
	var oid uint32
	switch as {
	case mappings.Text:
		return mappings.AppendText(b, value)
	case mappings.TimestampTZ:
		at, ok := mappings.Time(value)
		return binary.BigEndian.AppendUint64(b, uint64(sinceEpoch(at))), ok
	case mappings.TextArray:
		if rich, ok = mappings.Texts(value); !ok {
			return b, false
		}
		oid = pgtype.TextArrayOID
	default:
		text := as.Convert(value)
		if text == nil {
			return b, false
		}
		switch as {
		case mappings.Boolean:
			rich, oid = *text == "true", pgtype.BoolOID
		case mappings.JSONB:
			return append(append(b, jsonbVersion), *text...), true
		case mappings.Numeric:
			rich, oid = numeric(*text), pgtype.NumericOID
		}
	}
	types := pgTypes.Get().(*pgtype.Map)
	defer pgTypes.Put(types)
	encoded, err := types.Encode(oid, pgtype.BinaryFormatCode, rich, b)
	if err != nil || encoded == nil {
		return b, false
	}
	return encoded, true
}

// numeric reads a number as JSON writes it.
func numeric(text string) (n pgtype.Numeric) {
	digits, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	if n.Scan(digits) != nil {
		return pgtype.Numeric{}
	}
	power, _ := strconv.Atoi(exponent) // none is 0
	n.Exp += int32(power)
	return n
}
