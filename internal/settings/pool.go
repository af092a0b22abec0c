package settings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const connectTimeout = 5 * time.Second

// sessionDefaults are the settings of a connection that DATABASE_URL may override.
var sessionDefaults = map[string]string{
	"jit": "off", // our statements take milliseconds, and compiling them takes longer
	// A process that is frozen or cut off inside a transaction holds locks that all others wait for. No transaction of ours waits
	// for anything but the database.
	"idle_in_transaction_session_timeout": "15s",
	// Ours are written for it; a stricter default of the database's would fail those that meet, again and again.
	"default_transaction_isolation": "read committed",
	"tcp_keepalives_idle":           "15",
	"tcp_keepalives_interval":       "5",
	"tcp_keepalives_count":          "3",
}

// PoolConfig configures a pool whose search_path is the mirror's schema. Each new connection reads DATABASE_URL anew for its
// address and password, so that a password in a file rotates without a restart. application is shown in
// pg_stat_activity.
func (d Database) PoolConfig(application string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(d.URL.Value())
	if err != nil {
		return nil, errors.New("DATABASE_URL is not the address of a Postgres database") // err may quote the password
	}
	config.MaxConns = d.MaxConns
	config.MaxConnLifetime = time.Hour
	config.MaxConnLifetimeJitter = 10 * time.Minute // or all connections made at a busy start would be renewed together
	config.PingTimeout = connectTimeout
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	params := config.ConnConfig.RuntimeParams
	params["search_path"] = pgx.Identifier{d.Schema}.Sanitize()
	for name, value := range sessionDefaults {
		if params[name] == "" {
			params[name] = value
		}
	}
	if params["application_name"] == "" {
		params["application_name"] = application
	}
	config.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
		now, err := pgx.ParseConfig(d.URL.Value())
		if err != nil {
			return errors.New("DATABASE_URL is no longer the address of a Postgres database")
		}
		conn.Host, conn.Port, conn.Database, conn.User, conn.Password = now.Host, now.Port, now.Database, now.User, now.Password
		conn.TLSConfig, conn.Fallbacks = now.TLSConfig, now.Fallbacks
		return nil
	}
	return config, nil
}

// Open returns a pool configured by [Database.PoolConfig] once the database answers.
func (d Database) Open(ctx context.Context, application string) (*pgxpool.Pool, error) {
	config, err := d.PoolConfig(application)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("the database of DATABASE_URL cannot be used: %w", err)
	}
	return pool, nil
}
