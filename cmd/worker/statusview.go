package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// level says how well something is doing; it is also the CSS class that colours it.
type level string

const (
	good level = "good"
	warn level = "warn"
	bad  level = "bad"
)

// lateEvents is how long an event may wait before the page warns, as does the alert LeadgridQueueLag.
const lateEvents = 15 * time.Minute

const timeLayout = "2006-01-02 15:04:05 UTC"

// view is the page in words.
type view struct {
	Level    level
	Verdict  string
	Problems []string
	Body     *viewBody // nil when nothing could be read
	At       string
	Build    string
}

type viewBody struct {
	Tables   []tableView
	Events   eventView
	Budget   budgetView
	Commands commandView
	Sweeps   []sweepView
	Jobs     []jobView
	Errors   []errorView
}

type tableView struct {
	Level                                         level
	Name, Mark, Fresh, At, Promise, Rows, Deleted string
}

type eventView struct {
	Level         level
	Waiting, Text string
}

type named struct{ Name, Text string }

type budgetView struct {
	Level                  level
	Limit, Remaining, Text string
	Max, Value             int
	Shares                 []named
}

type commandView struct {
	Level  level
	Paused string
	States []named
}

type sweepView struct {
	Level                       level
	Title, State, Text, Message string
	Running                     bool
	Done, Total                 int
}

type jobView struct{ Name, Oldest, Ready, Running, Later string }

type errorView struct{ What, When, Text, Next string }

// painter puts the page together, and collects the problems it finds on the way.
type painter struct {
	*picture
	view  view
	now   time.Time
	worst int // how many of the problems are bad: these come first
}

func newView(p *picture, promised map[string]time.Duration, paused bool) view {
	paint := painter{picture: p, now: p.state.At, view: view{Level: good, At: p.state.At.UTC().Format(timeLayout)}}
	for _, pause := range p.state.Pauses {
		problem := capital(pause.Message)
		if pause.Scope != access.Everything && !strings.Contains(problem, pause.Scope) {
			problem += " (" + pause.Scope + ")"
		}
		again := "with the next request"
		if pause.ProbeAt.After(paint.now) {
			again = paint.when(pause.ProbeAt)
		}
		paint.problem(bad, "%s. It is tried again %s.", problem, again)
	}
	body := &viewBody{Sweeps: paint.sweeps(), Tables: paint.tables(promised), Events: paint.events(), Budget: paint.budget()}
	body.Commands = paint.commands(paused)
	body.Jobs, body.Errors = paint.jobs(), paint.failures()
	paint.view.Body = body
	switch paint.view.Level {
	case good:
		paint.view.Verdict = "All is well"
	case warn:
		paint.view.Verdict = "Working, but look at this"
	case bad:
		paint.view.Verdict = "The mirror needs somebody"
	}
	return paint.view
}

func (p *painter) problem(l level, format string, args ...any) {
	at := len(p.view.Problems)
	if l == bad {
		at = p.worst
		p.worst++
	}
	if l == bad || p.view.Level == good {
		p.view.Level = l
	}
	p.view.Problems = slices.Insert(p.view.Problems, at, fmt.Sprintf(format, args...))
}

// tables compares each table with its promise, and reports a problem once for all tables that share it.
func (p *painter) tables(promised map[string]time.Duration) []tableView {
	var tables []tableView
	var never, stale []string
	for _, t := range p.picture.tables {
		promise := promised[t.Table]
		shown := tableView{Level: good, Name: t.Table, Mark: "✓", Rows: number(t.Rows), Promise: "no promise"}
		if t.Deleted > 0 {
			shown.Deleted = number(t.Deleted)
		}
		if promise > 0 {
			shown.Promise = "within " + span(promise)
		}
		if t.CompleteAsOf == nil {
			shown.Level, shown.Mark, shown.Fresh = warn, "…", "never read whole"
			never = append(never, t.Table)
		} else {
			shown.Fresh = p.when(*t.CompleteAsOf)
			shown.At = t.CompleteAsOf.UTC().Format(timeLayout)
			if promise > 0 && p.now.Sub(*t.CompleteAsOf) > promise {
				shown.Level, shown.Mark = bad, "✗"
				stale = append(stale, t.Table)
			}
		}
		tables = append(tables, shown)
	}
	if len(never) > 0 {
		if p.sweeping() {
			p.problem(warn, "Being filled for the first time: %s.", strings.Join(never, ", "))
		} else {
			p.problem(bad, "Never read whole: %s. Run worker sync.", strings.Join(never, ", "))
		}
	}
	if len(stale) > 0 {
		p.problem(bad, "Older than promised: %s. Other tables and events go on.", strings.Join(stale, ", "))
	}
	return tables
}

