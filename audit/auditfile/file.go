// Package auditfile keeps the records of package audit in a file that shows when it was changed.
package auditfile

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/internal/durable"
)

const (
	// maxWaiting is how many records wait to be written. Further ones are lost, and the log
	// says so.
	maxWaiting = 10_000
	// deniedPerMinute bounds the records with an Outcome, so that strangers do not decide how long
	// the file gets.
	deniedPerMinute = 60
	maxText         = 1024
	maxLine         = 64 << 10
)

// File is an audit.Sink that appends to a file whose lines are a chain: each has the hash of the one
// before it, so that a line that is changed, taken out or put in breaks the chain. Only lines at
// the end can be cut off unnoticed, and only all together can be written anew: what was read and
// kept elsewhere tells.
type File struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	waiting []audit.Record
	minute  int64
	denied  int
	lost    int
	closed  bool
	wake    chan struct{}
	done    chan struct{}

	f    *os.File // of the writer
	last string   // hash of the last line
	seq  int64
}

// line is one record in the file. Its hash is over the line before Hash is added.
type line struct {
	Seq      int64     `json:"seq"`
	Time     time.Time `json:"time"`
	Identity string    `json:"identity"`
	Issuer   string    `json:"issuer,omitempty"`
	Role     string    `json:"role,omitempty"`
	Command  string    `json:"command"`
	Object   string    `json:"object,omitempty"`
	Refused  string    `json:"refused,omitempty"`
	Previous string    `json:"previous"`
	Hash     string    `json:"hash,omitempty"`
}

func (l line) hash() string {
	l.Hash = ""
	b, err := json.Marshal(l)
	if err != nil {
		panic("audit: internal error: " + err.Error()) // such structs cannot fail
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Open opens a file, or begins it, and goes on with its chain. A line that a crash has left
// half written is taken off. log may be nil.
func Open(path string, log *slog.Logger) (*File, error) {
	if err := durable.MkdirAll(durable.OS(), filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("audit file: %w", err)
	}
	f, err := durable.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit file: %w", err)
	}
	a := &File{path: path, log: cmp.Or(log, slog.New(slog.DiscardHandler)), f: f, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := a.findEnd(); err != nil {
		return nil, errors.Join(fmt.Errorf("audit file: %w", err), f.Close())
	}
	go a.run()
	return a, nil
}

// findEnd reads the last line, behind which the chain goes on.
func (a *File) findEnd() error {
	size, err := a.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	tail := make([]byte, min(size, 2*maxLine))
	if _, err := a.f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if torn := len(tail) - whole; torn > 0 {
		a.log.Warn("the last line of the audit file is not whole and is taken off", "bytes", torn)
		size -= int64(torn)
		if err := a.f.Truncate(size); err != nil {
			return err
		}
	}
	if _, err := a.f.Seek(size, io.SeekStart); err != nil {
		return err
	}
	if whole == 0 {
		return nil
	}
	last := tail[:whole-1]
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	var l line
	if err := json.Unmarshal(last, &l); err != nil {
		a.log.Error("the last line of the audit file cannot be read; the chain breaks there", "file", a.path)
		return nil
	}
	a.last, a.seq = l.Hash, l.Seq
	return nil
}

// Write implements audit.Sink.
func (a *File) Write(r audit.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Outcome != nil {
		if minute := r.Time.Unix() / 60; minute != a.minute {
			a.minute, a.denied = minute, 0
		}
		if a.denied++; a.denied > deniedPerMinute {
			return
		}
	}
	if a.closed || len(a.waiting) >= maxWaiting {
		a.lost++
		return
	}
	a.waiting = append(a.waiting, r)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run writes what waits.
func (a *File) run() {
	defer close(a.done)
	failing := false
	for range a.wake {
		a.mu.Lock()
		list, lost, closed := a.waiting, a.lost, a.closed
		a.waiting, a.lost = nil, 0
		a.mu.Unlock()
		if lost > 0 {
			a.log.Error("records of the audit file were lost, because its disk is too slow", "records", lost)
		}
		if err := a.append(list); err != nil && !failing {
			a.log.Error("the audit file cannot be written; what is done is not on record there", "error", err)
			failing = true
		} else if err == nil {
			failing = false
		}
		if closed {
			return
		}
	}
}

func (a *File) append(list []audit.Record) error {
	if len(list) == 0 {
		return nil
	}
	var b bytes.Buffer
	last, seq := a.last, a.seq
	for _, r := range list {
		seq++
		l := line{Seq: seq, Time: r.Time.UTC(), Identity: cut(r.Identity.ID), Issuer: cut(r.Identity.Issuer), Role: cut(string(r.Identity.Role)),
			Command: cut(r.Command), Object: cut(r.Object), Previous: last}
		if r.Outcome != nil {
			l.Refused = cut(r.Outcome.Error())
		}
		last = l.hash()
		l.Hash = last
		text, err := json.Marshal(l)
		if err != nil {
			return err
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	at, err := a.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err = a.f.Write(b.Bytes()); err == nil {
		err = a.f.Sync()
	}
	if err != nil { // the next lines go where these should be
		_, seekErr := a.f.Seek(at, io.SeekStart)
		return errors.Join(err, seekErr, a.f.Truncate(at))
	}
	a.last, a.seq = last, seq
	return nil
}

// cut makes a text short, and one that reads back as it was written.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD") }

// Close writes what waits and closes the file.
func (a *File) Close() error {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	a.mu.Unlock()
	<-a.done
	return a.f.Close()
}

// Chain is what Verify has found.
type Chain struct {
	// Records is how many lines are in order, from the first one, and Until when the last of
	// them was written.
	Records int64
	Until   time.Time
	// Last is its hash: who keeps it can tell later that the file was not written anew.
	Last string
	// Broken says what is wrong with the line behind them, or is empty.
	Broken string
}

// Verify reads an audit file from its beginning, and says how far its chain is whole. A file
// that does not exist is an empty chain.
func Verify(path string) (c Chain, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("audit file: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 0, maxLine), maxLine)
	for s.Scan() {
		var l line
		switch err := json.Unmarshal(s.Bytes(), &l); {
		case err != nil:
			c.Broken = "it cannot be read"
		case l.Previous != c.Last:
			c.Broken = "it does not follow the line before it: lines were taken out, put in or exchanged"
		case l.hash() != l.Hash:
			c.Broken = "it was changed"
		}
		if c.Broken != "" {
			return c, nil
		}
		c.Records, c.Until, c.Last = c.Records+1, l.Time, l.Hash
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		c.Broken = "it is longer than any record"
	} else if err != nil {
		return c, fmt.Errorf("audit file: %w", err)
	}
	return c, nil
}
