package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

// noteUseEvery is how often the use of one key is written down, at most.
const noteUseEvery = time.Minute

// usesFile is beside a file of keys. Commands write the one, proxies the other.
func usesFile(file string) string { return strings.TrimSuffix(file, filepath.Ext(file)) + ".used.json" }

// APIKeyUses reads when the keys in a file were last used, by their ids, to about a minute. A
// key that never was is not in it.
func APIKeyUses(fs durable.FS, file string) (map[string]time.Time, error) {
	uses := make(map[string]time.Time)
	data, err := durable.ReadFile(fs, usesFile(file), maxAPIKeyFileBytes)
	if durable.IsNotExist(err) {
		return uses, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &uses)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", usesFile(file), err)
	}
	return uses, nil
}

// noteUse has it written down that a key was used. It waits for no disk.
func (a *apiKeys) noteUse(id string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, known := a.used[id]; known && now.Sub(last) < noteUseEvery && !now.Before(last) {
		return
	}
	a.used[id], a.unwritten[id] = now, now
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// writeUses writes down what noteUse noted, until ctx ends and all of it is.
func (a *apiKeys) writeUses(ctx context.Context) {
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-a.wake:
		}
		a.mu.Lock()
		noted, keys := a.unwritten, a.keys
		a.unwritten = make(map[string]time.Time)
		a.mu.Unlock()
		if len(noted) == 0 {
			continue
		}
		if err := a.writeUse(keys, noted); err != nil {
			a.log.Warn("the use of API keys was not written down", "keys", len(noted), "error", err)
		}
	}
}

// writeUse changes the file, in which other proxies of the folder may have written. Keys that
// were taken back are left out.
func (a *apiKeys) writeUse(keys []APIKey, noted map[string]time.Time) error {
	uses, err := APIKeyUses(a.fs, a.file)
	if err != nil {
		return err
	}
	for id, at := range noted {
		uses[id] = at.UTC().Truncate(time.Second)
	}
	for id := range uses {
		if !slices.ContainsFunc(keys, func(k APIKey) bool { return k.ID == id }) {
			delete(uses, id)
		}
	}
	data, err := json.MarshalIndent(uses, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(a.fs, usesFile(a.file), append(data, '\n'), 0o600)
}