func (p *painter) sweeping() bool {
	return slices.ContainsFunc(p.state.Sweeps, func(s *sweep.Sweep) bool { return !s.Ended() })
}

func (p *painter) events() eventView {
	shown := eventView{Level: good, Waiting: number(p.state.Waiting), Text: "No event waits to be mirrored."}
	if p.state.Oldest == nil {
		return shown
	}
	shown.Text = "waiting to be mirrored, the oldest for " + span(p.now.Sub(*p.state.Oldest))
	if p.now.Sub(*p.state.Oldest) > lateEvents {
		shown.Level = warn
		p.problem(warn, "Events have been waiting for %s.", span(p.now.Sub(*p.state.Oldest)))
	}
	return shown
}

func (p *painter) budget() budgetView {
	b := p.state.Budget
	shown := budgetView{Level: good, Text: "LeadGrid has announced no limit yet."}
	if b.Limit > 0 {
		shown.Limit, shown.Remaining, shown.Max, shown.Value = number(b.Limit), number(b.Remaining), b.Limit, min(b.Remaining, b.Limit)
		shown.Text = "as LeadGrid said " + p.when(b.ReadAt) + "; all workers may send " + rate(b.Pace)
	}
	if !b.BlockedUntil.IsZero() {
		shown.Level = warn
		shown.Text = fmt.Sprintf("Nothing is sent before %s (%s): %s.", b.BlockedUntil.UTC().Format(timeLayout), p.when(b.BlockedUntil), b.BlockedWhy)
		p.problem(warn, "LeadGrid asked for silence; requests go on %s.", p.when(b.BlockedUntil))
	}
	for _, share := range []struct {
		share budget.Share
		name  string
	}{{budget.Events, "events"}, {budget.WriteBack, "write-back"}, {budget.Sweeps, "sweeps"}} {
		shown.Shares = append(shown.Shares, named{share.name,
			fmt.Sprintf("%s allowed, %.0f%% guaranteed", number(b.Used[share.share]), 100*b.Guaranteed[share.share])})
	}
	return shown
}

func (p *painter) commands(paused bool) commandView {
	shown := commandView{Level: good}
	if paused {
		shown.Paused = "Paused by WRITEBACK_PAUSED: commands wait."
	}
	var left int64
	for _, count := range p.state.Commands {
		left += count.Left
	}
	for _, state := range []struct {
		state writeback.State
		name  string
	}{
		{writeback.Pending, "pending"}, {writeback.Sending, "sending"}, {writeback.Unknown, "unknown"},
		{writeback.Refused, "refused"}, {writeback.Done, "done"},
	} {
		text := number(p.picture.commands[string(state.state)])
		if state.state == writeback.Unknown && left > 0 {
			text += fmt.Sprintf(", %s for a person to settle", number(left))
		}
		shown.States = append(shown.States, named{state.name, text})
	}
	if left > 0 {
		shown.Level = warn
		p.problem(warn, "Whether LeadGrid carried out %s is unknown. See worker commands.", plural(left, "write-back command"))
	}
	return shown
}

