package client_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
)

func TestPinsFile(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	key := generate(t, seal.HPKEX25519)
	w.publish(n.Addr, "alice", key)
	dir := t.TempDir()
	file := filepath.Join(dir, "pins.json")
	open := func() *keydir.Pins {
		t.Helper()
		p, err := keydir.OpenPins(file)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	finds(t, w.directory(n.Addr, "bob", with(open())), "alice", "", key, nil)
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
	finds(t, w.directory(n.Addr, "bob", with(open())), "alice", "", key, nil)
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
		_, err := keydir.OpenPins(file)
		if !errors.Is(err, keydir.ErrPins) || !errors.As(err, &hinted) || hinted.Hint() == "" || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A changed checkpoint is noticed, not believed.
	if err := os.WriteFile(file, []byte(strings.Replace(string(before), `"checkpoint": "c`, `"checkpoint": "d`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	finds(t, w.directory(n.Addr, "bob", with(open())), "alice", "", nil, keydir.ErrPins)
}

// Each member of a pin that somebody has changed is noticed beside those that were left.
func TestAlteredPins(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	w.publish(n.Addr, "alice", generate(t, seal.HPKEX25519))
	file := filepath.Join(t.TempDir(), "pins.json")
	find := func() error {
		p, err := keydir.OpenPins(file)
		if err != nil {
			return err
		}
		_, err = w.directory(n.Addr, "bob", with(p)).Find(t.Context(), "alice", "")
		return err
	}
	if err := find(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := generate(t, seal.HPKEX25519).Fingerprint()
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
		change(town["keys"].(map[string]any)["alice"].(map[string]any)[string(seal.HPKEX25519)].(map[string]any))
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
		if !errors.Is(err, keydir.ErrPins) || !errors.Is(err, keydir.ErrPinned) || !errors.As(err, &hinted) || hinted.Hint() == "" {
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
	n := w.broker()
	names := []string{"anna", "berta", "clara", "dora"}
	keys := make(map[string]*seal.PublicKey)
	for _, name := range names {
		keys[name] = generate(t, seal.HPKEX25519)
		w.publish(n.Addr, name, keys[name])
	}
	file := filepath.Join(t.TempDir(), "pins.json")
	var work sync.WaitGroup
	for _, name := range names {
		p, err := keydir.OpenPins(file)
		if err != nil {
			t.Fatal(err)
		}
		d := w.directory(n.Addr, "bob", with(p))
		work.Go(func() {
			for range 3 {
				finds(t, d, name, "", keys[name], nil)
			}
		})
	}
	work.Wait()
	p, err := keydir.OpenPins(file)
	if err != nil {
		t.Fatal(err)
	}
	if pinned, err := p.Keys("town"); err != nil || len(pinned) != len(names) {
		t.Errorf("%d owners are pinned, %v", len(pinned), err)
	}
}
