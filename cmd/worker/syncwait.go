package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// wait asks for a sweep and returns nil once it is done.
func (s *syncing) wait(ctx context.Context, options syncOptions) error {
	if err := s.probe(ctx); err != nil {
		return err
	}
	if err := s.reaches(ctx); err != nil {
		return err
	}
	id, err := s.request(ctx, options)
	if err != nil {
		return err
	}
	progress := newProgress(s.errs)
	ended, err := s.watch(ctx, id, progress)
	progress.end(err == nil && ended.State == sweep.Done)
	if ctx.Err() != nil {
		return &exitError{exitInterrupted, fmt.Errorf("no longer waiting for sweep %d: it goes on where it was as soon as a worker runs", id)}
	}
	if err != nil {
		return err
	}
	return s.verdict(ended)
}

const (
	watchEvery = 200 * time.Millisecond
	// troubleEvery is how often to look why a sweep does not go on.
	troubleEvery = 2 * time.Second
	// mostProbes bounds how often a pause is probed while waiting: one that returns each time is not about this process's key.
	mostProbes = 3
	// mostFailures bounds how often in a row the database may fail to answer: about half a minute in all.
	mostFailures = 150
	// longestTrouble bounds how long a sync may meet nothing but failures.
	longestTrouble = 5 * time.Minute
)

// watch returns the sweep once it has ended.
func (s *syncing) watch(ctx context.Context, id int64, progress progress) (*sweep.Sweep, error) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	probes, failures := 0, 0
	requests, moved := int64(-1), time.Now()
	trouble := time.NewTicker(troubleEvery)
	defer trouble.Stop()
	for {
		one, err := s.look(ctx, id, progress)
		var paused *access.PausedError
		switch {
		case errors.As(err, &paused):
			if probes++; probes > mostProbes {
				return nil, refusal(paused.Reason, paused.Message+" (other requests with this process's key are accepted: LeadGrid refuses that one alone, or a running worker has another key)")
			}
			if err := s.probe(ctx); err != nil {
				return nil, err
			}
		case err != nil:
			if failures++; failures > mostFailures || ctx.Err() != nil {
				return nil, err
			}
		case one.Ended():
			return one, nil
		default:
			failures = 0
			if one.Requests != requests {
				requests, moved = one.Requests, time.Now()
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-trouble.C:
			if reason := s.showTrouble(ctx, id, progress); reason != "" && time.Since(moved) > longestTrouble {
				return nil, &exitError{exitUnsettled, fmt.Errorf("the sync has met nothing but failures for %v, the last one: %s; "+
					"sweep %d goes on where it was as soon as a worker runs", longestTrouble, reason, id)}
			}
		case <-tick.C:
		}
	}
}

// showTrouble says why the sweep does not go on at the moment, if it does not.
func (s *syncing) showTrouble(ctx context.Context, id int64, progress progress) (reason string) {
	unfinished, err := s.engine.River.JobList(ctx, river.NewJobListParams().Kinds(sweep.Args{}.Kind()).
		States(rivertype.JobStateAvailable, rivertype.JobStateRetryable, rivertype.JobStateRunning).First(100))
	if err != nil {
		return "" // look meets the same error, and counts it
	}
	for _, job := range unfinished.Jobs {
		var args sweep.Args
		if len(job.Errors) == 0 || json.Unmarshal(job.EncodedArgs, &args) != nil || args.Sweep != id {
			continue
		}
		last := job.Errors[len(job.Errors)-1]
		reason = last.Error
		if time.Since(last.At) < 2*troubleEvery {
			progress.note("trying again after: " + reason)
		}
	}
	return reason
}

// look loads the sweep and shows its progress. The error is an *access.PausedError while everything is paused.
func (s *syncing) look(ctx context.Context, id int64, progress progress) (*sweep.Sweep, error) {
	one, err := sweep.Load(ctx, s.pool, id)
	if err != nil || one.Ended() {
		return one, err
	}
	progress.show(one)
	if pause, err := s.paused(ctx); err != nil {
		return nil, err
	} else if pause != nil {
		return nil, pause
	}
	shared, err := s.engine.Budget.Status(ctx)
	if err == nil && !shared.BlockedUntil.IsZero() {
		progress.note(fmt.Sprintf("LeadGrid wants no request before %s: %s", shared.BlockedUntil.UTC().Format("15:04:05Z"), shared.BlockedWhy))
	}
	return one, err
}

// probe asks LeadGrid at once, even if everything is paused: somebody may just have changed the key. It fails only if this
// key may not read this organization; the sweep will meet any other trouble itself.
func (s *syncing) probe(ctx context.Context) error {
	if err := s.engine.Gate.ProbeNow(ctx); err != nil {
		return err
	}
	err := s.prober.Prove(ctx)
	if err == nil { // also if there was nothing to prove
		_, err = s.prober.ListFlows(ctx, leadgridapi.FlowFilter{}, leadgridapi.PageRequest{Page: 1, PerPage: 1})
	}
	switch {
	case errors.Is(err, leadgridapi.ErrUnauthorized), errors.Is(err, leadgridapi.ErrPlanRequired), errors.Is(err, mirror.ErrOtherOrganization):
		return s.refused(ctx, err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return s.wake(ctx)
}

// reaches fails if whatever answers cannot be LeadGrid's API, because it has no list of flows. If nobody answers, the address
// may still be right: that only gives a warning.
func (s *syncing) reaches(ctx context.Context) error {
	_, err := s.prober.ListFlows(ctx, leadgridapi.FlowFilter{}, leadgridapi.PageRequest{Page: 1, PerPage: 1})
	_, unanswered := errors.AsType[*leadgridapi.TransportError](err)
	switch {
	case errors.Is(err, leadgridapi.ErrNotFound):
		return &exitError{exitUsage, fmt.Errorf("is LEADGRID_BASE_URL right? What is there knows no flows: %w", err)}
	case unanswered:
		fmt.Fprintf(s.errs, "LeadGrid does not answer, trying on: %v\n", err)
	}
	return nil
}

// paused returns the pause of everything, nil if there is none.
func (s *syncing) paused(ctx context.Context) (*access.PausedError, error) {
	pauses, err := access.Pauses(ctx, s.pool)
	for _, pause := range pauses {
		if pause.Scope == access.Everything {
			return &pause, nil
		}
	}
	return nil, err
}

// refused returns the error that says why everything is paused.
func (s *syncing) refused(ctx context.Context, cause error) error {
	pause, err := s.paused(ctx)
	switch {
	case err != nil:
		return errors.Join(cause, err)
	case pause == nil:
		return cause // opened again meanwhile
	}
	return refusal(pause.Reason, pause.Message)
}

func refusal(reason, message string) error {
	code := exitRefused
	switch reason {
	case access.OtherOrganization:
		code = exitForeign
	case access.Forbidden:
		code = exitScope
	}
	return &exitError{code, errors.New(message)}
}

// wake makes sweeps that sleep after a refusal go on at once: ours would wait for them.
func (s *syncing) wake(ctx context.Context) error {
	asleep, err := s.engine.River.JobList(ctx, river.NewJobListParams().Kinds(sweep.Args{}.Kind()).
		States(rivertype.JobStateScheduled, rivertype.JobStateRetryable).First(100))
	if err != nil {
		return fmt.Errorf("look for sleeping sweeps: %w", err)
	}
	for _, job := range asleep.Jobs {
		if _, err := s.engine.River.JobRetry(ctx, job.ID); err != nil && !errors.Is(err, river.ErrNotFound) {
			return fmt.Errorf("wake a sleeping sweep: %w", err)
		}
	}
	return nil
}
