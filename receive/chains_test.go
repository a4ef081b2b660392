package receive_test

import (
	"testing"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
)

// A sender's certificates are left with a broker that keeps them, and travel in each
// message where there is none or where it is asked for.
func TestCertificatesAreLeftWithTheBroker(t *testing.T) {
	keeps := func(t *testing.T) *testnode.Node {
		ca := testca.New(t)
		return testnode.Start(t, testnode.Config{CA: ca, Directory: testnode.NewDirectory(t, ca)})
	}
	for name, tt := range map[string]struct {
		node  func(*testing.T) *testnode.Node
		carry bool
		in    bool
	}{
		"left":              {node: keeps},
		"asked for":         {node: keeps, carry: true, in: true},
		"the broker cannot": {node: func(t *testing.T) *testnode.Node { return testnode.Start(t, testnode.Config{}) }, in: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := tt.node(t)
			e := newEnds(t, n)
			e.bind(t)
			s := e.sender(t, e.dial(t, "alice"), func(cfg *send.Config) { cfg.CarryChain = tt.carry })
			m, err := s.Seal(t.Context(), "post", "bob", []byte("noon is fine"))
			if err != nil {
				t.Fatal(err)
			}
			// Without asking anybody, only an envelope that carries them can be opened.
			alone, err := seal.NewOpener(seal.OpenerConfig{Name: "bob", Keys: e.keys,
				Verifier: n.CA.Verifier()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := alone.Open(m.Body, seal.Expect{ID: m.ID}); (err == nil) != tt.in {
				t.Errorf("opened alone: %v", err)
			}
			if err := s.Publish(t.Context(), m, nil, nil); err != nil {
				t.Fatal(err)
			}
			if list := next(t, e.receiver(t, e.dial(t, "bob"), nil, nil)); len(list) != 1 || list[0].ID != m.ID || list[0].Sender.ID != "alice" {
				t.Errorf("received %v", list)
			}
			t.Logf("a letter of 12 bytes is a line of %d", len(m.Body))
		})
	}
}
