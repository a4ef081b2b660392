package proxy

import (
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

// noteUse writes down that a key was used. A failure costs the note only.
func (a *apiKeys) noteUse(id string, now time.Time) {
	a.mu.Lock()
	last, known := a.used[id]
	due := !known || now.Sub(last) >= noteUseEvery || now.Before(last)
	if due {
		if a.used == nil {
			a.used = make(map[string]time.Time)
		}
		a.used[id] = now
	}
	keys := a.keys
	a.mu.Unlock()
	if !due {
		return
	}
	a.noting.Lock()
	defer a.noting.Unlock()
	if err := a.writeUse(keys, id, now); err != nil {
		a.log.Warn("the use of an API key was not written down", "id", id, "error", err)
	}
}

// writeUse changes the file, in which other proxies of the folder may have written. Keys that
// were taken back are left out.
func (a *apiKeys) writeUse(keys []apiKey, id string, now time.Time) error {
	uses, err := APIKeyUses(a.fs, a.file)
	if err != nil {
		return err
	}
	for id := range uses {
		if !slices.ContainsFunc(keys, func(k apiKey) bool { return k.ID == id }) {
			delete(uses, id)
		}
	}
	uses[id] = now.UTC().Truncate(time.Second)
	data, err := json.MarshalIndent(uses, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(a.fs, usesFile(a.file), append(data, '\n'), 0o600)
}
