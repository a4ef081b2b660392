package atrest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/durable"
)

func mustRing(t testing.TB, current uint16, keys map[uint16]Key) *Ring {
	t.Helper()
	r, err := NewRing(current, keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func writeKey(t *testing.T, path string, k Key, perm os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, k.file(), perm); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one.key"), filepath.Join(t.TempDir(), "two.key")
	writeKey(t, one, testKey(1), 0o600)
	writeKey(t, two, testKey(2), 0o400)
	r, err := Load(Files{Paths: map[uint16]string{1: one, 2: two}})
	if err != nil || r.Current() != 2 || r.keys[1] != testKey(1) || r.keys[2] != testKey(2) {
		t.Fatalf("%v %v", r, err)
	}
	if a, b := r.Fingerprint(1), r.Fingerprint(2); a == b || len(a) != 32 || r.Fingerprint(3) != "" {
		t.Errorf("fingerprints %q, %q", a, b)
	}
}

func TestLoadRefuses(t *testing.T) {
	if _, err := NewRing(7, map[uint16]Key{1: testKey(1)}); err == nil || !strings.Contains(err.Error(), "version 7 is to be used for new rows") {
		t.Errorf("a current version without a key: %v", err)
	}
	dir := t.TempDir()
	good, copied, open, bad, long := filepath.Join(dir, "good"), filepath.Join(dir, "copied"), filepath.Join(dir, "open"), filepath.Join(dir, "bad"), filepath.Join(dir, "long")
	writeKey(t, good, testKey(1), 0o600)
	writeKey(t, copied, testKey(1), 0o600)
	writeKey(t, open, testKey(3), 0o640)
	for path, text := range map[string]string{bad: "secret-words", long: strings.Repeat("A", MaxKeyFile+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		files Files
		want  string
	}{
		"nothing":      {Files{}, "no key file is configured"},
		"missing":      {Files{Paths: map[uint16]string{1: filepath.Join(dir, "gone")}}, "(version 1) does not exist"},
		"old, missing": {Files{Paths: map[uint16]string{1: filepath.Join(dir, "gone"), 2: good}, Create: true}, "(version 1) does not exist"},
		"same key":     {Files{Paths: map[uint16]string{1: good, 2: copied}}, "same key as version 1"},
		"version 0":    {Files{Paths: map[uint16]string{0: good}}, "version 0"},
		"no key":       {Files{Paths: map[uint16]string{1: bad}}, "12 characters"},
		"long":         {Files{Paths: map[uint16]string{1: long}}, "long"},
		"folder":       {Files{Paths: map[uint16]string{1: dir}}, ""},
	} {
		_, err := Load(tc.files)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
	var hint interface{ Hint() string }
	_, err := Load(Files{Paths: map[uint16]string{1: filepath.Join(dir, "gone")}})
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "key backup") {
		t.Errorf("missing file: %v", err)
	}
	if runtime.GOOS != "windows" {
		var private *durable.PrivateError
		if _, err := Load(Files{Paths: map[uint16]string{1: open}}); !errors.As(err, &private) {
			t.Errorf("a file that others can read: %v", err)
		}
	}
}

func TestLoadCreates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "records.key")
	f := Files{Paths: map[uint16]string{1: path}, Create: true}
	first, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Load(f)
	if err != nil || first.keys[1] != second.keys[1] {
		t.Fatalf("the created key was not kept: %v", err)
	}
	if _, err := durable.ReadPrivate(durable.OS(), path, 1<<20); err != nil {
		t.Error(err)
	}
}
