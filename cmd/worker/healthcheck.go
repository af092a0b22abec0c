package main

import (
	"context"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// healthcheck asks a worker whether it is ready: the image holds no other program that could.
func healthcheck(ctx context.Context, urls []string) error {
	if len(urls) == 1 {
		return admin.Probe(ctx, urls[0])
	}
	config := struct{ settings.Admin }{settings.Admin{Addr: adminAddr}}
	if err := settings.Load(&config); err != nil {
		return err
	}
	return admin.Probe(ctx, admin.ReadyURL(config.Addr))
}
