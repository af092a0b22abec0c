// Package mirror writes what LeadGrid was seen to hold into the customer's Postgres, and decides what may be written.
//
// Every read takes a number from the database before its request is sent (Begin). What it saw is applied (Apply) only if no
// read of the same object that began later has finished. The ledger of finished reads (sync_reads, sync_pages, sync_lists) is
// outside the mirrored tables, so that a read that finds nothing changed writes no row version there.
//
// Start reading at [Mirror.Apply] (apply.go): load.go reads what decides about a read, object.go merges and compares objects,
// write.go writes. [Mirror.ApplyComplete] (complete.go) and tombstone.go decide what is gone, erase.go removes a person, and
// remap.go applies another mapping.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// DefaultLag is how far a replica of LeadGrid that answers a read may be behind its primary.
const DefaultLag = 30 * time.Second

var (
	// ErrOtherOrganization means that the key reads another organization than the one mirrored. Nothing was written.
	ErrOtherOrganization = errors.New("the API key belongs to another organization than this mirror")
	// ErrUnproven means that nothing in a read shows that it came from the mirrored organization. Nothing was written. The
	// caller must prove it, by reading an object that the mirror knows, and apply the read again with Proven set.
	ErrUnproven = errors.New("nothing in this answer shows that it is about the mirrored organization")
	// ErrOtherMapping means that another mapping was applied since this program started. Nothing was written.
	ErrOtherMapping = errors.New("the mapping differs from the one applied last: run `worker migrate`, or restart with the other")
	// ErrRewound means that the database no longer knows of the observation: it was restored, or failed over, to an earlier state.
	// Nothing was written. The read must be done again: its number would make later reads look older.
	ErrRewound = errors.New("the database went back to before this read")
)

// Options configures a Mirror. The zero value is right for production.
type Options struct {
	// Mapping says which field goes where; nil is mappings.Default.
	Mapping *mappings.Mapping
	// Lag is how far LeadGrid's replicas may be behind; 0 is DefaultLag.
	Lag time.Duration
	// QueueSchema is the schema of River's tables, where erasing a person also looks; empty if there are none.
	QueueSchema string
}

// Mirror writes mirrored rows. It is safe for use by many goroutines and many processes at once.
type Mirror struct {
	pool    *pgxpool.Pool
	mapping *mappings.Mapping
	digest  string // the mapping's
	tables  map[mappings.Kind]*table
	lag     time.Duration
	queue   string

	beginnings beginnings
}

// New returns a Mirror that writes through pool, whose search_path must be the mirror's schema.
func New(pool *pgxpool.Pool, options Options) *Mirror {
	if options.Mapping == nil {
		options.Mapping = mappings.Default()
	}
	if options.Lag == 0 {
		options.Lag = DefaultLag
	}
	m := &Mirror{pool: pool, mapping: options.Mapping, digest: options.Mapping.Digest(), lag: options.Lag, queue: options.QueueSchema, tables: make(map[mappings.Kind]*table)}
	for i, kind := range mappings.Kinds {
		m.tables[kind] = newTable(options.Mapping.Table(kind), i)
	}
	return m
}

// Lag is how far LeadGrid's replicas may be behind.
func (m *Mirror) Lag() time.Duration { return m.lag }

// Mapping is the mapping that rows are written with.
func (m *Mirror) Mapping() *mappings.Mapping { return m.mapping }

// Pool is the pool that the mirror writes through.
func (m *Mirror) Pool() *pgxpool.Pool { return m.pool }

const appliedMapping = `SELECT digest FROM sync_mapping`

// CheckMapping returns nil if the mirror's mapping is the one that was applied last, otherwise ErrOtherMapping.
func (m *Mirror) CheckMapping(ctx context.Context) error {
	var digest string
	if err := m.pool.QueryRow(ctx, appliedMapping).Scan(&digest); err != nil {
		return fmt.Errorf("look for the mapping applied last: %w", err)
	}
	if digest != m.digest {
		return ErrOtherMapping
	}
	return nil
}

// InTx runs f in one transaction, so that a read and the step it completes are committed together.
func (m *Mirror) InTx(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, m.pool, f)
}
