package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/journal"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/send"
	"github.com/sealmq/sealmq/trust"
)

var (
	mutations     = flag.Int("mutations", 9, "mutations of each kind of file")
	mutationsSeed = flag.Uint64("mutations-seed", 1, "seed of the mutations")
)

// mutate are things that happen to a file. Most files of a store are zeros at their end, so places are
// chosen among what is written, and a little behind it.
var mutate = []struct {
	name string
	do   func(b []byte, rng *rand.Rand) []byte
}{
	{"flipped bit", func(b []byte, rng *rand.Rand) []byte { b[somewhere(b, rng)] ^= 1 << rng.IntN(8); return b }},
	{"other byte", func(b []byte, rng *rand.Rand) []byte { b[somewhere(b, rng)] = byte(rng.Uint32()); return b }},
	{"zeros", func(b []byte, rng *rand.Rand) []byte {
		from := somewhere(b, rng)
		clear(b[from:min(len(b), from+1+rng.IntN(2000))])
		return b
	}},
	{"cut off", func(b []byte, rng *rand.Rand) []byte { return b[:somewhere(b, rng)] }},
	{"garbage to the end", func(b []byte, rng *rand.Rand) []byte {
		for i := somewhere(b, rng); i < len(b); i++ {
			b[i] = byte(rng.Uint32())
		}
		return b
	}},
	{"a piece is there twice", func(b []byte, rng *rand.Rand) []byte {
		from := somewhere(b, rng)
		return slices.Insert(b, from, bytes.Clone(b[from:min(len(b), from+1+rng.IntN(200))])...)
	}},
	{"a piece is gone", func(b []byte, rng *rand.Rand) []byte {
		from := somewhere(b, rng)
		return slices.Delete(b, from, min(len(b), from+1+rng.IntN(200)))
	}},
	{"emptied", func([]byte, *rand.Rand) []byte { return nil }},
	{"removed", func([]byte, *rand.Rand) []byte { return removed }},
}

// removed stands for a file that is gone.
var removed = []byte("removed")

func somewhere(b []byte, rng *rand.Rand) int {
	return rng.IntN(min(len(b), len(bytes.TrimRight(b, "\x00"))+64))
}

// mutated is a file that something happened to.
type mutated struct {
	what, file string
	data       []byte
}

// tree is the content of a folder, by path.
type tree map[string][]byte

