package keydir

import (
	"context"
	"crypto/sha256"
	"errors"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// The judge is a pure function: it reaches neither network nor file nor clock.
func TestJudgeIsPure(t *testing.T) {
	for _, file := range []string{"judge.go", "judge_log.go", "shown.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			for _, not := range []string{"context", "os", "net", "sync", "/internal/durable", "/internal/clock", "/client"} {
				if path == not || strings.HasSuffix(path, not) {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}

// judged gives the judge all that it needs.
func judged(t *testing.T, w *town, c Asker, q question, m memory) verdict {
	t.Helper()
	d := w.directory(c)
	a, err := d.findKey(t.Context(), q)
	w.must(err)
	for {
		v := judge(q, m, a)
		if v.need == nil {
			return v
		}
		w.must(d.supply(t.Context(), q, v.need, a))
	}
}

// noKey shows no key.
type noKey struct{ *forger }

func (n noKey) Command(ctx context.Context, line string) (string, error) {
	if strings.HasPrefix(line, "find_key ") {
		return "", sealmq.ErrNoKey
	}
	return n.forger.Command(ctx, line)
}

// scene is what has happened before bob asks for alice's key: entry 2 is pinned. A row
// changes it.
type scene struct {
	*forger
	t             *testing.T
	first, second []byte
	key           *seal.PublicKey // of the second
	issuer        string
	q             question
	m             memory
}

func newScene(t *testing.T, w *town) *scene {
	s := &scene{forger: w.forger(), t: t, issuer: w.identity(w.ca, "alice").Issuer, q: question{name: "alice", longestLog: 1000, now: time.Now()}}
	s.first, _ = s.entry(w.ca, 1, [32]byte{})
	s.add(s.first, s.issuer)
	s.second, s.key = s.entry(w.ca, 2, hashOf(t, s.first))
	s.add(s.second, s.issuer)
	s.m = judged(t, w, s.forger, s.q, memory{}).memory
	return s
}

// next puts an entry into the log and shows it.
func (s *scene) next(serial uint64, previous [32]byte) []byte {
	e, _ := s.entry(s.ca, serial, previous)
	s.add(e, s.issuer)
	return e
}

// show shows an entry that is in the log already.
func (s *scene) show(entry []byte, index int64) { s.found.Entry, s.found.Index = entry, index }

// bare shows a bare key that is in the log.
func (s *scene) bare() {
	key := generate(s.t, ciphermq.G5)
	leaf := keylog.Leaf{Owner: "alice", Hash: sha256.Sum256(key.Bytes())}
	s.append(leaf)
	s.found = keylog.Found{Client: "alice", Key: key.Bytes(), Place: keylog.Place{Index: s.tree.Size() - 1}}
}

func (s *scene) altered(change func(*Pin)) {
	pins := maps.Clone(s.m.pins)
	p := pins[string(small)]
	change(&p)
	pins[string(small)] = p
	s.m.pins = pins
}

// Everything that can be shown, beside a pin and without one.
func TestJudge(t *testing.T) {
	w := newTown(t)
	otherKey, _, err := keylog.NewSigner()
	w.must(err)
	for _, tc := range []struct {
		name    string
		change  func(s *scene)
		want    error
		serial  uint64 // what is pinned afterwards
		notices string // what is said, in short
	}{
		{"the pinned entry", func(*scene) {}, nil, 2, ""},
		{"the next entry", func(s *scene) { s.next(3, hashOf(t, s.second)) }, nil, 3, "key of alice was replaced by its owner (entry 3)"},
		{"the next entry with the same key", func(s *scene) {
			e, err := seal.NewKeyEntry(s.signs(s.ca, "alice"), seal.KeyEntry{Key: s.key, Serial: 3, Previous: hashOf(t, s.second)})
			s.must(err)
			s.add(e, s.issuer)
			s.q.strict = true
		}, nil, 3, "entry of alice renewed, with the same key"},
		{"a later entry", func(s *scene) { s.next(4, hashOf(t, s.next(3, hashOf(t, s.second)))) }, nil, 4, "key of alice was replaced by its owner (entry 4)"},
		{"a later entry after a reset", func(s *scene) {
			s.next(4, hashOf(t, s.next(3, s.reset(s.second).Record())))
		}, ErrReset, 2, ""},
		{"a later entry after a reset, in a long log", func(s *scene) {
			s.next(4, hashOf(t, s.next(3, s.reset(s.second).Record())))
			s.q.longestLog = 1
		}, ErrReset, 2, ""},
		{"a later entry with a gap in the log", func(s *scene) { s.next(4, [32]byte{4}) }, ErrLog, 2, ""},
		{"the next entry, strict", func(s *scene) { s.next(3, hashOf(t, s.second)); s.q.strict = true }, ErrPinned, 2, ""},
		{"an older entry", func(s *scene) { s.show(s.first, 0) }, ErrRollback, 2, ""},
		{"another entry of the same number", func(s *scene) { s.next(2, hashOf(t, s.first)) }, ErrPinned, 2, ""},
		{"an entry that follows another one", func(s *scene) { s.next(3, [32]byte{7}) }, ErrPinned, 2, ""},
		{"another authority's entry", func(s *scene) {
			e, _ := s.entry(s.other, 3, hashOf(t, s.second))
			s.add(e, s.identity(s.other, "alice").Issuer)
		}, ErrPinned, 2, ""},
		{"another authority's entry, passed off as the first one's", func(s *scene) {
			e, _ := s.entry(s.other, 3, hashOf(t, s.second))
			s.add(e, s.issuer)
		}, ErrLog, 2, ""},
		{"the next entry after a reset", func(s *scene) { s.next(3, s.reset(s.second).Record()) }, ErrReset, 2, ""},
		{"a bare key in its place", func(s *scene) { s.bare(); s.q.allowUnproven = true }, ErrRollback, 2, ""},
		{"a bare key in its place, which is not allowed", func(s *scene) { s.bare() }, ErrUnproven, 2, ""},
		{"a bare key in its place after a reset", func(s *scene) { s.reset(s.second); s.bare(); s.q.allowUnproven = true }, ErrReset, 2, ""},
		{"no key", func(s *scene) { s.found.Entry = nil }, ErrRollback, 2, ""},
		{"no key after a reset", func(s *scene) { s.reset(s.second); s.found.Entry = nil }, ErrReset, 2, ""},
		{"no key, and a reset of an earlier entry", func(s *scene) { s.reset(s.first); s.found.Entry = nil }, ErrRollback, 2, ""},

		{"pins with another fingerprint", func(s *scene) { s.altered(func(p *Pin) { p.Fingerprint = generate(t, small).Fingerprint() }) }, ErrPins, 2, ""},
		{"pins with another number", func(s *scene) { s.altered(func(p *Pin) { p.Serial = 7 }) }, ErrPins, 7, ""},
		{"pins with another issuer", func(s *scene) { s.altered(func(p *Pin) { p.Issuer = "somebody" }) }, ErrPins, 2, ""},
		{"pins with another checkpoint", func(s *scene) { s.m.checkpoint = append([]byte{' '}, s.m.checkpoint...) }, ErrPins, 2, ""},

		{"a log with another key", func(s *scene) { s.signer = otherKey }, ErrLog, 2, ""},
		{"a log that has become shorter", func(s *scene) {
			s.m = judged(t, w, s.forger, s.q, memory{}).memory
			short := s.town.forger()
			short.add(s.first, s.issuer)
			*s.forger = *short
		}, ErrRollback, 2, ""},
		{"another log of the same length", func(s *scene) {
			fork := s.town.forger()
			fork.add(s.first, s.issuer)
			fork.add(s.first, s.issuer)
			*s.forger = *fork
		}, new(ForkError), 2, ""},
		{"another log that is longer", func(s *scene) {
			fork := s.town.forger()
			for range 3 {
				fork.add(s.first, s.issuer)
			}
			*s.forger = *fork
		}, new(ForkError), 2, ""},

		{"an entry that was never seen", func(s *scene) { s.m = memory{} }, nil, 2, "key of alice pinned: "},
		{"an old entry that was never seen", func(s *scene) { s.m = memory{}; s.show(s.first, 0) }, ErrRollback, 0, ""},
		{"an old entry that was never seen, in a long log", func(s *scene) { s.m = memory{}; s.q.longestLog = 1; s.show(s.first, 0) }, nil, 1,
			"key of alice: the log of the key directory has 2 records, too many | key of alice pinned: "},
		{"an entry that was never seen, after a reset", func(s *scene) { s.m = memory{}; s.next(3, s.reset(s.second).Record()) }, nil, 3,
			"key of alice: an administrator of the broker reset the key before this one (record 2 | key of alice pinned: "},
		{"a bare key that was never seen", func(s *scene) { s.m = memory{}; *s.forger = *s.town.forger(); s.bare() }, ErrUnproven, 0, ""},
		{"a bare key that was never seen, which is allowed", func(s *scene) {
			s.m, s.q.allowUnproven = memory{}, true
			*s.forger = *s.town.forger()
			s.bare()
		}, nil, 0, "unproven key of alice pinned: "},
		{"a bare key that was never seen, beside an entry", func(s *scene) { s.m, s.q.allowUnproven = memory{}, true; s.bare() }, ErrRollback, 0, ""},
		{"no key that was ever seen", func(s *scene) { s.m = memory{}; s.found.Entry = nil }, sealmq.ErrNoKey, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene(t, w)
			tc.change(s)
			var c Asker = s.forger
			if s.found.Entry == nil && s.found.Key == nil {
				c = noKey{s.forger}
			}
			v := judged(t, w, c, s.q, s.m)
			switch want := tc.want.(type) {
			case *ForkError:
				isFork(t, v.err)
			case nil:
				if v.err != nil || v.shown == nil {
					t.Errorf("error %v", v.err)
				}
			default:
				if !errors.Is(v.err, want) || v.shown != nil || hintOf(v.err) == "" {
					t.Errorf("error %v, hint %q, want one like %v", v.err, hintOf(v.err), want)
				}
			}
			said := []string{}
			if tc.notices != "" {
				said = strings.Split(tc.notices, " | ")
			}
			if !slices.EqualFunc(v.notices, said, strings.HasPrefix) {
				t.Errorf("notices %q, want %q", v.notices, said)
			}
			if got := v.memory.pins[string(small)].Serial; got != tc.serial {
				t.Errorf("entry %d is pinned, want %d", got, tc.serial)
			}
			if v.err != nil && !maps.Equal(v.memory.pins, s.m.pins) {
				t.Errorf("a refusal has changed the pins: %+v, %+v", s.m.pins, v.memory.pins)
			}
		})
	}
}
