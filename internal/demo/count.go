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

// count compares the receiver's file with what the sender's broker confirmed.
func (d *Demo) count(r *Result, s *sender) error {
	file, err := os.Open(d.ReceivedFile())
	if err != nil {
		return fmt.Errorf("count what arrived: %w", err)
	}
	defer file.Close()
	seen := make(map[string]bool)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var l letter
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("count what arrived: %w", err)
		}
		if seen[l.ID] {
			r.Duplicates++
			continue
		}
		seen[l.ID] = true
		r.Received++
		if want, ok := s.confirmed[l.ID]; !ok || want != l.Text {
			r.Changed++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("count what arrived: %w", err)
	}
	r.Sent = len(s.confirmed)
	for id := range s.confirmed {
		if !seen[id] {
			r.Lost++
		}
	}
	return nil
}

// searchBroker counts the files of the broker that hold text of a message.
func (d *Demo) searchBroker() (found int, err error) {
	bytesRead := int64(0)
	err = filepath.WalkDir(d.Data(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return gone(err)
		}
		has, n, err := contains(path, []byte(marker))
		bytesRead += n
		if has {
			found++
		}
		return gone(err)
	})
	if err != nil {
		return 0, fmt.Errorf("search the broker's files: %w", err)
	}
	d.cfg.Say("searched %d KiB of the broker's files for the text of a message: found in %d", bytesRead>>10, found)
	return found, nil
}

// gone: the broker may remove a file while the folder is walked.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// contains reads a file in pieces that overlap by the length of what is looked for.
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
