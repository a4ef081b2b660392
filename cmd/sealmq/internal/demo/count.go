package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// count compares the receiver's file with what was sent. No two messages have the same
// text, so the texts tell which message arrived how often.
func (d *Demo) count(r *Result) error {
	content, err := os.ReadFile(d.ReceivedFile())
	if err != nil {
		return fmt.Errorf("count what arrived: %w", err)
	}
	times := make(map[string]int)
	for i := range d.cfg.Messages {
		times[text(i+1, d.cfg.Messages)] = 0
	}
	for line := range bytes.Lines(content) {
		var l struct {
			Message string `json:"message"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("count what arrived: %w", err)
		}
		if _, ok := times[l.Message]; ok {
			times[l.Message]++
		} else {
			r.Changed++
		}
	}
	for _, n := range times {
		if n == 0 {
			r.Lost++
			continue
		}
		r.Received++
		r.Duplicates += n - 1
	}
	return nil
}

// judge counts what arrived and searches the broker's files.
func (d *Demo) judge(r *Result) (err error) {
	if err := d.count(r); err != nil {
		return err
	}
	if r.PlaintextHits, err = d.search("the letters", marker, d.files()...); err != nil {
		return err
	}
	r.ControlHits, err = d.search("a message that was not sealed", controlMarker, d.files()...)
	return err
}

// search counts the files, in folders or alone, that contain a text. The largest are the
// segments of 32 MiB.
func (d *Demo) search(of, what string, roots ...string) (found int, err error) {
	searched := 0
	look := func(path string, e fs.DirEntry, err error) error {
		var content []byte
		if err == nil && e.Type().IsRegular() {
			content, err = os.ReadFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // a process may remove files meanwhile
			return nil
		}
		searched += len(content)
		if bytes.Contains(content, []byte(what)) {
			found++
		}
		return err
	}
	for _, root := range roots {
		if err := filepath.WalkDir(root, look); err != nil {
			return 0, fmt.Errorf("search the files: %w", err)
		}
	}
	d.cfg.Say("searched %d MiB of files for %s: found in %d", searched>>20, of, found)
	return found, nil
}
