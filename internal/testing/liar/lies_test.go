package liar_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

// aLie is what the broker does while alice sends five letters to bob, and what bob's
// application sees. The last letter is always delivered honestly.
type aLie struct {
	tell func(w *world) liar.Lies
	// shown are the letters that bob's application sees, in order.
	shown string
	// late says that some letters come later, in any order.
	late bool
	// refused is the reason with which messages go to the dead-letter queue: one, or as
	// many as dead says.
	refused error
	dead    int
	// check checks what else must be true.
	check func(t *testing.T, w *world, m *mailbox)
}

func TestLies(t *testing.T) {
	for name, lie := range lies {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.sender("alice"), w.mailbox()
			if lie.tell != nil {
				w.liar.Lie(lie.tell(w))
			}
			for i := range 5 {
				w.send(alice, letter(i+1))
			}
			bob.until(letter(5), len(strings.Fields(lie.shown)))
			var shown []string
			for _, text := range bob.shown {
				shown = append(shown, strings.TrimPrefix(text, "letter "))
			}
			if lie.late {
				slices.Sort(shown)
			}
			if got := strings.Join(shown, " "); got != lie.shown {
				t.Errorf("bob was shown %s, want %s", got, lie.shown)
			}
			want := lie.dead
			if lie.refused != nil {
				want = max(1, want)
			}
			reasons := w.dead(want)
			if len(reasons) != want {
				t.Errorf("%d messages are dead: %q", len(reasons), reasons)
			}
			for id, reason := range reasons {
				if lie.refused != nil && !strings.Contains(reason, lie.refused.Error()) {
					t.Errorf("message %s is dead because %q, want %q", id, reason, lie.refused)
				}
			}
			if lie.check != nil {
				lie.check(t, w, bob)
			}
		})
	}
}

