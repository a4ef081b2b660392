package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
)

// Log lines that wait for their sink are bounded in number and size.
const (
	maxLogLines = 4096
	maxLogBytes = 4 << 20
)

// logFlushTime is how long a node that stops waits for the sink.
const logFlushTime = time.Second

// dropShown is how long health tells of dropped log lines.
const dropShown = time.Minute

// A logSink is a writer that never waits: one goroutine hands its lines on. Lines that find no
// room, because the sink does not read, and those that the sink refuses, are dropped and
// counted. So neither a log that nobody reads nor a full disk can stop a node.
type logSink struct {
	name     string // consoleLog, or of a file
	out      io.Writer
	note     *slog.Logger // writes to out; tells of what was dropped
	console  *slog.Logger // tells of a file that cannot be written; nil for the console itself
	lines    chan logLine
	stop     chan struct{}
	waiting  atomic.Int64 // bytes
	dropped  atomic.Uint64
	lastDrop atomic.Int64 // in Unix nanoseconds
	failure  atomic.Pointer[string]
}

// consoleLog is the name of standard error among the logs.
const consoleLog = "console"

// logLine is a line, or the wish to know that those before were written.
type logLine struct {
	text    []byte
	written chan struct{}
}

func newLogSink(name string, out io.Writer, handler func(io.Writer) slog.Handler, console *slog.Logger) *logSink {
	s := &logSink{name: name, out: out, note: slog.New(handler(out)), console: console, lines: make(chan logLine, maxLogLines), stop: make(chan struct{})}
	go s.run()
	return s
}

// Write takes one line and never fails. People read it, so what cannot be seen is escaped.
func (s *logSink) Write(p []byte) (int, error) {
	text := []byte(sealmq.Escape(string(p)))
	n := int64(len(text))
	if s.waiting.Add(n) <= maxLogBytes {
		select {
		case s.lines <- logLine{text: text}:
			return len(p), nil
		default:
		}
	}
	s.waiting.Add(-n)
	s.drop()
	return len(p), nil
}

func (s *logSink) drop() {
	s.dropped.Add(1)
	s.lastDrop.Store(time.Now().UnixNano())
}

func (s *logSink) run() {
	told := uint64(0)
	for {
		var l logLine
		select {
		case l = <-s.lines:
		case <-s.stop:
			return
		}
		if l.written != nil {
			close(l.written)
			continue
		}
		written, err := s.out.Write(l.text)
		if written < len(l.text) {
			s.drop()
		} else if n := s.dropped.Load(); n > told {
			s.note.Warn("log lines were dropped, because they could not be written", "lines", n-told)
			told = n
		}
		s.tell(err)
		s.waiting.Add(-int64(len(l.text)))
	}
}

// tell notes whether the last line could be written, and says on the console when a file no longer can.
func (s *logSink) tell(err error) {
	if err == nil {
		if s.failure.Swap(nil) != nil && s.name != consoleLog {
			s.lastDrop.Store(0) // the disk has room again
		}
		return
	}
	why := err.Error()
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		why = pe.Err.Error()
	}
	if s.failure.Swap(&why) == nil && s.console != nil {
		s.console.Warn("a log file cannot be kept; the node goes on without", "file", s.name, "error", err)
	}
}

// close waits for lines that were written, but not long.
func (s *logSink) close() {
	enough := time.NewTimer(logFlushTime)
	defer enough.Stop()
	defer close(s.stop)
	written := make(chan struct{})
	select {
	case s.lines <- logLine{written: written}:
	case <-enough.C:
		return
	}
	select {
	case <-written:
	case <-enough.C:
	}
}

// trouble is a check of health. A file stays degraded until a line can be written, the console for a
// while.
func (s *logSink) trouble() string {
	n := s.dropped.Load()
	recent := n > 0 && time.Since(time.Unix(0, s.lastDrop.Load())) <= dropShown
	why := s.failure.Load()
	switch {
	case s.name != consoleLog && why != nil:
		return fmt.Sprintf("%s: %s; %d log lines were dropped", s.name, *why, n)
	case recent && s.name != consoleLog:
		return fmt.Sprintf("%s: %d log lines were dropped", s.name, n)
	case recent:
		return fmt.Sprintf("%d log lines were dropped: nobody reads the log", n)
	}
	return ""
}

func (s *logSink) collector() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sealmq_log_dropped_lines_total", ConstLabels: prometheus.Labels{"log": s.name},
		Help: "Log lines that were dropped, because nobody read the log or its file could not be written."}, func() float64 { return float64(s.dropped.Load()) })
}

// surviveBrokenPipes lets a write to standard output or error fail whose reader has gone,
// instead of ending the process.
func surviveBrokenPipes() (stop func()) {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}