func readTree(t *testing.T, dir string) tree {
	t.Helper()
	files := make(tree)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			files[filepath.ToSlash(rel)], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// write makes a folder, which exists, one of the files, with one of them mutated unless m is nil. It
// leaves alone what is right already.
func (files tree) write(t *testing.T, dir string, m *mutated) {
	t.Helper()
	want := maps.Clone(files)
	if m != nil {
		want[m.file] = m.data
		if bytes.Equal(m.data, removed) {
			delete(want, m.file)
		}
	}
	has := readTree(t, dir)
	for name := range has {
		if _, ok := want[name]; !ok {
			if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, data := range want {
		if is, ok := has[name]; ok && bytes.Equal(is, data) {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// changed lists the files that are not as they were, without those that count for a running process
// only: locks, and what it says of itself.
func (files tree) changed(now tree) (list []string) {
	for name := range maps.Keys(files) {
		if is, ok := now[name]; (!ok || !bytes.Equal(is, files[name])) && !isPassing(name) {
			list = append(list, name)
		}
	}
	for name := range now {
		if _, ok := files[name]; !ok && !isPassing(name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func isPassing(name string) bool {
	return filepath.Base(name) == "LOCK" || strings.HasSuffix(name, ".lock") || strings.HasPrefix(name, "data/nodes/")
}

// kindsOfFiles are the files that a broker and its clients keep, by pattern.
var kindsOfFiles = []struct {
	kind, pattern string
	judge         func(w *mutationWorld, m mutated) error
}{
	{"segments", "data/store/journal/*.seg", (*mutationWorld).judgeBroker},
	{"indexes", "data/store/*.idx", (*mutationWorld).judgeBroker},
	{"checkpoints", "data/store/checkpoint", (*mutationWorld).judgeBroker},
	{"definitions", "data/store/definitions-*", (*mutationWorld).judgeBroker},
	{"store.json", "data/store/store.json", (*mutationWorld).judgeBroker},
	{"ballast", "data/store/ballast", (*mutationWorld).judgeBroker},
	{"clock file", "data/store/clock", (*mutationWorld).judgeBroker},
	{"locks", "data/*/LOCK", (*mutationWorld).judgeBroker},
	{"key log", "data/directory/log.key", (*mutationWorld).judgeBroker},
	{"authority", "data/ca/*.crt", (*mutationWorld).judgeBroker},
	{"authority's keys", "data/ca/*.key", (*mutationWorld).judgeBroker},
	{"issued certificates", "data/ca/issued.jsonl", (*mutationWorld).judgeBroker},
	{"certificates", "data/certs/*.crt", (*mutationWorld).judgeBroker},
	{"keys", "data/certs/*.key", (*mutationWorld).judgeBroker},
	{"spool", "client/spool/*", (*mutationWorld).judgeSpool},
	{"ledger", "out.jsonl.ledger", (*mutationWorld).judgeReceiver},
	{"output", "out.jsonl", (*mutationWorld).judgeReceiver},
	{"pins", "client/pins.json", (*mutationWorld).judgePins},
}

// mutationWorld is a folder to whose files things happen, in one of two states.
type mutationWorld struct {
	*testing.T
	files tree
	dir   string // where a mutated copy is tried
	want  string // what the broker has
	usual string // what it logs when nothing has happened
	spool []string
	scope string
	keys  map[string]map[string]keydir.Pin
	pins  func(file string) error // uses a file of pins

	same, told, refused int
}

// TestMutations mutates every file that a broker, a spool, a receiver and a client keep, and starts
// what reads it. Then all is as it was; or something is not, and the log, health or a message says
// so; or the start is refused with a way out, and with the file put back all is as it was.
//
//	go test ./cmd/sealmq -run TestMutations -mutations 1000 -timeout 2h -v
func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many brokers")
	}
	worlds := map[string]*mutationWorld{}
	for _, state := range folderVariants {
		worlds[state] = newMutationWorld(t, state)
	}
	for _, k := range kindsOfFiles {
		t.Run(k.kind, func(t *testing.T) {
			t.Parallel()
			tries := map[string]*mutationWorld{}
			for state, w := range worlds {
				own := *w
				own.T, own.dir = t, t.TempDir()
				tries[state] = &own
			}
			rng := rand.New(rand.NewPCG(*mutationsSeed, uint64(len(k.kind))<<8+uint64(k.kind[0])))
			for i := range *mutations {
				w := tries[folderVariants[i/len(mutate)%2]]
				names := w.files.match(t, k.pattern)
				if len(names) == 0 {
					t.Fatalf("there is no %s", k.pattern)
				}
				name := names[rng.IntN(len(names))]
				if len(w.files[name]) == 0 {
					continue
				}
				how := mutate[i%len(mutate)]
				m := mutated{how.name, name, how.do(bytes.Clone(w.files[name]), rng)}
				if err := k.judge(w, m); err != nil {
					t.Errorf("mutation %d, %s of %s: %v", i, m.what, m.file, err)
				}
			}
			for state, w := range tries {
				t.Logf("%s, %s: %d as before, %d told, %d refused", k.kind, state, w.same, w.told, w.refused)
			}
		})
	}
}

func (files tree) match(t *testing.T, pattern string) (list []string) {
	for name := range files {
		if ok, err := filepath.Match(pattern, name); err != nil {
			t.Fatal(err)
		} else if ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// newMutationWorld unpacks a fixture and lets a broker of now write its files: it is stopped, or the
// files are taken from below it, as a kill leaves them.
func newMutationWorld(t *testing.T, state string) *mutationWorld {
	t.Helper()
	f := newFolder(t, program.Path(t))
	f.unpack(filepath.Join(foldersDir, state+".tar.gz"))
	f.must("", "key", "generate", "--out", "bob")
	w := &mutationWorld{T: t, dir: f.dir}
	var killed tree
	if _, log, err := w.start("", func(n *node) { killed = readTree(t, f.dir) }); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	w.files = readTree(t, f.dir)
	if state == "killed" {
		w.files = killed
	}
	// Pins belong to one authority, and the folder has a new one.
	scope := []byte(f.authority() + " fixture")
	w.files["client/pins.json"] = regexp.MustCompile(`sha256:[0-9a-f]{64} fixture`).ReplaceAll(w.files["client/pins.json"], scope)
	w.scope = string(scope)
	for name, data := range receivedFolder(t, 60, 2) {
		w.files[name] = data
	}
	w.dir = t.TempDir()
	w.files.write(t, w.dir, nil)
	var err error
	if w.want, w.usual, err = w.start("", nil); err != nil {
		t.Fatalf("%v\n%s", err, w.usual)
	}
	w.spool, _ = w.openSpool()
	w.files.write(t, f.dir, nil)
	f.serve()
	if w.keys, err = w.openPins(filepath.Join(f.dir, "client", "pins.json")); err != nil {
		t.Fatal(err)
	}
	w.pins = func(file string) error {
		out, err := f.command("", "key", "verify", "--directory", "fixture", "--pins", file).CombinedOutput()
		if err == nil {
			return fmt.Errorf("nothing is said: %s", out)
		}
		return nil
	}
	return w
}

// start starts a broker in the folder and returns what it has. with may be nil.
func (w *mutationWorld) start(damage string, with func(*node)) (has, log string, err error) {
	cfg := defaultConfig()
	cfg.Data = filepath.Join(w.dir, "data")
	cfg.Server.Addr, cfg.Metrics.Addr = "127.0.0.1:0", "off"
	cfg.Storage.SegmentBytes, cfg.Server.MaxLineBytes, cfg.Storage.MinFreeBytes = 1<<20, 512<<10, 0
	cfg.Log.Folder = "off"
	if damage != "" {
		cfg.Storage.Damage = damage
	}
	var text lockedBuffer
	logs := openLogs(cfg, []string{"broker"}, &text)
	n := &node{cfg: cfg, roles: []string{"broker"}, log: logs.node, logs: logs}
	look := part{name: "look", start: func() (err error) {
		if has, err = n.describe(); with != nil {
			with(n)
		}
		return err
	}}
	ctx, stop := context.WithCancel(w.Context())
	stop()
	err = runParts(ctx, append(n.parts(), look))
	logs.close()
	return has, string(text.Bytes()), err
}

// describe lists all that a broker keeps.
func (n *node) describe() (string, error) {
	var b strings.Builder
	for _, d := range n.engine.Definitions() {
		fmt.Fprintf(&b, "definition %q %x\n", d.Key, d.Value)
	}
	queues, err := n.engine.Queues()
	if err != nil {
		return "", err
	}
	for _, q := range queues {
		fmt.Fprintf(&b, "queue %s %d %+v\n", q.Name, q.Ready, q.Options)
		list, err := engine.Peeker(n.engine).Peek(q.Name, 0, 10_000)
		if err != nil {
			fmt.Fprintf(&b, "queue %s: %v\n", q.Name, err)
		}
		for _, d := range list {
			fmt.Fprintf(&b, "message %s %s %s %q %s %d %s\n", q.Name, d.ID, d.Publisher, d.Exchange+" "+d.Key, d.Body, d.Attempt, d.DeathReason+" "+d.DeathQueue)
		}
	}
	p := ca.In(n.cfg.Data)
	for _, file := range []string{p.Root, p.Intermediate, p.CA, p.Cert(ca.ServerName), p.Cert(ca.AdminName)} {
		certs, err := mtls.ReadCertificates(file)
		for _, c := range certs {
			fmt.Fprintf(&b, "certificate %s %s\n", filepath.Base(file), mtls.Fingerprint(c))
		}
		if err != nil {
			fmt.Fprintf(&b, "certificate %s: %v\n", filepath.Base(file), err)
		}
	}
	issued, err := n.authority.History()
	for _, c := range issued {
		fmt.Fprintf(&b, "issued %+v\n", c)
	}
	if err != nil {
		fmt.Fprintf(&b, "issued: %v\n", err)
	}
	signer, _, err := trust.OpenLogSigner(n.logKeyFile())
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "log key %s\nrevoked %d\n", signer.Public(), n.revoked.Len())
	return b.String(), nil
}

func (w *mutationWorld) judgeBroker(m mutated) error {
	w.files.write(w.T, w.dir, &m)
	harmed := readTree(w.T, w.dir)
	has, log, err := w.start("", nil)
	switch {
	case err == nil && has == w.want:
		w.same++
		return nil
	case err == nil && w.tells(log, m.file):
		w.told++
		return nil
	case err == nil:
		return fmt.Errorf("it started, and nothing is said of the difference (-was +is):\n%s\n%s", cmp.Diff(strings.Split(w.want, "\n"), strings.Split(has, "\n")), log)
	case hintFor(err) == "":
		return fmt.Errorf("refused without a way out: %w", err)
	}
	w.refused++
	damage := (*journal.DamageError)(nil)
	if list := harmed.changed(readTree(w.T, w.dir)); slices.Contains(list, m.file) || errors.As(err, &damage) && len(list) > 0 {
		return fmt.Errorf("refused, and %q were changed: %w", list, err)
	}
	if damage != nil {
		_, log, err := w.start("quarantine", nil)
		if err != nil || !w.tells(log, m.file) {
			return fmt.Errorf("with quarantine: %w\n%s", err, log)
		}
		if _, _, err := w.start("", nil); err != nil {
			return fmt.Errorf("after quarantine: %w", err)
		}
	}
	w.files.write(w.T, w.dir, nil)
	if has, _, err := w.start("", nil); err != nil || has != w.want {
		return fmt.Errorf("with the file put back: %w\n%s", err, cmp.Diff(strings.Split(w.want, "\n"), strings.Split(has, "\n")))
	}
	return nil
}

// tells reports whether a log warns, or names the file as made again.
func (w *mutationWorld) tells(log, file string) bool {
	for line := range strings.Lines(log) {
		var l struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			w.Fatal(err)
		}
		if l.Level != "INFO" && !strings.Contains(w.usual, l.Msg) || strings.Contains(line, filepath.Base(file)) {
			return true
		}
	}
	return false
}

func (w *mutationWorld) openSpool() (ids []string, err error) {
	s, err := send.OpenSpool(filepath.Join(w.dir, "client", "spool"), send.SpoolConfig{})
	if err != nil {
		return nil, err
	}
	for _, e := range s.Entries() {
		ids = append(ids, fmt.Sprintf("%s %x", e.ID, e.Body))
	}
	return ids, s.Close()
}

func (w *mutationWorld) judgeSpool(m mutated) error {
	w.files.write(w.T, w.dir, &m)
	harmed := readTree(w.T, w.dir)
	cmd := &cobra.Command{}
	cmd.SetErr(io.Discard)
	s, err := openSpool(call{ctx: w.Context(), cmd: cmd}, filepath.Join(w.dir, "client", "spool"))
	if err != nil {
		w.refused++
		if hintFor(err) == "" {
			return fmt.Errorf("refused without a way out: %w", err)
		}
		if list := harmed.changed(readTree(w.T, w.dir)); len(list) > 0 {
			return fmt.Errorf("refused, and %q were changed: %w", list, err)
		}
		return nil
	}
	found := s.Found()
	if err := s.Close(); err != nil {
		return err
	}
	got, err := w.openSpool()
	switch {
	case err != nil:
		return err
	case slices.Equal(got, w.spool):
		w.same++
		return nil
	case !found.Closed:
		w.told++
		return nil
	}
	return fmt.Errorf("it says nothing, and has %d messages of %d", len(got), len(w.spool))
}

func (w *mutationWorld) judgeReceiver(m mutated) error {
	files := map[string][]byte{}
	for _, name := range w.files.match(w.T, "out.jsonl*") {
		files[name] = w.files[name]
	}
	files[m.file] = m.data
	if bytes.Equal(m.data, removed) {
		delete(files, m.file)
	}
	err := judgeHarmedReceiver(w.T, files, 62)
	if err == nil {
		w.told++
	}
	return err
}

func (w *mutationWorld) openPins(file string) (map[string]map[string]keydir.Pin, error) {
	p, err := keydir.OpenPins(file, w.scope)
	if err != nil {
		return nil, err
	}
	return p.Keys()
}

func (w *mutationWorld) judgePins(m mutated) error {
	w.files.write(w.T, w.dir, &m)
	file := filepath.Join(w.dir, "client", "pins.json")
	keys, err := w.openPins(file)
	switch {
	case err != nil && hintFor(err) == "":
		return fmt.Errorf("refused without a way out: %w", err)
	case err != nil:
		w.refused++
		return nil
	case cmp.Equal(keys, w.keys):
		w.same++
		return nil
	}
	w.told++
	return w.pins(file)
}
