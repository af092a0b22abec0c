package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// progress shows people how far a sweep has come.
type progress interface {
	show(s *sweep.Sweep)
	note(text string) // a repeated text is shown once
	end(done bool)    // the last phase is over, or was left
}

// newProgress draws bars on a terminal, and writes lines anywhere else.
func newProgress(out io.Writer) progress {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return &bars{out: out}
	}
	return &lines{out: out, now: time.Now}
}

// bars draws a bar for each phase, below the bars of the phases before.
type bars struct {
	out   io.Writer
	bar   *progressbar.ProgressBar
	phase string
	noted string
}

func (b *bars) show(s *sweep.Sweep) {
	phase, done, total := at(s)
	if phase != b.phase {
		b.end(true) // between two looks
		b.phase = phase
	}
	if total == 0 {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(b.out), progressbar.OptionSetDescription(fmt.Sprintf("%-18s", phase)),
			progressbar.OptionSetWidth(30), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
			progressbar.OptionUseANSICodes(true),
		)
	}
	if b.bar.GetMax() != total {
		b.bar.ChangeMax(total)
	}
	_ = b.bar.Set(min(done, total)) // a terminal that is gone is no reason to stop
}

func (b *bars) note(text string) {
	if text == b.noted {
		return
	}
	b.end(false)
	b.noted = text
	fmt.Fprintln(b.out, text)
}

func (b *bars) end(done bool) {
	if b.bar == nil {
		return
	}
	if done {
		_ = b.bar.Finish()
	}
	fmt.Fprintln(b.out)
	b.bar = nil
}

// lines writes a line when a phase begins, and every few seconds.
type lines struct {
	out   io.Writer
	now   func() time.Time
	phase string
	at    time.Time
	noted string
}

const linesEvery = 5 * time.Second

func (l *lines) show(s *sweep.Sweep) {
	phase, done, total := at(s)
	if total == 0 || phase == l.phase && l.now().Sub(l.at) < linesEvery {
		return
	}
	l.phase, l.at = phase, l.now()
	fmt.Fprintf(l.out, "%s: %s of %s\n", phase, number(min(done, total)), number(total))
}

func (l *lines) note(text string) {
	if text != l.noted {
		l.noted = text
		fmt.Fprintln(l.out, text)
	}
}

func (l *lines) end(bool) {}

// at returns what to show of a sweep.
func at(s *sweep.Sweep) (phase string, done, total int) {
	if s.StartedAt == nil {
		return "waiting", 0, 0
	}
	return s.Progress.Phase, s.Progress.Done, s.Progress.Total
}