func (p *painter) sweeps() []sweepView {
	var sweeps []sweepView
	for _, s := range p.state.Sweeps {
		shown := sweepView{Level: good, Title: fmt.Sprintf("Sweep %d, %s", s.ID, s.What()), State: string(s.State)}
		if s.Message != nil {
			shown.Message = capital(*s.Message) + "."
		}
		numbers := fmt.Sprintf("%s, %s changed, %s deleted", plural(s.Requests, "request"), plural(s.RowsChanged, "row"), number(s.RowsDeleted))
		switch {
		case s.State == sweep.Running && s.StartedAt != nil:
			shown.Running, shown.Done, shown.Total = true, min(s.Progress.Done, s.Progress.Total), s.Progress.Total
			shown.Text = "reading " + s.Progress.Phase
			if s.Progress.Total > 0 {
				shown.Text += fmt.Sprintf(": %s of %s (%.0f%%)", number(shown.Done), number(s.Progress.Total), 100*share(s.Progress.Done, s.Progress.Total))
			}
			shown.Text += fmt.Sprintf("; since %s, %s", span(p.now.Sub(*s.StartedAt)), numbers)
		case s.FinishedAt != nil:
			shown.Text = "ended " + p.when(*s.FinishedAt) + "; " + numbers
		default:
			shown.Text = "asked for " + p.when(s.RequestedAt)
		}
		if s.State == sweep.Stopped {
			shown.Level = warn
			what := bad
			if !s.Progress.Breaker {
				what = warn
			}
			p.problem(what, "The last sweep stopped: %s", shown.Message)
		}
		sweeps = append(sweeps, shown)
	}
	return sweeps
}

// kindNames say what jobs of a kind do.
var kindNames = map[string]string{
	"leadgrid_events":    "mirror what events point to",
	"leadgrid_recheck":   "look again after events",
	"leadgrid_list":      "read what the key could not",
	"leadgrid_sweep":     "sweep",
	"leadgrid_tick":      "see whether a sweep is due",
	"leadgrid_retention": "forget what was kept long enough",
}

func kindName(kind string) string {
	if name, ok := kindNames[kind]; ok {
		return name
	}
	return strings.ReplaceAll(strings.TrimPrefix(kind, "leadgrid_"), "_", " ")
}

func (p *painter) jobs() []jobView {
	var shown []jobView
	for _, kind := range slices.Sorted(maps.Keys(jobs.Kinds)) {
		var ready, running, later int64
		view := jobView{Name: kindName(kind)}
		for _, count := range p.state.Jobs {
			switch {
			case count.Kind != kind:
			case count.State == "available":
				ready += count.N
				if count.Since != nil && p.now.Sub(*count.Since) > time.Second {
					view.Oldest = "the oldest for " + span(p.now.Sub(*count.Since))
				}
			case count.State == "running":
				running += count.N
			default:
				later += count.N
			}
		}
		view.Ready, view.Running, view.Later = number(ready), number(running), number(later)
		shown = append(shown, view)
	}
	return shown
}

func (p *painter) failures() []errorView {
	var shown []errorView
	for _, f := range p.picture.failures {
		view := errorView{
			What: fmt.Sprintf("%s, job %d", capital(kindName(f.Kind)), f.Job),
			When: p.when(f.At), Text: brief(f.Error), Next: fmt.Sprintf("failed %s", plural(int64(f.Attempt), "time")),
		}
		switch {
		case f.State == "discarded":
			view.Next += "; it was given up"
			p.problem(bad, "Job %d was given up.", f.Job)
		case f.State == "running":
			view.Next += "; it is being tried again now"
		case f.Next.After(p.now):
			view.Next += "; tried again " + p.when(f.Next)
		default:
			view.Next += "; about to be tried again"
		}
		shown = append(shown, view)
	}
	return shown
}

// when says how far a moment is from now.
func (p *painter) when(t time.Time) string {
	d := p.now.Sub(t)
	switch {
	case d >= time.Second:
		return span(d) + " ago"
	case d <= -time.Second:
		return "in " + span(-d)
	}
	return "now"
}
