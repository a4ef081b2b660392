package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// count compares the receiver's file with what was sent. No two messages have the same
// text, so the texts tell which message arrived how often.
func (d *Demo) count(r *Result) error {
	file, err := os.Open(d.ReceivedFile())
	if err != nil {
		return fmt.Errorf("count what arrived: %w", err)
	}
	defer file.Close()
	times := make(map[string]int)
	for i := range d.cfg.Messages {
		times[text(i+1, d.cfg.Messages)] = 0
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var l struct {
			Message string `json:"message"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("count what arrived: %w", err)
		}
		if _, ok := times[l.Message]; ok {
			times[l.Message]++
		} else {
			r.Changed++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("count what arrived: %w", err)
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
	if r.PlaintextHits, err = d.searchBroker("letters", marker); err != nil {
		return err
	}
	r.ControlHits, err = d.searchBroker("a message that was not sealed", controlMarker)
	return err
}

// searchBroker counts the broker's files, including its log, that contain a text.
func (d *Demo) searchBroker(of, what string) (found int, err error) {
	searched := int64(0)
	look := func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return ignoreGone(err)
		}
		has, n, err := contains(path, []byte(what))
		searched += n
		if has {
			found++
		}
		return ignoreGone(err)
	}
	for _, root := range []string{d.Data(), d.LogFile()} {
		if err := filepath.WalkDir(root, look); err != nil {
			return 0, fmt.Errorf("search the broker's files: %w", err)
		}
	}
	d.cfg.Say("searched %d MiB of the broker's files for the text of %s: found in %d", searched>>20, of, found)
	return found, nil
}

// ignoreGone ignores a missing file: the broker may remove files meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// contains searches a file and returns how much of it was read. It reads blocks that
// overlap by the length of the text, so that no match is missed.
func contains(path string, what []byte) (found bool, n int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return false, 0, err
	}
	defer file.Close()
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		k, err := file.Read(buf[kept:])
		n += int64(k)
		k += kept
		if bytes.Contains(buf[:k], what) {
			return true, n, nil
		}
		if err == io.EOF {
			return false, n, nil
		}
		if err != nil {
			return false, n, err
		}
		kept = copy(buf, buf[max(0, k-len(what)+1):k])
	}
}
