package receive_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
)

// A broker that withholds messages is seen by the numbers of the ones that it delivers.
func TestGapsThroughAnOpener(t *testing.T) {
	s, o := sealerAndOpener(t, 5)
	r := receive.NewReplay(receive.ReplayConfig{})
	for i := range 12 {
		c := seal.Content{ID: fmt.Sprint("id-", i), Exchange: "post", RoutingKey: "bob", Body: []byte("text")}
		body, err := s.Seal(c)
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 || i == 4 {
			continue
		}
		m, err := o.Open(body, seal.Expect{ID: c.ID})
		if err != nil {
			t.Fatal(err)
		}
		r.Mark(m)
	}
	gaps := r.Gaps()
	if len(gaps) != 2 || gaps[0].From != 3 || gaps[0].To != 3 || gaps[1].From != 5 || gaps[1].To != 5 || gaps[0].Sender != "alice" {
		t.Errorf("gaps %v", gaps)
	}
}

func TestOneThousandReplays(t *testing.T) {
	s, o := sealerAndOpener(t, 0)
	c := seal.Content{ID: "id", Exchange: "post", RoutingKey: "bob", Body: []byte("text")}
	body, err := s.Seal(c)
	if err != nil {
		t.Fatal(err)
	}
	replay := receive.NewReplay(receive.ReplayConfig{})
	var mu sync.Mutex
	verdicts := make(map[receive.Judgement]int)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 100 {
				m, err := o.Open(body, seal.Expect{ID: c.ID})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				verdicts[replay.Mark(m)]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if verdicts[receive.LedgerNew] != 1 || verdicts[receive.LedgerSeen] != 999 {
		t.Errorf("verdicts %v", verdicts)
	}
	// A copy in another form, or after a restart, is the same message.
	state, err := replay.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again := receive.NewReplay(receive.ReplayConfig{})
	if err := again.UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	suite := fmt.Appendf(nil, `,"suite":%q`, s.Suite())
	pretty := fmt.Appendf(nil, "  { \"extra\": 1 %s , %s", suite, bytes.Replace(body, suite, nil, 1)[1:])
	m, err := o.Open(pretty, seal.Expect{ID: c.ID})
	if err != nil {
		t.Fatal(err)
	}
	if v := again.Mark(m); v != receive.LedgerSeen {
		t.Errorf("the same message with other white space after a restart: %v", v)
	}
}

// sealerAndOpener seal as alice for bob, and open as bob. messages bounds an epoch.
func sealerAndOpener(t testing.TB, messages uint64) (*seal.Sealer, *seal.Opener) {
	t.Helper()
	ca := testca.New(t)
	leaf := ca.Leaf("alice", "")
	signer, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: "bob", Key: bobsKey().Public()}}, EpochMessages: messages,
		Signer: func() (*seal.Signer, error) { return signer, nil }})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewKeyring(bobsKey())
	if err != nil {
		t.Fatal(err)
	}
	o, err := seal.NewOpener(seal.OpenerConfig{Name: "bob", Keys: keys, Verifier: ca.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}
