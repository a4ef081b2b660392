package records_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

const (
	secretBody   = "the-secret-text"
	secretNumber = "+4915299887766"
	secretData   = "the-secret-metadata"
)

func TestNothingReadableInTheDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		m := message(0)
		m.Body, m.Number, m.Metadata = secretBody, secretNumber, json.RawMessage(`{"k":"`+secretData+`"}`)
		r, err := e.s.Deliver(ctx(t), deliveries([]records.Message{m}))
		want(t, r, err, pipeline.StatusDelivered)
		got, err := e.s.Get(ctx(t), m.Client, m.ID)
		if err != nil || got.Body != secretBody || string(got.Metadata) != string(m.Metadata) || got.NumberMasked != "+491****7766" {
			t.Fatalf("%+v, %v", got, err)
		}
		m.ID = "second"
		r, err = e.s.Register(ctx(t), []records.Message{m})
		want(t, r, err, pipeline.StatusRegistered)
		e.exec("UPDATE messages SET sender_number_enc = NULL WHERE message_id = 'second'") // as in the earlier system
		if got, err = e.s.Get(ctx(t), m.Client, m.ID); err != nil || !strings.HasPrefix(got.NumberMasked, "hash:") {
			t.Errorf("%+v, %v", got, err)
		}
		for _, table := range []string{"messages", "scope_keys", "clients", "message_counts", "settings", "audit_log"} {
			dump := e.dump(table)
			if strings.Contains(dump, secretBody) || strings.Contains(dump, secretNumber[3:]) || strings.Contains(dump, secretData) {
				t.Errorf("table %s shows number, text or metadata", table)
			}
			if table == "messages" && (strings.Count(dump, "v3.") != 5 || strings.Contains(dump, "message_body=") || strings.Contains(dump, "sender_number=")) {
				t.Errorf("columns: %s", dump)
			}
		}
		if e.name != "" {
			return
		}
		files, err := filepath.Glob(strings.TrimPrefix(e.url, "sqlite:") + "*")
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil || bytes.Contains(data, []byte(secretBody)) || bytes.Contains(data, []byte(secretNumber)) || bytes.Contains(data, []byte(secretData)) {
				t.Errorf("%s shows number, text or metadata, %v", filepath.Base(f), err)
			}
			if info, err := os.Stat(f); err != nil || info.Mode().Perm()&0o077 != 0 && info.Mode()&fs.ModeType == 0 && filepath.Separator == '/' {
				t.Errorf("%s has mode %v, %v", filepath.Base(f), info.Mode(), err)
			}
		}
	})
}

// Errors of the database may quote values; ours must not.
func TestErrorsShowNoValues(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		var log bytes.Buffer
		s := e.open(func(c *records.Config) {
			c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		if e.name == "" {
			e.exec("CREATE TRIGGER spoil BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'the-secret-text'); END")
		} else {
			e.exec("ALTER TABLE messages MODIFY encrypted_body VARCHAR(10) CHARACTER SET ascii NOT NULL")
		}
		m := message(0)
		m.Body, m.Number = secretBody, secretNumber
		r, err := s.Register(ctx(t), []records.Message{m})
		want(t, r, err, pipeline.StatusRefused)
		e.exec("DROP TABLE message_attempts")
		e.exec("DROP TABLE messages")
		_, failed := s.Register(ctx(t), []records.Message{m})
		if sealmq.CodeOf(failed) != sealmq.Unavailable {
			t.Errorf("without the table: %v", failed)
		}
		_, listed := s.List(ctx(t), records.Filter{Number: secretNumber})
		for _, text := range []string{log.String(), fmt.Sprintf("%+v", r), fmt.Sprint(failed), fmt.Sprint(listed)} {
			if text == "" || strings.Contains(text, secretBody) || strings.Contains(text, secretNumber) || strings.Contains(text, "v3.") {
				t.Errorf("shows too much, or nothing: %s", text)
			}
		}
	})
}