var lies = map[string]aLie{
	"honest": {shown: "1 2 3 4 5"},
	"changed text": {shown: "1 2 4 5", refused: seal.ErrChanged, tell: func(*world) liar.Lies {
		return onDelivery(3, func(_ *liar.Conn, id, body string) []string {
			return []string{push(id, change(body, "sealed", func(p []byte) []byte { p[len(p)-20] ^= 1; return p }))}
		})
	}},
	"other id":                     {shown: "1 2 4 5", refused: seal.ErrID, tell: func(*world) liar.Lies { return renamed(false) }},
	"other id in the envelope too": {shown: "1 2 4 5", refused: seal.ErrChanged, tell: func(*world) liar.Lies { return renamed(true) }},
	"swapped bodies": {shown: "1 4 5", refused: seal.ErrID, dead: 2, tell: func(*world) liar.Lies {
		var held [2]string
		return each(func(n int, id, body string) []string {
			switch n {
			case 2:
				held = [2]string{id, body}
				return nil
			case 3:
				return []string{push(held[0], body), push(id, held[1])}
			}
			return []string{push(id, body)}
		})
	}},
	"other publisher": {shown: "1 2 3 4 5", tell: func(*world) liar.Lies {
		return liar.Lies{ToClient: func(_ *liar.Conn, line string) []string {
			if strings.HasPrefix(line, "Meta: ") {
				line = strings.ReplaceAll(line, `"publisher":"alice"`, `"publisher":"mallory"`)
			}
			return []string{line}
		}}
	}, check: func(t *testing.T, _ *world, m *mailbox) {
		for _, r := range m.last {
			if r.Delivery.Publisher != "mallory" {
				t.Errorf("the lie was not told: %+v", r.Delivery)
			}
			if r.Sender.ID != "alice" {
				t.Errorf("the sender is %q", r.Sender.ID)
			}
		}
	}},
	"forged message": {shown: "1 2 4 5", refused: seal.ErrSender, tell: func(w *world) liar.Lies {
		return forged(w, w.ca)
	}},
	"forged by another authority": {shown: "1 2 4 5", refused: seal.ErrUntrusted, tell: func(w *world) liar.Lies {
		return forged(w, testca.New(w.T))
	}},
	"stripped signature": {shown: "1 2 4 5", refused: seal.ErrSignature, tell: func(*world) liar.Lies {
		return onDelivery(3, func(_ *liar.Conn, id, body string) []string {
			return []string{push(id, change(body, "epoch", withoutSignature))}
		})
	}},
	"other receiver": {shown: "1 2 4 5", refused: seal.ErrReceiver, tell: func(w *world) liar.Lies {
		carols, err := seal.Generate(seal.DefaultSuite, 0)
		w.must(err)
		return replaced(w, w.sealer("alice", seal.SealerConfig{Receivers: []seal.Receiver{{Name: "carol", Key: carols.Public()}}}), key)
	}},
	"other route": {shown: "1 2 4 5", refused: seal.ErrRoute, tell: func(w *world) liar.Lies {
		return replaced(w, w.sealer("alice", seal.SealerConfig{}), "somewhere else")
	}},
	"downgraded suite": {shown: "1 2 4 5", refused: seal.ErrSuite, tell: func(w *world) liar.Lies {
		old, err := seal.Generate(ciphermq.G5, 0, ciphermq.Suites{})
		w.must(err)
		w.must(w.bobs.Add(old)) // bob can open it, and does not accept it
		return replaced(w, w.sealer("mallory", seal.SealerConfig{Receivers: []seal.Receiver{{Name: "bob", Key: old.Public()}}}), key)
	}},
	"repeated": {shown: "1 2 3 4 5", tell: func(*world) liar.Lies {
		var all []string
		return each(func(_ int, id, body string) []string {
			all = append(all, push(id, body))
			return append(append([]string{push(id, body)}, all...), push(id, body))
		})
	}, check: func(t *testing.T, _ *world, m *mailbox) {
		if st := m.r.Stats(); st.Repeated == 0 {
			t.Errorf("%+v", st)
		}
	}},
	"reordered": {shown: "1 3 2 4 5", tell: func(*world) liar.Lies {
		held := ""
		return each(func(n int, id, body string) []string {
			switch n {
			case 2:
				held = push(id, body)
				return nil
			case 3:
				return []string{push(id, body), held}
			}
			return []string{push(id, body)}
		})
	}, check: func(t *testing.T, _ *world, m *mailbox) {
		if m.last[1].Sequence != 3 || m.last[2].Sequence != 2 {
			t.Errorf("the sequence numbers are %d and %d", m.last[1].Sequence, m.last[2].Sequence)
		}
	}},
	"dropped": {shown: "1 2 4 5", tell: func(*world) liar.Lies {
		return onDelivery(3, func(*liar.Conn, string, string) []string { return nil })
	}, check: func(t *testing.T, _ *world, m *mailbox) {
		gaps := m.ledger.Gaps()
		if len(gaps) != 1 || gaps[0].Sender != "alice" || gaps[0].From != 3 || gaps[0].To != 3 {
			t.Errorf("the gaps are %+v", gaps)
		}
	}},
	"withheld certificates": {shown: "1 2 3 4 5", late: true, tell: func(*world) liar.Lies {
		refusals := 0
		return answers("Chain: ", func(line string) string {
			if refusals++; refusals <= 2 {
				return "Error no_key: no certificates are stored under this hash"
			}
			return line
		})
	}, check: func(t *testing.T, _ *world, m *mailbox) {
		if st := m.r.Stats(); st.Undecided == 0 {
			t.Errorf("%+v", st)
		}
	}},
	"other certificates": {shown: "1 2 3 4 5", late: true, tell: func(w *world) liar.Lies {
		chain, _ := w.signs("mallory").Chain()
		lied := false
		return answers("Chain: ", func(line string) string {
			if lied {
				return line
			}
			lied = true
			return "Chain: " + base64.StdEncoding.EncodeToString(chain)
		})
	}, check: func(t *testing.T, _ *world, m *mailbox) {
		if st := m.r.Stats(); st.Undecided == 0 {
			t.Errorf("%+v", st)
		}
	}},
}

// each lies about deliveries, counted from one.
func each(lie func(n int, id, body string) []string) liar.Lies {
	count := 0
	return liar.Lies{ToClient: func(_ *liar.Conn, line string) []string {
		id, body, ok := pushed(line)
		if !ok {
			return []string{line}
		}
		count++
		return lie(count, id, body)
	}}
}

