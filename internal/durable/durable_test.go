package durable_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/durable"
)

// lockEnv makes the test binary a process that holds a folder's lock.
const lockEnv = "DURABLE_TEST_HOLD_LOCK"

// held keeps the lock's file from being collected, which would give the lock back.
var held func() error

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockEnv); dir != "" {
		var err error
		if held, err = durable.OS().Lock(dir); err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString("locked\n")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOSFile(t *testing.T) {
	fs, dir := durable.OS(), t.TempDir()
	name := filepath.Join(dir, "a")
	f, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello"), 3); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(6); err != nil {
		t.Fatal(err)
	}
	if size, err := f.Size(); err != nil || size != 6 {
		t.Fatalf("size %d, %v, want 6", size, err)
	}
	b := make([]byte, 6)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "\x00\x00\x00hel" {
		t.Fatalf("read %q, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("sync of a closed file: %v, want os.ErrClosed", err)
	}
	if err := fs.Rename(name, filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := fs.SyncDir(dir); err != nil {
		t.Fatal(err)
	}
	if names, err := fs.ReadDir(dir); err != nil || !cmp.Equal(names, []string{"b"}) {
		t.Fatalf("names %q, %v", names, err)
	}
	if _, err := fs.OpenFile(name, os.O_RDONLY, 0); !durable.IsNotExist(err) {
		t.Fatalf("open of a renamed file: %v, want not exist", err)
	}
	if free, err := fs.FreeBytes(dir); err != nil || free <= 0 || free == math.MaxInt64 {
		t.Fatalf("free bytes %d, %v", free, err)
	}
}

func TestLockIsExclusiveWithinTheProcess(t *testing.T) {
	fs, dir := durable.OS(), t.TempDir()
	unlock, err := fs.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Lock(dir); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("second lock: %v, want ErrLocked", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = fs.Lock(dir)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	unlock()
}

func TestLockEndsWithItsProcess(t *testing.T) {
	fs, dir := durable.OS(), t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), lockEnv+"="+dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.StdinPipe(); err != nil { // it lasts until its input ends
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("holder said %q, %v", line, err)
	}

	_, err = fs.Lock(dir)
	if !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("lock beside another process: %v, want ErrLocked", err)
	}
	if !strings.Contains(err.Error(), "process ") {
		t.Errorf("%q does not name the process", err)
	}

	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	holder.Wait()
	unlock, err := fs.Lock(dir)
	if err != nil {
		t.Fatalf("lock after the holder was killed: %v", err)
	}
	unlock()
}

func TestLockOfMissingFolder(t *testing.T) {
	_, err := durable.OS().Lock(filepath.Join(t.TempDir(), "none"))
	if !durable.IsNotExist(err) {
		t.Fatalf("%v, want not exist", err)
	}
}

func TestReadPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights are inherited from the folder here")
	}
	for _, tc := range []struct {
		mode os.FileMode
		ok   bool
	}{
		{0o600, true}, {0o400, true}, {0o700, true},
		{0o640, false}, {0o604, false}, {0o620, false}, {0o644, false}, {0o610, false},
	} {
		name := filepath.Join(t.TempDir(), "it's a.key")
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, tc.mode); err != nil {
			t.Fatal(err)
		}
		_, err := durable.ReadPrivate(durable.OS(), name, 10)
		if tc.ok != (err == nil) {
			t.Errorf("mode %04o: %v", tc.mode, err)
		}
		if tc.ok {
			continue
		}
		var pe *durable.PrivateError
		if !errors.As(err, &pe) {
			t.Fatalf("mode %04o: %T, want *PrivateError", tc.mode, err)
		}
		if want := fmt.Sprintf("mode %04o", tc.mode); !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
		if !strings.HasSuffix(pe.Hint(), `it'\''s a.key'`) {
			t.Errorf("hint %q cannot be pasted", pe.Hint())
		}
	}
	if _, err := durable.ReadPrivate(durable.OS(), filepath.Join(t.TempDir(), "none"), 10); !durable.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
}

func TestWriteFileOnDisk(t *testing.T) {
	fs, dir := durable.OS(), t.TempDir()
	name := filepath.Join(dir, "key")
	// A file that an interrupted call left must not stay, and its mode must not be used.
	if err := os.WriteFile(name+".tmp", []byte("half"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", "second, longer", ""} {
		if err := durable.WriteFile(fs, name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := durable.ReadFile(fs, name, 100)
		if err != nil || string(got) != content {
			t.Fatalf("got %q, %v, want %q", got, err, content)
		}
	}
	if names, _ := fs.ReadDir(dir); !cmp.Equal(names, []string{"key"}) {
		t.Fatalf("folder holds %q", names)
	}
	if _, err := durable.ReadPrivate(fs, name, 10); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(fs, filepath.Join(dir, "none", "key"), nil, 0o600); !durable.IsNotExist(err) {
		t.Fatalf("into a missing folder: %v", err)
	}
}

func TestReadFileRefusesLongFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(name, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.ReadFile(durable.OS(), name, 10); err == nil {
		t.Fatal("read 11 bytes with a limit of 10")
	}
	if b, err := durable.ReadFile(durable.OS(), name, 11); err != nil || len(b) != 11 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
}

func TestMkdirAllOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := durable.MkdirAll(durable.OS(), dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		t.Fatalf("%v, %v", info, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(durable.OS(), filepath.Join(file, "d"), 0o700); err == nil {
		t.Fatal("made a folder inside a file")
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"/srv/mq-1/key_2.pem": "/srv/mq-1/key_2.pem", "127.0.0.1:5672": "127.0.0.1:5672",
		"": "''", "a b": "'a b'", "a\nb": "'a\nb'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "~": "'~'", `C:\mq`: `'C:\mq'`, "über": "'über'",
	} {
		if got := durable.ShellWord(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