func TestUnreadableRows(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 2))
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered)
		e.exec("UPDATE messages SET encrypted_body = 'v3.damaged', sender_number_enc = 'x' WHERE message_id = 'message-0'")
		p, err := e.s.List(ctx(t), records.Filter{Bodies: true})
		if err != nil || len(p.Records) != 2 || p.Records[0].Body != "text 1" || !p.Records[1].Unreadable || p.Records[1].Body != "" || !strings.HasPrefix(p.Records[1].NumberMasked, "hash:") {
			t.Errorf("%+v, %v", p, err)
		}
		if c := e.s.Counters(); c.Unreadable != 2 {
			t.Errorf("%d counted", c.Unreadable)
		}
		// Neither a repeat nor a conflict: another key may tell.
		r, err = e.s.Register(ctx(t), messages(0, 2))
		want(t, r, err, pipeline.StatusUnavailable, pipeline.StatusDuplicate)
		r, err = e.s.Deliver(ctx(t), deliveries(messages(0, 2)))
		want(t, r, err, pipeline.StatusUnavailable, pipeline.StatusDelivered)
	})
}

// TestOtherSealingKey: a node that opens the database has the key that the queue's messages are sealed
// for, perhaps beside a newer one.
func TestOtherSealingKey(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		for _, c := range []struct {
			keys    []string
			refused bool
		}{
			{[]string{"b"}, false}, // the first start
			{[]string{"c"}, true},
			{nil, false},
			{[]string{"c", "b", "a"}, false}, // rotated
			{[]string{"b", "a"}, true},
			{[]string{"c"}, false},
		} {
			s, err := records.Open(ctx(t), records.Config{URL: e.url, Keys: e.keys, Numbers: e.hash, Clock: e.clock, SealingKeys: c.keys})
			other, refused := errors.AsType[*records.OtherKeyError](err)
			if refused != c.refused || refused && other.Key != "sealing" || err != nil && !refused {
				t.Errorf("with the keys %q: %v", c.keys, err)
			}
			if err == nil {
				s.Close()
			}
		}
	})
}

// TestRepeatsUnderOtherKeys: with a key that is not there a repeat is not taken for a conflict.
func TestRepeatsUnderOtherKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 1))
		want(t, r, err, pipeline.StatusRegistered)
		// The key of the hash is gone, and the number is not stored.
		e.exec("UPDATE messages SET sender_number_enc = NULL")
		s := e.open(func(c *records.Config) { c.Numbers = atrest.NewHasher(ring(t, 2, 2), nil) })
		r, err = s.Deliver(ctx(t), deliveries(messages(0, 1)))
		want(t, r, err, pipeline.StatusUnavailable)
		// It is back beside the new one.
		s = e.open(func(c *records.Config) { c.Numbers = atrest.NewHasher(ring(t, 2, 1, 2), nil) })
		r, err = s.Deliver(ctx(t), deliveries(messages(0, 1)))
		want(t, r, err, pipeline.StatusDelivered)
		other := message(0)
		other.Number = "+4915200009999"
		r, err = s.Deliver(ctx(t), deliveries([]records.Message{other}))
		want(t, r, err, pipeline.StatusConflict)
		// One client's key is damaged: that is nothing to others.
		r, err = s.Register(ctx(t), []records.Message{{ID: "first", Client: "b", Number: other.Number, Body: "text"}})
		want(t, r, err, pipeline.StatusRegistered)
		e.exec("UPDATE scope_keys SET wrapped_key = 'w1.damaged' WHERE client_id = 'b'")
		s = e.open(nil)
		r, err = s.Register(ctx(t), []records.Message{{ID: "second", Client: "b", Number: other.Number, Body: "text"}, message(1)})
		want(t, r, err, pipeline.StatusUnavailable, pipeline.StatusRegistered)
	})
}

