package writeback

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// content is the part of a finished command's row that may hold personal data.
type content struct {
	Number     int64
	Operation  Operation
	Arguments  json.RawMessage
	Expected   json.RawMessage
	Result     json.RawMessage
	Error      *string
	CVFilename *string
}

// mappedAtOnce is how many commands one transaction reduces.
const mappedAtOnce = 100

// holdToMapping reduces finished commands to what the mapping lets into the database. Until they are finished, they must hold
// what is to be sent. A worker with another mapping than the one applied last leaves this to others.
func (s *store) holdToMapping(ctx context.Context, mapping *mappings.Mapping, digest string) error {
	if !mapping.Strict() {
		return nil
	}
	for n := mappedAtOnce; n == mappedAtOnce; {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `
				SELECT number, operation, arguments, expected, result, error, cv_filename FROM commands
				WHERE NOT mapped AND state IN ('done', 'refused') AND confirms = 0 AND $2 = (SELECT digest FROM sync_mapping)
				ORDER BY number LIMIT $1 FOR UPDATE SKIP LOCKED`, mappedAtOnce, digest)
			if err != nil {
				return err
			}
			over, err := pgx.CollectRows(rows, pgx.RowToStructByPos[content])
			if n = len(over); err != nil || n == 0 {
				return err
			}
			batch := &pgx.Batch{}
			for _, c := range over {
				c.obey(mapping.Table(c.Operation.kind()))
				batch.Queue(`
					UPDATE commands SET arguments = $2, expected = $3, result = $4, error = $5, cv_filename = $6, mapped = true WHERE number = $1`,
					c.Number, c.Arguments, c.Expected, c.Result, c.Error, c.CVFilename)
			}
			return tx.SendBatch(ctx, batch).Close()
		})
		if err != nil {
			return fmt.Errorf("hold finished commands to the mapping: %w", err)
		}
	}
	return nil
}

// obey reduces the content to what a table's mapping lets in. It also masks removed values in the error, which may quote them.
func (c *content) obey(table *mappings.Table) {
	for _, text := range []*json.RawMessage{&c.Arguments, &c.Expected, &c.Result} {
		said := objectOf(*text)
		kept := table.Shape(said)
		for field, value := range said {
			if word := textOf(said, field); c.Error != nil && word != "" && string(kept[field]) != string(value) {
				masked := strings.ReplaceAll(*c.Error, word, "…")
				c.Error = &masked
			}
		}
		if *text != nil {
			*text, _ = json.Marshal(kept) // JSON always encodes
		}
	}
	if !lands(table, "cv_url") { // the file's name is its readable part
		c.CVFilename = nil
	}
}

// lands reports whether the mapping lets the field in unchanged.
func lands(table *mappings.Table, field string) bool {
	value := quoted("x@y.example")
	return string(table.Shape(mappings.Object{field: value})[field]) == string(value)
}
