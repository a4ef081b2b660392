package mainclient

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/clock"
)

const (
	// tellEvery is how often a report names the same peer with the same reason.
	tellEvery = time.Minute
	// lookForRefused is how soon the first attempt of a peer is told of, and tellAgain when
	// after a report that did not arrive.
	lookForRefused, tellAgain = time.Second, 5 * time.Second
	// maxRefused bounds the rows of a Refused, and of a report.
	maxRefused = 100
	// lastReport bounds the report of a process that stops.
	lastReport = time.Second
)

// Refused sums up who was not let in by the listeners of a process. The first attempt is told
// of at once, those that follow once a minute. It keeps at most a hundred rows: of attempts
// beyond them it keeps the number. The zero value is empty. It is safe for concurrent use.
type Refused struct {
	mu      sync.Mutex
	rows    map[refusedKey]*refusedRow
	leftOut int
}

type refusedKey struct{ component, name, reason string }

type refusedRow struct {
	mainapi.RefusedAttempts
	told time.Time // zero if it never was
}

// Note adds an attempt. Component is the role of the listener, name the client's as far as it
// is known for certain, and address the host that it came from.
func (r *Refused) Note(component, name, reason, address string) {
	key, now := refusedKey{component, name, reason}, time.Now().UTC()
	r.mu.Lock()
	defer r.mu.Unlock()
	row := r.rows[key]
	if row == nil {
		if len(r.rows) >= maxRefused {
			r.leftOut++
			return
		}
		if r.rows == nil {
			r.rows = make(map[refusedKey]*refusedRow)
		}
		row = &refusedRow{RefusedAttempts: mainapi.RefusedAttempts{Component: mainapi.RefusedAttemptsComponent(component), ClientID: name, Reason: reason}}
		r.rows[key] = row
	}
	row.Attempts++
	row.Address, row.Last = address, now
}

// due are the rows that should be told of, all of them if the process stops. It forgets those
// that have been silent.
func (r *Refused) due(now time.Time, all bool) mainapi.RefusedReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := mainapi.RefusedReport{LeftOut: r.leftOut}
	for key, row := range r.rows {
		rested := all || now.Sub(row.told) >= tellEvery
		switch {
		case rested && row.Attempts > 0:
			report.Items = append(report.Items, row.RefusedAttempts)
		case rested:
			delete(r.rows, key)
		}
	}
	return report
}

// told takes out what has arrived.
func (r *Refused) told(report *mainapi.RefusedReport, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leftOut -= report.LeftOut
	for i := range report.Items {
		a := &report.Items[i]
		if row := r.rows[refusedKey{string(a.Component), a.ClientID, a.Reason}]; row != nil {
			row.Attempts -= a.Attempts
			row.told = now
		}
	}
}

// Run tells of attempts until ctx ends, and then of what is left. While a report does not
// arrive, attempts are summed up. One whose answer was lost is told again.
func (r *Refused) Run(ctx context.Context, tell func(context.Context, mainapi.RefusedReport) error, log *slog.Logger) {
	next, failed := lookForRefused, false
	for ended := false; !ended; {
		ended = clock.Sleep(ctx, clock.System, next) != nil
		next = lookForRefused
		callCtx, cancel := ctx, context.CancelFunc(func() {})
		if ended {
			callCtx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastReport)
		}
		if report := r.due(time.Now(), ended); len(report.Items) > 0 {
			err := tell(callCtx, report)
			if err != nil && !failed {
				log.Warn("the main server does not hear who was refused here; the attempts are summed up", "err", err)
			}
			failed = err != nil
			if failed {
				next = tellAgain
			}
			if !failed || sealmq.CodeOf(err) == sealmq.BadArgument { // it will not take it tomorrow either
				r.told(&report, time.Now())
			}
		}
		cancel()
	}
}

// TellRefused reports attempts to the main server.
func (c *Client) TellRefused(ctx context.Context, report mainapi.RefusedReport) error {
	report.Node = c.Self.Name
	r, err := c.api.ReportRefusedWithResponse(ctx, report)
	if err != nil {
		return failed(err)
	}
	if r.StatusCode() != 204 {
		return refused(r.HTTPResponse, r.ApplicationProblemJSONDefault)
	}
	return nil
}
