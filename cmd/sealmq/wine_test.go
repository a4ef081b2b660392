package main

import (
	"bytes"
	encoding "encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// windowsWorld runs programs for Windows under Wine, in a folder of its own.
type windowsWorld struct {
	*testing.T
	wine, dir string
	env       []string
}

// newWindowsWorld skips the test unless WINE names the program: Wine is large, and takes its time.
func newWindowsWorld(t *testing.T) *windowsWorld {
	t.Helper()
	if testing.Short() || runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("it builds the program for Windows")
	}
	w := &windowsWorld{T: t, dir: t.TempDir(), wine: os.Getenv("WINE")}
	if w.wine == "" {
		t.Skip("WINE names no Wine, so nothing is tried for Windows; with Debian's package wine64 it is /usr/lib/wine/wine64")
	}
	prefix, err := os.MkdirTemp("", "wine")
	if err != nil {
		t.Fatal(err)
	}
	w.env = append(os.Environ(), "WINEPREFIX="+prefix, "WINEDEBUG=-all", "SEALMQ_SERVER_ADDR="+freeAddr(t), "SEALMQ_METRICS_ADDR=off")
	t.Cleanup(func() {
		w.command("wineboot", "--kill").Run() //nolint:errcheck // there may be nothing to end
		os.RemoveAll(prefix)                  //nolint:errcheck // its server may still write
	})
	w.build("sealmq.exe", "build", "./cmd/sealmq")
	w.build("durable.exe", "test", "-c", "./internal/durable")
	if err := w.command("wineboot", "--init").Run(); err != nil { // what it starts keeps its output open
		t.Fatalf("Wine does not start: %v", err)
	}
	w.command("wineboot", "--kill").Run() //nolint:errcheck // a second session finds the services that it installs, the first does not always
	system := filepath.Join(prefix, "drive_c", "windows", "system32")
	if library := filepath.Join(system, "bcryptprimitives.dll"); !exists(library) { // Wine before version 9 has none
		if err := os.WriteFile(library, forwardingLibrary("bcryptprimitives.dll", "ProcessPrng", "advapi32.SystemFunction036"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *windowsWorld) build(name string, args ...string) {
	w.Helper()
	args = append(args[:len(args)-1:len(args)-1], "-o", filepath.Join(w.dir, name), args[len(args)-1])
	cmd := exec.CommandContext(w.Context(), "go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "GOOS=windows", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
}

func (w *windowsWorld) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.wine, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func (w *windowsWorld) run(args ...string) string {
	w.Helper()
	out, err := w.command(args...).CombinedOutput()
	if err != nil {
		w.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// fails is run for a command that must fail.
func (w *windowsWorld) fails(args ...string) string {
	w.Helper()
	out, err := w.command(args...).CombinedOutput()
	if err == nil {
		w.Errorf("%v did not fail:\n%s", args, out)
	}
	return string(out)
}

// TestWindows runs the program for Windows: an authority, a broker that starts, works and stops, a
// service that is installed, and keys that are private.
func TestWindows(t *testing.T) {
	w := newWindowsWorld(t)
	contains := func(out string, wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
	}
	contains(w.run("durable.exe", "-test.v", "-test.run=TestPrivateFiles"), "--- PASS: TestPrivateFiles")
	contains(w.run("sealmq.exe", "version"), "windows/amd64")
	contains(w.run("sealmq.exe", "init"), `sealmq-data\ca\root.crt`)
	contains(w.run("sealmq.exe", "config", "check"), "configuration is valid")

	var log lockedBuffer
	broker := w.command("sealmq.exe", "serve", "broker")
	broker.Stderr = &log
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- broker.Wait() }()
	t.Cleanup(func() { broker.Process.Kill() }) //nolint:errcheck // it may have ended
	for !bytes.Contains(log.Bytes(), []byte("accepting clients")) {
		select {
		case err := <-ended:
			t.Fatalf("the broker ended: %v\n%s", err, log.Bytes())
		case <-time.After(lookEvery):
		}
	}
	contains(w.fails("sealmq.exe", "serve", "broker"), "folder is in use by another process")
	w.run("sealmq.exe", "bind", "letters", "post", "bob")
	contains(w.run("sealmq.exe", "queue", "list"), "letters")
	if err := broker.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || !bytes.Contains(log.Bytes(), []byte(`"stopped"`)) {
		t.Errorf("an interrupted broker: %v\n%s", err, log.Bytes())
	}

	// What Windows gives to everybody, Wine sees in the mode.
	key := filepath.Join(w.dir, "sealmq-data", "certs", "server.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	contains(w.fails("sealmq.exe", "serve", "broker"), "is open to other users (Everyone)", "icacls")

	contains(w.run("sealmq.exe", "service", "install", "broker"), "installed SealMQ (broker)")
	contains(w.run("sealmq.exe", "service", "uninstall", "broker"), "removed SealMQ (broker)")

	for _, step := range []struct {
		fails  bool
		script string
		args   []string
		want   string
	}{
		{true, "generate_cert", nil, "usage: "},
		{false, "generate_cert", []string{"acme-02", "shop.example", "90"}, "acme-02.crt"},
		{false, "verify_cert", []string{"acme-02.crt"}, "not revoked"},
		{false, "revoke_cert", []string{"acme-02", "lost"}, "revoked every certificate of acme-02"},
		{true, "verify_cert", []string{"acme-02.crt"}, "is revoked"},
		{false, "list_certs", []string{"revoked"}, "acme-02"},
	} {
		text := readFile(t, example(t, "certificates", step.script+".bat"))
		if err := os.WriteFile(filepath.Join(w.dir, step.script+".bat"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"cmd", "/c", `.\` + step.script + ".bat"}, step.args...)
		if step.fails {
			contains(w.fails(args...), step.want)
		} else {
			contains(w.run(args...), step.want)
		}
	}
}

// forwardingLibrary is a library for Windows, with no code, whose one function is that of another
// library, written as LIBRARY.FUNCTION.
func forwardingLibrary(name, function, to string) []byte {
	const headers, at = 0x200, 0x1000 // where the one section is in the file, and in memory
	names := name + "\x00" + function + "\x00" + to + "\x00"
	text := uint32(at + 40 + 4 + 4 + 2) // behind the directory and its three tables
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			encoding.Write(&b, encoding.LittleEndian, v) //nolint:errcheck // a buffer takes all
		}
	}
	put([]byte("MZ"), make([]byte, 58), uint32(64), []byte("PE\x00\x00"))
	put(uint16(0x8664), uint16(1), uint32(0), uint32(0), uint32(0), uint16(240), uint16(0x2022)) // amd64, one section, a library
	put(uint16(0x20b), uint16(0), uint32(0), uint32(headers), uint32(0), uint32(0), uint32(at))
	put(uint64(0x180000000), uint32(0x1000), uint32(headers), uint16(6), uint16(0), uint16(0), uint16(0), uint16(6), uint16(0), uint32(0))
	put(uint32(2*at), uint32(headers), uint32(0), uint16(2), uint16(0), uint64(1<<20), uint64(0x1000), uint64(1<<20), uint64(0x1000), uint32(0), uint32(16))
	put(uint32(at), uint32(50+len(names)), make([]byte, 15*8)) // the first of 16 directories: what is exported
	put([]byte(".edata\x00\x00"), uint32(headers), uint32(at), uint32(headers), uint32(headers), uint32(0), uint32(0), uint32(0), uint32(0x40000040))
	put(make([]byte, headers-b.Len()))
	put(uint32(0), uint32(0), uint32(0), text, uint32(1), uint32(1), uint32(1), uint32(at+40), uint32(at+44), uint32(at+48))
	put(text+uint32(len(name)+1+len(function)+1), text+uint32(len(name)+1), uint16(0))
	put([]byte(names))
	put(make([]byte, 2*headers-b.Len()))
	return b.Bytes()
}
