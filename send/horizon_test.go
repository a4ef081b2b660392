package send_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

// remembers is the answer of a broker that remembers ids for this long.
func remembers(seconds int, more string) string {
	return fmt.Sprintf(`Whoami: {"id":"alice","dedup_window_s":%d,"dedup_max_ids":2000000%s}`, seconds, more)
}

// The broker says for how long it remembers an id; what is older by a sixth of that at most
// may be sent again.
func TestSpoolAsksByTheBrokersMemory(t *testing.T) {
	const sent, asks = true, false
	for name, c := range map[string]struct {
		greeting string
		horizon  time.Duration // configured
		age      time.Duration
		want     bool
	}{
		"older broker, young":   {"Error unsupported: Unknown command", 0, 49 * time.Minute, sent},
		"older broker, old":     {"Error unsupported: Unknown command", 0, 51 * time.Minute, asks},
		"tells nothing":         {`Whoami: {"id":"alice"}`, 0, 51 * time.Minute, asks},
		"the default":           {remembers(3600, ""), 0, 49 * time.Minute, sent},
		"beyond the default":    {remembers(3600, ""), 0, 51 * time.Minute, asks},
		"a minute, young":       {remembers(60, ""), 0, 49 * time.Second, sent},
		"a minute, old":         {remembers(60, ""), 0, 51 * time.Second, asks},
		"a day":                 {remembers(86400, ""), 0, 19 * time.Hour, sent},
		"beyond a day":          {remembers(86400, ""), 0, 21 * time.Hour, asks},
		"configured below":      {remembers(86400, ""), time.Hour, 61 * time.Minute, asks},
		"configured above":      {remembers(60, ""), time.Hour, 51 * time.Second, asks},
		"configured, no answer": {"Error unsupported: Unknown command", 2 * time.Hour, 90 * time.Minute, sent},
		"busy, young":           {remembers(3600, `,"dedup_reach_s":600`), 0, 8 * time.Minute, sent},
		"busy, old":             {remembers(3600, `,"dedup_reach_s":600`), 0, 9 * time.Minute, asks},
		"has just forgotten":    {remembers(3600, `,"dedup_reach_s":0`), 0, time.Second, asks},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := fakeclock.New(time.Unix(1_700_000_000, 0))
				spool := filled(t, 1, send.SpoolConfig{Now: now.Now, Horizon: c.horizon})
				now.Advance(c.age)
				f := fakebroker.New(t)
				f.Greeting = c.greeting
				k, p := f.Open(client.Config{})
				s, err := newSpooler(t, k, spool)
				if c.want == asks {
					if !errors.Is(err, send.ErrSpoolTooOld) {
						t.Errorf("%v", err)
					}
					p.Silent()
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				p.Expect(publishLine(1))
				p.Send("ACK id-1\n")
				if err := s.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// newSpooler is spooler for one that may fail.
func newSpooler(t *testing.T, c *client.Client, spool *send.Spool) (*send.Sender, error) {
	key, err := seal.Generate(ciphermq.G5, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Keys: map[string]*seal.PublicKey{"bob": key.Public()}, Spool: spool})
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// The broker that is there counts: it may have been started with another window while it
// was away, or be another one.
func TestMemoryOfTheBrokerThatComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		spooled       bool
		before, after string
		again         bool
	}{
		"spool, shorter": {true, remembers(3600, ""), remembers(12, ""), false},
		"spool, longer":  {true, remembers(12, ""), remembers(3600, ""), true},
		"spool, unknown": {true, remembers(12, ""), "Error unsupported: Unknown command", true},
		"plain, shorter": {false, remembers(3600, ""), remembers(12, ""), false},
		"plain, longer":  {false, remembers(12, ""), remembers(3600, ""), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fakebroker.New(t)
				f.Greeting = c.before
				k, p := f.Open(client.Config{})
				var spool *send.Spool
				if c.spooled {
					spool = filled(t, 0, send.SpoolConfig{})
				}
				s := spooler(t, k, spool)
				answered := make(chan error, 1)
				if err := s.Publish(t.Context(), message("a"), nil, func(_ string, err error) { answered <- err }); err != nil {
					t.Fatal(err)
				}
				p.Expect(line("a"))
				<-time.After(15 * time.Second)
				f.Greeting = c.after
				p.Conn.Close()
				p = f.Accept()
				if !c.again {
					if err := <-answered; !errors.Is(err, client.ErrResendTooOld) || errors.Is(err, send.ErrSpoolTooOld) != c.spooled {
						t.Errorf("%v", err)
					}
					p.Silent()
					return
				}
				p.Expect(line("a"))
				p.Send("ACK a\n")
				if err := <-answered; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// While a spool is sent, or the broker has no room for it, the broker is asked again.
func TestMemoryIsAskedForAgainWhileASpoolIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spool := filled(t, 1, send.SpoolConfig{})
		f := fakebroker.New(t)
		f.Greeting = remembers(3600, `,"dedup_reach_s":3600`)
		k, p := f.Open(client.Config{})
		s := spooler(t, k, spool)
		p.Expect(publishLine(1))
		<-time.After(30 * time.Second)
		p.Send("Error queue_full: queue 'q' is full\n")
		p.Expect("whoami")
		p.Send(remembers(3600, `,"dedup_reach_s":20`) + "\n")
		p.Expect(publishLine(1)) // it was on its way
		p.Send("Error queue_full: queue 'q' is full\n")
		wantTooOld(t, s.Flush(t.Context()), "id-1")
		p.Silent()
	})
}

// A question that is answered with an error tells nothing new.
func TestMemoryIsKeptWhenTheBrokerCannotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spool := filled(t, 1, send.SpoolConfig{})
		f := fakebroker.New(t)
		f.Greeting = remembers(60, "")
		k, p := f.Open(client.Config{})
		s := spooler(t, k, spool)
		p.Expect(publishLine(1))
		<-time.After(45 * time.Second)
		p.Send("Error queue_full: queue 'q' is full\n")
		p.Expect("whoami")
		p.Send("Error unavailable: the broker is stopping or its store has failed\n")
		p.Expect(publishLine(1))
		<-time.After(10 * time.Second)
		p.Send("Error queue_full: queue 'q' is full\n")
		p.Expect("whoami")
		wantTooOld(t, s.Flush(t.Context()), "id-1")
		p.Silent()
	})
}
