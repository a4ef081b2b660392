package backup

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

// State is what became of a backup.
type State string

// The states.
const (
	Running  State = "running"
	Complete State = "complete"
	Failed   State = "failed"
)

// An Item is a backup in a folder.
type Item struct {
	Name    string
	State   State
	Created time.Time
	Size    int64
	SHA256  string // of the whole file, of one that is complete
	Err     string // of one that failed
}

// Names of the files in a folder. A backup that is written has partSuffix, and in the place of one
// that failed is a text that says why.
const (
	nameForm     = "backup_20060102_150405.zip"
	sumSuffix    = ".sha256"
	partSuffix   = ".part"
	failedSuffix = ".failed"
	// KeysName is the file of the key backup.
	KeysName = "backup_keys.age"
)

// pattern is the design documents'. This package writes names that end in ".zip".
var pattern = regexp.MustCompile(`^backup_[0-9]{8}_[0-9]{6}\.(zip|tar\.gz)(\.enc)?$`)

// IsName reports whether a file can be a backup.
func IsName(name string) bool { return pattern.MatchString(name) }

// maxNote bounds the files with checksums and reasons.
const maxNote = 4096

// maxReason bounds the reason that is kept.
const maxReason = 500

func note(file string) string {
	b, _ := durable.ReadFile(durable.OS(), file, maxNote)
	return strings.TrimSpace(string(b))
}

// list returns what is in a folder, the newest first. What is not finished counts as failed.
func list(folder string) ([]Item, error) {
	files, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, f := range files {
		name, state, why := f.Name(), Complete, ""
		if part, ok := strings.CutSuffix(name, partSuffix); ok {
			name, state, why = part, Failed, "it was interrupted"
		} else if failed, ok := strings.CutSuffix(name, failedSuffix); ok {
			name, state, why = failed, Failed, cmp.Or(note(filepath.Join(folder, f.Name())), "the reason is not known")
		}
		info, err := f.Info()
		if !IsName(name) || err != nil || !info.Mode().IsRegular() {
			continue
		}
		stem, _, _ := strings.Cut(name, ".")
		created, err := time.Parse(strings.TrimSuffix(nameForm, ".zip"), stem)
		if err != nil {
			continue
		}
		item := Item{Name: name, State: state, Created: created, Size: info.Size(), Err: why}
		if state == Complete {
			item.SHA256, _, _ = strings.Cut(note(filepath.Join(folder, name+sumSuffix)), " ")
		}
		if strings.HasSuffix(f.Name(), failedSuffix) {
			item.Size = 0
		}
		items = append(items, item)
	}
	slices.SortFunc(items, func(a, b Item) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Name, a.Name)) })
	return items, nil
}

// tidy removes what is older than keep, but not the last good one, and what failed before that.
func tidy(folder string, keep time.Duration, now time.Time) error {
	items, err := list(folder)
	if err != nil {
		return err
	}
	var good time.Time // of the last good one
	for _, item := range items {
		if item.State == Complete && good.IsZero() {
			good = item.Created
			continue
		}
		file := filepath.Join(folder, item.Name)
		switch {
		case item.State == Complete && item.Created.Before(now.Add(-keep)):
			err = errors.Join(err, remove(file), remove(file+sumSuffix))
		case item.State == Failed && item.Created.Before(good):
			err = errors.Join(err, remove(file+partSuffix), remove(file+failedSuffix))
		}
	}
	return err
}

// remove removes a file that may be gone.
func remove(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
