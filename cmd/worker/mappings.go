package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// printMapping prints the effective mapping, and the DDL that `worker migrate` would run for it. Without a mapping file it
// prints the default, comments included.
func (p *program) printMapping(context.Context, []string) error {
	var config struct{ settings.Mappings }
	if err := settings.Load(&config); err != nil {
		return err
	}
	if config.File == "" {
		_, err := fmt.Fprint(p.out, mappings.DefaultYAML())
		return err
	}
	mapping, err := config.Load()
	if err != nil {
		return err
	}
	fmt.Fprint(p.out, mapping.YAML())
	for _, statement := range mapping.DDL() {
		fmt.Fprintf(p.out, "# %s;\n", statement)
	}
	return nil
}

// remap makes the tables and their rows follow the mapping. With the default mapping there is nothing to do unless another
// one was applied before.
func (p *program) remap(ctx context.Context, pool *pgxpool.Pool, config settings.Mappings) error {
	mapping, err := config.Load()
	if err != nil {
		return err
	}
	m := mirror.New(pool, mirror.Options{Mapping: mapping})
	if config.File == "" {
		if mapped, err := m.Mapped(ctx); mapped || err != nil {
			return err
		}
	}
	remapped, err := m.Remap(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "the mapping is applied: %s rows and %s stored events changed\n", number(remapped.Rows), number(remapped.Events))
	return nil
}
