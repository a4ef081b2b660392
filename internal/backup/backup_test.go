package backup_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/durable"
)

const passphrase = "correct horse battery"

// config is that of a manager whose backups have two files and one key.
func config(t *testing.T) backup.Config {
	return backup.Config{Folder: filepath.Join(t.TempDir(), "backups"), Keep: 30 * 24 * time.Hour, Program: "1.2.3",
		Fill: func(_ context.Context, c backup.Content) error {
			c.Note(backup.Component{Name: "store", Included: true})
			return errors.Join(c.Add("data/a.crt", strings.NewReader("certificate")), c.Add("data/deep/b", strings.NewReader(strings.Repeat("b", 100_000))))
		},
		Keys: func(_ context.Context, k *backup.Keys) error { return k.Add("data/a.key", []byte("secret")) }}
}

// withKeys has a key backup, too, which takes its time.
func withKeys(c backup.Config) backup.Config {
	c.Passphrase = func() ([]byte, error) { return []byte(passphrase), nil }
	return c
}

func names(t *testing.T, dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "LOCK" {
			list = append(list, e.Name())
		}
	}
	return list
}

// extract reads a backup into a new folder.
func extract(t *testing.T, file string) (dir string, err error) {
	dir = t.TempDir()
	r, err := backup.Open(file)
	if err != nil {
		return dir, err
	}
	defer r.Close()
	return dir, r.Extract(func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) })
}

func TestMakeAndExtract(t *testing.T) {
	cfg := withKeys(config(t))
	m := backup.New(cfg)
	item, err := m.Make(t.Context())
	if err != nil || item.State != backup.Complete || !backup.IsName(item.Name) {
		t.Fatalf("%+v %v", item, err)
	}
	if got := names(t, cfg.Folder); !slices.Equal(got, []string{item.Name, item.Name + ".sha256", backup.KeysName}) {
		t.Errorf("%v", got)
	}
	for _, name := range names(t, cfg.Folder) {
		if _, err := durable.ReadPrivate(durable.OS(), filepath.Join(cfg.Folder, name), 1<<20); err != nil {
			t.Error(err)
		}
	}
	file := filepath.Join(cfg.Folder, item.Name)
	dir, err := extract(t, file)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "data", "deep", "b")); len(b) != 100_000 || err != nil {
		t.Errorf("%d %v", len(b), err)
	}
	r, err := backup.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := json.Marshal(r.Manifest)
	for _, want := range []string{"BackupDate", "BackupVersion", "Components", "Files", "TotalSize", "SHA256"} {
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if bytes, err := os.ReadFile(file); err != nil || strings.Contains(string(bytes), "secret") {
		t.Error("a key is in the backup", err)
	}
}

// TestChangedByte: a backup in which one byte was changed is refused, or gives what it had: also
// without the checksum beside it.
func TestChangedByte(t *testing.T) {
	cfg := config(t)
	item, err := backup.New(cfg).Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(cfg.Folder, item.Name))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(cfg.Folder, item.Name+".sha256"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), item.Name)
	refused := 0
	for at := 0; at < len(whole); at += 13 {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x41
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		dir, err := extract(t, file)
		if err != nil {
			refused++
		} else if a, _ := os.ReadFile(filepath.Join(dir, "data", "a.crt")); string(a) != "certificate" {
			t.Errorf("byte %d: %q", at, a)
		}
		if at%130 > 0 {
			continue
		}
		if err := os.WriteFile(file+".sha256", sum, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Open(file); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("byte %d, with the checksum: %v", at, err)
		}
		if err := os.Remove(file + ".sha256"); err != nil {
			t.Fatal(err)
		}
	}
	if refused < len(whole)/13/2 {
		t.Errorf("%d of %d were refused", refused, len(whole)/13)
	}
}

