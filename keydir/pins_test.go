package keydir

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/seal"
)

func TestPinsFile(t *testing.T) {
	w := newTown(t)
	o := w.office()
	key := generate(t, small)
	o.publish("alice", key)
	dir := t.TempDir()
	file := filepath.Join(dir, "pins.json")
	open := func() *Pins {
		t.Helper()
		p, err := OpenPins(file, "town")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	finds(t, w.directory(o.as("bob"), with(open())), "alice", "", key, nil)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	finds(t, w.directory(o.as("bob"), with(open())), "alice", "", key, nil)
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("looking up again has changed the file: %v\n%s\n%s", err, before, after)
	}
	for name, bad := range map[string]string{
		"cut":            string(before[:len(before)/2]),
		"empty":          "",
		"more behind it": string(before) + "x",
		"unknown member": strings.Replace(string(before), `"proven"`, `"surprise": 1, "proven"`, 1),
		"newer":          `{"v":2,"more":1}`,
		"no version":     `{}`,
	} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		var hinted interface{ Hint() string }
		_, err := OpenPins(file, "town")
		if !errors.Is(err, ErrPins) || !errors.As(err, &hinted) || hinted.Hint() == "" || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A changed checkpoint is noticed, not believed.
	if err := os.WriteFile(file, []byte(strings.Replace(string(before), `"checkpoint": "c`, `"checkpoint": "d`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	finds(t, w.directory(o.as("bob"), with(open())), "alice", "", nil, ErrPins)
}

// Each member of a pin that somebody has changed is noticed beside those that were left.
func TestAlteredPins(t *testing.T) {
	w := newTown(t)
	o := w.office()
	o.publish("alice", generate(t, small))
	file := filepath.Join(t.TempDir(), "pins.json")
	find := func() error {
		p, err := OpenPins(file, "town")
		if err != nil {
			return err
		}
		_, err = w.directory(o.as("bob"), with(p)).Find(t.Context(), "alice", "")
		return err
	}
	if err := find(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := generate(t, small).Fingerprint()
	for name, change := range map[string]func(pin map[string]any){
		"fingerprint":     func(pin map[string]any) { pin["fingerprint"] = other },
		"no fingerprint":  func(pin map[string]any) { pin["fingerprint"] = "sha256:12" },
		"issuer":          func(pin map[string]any) { pin["issuer"] = "somebody" },
		"later serial":    func(pin map[string]any) { pin["serial"] = 7 },
		"no serial":       func(pin map[string]any) { delete(pin, "serial") },
		"no hash":         func(pin map[string]any) { delete(pin, "entry") },
		"not proven":      func(pin map[string]any) { pin["proven"] = false },
		"nothing changed": func(map[string]any) {},
	} {
		var all map[string]any
		if err := json.Unmarshal(before, &all); err != nil {
			t.Fatal(err)
		}
		town := all["directories"].(map[string]any)["town"].(map[string]any)
		change(town["keys"].(map[string]any)["alice"].(map[string]any)[string(small)].(map[string]any))
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		err = find()
		if name == "nothing changed" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var hinted interface{ Hint() string }
		if !errors.Is(err, ErrPins) || !errors.Is(err, ErrPinned) || !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
		if name == "fingerprint" && !strings.Contains(err.Error(), seal.ReadOut(other)) {
			t.Errorf("%v does not say what is pinned", err)
		}
	}
}

// Several processes share a file: none undoes what another has written.
func TestPinsAreShared(t *testing.T) {
	w := newTown(t)
	o := w.office()
	names := []string{"anna", "berta", "clara", "dora"}
	keys := make(map[string]*seal.PublicKey)
	for _, name := range names {
		keys[name] = generate(t, small)
		o.publish(name, keys[name])
	}
	file := filepath.Join(t.TempDir(), "pins.json")
	var work sync.WaitGroup
	for _, name := range names {
		p, err := OpenPins(file, "town")
		if err != nil {
			t.Fatal(err)
		}
		d := w.directory(o.as("bob"), with(p))
		work.Go(func() {
			for range 3 {
				finds(t, d, name, "", keys[name], nil)
			}
		})
	}
	work.Wait()
	p, err := OpenPins(file, "town")
	if err != nil {
		t.Fatal(err)
	}
	if pinned, err := p.Keys(); err != nil || len(pinned) != len(names) {
		t.Errorf("%d owners are pinned, %v", len(pinned), err)
	}
}

// held is a file system on which another process keeps a file locked, and time that flies.
type held struct {
	durable.FS
	clock.Clock
}

func (held) LockFile(name string) (func() error, error) {
	return nil, fmt.Errorf("%s: %w", name, durable.ErrLocked)
}

func (held) AfterFunc(_ time.Duration, f func()) clock.Timer { return clock.System.AfterFunc(0, f) }

// onePin is a file with one pin, which fits together.
const onePin = `{"v":1,"directories":{"town":{"log_key":"k","checkpoint":"AAAA","keys":{"alice":{"hpke-x25519-aes256gcm":` +
	`{"fingerprint":"sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f","proven":true,"serial":1,"entry":"1000000000000000000000000000000000000000000000000000000000000000","issuer":"i","first_seen":"2026-05-04T09:00:00Z"}}}}}}`

// TestPinsThatAnotherProcessHolds: the error names the file that is locked, and a hint.
func TestPinsThatAnotherProcessHolds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pins.json")
	if err := os.WriteFile(file, []byte(onePin), 0o600); err != nil {
		t.Fatal(err)
	}
	h := held{durable.OS(), clock.System}
	p, err := openPins(file, "town", h, h)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Forget(t.Context(), "alice")
	var hinted interface{ Hint() string }
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), file) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "pins") {
		t.Errorf("%v", err)
	}
}

// FuzzPins opens arbitrary files. What is understood is listed, what is not is an error.
func FuzzPins(f *testing.F) {
	f.Add([]byte(`{"v":1,"directories":{}}`))
	f.Add([]byte(onePin))
	f.Add([]byte(`{"v":1,"directories":{"town":null}}`))
	f.Add([]byte(`{"v":1,"directories":{"town":{"keys":{"alice":{}}}}}`))
	f.Add([]byte(`{"v":1,"directories":{"town":{"keys":{"alice":null,"bob":{}}}}}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		fs := faultfs.New()
		if err := durable.WriteFile(fs, "pins.json", content, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPins("pins.json", "town", fs, clock.System)
		if err != nil {
			return
		}
		before, err := p.Keys()
		if err != nil {
			t.Fatal(err)
		}
		for owner, pins := range before {
			if len(pins) == 0 {
				t.Fatalf("%q is listed without a pin", owner)
			}
		}
		gone, err := p.Forget(t.Context(), "alice")
		if err != nil || !maps.Equal(gone, before["alice"]) {
			t.Fatalf("%v, %v", gone, err)
		}
		if keys, err := p.Keys(); err != nil || keys["alice"] != nil {
			t.Fatalf("%v, %v", keys, err)
		}
	})
}
