package main

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

// config is all that the receiver can be told.
type config struct {
	settings.Database
	settings.Webhook
	settings.Listen
	settings.Mappings
	Admin   settings.Admin
	Tracing settings.Tracing
	settings.Log
}

// adminAddr is where health, readiness and metrics are unless ADMIN_ADDR says otherwise.
const adminAddr = ":9090"

// loadConfig reads the environment. Its error names everything that is wrong.
func loadConfig() (config, error) {
	c := config{Admin: settings.Admin{Addr: adminAddr}}
	return c, settings.Load(&c)
}

// Problems implements [settings.Checker] for what concerns the receiver alone.
func (c *config) Problems() []string {
	if len(c.Webhook.Problems()) > 0 {
		return nil
	}
	if _, err := leadgridapi.NewVerifier(webhookSecrets(c.Webhook.Secret.Value()), c.Tolerance); err != nil {
		return []string{"LEADGRID_WEBHOOK_SECRET: " + strings.TrimPrefix(err.Error(), "leadgrid: ") +
			": write each secret as LeadGrid shows it, with a comma between two and nothing else"}
	}
	return nil
}

func (c *config) schemas() migrations.Schemas {
	return migrations.Schemas{Mirror: c.Schema, Queue: c.QueueSchema}
}

// webhookSecrets takes nothing off a secret: its text, blanks included, is the key.
func webhookSecrets(setting string) []string { return strings.Split(setting, ",") }

// secrets gives the verifier for the secrets as they are now: their file may be exchanged while the receiver runs.
type secrets struct {
	setting   settings.Secret
	tolerance time.Duration
	log       *slog.Logger
	current   atomic.Pointer[parsedSecrets]
}

type parsedSecrets struct {
	setting  string
	verifier *leadgridapi.Verifier
}

func newSecrets(webhook settings.Webhook, log *slog.Logger) (*secrets, error) {
	s := &secrets{setting: webhook.Secret, tolerance: webhook.Tolerance, log: log}
	setting := webhook.Secret.Value()
	verifier, err := leadgridapi.NewVerifier(webhookSecrets(setting), webhook.Tolerance)
	if err != nil {
		return nil, err
	}
	s.current.Store(&parsedSecrets{setting, verifier})
	return s, nil
}

func (s *secrets) verifier() *leadgridapi.Verifier {
	setting, current := s.setting.Value(), s.current.Load()
	if setting == current.setting {
		return current.verifier
	}
	next := &parsedSecrets{setting, current.verifier}
	if verifier, err := leadgridapi.NewVerifier(webhookSecrets(setting), s.tolerance); err == nil {
		next.verifier = verifier
		s.log.Info("the webhook secrets have changed")
	} else {
		s.log.Error("the new webhook secrets cannot be used, the old ones stay", slog.Any("error", err))
	}
	s.current.CompareAndSwap(current, next)
	return next.verifier
}