// TestTwoNewKeys: of main servers that bring different keys of one version, one goes on.
func TestTwoNewKeys(t *testing.T) {
	address, name, err := mariaDB(t).Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
	stores := []*records.Store{e.open(nil), e.open(nil)}
	for version := uint16(2); version < 30; version++ {
		errs := make([]error, len(stores))
		var wg sync.WaitGroup
		for i, s := range stores {
			mine, err := atrest.NewRing(version, map[uint16]atrest.Key{version: atrest.NewKey()})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { _, errs[i] = s.SetKeys(ctx(t), mine, e.hash) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("version %d: %v, and %v", version, errs[0], errs[1])
		}
	}
}

// TestSetKeys changes keys while messages are stored, and refuses what cannot be used.
func TestSetKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 1))
		want(t, r, err, pipeline.StatusRegistered)
		one, both := e.keys, ring(t, 2, 1, 2)
		exchanged, err := atrest.NewRing(1, map[uint16]atrest.Key{1: atrest.NewKey()})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			keys, numbers *atrest.Ring
			changed       bool
			err           string
		}{
			{one, ring(t, 1, 1), false, ""},
			{exchanged, ring(t, 1, 1), false, "encryption key version 1 is not the one"},
			{one, exchanged, false, "key version 1 of the numbers is not the one"},
			{one, ring(t, 2, 1, 2), true, ""},
		} {
			changed, err := e.s.SetKeys(ctx(t), c.keys, atrest.NewHasher(c.numbers, nil))
			if changed != c.changed || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, %v", c.err, changed, err)
			}
		}
		stop, stopped := make(chan struct{}), make(chan error)
		go func() { // the race detector looks at this
			for i := 1; ; i++ {
				if _, err := e.s.Register(ctx(t), messages(i, 1)); err != nil {
					stopped <- err
					return
				}
				select {
				case <-stop:
					close(stopped)
					return
				default:
				}
			}
		}()
		if changed, err := e.s.SetKeys(ctx(t), both, atrest.NewHasher(ring(t, 2, 1, 2), nil)); !changed || err != nil {
			t.Errorf("%v, %v", changed, err)
		}
		r, err = e.s.Register(ctx(t), messages(1_000_000, 1))
		want(t, r, err, pipeline.StatusRegistered)
		close(stop)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if _, err := e.s.SetKeys(ctx(t), one, atrest.NewHasher(ring(t, 2, 1, 2), nil)); err == nil || !strings.Contains(err.Error(), "version 2 is missing") {
			t.Errorf("the newest key goes: %v", err)
		}
		for id, version := range map[string]int{"message-0": 1, "message-1000000": 2} {
			if m, err := e.s.Get(ctx(t), "acme-01", id); err != nil || m.Unreadable || m.Body == "" {
				t.Errorf("%s: %+v, %v", id, m, err)
			}
			var got int
			if err := e.raw().QueryRow("SELECT encryption_key_version FROM messages WHERE message_id = '" + id + "'").Scan(&got); err != nil || got != version {
				t.Errorf("%s has key %d, %v", id, got, err)
			}
		}
		p, err := e.s.Reencrypt(ctx(t))
		for ; err == nil && !p.Done; p, err = e.s.Reencrypt(ctx(t)) {
		}
		if err != nil || p.KeyVersion != 2 || p.Unreadable != 0 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func TestKeysRotate(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		for i := range 5 {
			list := messages(i*100, 100)
			for j := range list {
				list[j].Client = fmt.Sprintf("client-%d", j%3)
				list[j].Metadata = json.RawMessage(fmt.Sprintf(`{"of":%d}`, i*100+j))
			}
			if _, err := e.s.Register(ctx(t), list); err != nil {
				t.Fatal(err)
			}
		}
		// A row of the earlier implementation, made with Python's cryptography: its key is
		// version 9 here.
		fernet := "gAAAAABlU_EA6SDdf4A3B3ERs0nba_5gF8u_qOajdeyhIpE6BHFaSX5FYNLIHxGABTDbgF9_X3YFXllRUCQ0Zvnw0f8zk5VYY2dgJWvVhCXWmFSB0jsTMuw="
		e.exec("UPDATE messages SET encrypted_body = ?, encryption_key_version = 9, scope_key_id = NULL, sender_number_enc = NULL, metadata = NULL WHERE message_id = 'message-250'", fernet)
		e.exec("UPDATE messages SET encrypted_body = 'damaged' WHERE message_id = 'message-260'")
		e.exec(`UPDATE messages SET metadata = '{"of":270}' WHERE message_id = 'message-270'`) // as earlier versions stored it

		old, err := atrest.ParseKey([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
		if err != nil {
			t.Fatal(err)
		}
		keys, one := make(map[uint16]atrest.Key), []byte(strings.Repeat("2", 63)+"0")
		keys[9] = old
		for v, text := range map[uint16][]byte{1: one, 2: []byte(strings.Repeat("3", 63) + "0")} {
			if keys[v], err = atrest.ParseKey(text); err != nil {
				t.Fatal(err)
			}
		}
		rotated, err := atrest.NewRing(2, keys)
		if err != nil {
			t.Fatal(err)
		}
		rotate := func(c *records.Config) {
			c.Keys, c.Numbers = rotated, atrest.NewHasher(ring(t, 2, 1, 2), nil)
		}
		s := e.open(rotate)
		r, err := s.Register(ctx(t), messages(0, 0))
		want(t, r, err)
		got, err := s.Get(ctx(t), "", "message-250")
		if err != nil || got.Body != "Grüße aus dem Labor" {
			t.Errorf("a Fernet row: %+v, %v", got, err)
		}
		fresh := message(7000)
		fresh.Client = "client-1"
		r, err = s.Register(ctx(t), []records.Message{fresh})
		want(t, r, err, pipeline.StatusRegistered)
		p, err := s.Reencrypt(ctx(t))
		if err != nil || p.Done || p.Changed != 200 {
			t.Fatalf("the first step: %+v, %v", p, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = e.open(rotate) // it goes on where it was
		for !p.Done {
			if p, err = s.Reencrypt(ctx(t)); err != nil {
				t.Fatal(err)
			}
		}
		if p.Changed != 499 || p.Unreadable != 1 {
			t.Errorf("%+v", p)
		}
		if again, err := s.Reencrypt(ctx(t)); err != nil || again != p {
			t.Errorf("once it is done: %+v, %v", again, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// Now the new keys are enough.
		only := e.open(func(c *records.Config) { c.Keys, c.Numbers = ring(t, 2, 2), atrest.NewHasher(ring(t, 2, 2), nil) })
		for i := range 500 {
			if i == 260 {
				continue
			}
			wanted := fmt.Sprintf("text %d", i)
			if i == 250 {
				wanted = "Grüße aus dem Labor"
			}
			if got, err := only.Get(ctx(t), "", fmt.Sprintf("message-%d", i)); err != nil || got.Body != wanted || got.KeyVersion != 2 || string(got.Metadata) != fmt.Sprintf(`{"of":%d}`, i) && i != 250 {
				t.Fatalf("message %d: %+v, %v", i, got, err)
			}
		}
		page, err := only.List(ctx(t), records.Filter{Number: message(42).Number})
		if err != nil || len(page.Records) != 1 || page.Records[0].ID != "message-42" {
			t.Errorf("a number with the new key: %+v, %v", page, err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		open := func(change func(*records.Config)) error {
			cfg := records.Config{URL: e.url, Keys: e.keys, Numbers: e.hash, Clock: fakeclock.New(t0)}
			change(&cfg)
			s, err := records.Open(ctx(t), cfg)
			if err == nil {
				s.Close()
			}
			return err
		}
		other := atrest.NewKey()
		exchanged, err := atrest.NewRing(1, map[uint16]atrest.Key{1: other})
		if err != nil {
			t.Fatal(err)
		}
		if err := open(func(c *records.Config) { c.Keys = exchanged }); err == nil || !strings.Contains(err.Error(), "version 1 is not the one") {
			t.Errorf("an exchanged key: %v", err)
		}
		if err := open(func(c *records.Config) { c.Numbers = atrest.NewHasher(exchanged, nil) }); err == nil || !strings.Contains(err.Error(), "key version 1 of the numbers is not the one") {
			t.Errorf("an exchanged key of the numbers: %v", err)
		}
		if err := open(func(c *records.Config) { c.Keys = nil }); err == nil {
			t.Error("opened without keys")
		}
		e.exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)")
		if err := open(func(*records.Config) {}); err == nil || !strings.Contains(err.Error(), "written by a newer one") {
			t.Errorf("a newer database: %v", err)
		}
		e.exec("DROP TABLE goose_db_version")
		if err := open(func(*records.Config) {}); err == nil || !strings.Contains(err.Error(), "of another program") {
			t.Errorf("another program's database: %v", err)
		}
	})
}

func TestClosedStore(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		if err := e.s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.s.Register(ctx(t), messages(0, 1)); sealmq.CodeOf(err) != sealmq.Unavailable {
			t.Errorf("register: %v", err)
		}
		if _, err := e.s.Status(ctx(t), []pipeline.Update{{MessageID: "x", State: pipeline.Failed}}); sealmq.CodeOf(err) != sealmq.Unavailable {
			t.Errorf("status: %v", err)
		}
		if _, err := e.s.List(ctx(t), records.Filter{}); sealmq.CodeOf(err) != sealmq.Unavailable {
			t.Errorf("list: %v", err)
		}
		if err := e.s.Ping(ctx(t)); sealmq.CodeOf(err) != sealmq.Unavailable || errors.Is(err, records.ErrNotFound) {
			t.Errorf("ping: %v", err)
		}
	})
}

func TestCleanup(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		// 600 delivered, 10 failed, 10 queued and 10 late ones, 40 days ago; 20 today.
		for i := range 2 {
			if _, err := e.s.Deliver(ctx(t), deliveries(messages(i*300, 300))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.s.Register(ctx(t), messages(1000, 30)); err != nil {
			t.Fatal(err)
		}
		var fail []pipeline.Update
		for _, m := range messages(1000, 10) {
			fail = append(fail, pipeline.Update{MessageID: m.ID, ClientID: m.Client, State: pipeline.Failed})
		}
		if _, err := e.s.Status(ctx(t), fail); err != nil {
			t.Fatal(err)
		}
		e.clock.Advance(40 * 24 * time.Hour)
		if _, err := e.s.Deliver(ctx(t), append(deliveries(messages(2000, 20)), deliveries(messages(1020, 10))...)); err != nil {
			t.Fatal(err)
		}
		for _, days := range []int{-1, 0, 29, 3651} {
			if _, _, err := e.s.Cleanup(ctx(t), days); sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Errorf("%d days: %v", days, err)
			}
			if _, _, err := e.s.PreviewCleanup(ctx(t), days); sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Errorf("%d days: %v", days, err)
			}
		}
		cutoff, about, err := e.s.PreviewCleanup(ctx(t), 30)
		if err != nil || about != 620 || !cutoff.Equal(t0.AddDate(0, 0, 10)) {
			t.Errorf("preview: %v, %d, %v", cutoff, about, err)
		}
		_, deleted, err := e.s.Cleanup(ctx(t), 30)
		if err != nil || deleted != 610 {
			t.Errorf("%d deleted, %v", deleted, err)
		}
		if n, _, err := e.s.Count(ctx(t), records.Filter{}); err != nil || n != 40 {
			t.Errorf("%d left, %v", n, err)
		}
		if _, deleted, err = e.s.Cleanup(ctx(t), 30); err != nil || deleted != 0 {
			t.Errorf("the second time %d deleted, %v", deleted, err)
		}
		e.checkCounts()
	})
}
