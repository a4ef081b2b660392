package client_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/seal"
)

func TestPinsFile(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	key := generate(t, seal.HPKEX25519)
	w.publish(n.addr, "alice", key)
	dir := t.TempDir()
	file := filepath.Join(dir, "pins.json")
	open := func() *client.Pins {
		t.Helper()
		p, err := client.OpenPins(client.PinsConfig{File: file})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	finds(t, w.directory(n.addr, "bob", with(open())), "alice", "", key, nil)
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
	finds(t, w.directory(n.addr, "bob", with(open())), "alice", "", key, nil)
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("looking up again has changed the file: %v\n%s\n%s", err, before, after)
	}
	for name, bad := range map[string]string{
		"cut":            string(before[:len(before)/2]),
		"empty":          "",
		"unknown member": strings.Replace(string(before), `"proven"`, `"surprise": 1, "proven"`, 1),
		"newer":          `{"v":2,"more":1}`,
		"no version":     `{}`,
	} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		var hinted interface{ Hint() string }
		if _, err := client.OpenPins(client.PinsConfig{File: file}); err == nil || !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A changed checkpoint is noticed, not believed.
	if err := os.WriteFile(file, []byte(strings.Replace(string(before), `"checkpoint": "c`, `"checkpoint": "d`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	finds(t, w.directory(n.addr, "bob", with(open())), "alice", "", nil, client.ErrPinned)
}

// Several processes share a file: none undoes what another has written.
func TestPinsAreShared(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	names := []string{"anna", "berta", "clara", "dora"}
	keys := make(map[string]*seal.PublicKey)
	for _, name := range names {
		keys[name] = generate(t, seal.HPKEX25519)
		w.publish(n.addr, name, keys[name])
	}
	file := filepath.Join(t.TempDir(), "pins.json")
	var work sync.WaitGroup
	for _, name := range names {
		p, err := client.OpenPins(client.PinsConfig{File: file})
		if err != nil {
			t.Fatal(err)
		}
		d := w.directory(n.addr, "bob", with(p))
		work.Go(func() {
			for range 3 {
				finds(t, d, name, "", keys[name], nil)
			}
		})
	}
	work.Wait()
	p, err := client.OpenPins(client.PinsConfig{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if pinned, err := p.Keys("town"); err != nil || len(pinned) != len(names) {
		t.Errorf("%d owners are pinned, %v", len(pinned), err)
	}
}