// answers changes replies with this prefix.
func answers(prefix string, lie func(line string) string) liar.Lies {
	return liar.Lies{ToClient: func(_ *liar.Conn, line string) []string {
		if strings.HasPrefix(line, prefix) {
			line = lie(line)
		}
		return []string{line}
	}}
}

// change changes the bytes of one base64 member of an envelope.
func change(body, member string, f func([]byte) []byte) string {
	var env map[string]string
	if err := json.Unmarshal([]byte(body), &env); err != nil {
		panic(err)
	}
	p, err := base64.StdEncoding.DecodeString(env[member])
	if err != nil {
		panic(err)
	}
	env[member] = base64.StdEncoding.EncodeToString(f(p))
	return encode(env)
}

func encode(env map[string]string) string {
	p, err := json.Marshal(env)
	if err != nil {
		panic(err)
	}
	return string(p)
}

// withoutSignature empties the second part of an epoch. Each part follows its length in two
// bytes.
func withoutSignature(p []byte) []byte {
	header := 2 + int(p[0])<<8 + int(p[1])
	signature := 2 + int(p[header])<<8 + int(p[header+1])
	return append(append(p[:header:header], 0, 0), p[header+signature:]...)
}

// renamed delivers the third message with another id, and translates bob's answers.
func renamed(inside bool) liar.Lies {
	const other = "another-id"
	real := ""
	lies := onDelivery(3, func(_ *liar.Conn, id, body string) []string {
		real = id
		if inside {
			body = strings.Replace(body, id, other, 1)
		}
		return []string{push(other, body)}
	})
	lies.ToBroker = func(_ *liar.Conn, line string) []string {
		return []string{strings.Replace(line, "nack "+other, "nack "+real, 1)}
	}
	deliver := lies.ToClient
	lies.ToClient = func(c *liar.Conn, line string) []string {
		if rest, ok := strings.CutPrefix(line, "NACK_CONFIRMED "); ok && rest == real && real != "" {
			return []string{"NACK_CONFIRMED " + other}
		}
		return deliver(c, line)
	}
	return lies
}

// replaced delivers another sealed message instead of the third one, with an id that bob can
// settle.
func replaced(w *world, s *seal.Sealer, route string) liar.Lies {
	return onDelivery(3, func(_ *liar.Conn, id, _ string) []string {
		body, err := s.Seal(seal.Content{ID: id, Exchange: exchange, RoutingKey: route, Body: []byte("letter 3")})
		w.must(err)
		return []string{push(id, string(body))}
	})
}

// forged is a message with alice's name that mallory signed.
func forged(w *world, ca *testca.CA) liar.Lies {
	leaf := ca.Leaf("mallory", "")
	signer, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	w.must(err)
	return replaced(w, w.sealer("mallory", seal.SealerConfig{Signer: func() (*seal.Signer, error) { return signer, nil }}), key)
}

// TestForkEndsTheReceiver shows sender and receiver different directories. They find out with
// the first message, which is neither shown nor moved.
func TestForkEndsTheReceiver(t *testing.T) {
	w := newWorld(t)
	bob := w.mailbox()
	// Alice sees the directory of another broker with the same log key.
	other := w.dial(w.startBroker().Addr, w.ca.ClientTLS("bob"), client.Config{})
	_, err := w.directory(other).Publish(t.Context(), w.signs("bob"), w.bobs.Newest().Public())
	w.must(err)
	alice := w.sender("alice", func(cfg *send.Config) { cfg.Directory = w.directory(other) })
	w.send(alice, "letter 1")
	w.endsWithFork(bob)
}

// endsWithFork expects that a receiver's next message shows that the directory has forked, and
// that the message is not moved.
func (w *world) endsWithFork(m *mailbox) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	_, err := m.r.Next(ctx, 1)
	var fork *keydir.ForkError
	if !errors.As(err, &fork) || len(fork.Ours) == 0 || len(fork.Theirs) == 0 {
		w.Fatalf("the receiver ended with %v", err)
	}
	if reasons := w.dead(0); len(reasons) != 0 {
		w.Errorf("the message is dead: %q", reasons)
	}
}

