package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/term"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/metrics"
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
// counted. So a log that nobody reads cannot stop a node.
type logSink struct {
	out      io.Writer
	note     *slog.Logger // writes to out; tells of what was dropped
	lines    chan logLine
	stop     chan struct{}
	waiting  atomic.Int64 // bytes
	dropped  atomic.Uint64
	lastDrop atomic.Int64 // in Unix nanoseconds
}

// logLine is a line, or the wish to know that those before were written.
type logLine struct {
	text    []byte
	written chan struct{}
}

func newLogSink(out io.Writer, handler func(io.Writer) slog.Handler) *logSink {
	s := &logSink{out: out, note: slog.New(handler(out)), lines: make(chan logLine, maxLogLines), stop: make(chan struct{})}
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
		if _, err := s.out.Write(l.text); err != nil {
			s.drop()
		} else if n := s.dropped.Load(); n > told {
			s.note.Warn("log lines were dropped, because they were not read", "lines", n-told)
			told = n
		}
		s.waiting.Add(-int64(len(l.text)))
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

// status is a check of health.
func (s *logSink) status() (metrics.Status, string) {
	n := s.dropped.Load()
	if n == 0 || time.Since(time.Unix(0, s.lastDrop.Load())) > dropShown {
		return metrics.OK, ""
	}
	return metrics.Degraded, fmt.Sprintf("%d log lines were dropped: nobody reads the log", n)
}

func (s *logSink) collector() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sealmq_log_dropped_lines_total",
		Help: "Log lines that were dropped, because nobody read the log."}, func() float64 { return float64(s.dropped.Load()) })
}

// newLogger makes the logger of a node. The sink must be closed.
func newLogger(cfg LogConfig, w io.Writer) (*slog.Logger, *logSink) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // Validate has refused anything else
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would show nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	f, isFile := w.(*os.File)
	asText := cfg.Format == "text" || cfg.Format != "json" && isFile && term.IsTerminal(int(f.Fd()))
	handler := func(w io.Writer) slog.Handler {
		if asText {
			return slog.NewTextHandler(w, o)
		}
		return slog.NewJSONHandler(w, o)
	}
	sink := newLogSink(w, handler)
	return slog.New(handler(sink)), sink
}

// surviveBrokenPipes lets a write to standard output or error fail whose reader has gone,
// instead of ending the process.
func surviveBrokenPipes() (stop func()) {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}
