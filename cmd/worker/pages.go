package main

import (
	"fmt"
	"log/slog"
	"net/http"

	"riverqueue.com/riverui"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// riverPrefix is where River UI is.
const riverPrefix = "/river"

// pages adds the status page and River UI, behind a password. Without one it adds neither, and the handler is nil.
func (w *worker) pages(ops *admin.Server, config settings.Admin, status *statusPage) (*riverui.Handler, error) {
	if !config.Password.IsSet() {
		ops.Handle("GET /{$}", http.HandlerFunc(closedPage))
		return nil, nil
	}
	ops.Handle("GET /{$}", admin.Protect(config.User, config.Password.Value, status))
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(w.engine.River, nil),
		Logger:    slog.New(slog.DiscardHandler), // it would log every request
		Prefix:    riverPrefix,
	})
	if err != nil {
		return nil, fmt.Errorf("set up River UI: %w", err)
	}
	page := admin.Protect(config.User, config.Password.Value, w.onceStarted(ui))
	ops.Handle(riverPrefix+"/", page)
	ops.Handle(riverPrefix, http.RedirectHandler(riverPrefix+"/", http.StatusFound))
	return ui, nil
}
