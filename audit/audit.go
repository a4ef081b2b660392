// Package audit takes records of who did what: commands of administrators, commands that
// were denied, keys that were changed.
//
// It promises that a client cannot fill the disk with records of what it is denied. It
// does not decide what is recorded (package broker does), and counts nothing: metrics do.
package audit

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
)

// Record is one thing that somebody did or tried.
type Record struct {
	Time     time.Time
	Identity sealmq.Identity
	Command  string
	Object   string // a queue, an exchange, a name; may be empty
	Outcome  error  // nil if it was carried out
}

// Sink takes records. Write must not block, and must be safe for concurrent use.
type Sink interface{ Write(Record) }

// Sinks are several that get the same records.
type Sinks []Sink

// Write implements Sink.
func (s Sinks) Write(r Record) {
	for _, sink := range s {
		sink.Write(r)
	}
}

// MaxDenied is how many records with an Outcome a Log writes of one second.
const MaxDenied = 20

// Log is a Sink that writes lines into the program's log.
type Log struct {
	log            *slog.Logger
	second, denied atomic.Int64 // records with an Outcome in that second
}

// NewLog returns a Log.
func NewLog(log *slog.Logger) *Log { return &Log{log: log} }

// Write implements Sink. What was carried out is always written. Of the rest so much is
// left out that a client does not decide how long the log gets.
func (l *Log) Write(r Record) {
	if r.Outcome == nil {
		l.log.Info("administrative command", "client", r.Identity.ID, "issuer", r.Identity.Issuer, "command", r.Command, "object", r.Object)
		return
	}
	if now := r.Time.Unix(); l.second.Swap(now) != now {
		l.denied.Store(0)
	}
	if l.denied.Add(1) <= MaxDenied {
		l.log.Warn("denied or refused", "client", r.Identity.ID, "issuer", r.Identity.Issuer, "command", r.Command, "object", r.Object, "err", r.Outcome)
	}
}
