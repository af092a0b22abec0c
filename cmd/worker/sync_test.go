package main

import (
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func TestPromise6_SyncWaitBesideAWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.start(t)
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	w.wantEqual(t)
}

func TestPromise6_SyncWaitWithoutAWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	w.wantEqual(t)
	w.Stir(40)
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	w.wantEqual(t)
}