// TestZipSlip: a name that leads out of the folder is refused before anything is written.
func TestZipSlip(t *testing.T) {
	for _, name := range []string{"../evil", "/evil", "data/../../evil", `..\evil`, `data\..\evil`, "data//evil", "data/./evil", ".", "data/\x00", "data/\n", ""} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, n := range []string{name, "manifest.json"} {
			w, err := z.CreateHeader(&zip.FileHeader{Name: n})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(w, `{"BackupVersion":1,"Files":[{"Name":`+string(must(json.Marshal(name)))+`,"Size":0,"SHA256":""}]}`)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "backup_20260101_000000.zip")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := extract(t, file); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestFailures: whatever fails leaves nothing under a good name, is in the list with its reason,
// and does not end the last good backup.
func TestFailures(t *testing.T) {
	cfg := config(t)
	good, err := backup.New(cfg).Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for _, tc := range []struct {
		name   string
		change func(*backup.Config)
		want   string
	}{
		{"the database", func(c *backup.Config) {
			c.Fill = func(_ context.Context, c backup.Content) error {
				return errors.Join(c.Add("data/x", strings.NewReader("x")), errors.New("no database"))
			}
		}, "no database"},
		{"the disk is nearly full", func(c *backup.Config) { c.MinFree = 1 << 62 }, "are left to others"},
		{"the keys", func(c *backup.Config) {
			*c = withKeys(*c)
			c.Keys = func(context.Context, *backup.Keys) error { return errors.New("no keys") }
		}, "no keys"},
		{"a short passphrase", func(c *backup.Config) {
			c.Passphrase = func() ([]byte, error) { return []byte("short"), nil }
		}, "12 characters"},
		{"a bad name", func(c *backup.Config) {
			c.Fill = func(_ context.Context, c backup.Content) error { return c.Add("../x", strings.NewReader("")) }
		}, "no name for a file"},
		{"the node stops", func(c *backup.Config) {
			fill := c.Fill
			c.Fill = func(ctx context.Context, c backup.Content) error { cancel(); return fill(ctx, c) }
		}, "interrupted"},
	} {
		broken := cfg
		tc.change(&broken)
		m := backup.New(broken)
		item, err := m.Make(ctx)
		if err == nil || item.State != backup.Failed || !strings.Contains(item.Err, tc.want) {
			t.Errorf("%s: %+v %v", tc.name, item, err)
		}
		list, err := m.List()
		if err != nil || list[0].Name != item.Name || list[0].State != backup.Failed || !strings.Contains(list[0].Err, tc.want) || list[len(list)-1].Name != good.Name {
			t.Errorf("%s: %+v %v", tc.name, list, err)
		}
		if m.Health() == "" || !m.LastGood().Equal(good.Created) {
			t.Errorf("%s: healthy, last good %v", tc.name, m.LastGood())
		}
		for _, name := range names(t, cfg.Folder) {
			if backup.IsName(name) && name != good.Name || strings.HasSuffix(name, ".part") {
				t.Errorf("%s leaves %s", tc.name, name)
			}
		}
	}
	m := backup.New(cfg)
	if _, err := m.Make(t.Context()); err != nil || m.Health() != "" {
		t.Errorf("%v %s", err, m.Health())
	}
	if list, _ := m.List(); len(list) != 2 {
		t.Errorf("what failed before stays: %+v", list)
	}
}

// TestKilled: a process that was killed leaves a part, which counts as failed and goes with the
// next backup.
func TestKilled(t *testing.T) {
	cfg := config(t)
	if err := os.MkdirAll(cfg.Folder, 0o700); err != nil {
		t.Fatal(err)
	}
	const part = "backup_20260101_000000.zip"
	if err := os.WriteFile(filepath.Join(cfg.Folder, part+".part"), []byte("PK"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := backup.New(cfg)
	if list, err := m.List(); err != nil || len(list) != 1 || list[0].Name != part || list[0].State != backup.Failed {
		t.Errorf("%+v %v", list, err)
	}
	if m.Health() == "" {
		t.Error("healthy")
	}
	if _, err := m.Open(part); err == nil {
		t.Error("it can be fetched")
	}
	item, err := m.Make(t.Context())
	if list, _ := m.List(); err != nil || len(list) != 1 || list[0].Name != item.Name {
		t.Errorf("%+v %v", list, err)
	}
}

func TestOneAtATime(t *testing.T) {
	cfg := config(t)
	other := backup.New(cfg) // of another process
	fill := cfg.Fill
	cfg.Fill = func(ctx context.Context, c backup.Content) error {
		if _, err := other.Make(ctx); !errors.Is(err, backup.ErrRunning) {
			t.Errorf("%v", err)
		}
		return fill(ctx, c)
	}
	m := backup.New(cfg)
	if _, err := m.Make(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := other.Make(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.Run(ctx)
	if _, err := m.Start(nil, nil); err == nil {
		t.Error("it starts one although it has ended")
	}
}

// TestListMeanwhile: a backup that begins or ends during a look at the list is in it, and did not
// fail.
func TestListMeanwhile(t *testing.T) {
	m := backup.New(config(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			if _, err := m.Make(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { <-done })
	most := 0
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
		}
		items, err := m.List()
		if err != nil || len(items) < most {
			t.Fatalf("%d backups after %d, %v", len(items), most, err)
		}
		most = len(items)
		for _, item := range items {
			if item.State == backup.Failed {
				t.Fatalf("%+v", item)
			}
		}
	}
	if most != 20 {
		t.Errorf("%d backups", most)
	}
}

// TestRetention: what is older goes, but not the last good one.
func TestRetention(t *testing.T) {
	cfg := config(t)
	now := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	cfg.Now = func() time.Time { return now }
	m := backup.New(cfg)
	for range 3 {
		if _, err := m.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.AddDate(0, 0, 20)
	}
	list, err := m.List()
	if err != nil || len(list) != 2 {
		t.Errorf("%+v %v", list, err)
	}
	now = now.AddDate(1, 0, 0)
	cfg.Fill = func(context.Context, backup.Content) error { return errors.New("broken") }
	if _, err := backup.New(cfg).Make(t.Context()); err == nil {
		t.Error("no error")
	}
	if m.LastGood().IsZero() {
		t.Error("the last good backup is gone")
	}
}

func TestKeys(t *testing.T) {
	cfg := withKeys(config(t))
	if _, err := backup.New(cfg).Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(filepath.Join(cfg.Folder, backup.KeysName))
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatal(err, "or readable")
	}
	read := func(b []byte, passphrase string) (got string, err error) {
		err = backup.ReadKeys(bytes.NewReader(b), []byte(passphrase), func(name string, r io.Reader) error {
			b, err := io.ReadAll(r)
			got += name + "=" + string(b)
			return err
		})
		return got, err
	}
	if got, err := read(sealed, passphrase); got != "data/a.key=secret" || err != nil {
		t.Errorf("%s %v", got, err)
	}
	if got, err := read(sealed, "another passphrase"); !errors.Is(err, backup.ErrPassphrase) || got != "" {
		t.Errorf("%s %v", got, err)
	}
	for name, b := range map[string][]byte{"cut": sealed[:len(sealed)-20], "empty": nil, "another file": []byte("hello")} {
		if _, err := read(b, passphrase); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	sealed[len(sealed)-30] ^= 1
	if _, err := read(sealed, passphrase); err == nil {
		t.Error("a changed byte is taken")
	}
}

func TestSchedule(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	after := time.Date(2026, 3, 28, 12, 0, 0, 0, berlin) // a Saturday; the clocks leave out 02:00 to 03:00 the next day
	for _, tc := range []struct{ schedule, want string }{
		{"sun 02:00", "2026-03-29 03:00"}, {"sat 12:00", "2026-04-04 12:00"}, {"sat 12:01", "2026-03-28 12:01"},
		{"daily 11:59", "2026-03-29 11:59"}, {"off", "0001-01-01 00:00"},
	} {
		s, err := backup.ParseSchedule(tc.schedule)
		if err != nil || s.Next(after).Format("2006-01-02 15:04") != tc.want || s.String() != tc.schedule {
			t.Errorf("%s: %v %v, want %s", tc.schedule, s.Next(after), err, tc.want)
		}
	}
	for _, bad := range []string{"", "sun", "02:00", "sunday 02:00", "sun 2:00pm", "sun 25:00", "Sun 02:00", "sun  02:00", "never"} {
		if _, err := backup.ParseSchedule(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestMissed: what the schedule wanted while no node ran is made soon after the start, but not again
// and again.
func TestMissed(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		schedule     string
		good, failed time.Duration // how old they are; 0 is none
		want         time.Duration // after the start; 0 is never
	}{
		"a week ago and more":   {"sun 02:00", 8 * day, 0, 10 * time.Minute},
		"a week ago and less":   {"sun 02:00", 6 * day, 0, 26 * time.Hour},
		"never":                 {"sun 02:00", 0, 0, 10 * time.Minute},
		"failed a week ago":     {"sun 02:00", 15 * day, 7 * day, 10 * time.Minute},
		"failed an hour ago":    {"sun 02:00", 8 * day, time.Hour, 23 * time.Hour},
		"the schedule is soon":  {"daily 00:05", 8 * day, 0, 5 * time.Minute},
		"it runs every day":     {"daily 02:00", 23 * time.Hour, 0, 2 * time.Hour},
		"there is no schedule":  {"off", 8 * day, 0, 0},
		"a good one, then none": {"sun 02:00", 8 * day, 9 * day, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			var err error
			if cfg.Schedule, err = backup.ParseSchedule(tc.schedule); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // a Saturday
				cfg.Now = func() time.Time { return time.Now().UTC() }
				for suffix, age := range map[string]time.Duration{"": tc.good, ".failed": tc.failed} {
					if age == 0 {
						continue
					}
					name := start.Add(-age).Format("backup_20060102_150405.zip") + suffix
					if err := errors.Join(os.MkdirAll(cfg.Folder, 0o700), os.WriteFile(filepath.Join(cfg.Folder, name), nil, 0o600)); err != nil {
						t.Fatal(err)
					}
				}
				var made []time.Duration
				cfg.Began = func(string) { made = append(made, time.Since(start)) }
				m := backup.New(cfg)
				ctx, stop := context.WithTimeout(t.Context(), max(tc.want+time.Minute, time.Hour))
				defer stop()
				m.Run(ctx)
				if tc.want == 0 && len(made) > 0 || tc.want > 0 && (len(made) != 1 || made[0] != tc.want) {
					t.Errorf("made after %v, want %v", made, tc.want)
				}
			})
		})
	}
}

// TestStartBeforeRun: a request may come before the last part of a node runs.
func TestStartBeforeRun(t *testing.T) {
	m, ended := backup.New(config(t)), make(chan backup.Item, 1)
	if _, err := m.Start(nil, func(item backup.Item) { ended <- item }); err != nil {
		t.Fatal(err)
	}
	if item := <-ended; item.State != backup.Complete {
		t.Errorf("%+v", item)
	}
}

// TestMissedFails: a missed backup that cannot begin is made ten minutes later, and one that fails
// a day later, also if nothing on the disk says that.
func TestMissedFails(t *testing.T) {
	const day = 24 * time.Hour
	cfg := config(t)
	var err error
	if cfg.Schedule, err = backup.ParseSchedule("sun 02:00"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(2 * day) // it is a Monday then
		start := time.Now()
		cfg.Now = func() time.Time { return time.Now().UTC() }
		var made []time.Duration
		cfg.Began = func(string) { made = append(made, time.Since(start)) }
		fill := cfg.Fill
		cfg.Fill = func(ctx context.Context, c backup.Content) error {
			if len(made) < 3 {
				return errors.Join(os.RemoveAll(cfg.Folder), errors.New("the disk is full"))
			}
			return fill(ctx, c)
		}
		time.AfterFunc(15*time.Minute, func() { _ = os.Remove(cfg.Folder) })
		ctx, stop := context.WithTimeout(t.Context(), 4*day)
		defer stop()
		backup.New(cfg).Run(ctx)
		const first = 20 * time.Minute
		if want := []time.Duration{first, first + day, first + 2*day}; !slices.Equal(made, want) {
			t.Errorf("made after %v, want %v", made, want)
		}
	})
}