// TestChangedDirectoryEndsTheReceiver changes the directory. That is not the fault of a
// message, so nothing is moved and the receiver ends.
func TestChangedDirectoryEndsTheReceiver(t *testing.T) {
	for name, tt := range map[string]struct {
		show func(w *world, older string) string
		want error
	}{
		"older state": {func(_ *world, older string) string { return older }, keydir.ErrRollback},
		"another log key": {func(w *world, _ string) string {
			other, _, err := keylog.NewSigner()
			w.must(err)
			checkpoint, err := other.Checkpoint(tlog.Tree{N: 9})
			w.must(err)
			p, err := json.Marshal(keylog.Page{Size: 9, Checkpoint: checkpoint, LogKey: other.Public()})
			w.must(err)
			return "Key log: " + string(p)
		}, keydir.ErrLog},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			w := newWorld(t)
			bob, older := w.mailbox(), ""
			w.liar.Lie(answers("Key log: ", func(line string) string {
				older = cmp.Or(older, line)
				return line
			}))
			for i, name := range []string{"carol", "dave", "erin"} {
				k, err := seal.Generate(seal.HPKEX25519, 0)
				w.must(err)
				_, err = w.directory(w.dial(w.addr, w.ca.ClientTLS(name), client.Config{})).Publish(t.Context(), w.signs(name), k.Public())
				w.must(err)
				w.send(w.sender("alice"), letter(i+1)) // with the newest checkpoint
				if i < 2 {
					bob.until(letter(i+1), i+1)
				}
			}
			w.liar.Lie(liar.Lies{}) // the one that lied before has ended now
			shown := tt.show(w, older)
			w.liar.Lie(answers("Key log: ", func(string) string { return shown }))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if list, err := bob.r.Next(ctx, 1); !errors.Is(err, tt.want) {
				t.Errorf("%d are shown, %v", len(list), err)
			}
			if reasons := w.dead(0); len(reasons) != 0 {
				t.Errorf("the message is dead: %q", reasons)
			}
			// With the old directory, the message is received again.
			w.liar.Lie(liar.Lies{})
			bob.until(letter(3), 3)
		})
	}
}

// TestSenders tries what a malicious sender with a good certificate can do.
func TestSenders(t *testing.T) {
	for name, tt := range map[string]struct {
		lie     func(w *world) liar.Lies
		refused error
	}{
		// An honest broker would refuse the second text, so here it helps the sender.
		"one id, two texts": {func(w *world) liar.Lies {
			sealer := w.sealer("mallory", seal.SealerConfig{})
			return onDelivery(1, func(_ *liar.Conn, id, _ string) []string {
				var lines []string
				for _, text := range []string{"letter 1", "another"} {
					body, err := sealer.Seal(seal.Content{ID: id, Exchange: exchange, RoutingKey: key, Body: []byte(text)})
					w.must(err)
					lines = append(lines, push(id, string(body)))
				}
				return lines
			})
		}, receive.ErrMessageConflict},
		"slander": {func(w *world) liar.Lies {
			false, _, err := keylog.NewSigner()
			w.must(err)
			checkpoint, err := false.Checkpoint(tlog.Tree{N: 7})
			w.must(err)
			return replaced(w, w.sealer("mallory", seal.SealerConfig{Extensions: func() []seal.Extension {
				return []seal.Extension{{Type: seal.ExtCheckpoint, Value: checkpoint}}
			}}), key)
		}, keydir.ErrCheckpoint},
		"garbage": {func(w *world) liar.Lies {
			return onDelivery(3, func(_ *liar.Conn, id, _ string) []string {
				return []string{push(id, `{"message_id":"`+id+`","suite":"`+string(seal.DefaultSuite)+`","epoch":"AAAA","sealed":"AAAA"}`)}
			})
		}, seal.ErrMalformed},
	} {
		t.Run(strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "_"), func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.sender("alice"), w.mailbox()
			w.liar.Lie(tt.lie(w))
			for i := range 5 {
				w.send(alice, letter(i+1))
			}
			bob.until(letter(5), 4)
			for _, text := range bob.shown {
				if !strings.HasPrefix(text, "letter ") {
					t.Errorf("bob was shown %q", text)
				}
			}
			if !strings.Contains(bob.log.text(), tt.refused.Error()) {
				t.Errorf("%q is not in bob's log: %s", tt.refused, bob.log.text())
			}
		})
	}
}
