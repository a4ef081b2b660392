package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/send"
)

// place is how far a file was read. The spool stores it with each message.
type place struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	// Length and Sum describe the text that ends there, to notice a changed file.
	Length int    `json:"length"`
	Sum    string `json:"sum"`
	Lines  bool   `json:"lines"`
	// Line is the number of the text's line.
	Line int `json:"line,omitempty"`
	// For names sender, receivers, exchange and key, so that the rest of a file is not
	// sent elsewhere.
	For string `json:"for"`
}

// purpose is what a spool is for.
func (f *sendFlags) purpose() string {
	to := slices.Clone(f.to)
	slices.Sort(to)
	from := cmp.Or(f.connect.cert, f.connect.as)
	return fmt.Sprintf("from %s to %s by exchange %s with key %s", from, strings.Join(to, " and "), f.exchange, f.key)
}

// openSpool opens the spool of --spool, if any, and sets where the input continues.
func (f *sendFlags) openSpool(a call, in *input) (*send.Spool, error) {
	if f.spool == "" {
		return nil, nil
	}
	spool, err := retryLocked(a.ctx, func() (*send.Spool, error) { return openSpool(a, f.spool) })
	if errors.Is(err, durable.ErrLocked) {
		return nil, withHint(err, "another \"sealmq send\" uses this spool; name another folder with --spool")
	}
	if err != nil {
		return nil, err
	}
	if err := f.prepareSpool(a, spool, in); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	return spool, nil
}

// openSpool opens a spool, and tells in what state it was left.
func openSpool(a call, dir string) (*send.Spool, error) {
	s, err := send.OpenSpool(dir, send.SpoolConfig{})
	err = inPlace(err, "folder with --spool")
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, withHint(fmt.Errorf("%s is not a folder", dir), "name a folder with --spool")
	}
	if _, ok := errors.AsType[*send.DamagedFileError](err); ok {
		return nil, withHint(err, "nothing was changed: put the folder %s back from a backup; or move it away and send with a new one, "+
			"from the beginning of the file or with what no receiver has: what this one sent already arrives twice then", dir)
	}
	if err != nil {
		return nil, err
	}
	switch found := s.Found(); {
	case found.Cut.Bytes > 0:
		a.note("the spool %s ended inside a message: the last %s of %s are in %s now; what was not stored whole was never sent, and is read from its file again",
			dir, plural(uint64(found.Cut.Bytes), "byte"), found.Cut.Name, found.Cut.Kept)
	case !found.Closed:
		a.note("the spool %s was not closed: its sender was killed, or its files have lost their end; it holds %s that no broker has confirmed",
			dir, plural(uint64(s.Len()), "message"))
	}
	return s, nil
}

// lockWait is how long a killed process that is still ending may hold a lock.
const lockWait = 2 * time.Second

// retryLocked repeats open for a moment while another process holds the lock.
func retryLocked[T any](ctx context.Context, open func() (T, error)) (T, error) {
	began := time.Now()
	for {
		file, err := open()
		if !errors.Is(err, durable.ErrLocked) || time.Since(began) > lockWait || clock.Sleep(ctx, clock.System, lockWait/40) != nil {
			return file, err
		}
	}
}

func (f *sendFlags) prepareSpool(a call, spool *send.Spool, in *input) error {
	in.place, in.purpose = &place{}, f.purpose()
	if p := spool.Position(); len(p) > 0 {
		if err := json.Unmarshal(p, in.place); err != nil {
			return fmt.Errorf("the spool's position: %w", err)
		}
	}
	if in.place.File == "" || f.count > 0 || in.names[0] == "-" {
		return nil
	}
	if was := in.place.For; was != in.purpose {
		return withHint(fmt.Errorf("the messages in the spool %s are %s, but this command is %s", f.spool, was, in.purpose), "name another folder with --spool, or use the same flags as before")
	}
	path, err := filepath.Abs(in.names[0])
	if err != nil {
		return err
	}
	if path != in.place.File {
		return withHint(fmt.Errorf("the spool %s belongs to %s", f.spool, in.place.File), "name another folder with --spool")
	}
	if info, err := os.Stat(path); err == nil && info.Size() == in.place.Offset {
		a.note("all of %s was already sent or is in the spool; to send it again, use another --spool", in.names[0])
	} else {
		a.note("continuing at byte %d of %s", in.place.Offset, in.names[0])
	}
	return nil
}

// resume seeks to the place where an earlier run stopped, and returns it.
func (in *input) resume(f *os.File) (from place, err error) {
	if in.place == nil {
		return place{}, nil
	}
	if in.path, err = filepath.Abs(f.Name()); err != nil {
		return place{}, err
	}
	p := *in.place
	if p.File != in.path {
		return place{}, nil
	}
	changed := withHint(fmt.Errorf("%s has changed since it was sent up to byte %d", f.Name(), p.Offset),
		"a spool can continue only if the file has only grown; send the new file with another --spool")
	if p.Lines != in.lines {
		before, now := "with", "without"
		if in.lines {
			before, now = now, before
		}
		return place{}, withHint(fmt.Errorf("%s was first sent %s --lines, and now %s it", f.Name(), before, now), "use --lines as before")
	}
	begin := max(0, p.Offset-int64(p.Length)-int64(len("\r\n")))
	before := make([]byte, p.Offset-begin)
	if _, err := f.ReadAt(before, begin); err != nil {
		return place{}, changed
	}
	text := string(before)
	if in.lines {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	}
	if len(text) < p.Length || sumOf(text[len(text)-p.Length:]) != p.Sum {
		return place{}, changed
	}
	_, err = f.Seek(p.Offset, io.SeekStart)
	return p, err
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// position is the place that the spool stores with a text.
func (in *input) position(t *sender.Text) []byte {
	if in.place == nil || in.path == "" {
		return nil
	}
	p := place{File: in.path, Offset: in.texts.Offset(), Length: len(t.Body), Sum: sumOf(string(t.Body)), Lines: in.lines, Line: t.Line, For: in.purpose}
	b, err := json.Marshal(p)
	if err != nil {
		return nil // a path that is not UTF-8 is changed, not refused
	}
	return b
}

// spooledFrom reads where a message in a spool comes from; it is empty if that is unknown.
func spooledFrom(spool *send.Spool, seq uint64) (p place, err error) {
	e, err := spool.Read(seq)
	if err != nil || len(e.Position) == 0 {
		return place{}, err
	}
	if err := json.Unmarshal(e.Position, &p); err != nil {
		return place{}, fmt.Errorf("the position of message %s: %w", e.ID, err)
	}
	return p, nil
}

// withPlace adds to an error the place of a refused message that an earlier run has read.
func withPlace(err error, spool *send.Spool) error {
	var known *sender.TextError
	var refused *send.RefusedError
	if spool == nil || errors.As(err, &known) || !errors.As(err, &refused) {
		return err
	}
	for _, e := range spool.Entries() {
		if e.ID != refused.ID {
			continue
		}
		if p, perr := spooledFrom(spool, e.Seq); perr == nil && p.File != "" {
			return &sender.TextError{Place: sender.Place(p.File, p.Line), Err: err}
		}
	}
	return err
}
