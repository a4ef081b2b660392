package broker_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
)

// matches is the slow obvious matcher.
func matches(pattern, key []string) bool {
	if len(pattern) == 0 {
		return len(key) == 0
	}
	switch pattern[0] {
	case "#":
		for i := 0; i <= len(key); i++ {
			if matches(pattern[1:], key[i:]) {
				return true
			}
		}
		return false
	case "*":
		return len(key) > 0 && matches(pattern[1:], key[1:])
	}
	return len(key) > 0 && key[0] == pattern[0] && matches(pattern[1:], key[1:])
}

func TestTopicPatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		yes, no []string
	}{
		{"a", []string{"a"}, []string{"b", "a.a", "", "A", "a."}},
		{"a.b", []string{"a.b"}, []string{"a", "a.b.c", "a.c", "a..b"}},
		{"*", []string{"a", "", "*", "#"}, []string{"a.b", "."}},
		{"#", []string{"", "a", "a.b.c", ".", "..."}, nil},
		{"*.b", []string{"a.b", ".b"}, []string{"b", "a.a.b", "a.c"}},
		{"a.*", []string{"a.b", "a."}, []string{"a", "a.b.c"}},
		{"a.#", []string{"a", "a.b", "a.b.c", "a."}, []string{"b", "ab", "b.a"}},
		{"#.b", []string{"b", "a.b", "a.a.b", "b.b"}, []string{"b.a", "ab"}},
		{"a.#.b", []string{"a.b", "a.x.b", "a.x.y.b", "a.b.b"}, []string{"a", "b", "a.b.x"}},
		{"*.*", []string{"a.b", "."}, []string{"a", "a.b.c"}},
		{"#.*", []string{"a", "a.b", ""}, nil},
		{"*.#", []string{"a", "a.b", ""}, nil},
		{"#.#", []string{"", "a", "a.b"}, nil},
		{"#.*.#.*.#", []string{"a.b", "a.b.c"}, []string{"a", ""}},
		{"*.#.x", []string{"a.x", "a.b.x", "x.x"}, []string{"x", "x.a"}},
		{"a..b", []string{"a..b"}, []string{"a.b", "a.x.b"}},
		{"a.*.b", []string{"a..b", "a.x.b"}, []string{"a.b"}},
		{"**", []string{"**"}, []string{"a", "a.b", "*"}},
		{"a#", []string{"a#"}, []string{"a", "a.b"}},
		{"quick.orange.*", []string{"quick.orange.rabbit"}, []string{"quick.orange.male.rabbit", "orange"}},
	} {
		r := broker.NewRouter(broker.Topic, [2]string{"q", tc.pattern})
		for want, keys := range map[bool][]string{true: tc.yes, false: tc.no} {
			for _, key := range keys {
				if got := len(r.Route(key)) == 1; got != want {
					t.Errorf("%q matches %q: %v, want %v", tc.pattern, key, got, want)
				}
				if got := matches(strings.Split(tc.pattern, "."), strings.Split(key, ".")); got != want {
					t.Errorf("the slow matcher: %q matches %q: %v, want %v", tc.pattern, key, got, want)
				}
			}
		}
	}
}

// FuzzTopic has up to eight patterns, one a line, and one routing key.
func FuzzTopic(f *testing.F) {
	for _, seed := range [][2]string{
		{"a.b\n*.b\n#", "a.b"},
		{"#.a.#\n*.*.#\na.#.b", "a.x.a.b"},
		{"#.*.#\n*.#.*\n#.#", ""},
		{"*\n#\n..", ".."},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, patterns, key string) {
		words := strings.Split(key, ".")
		var links [][2]string
		var want []string
		for i, p := range strings.Split(patterns, "\n") {
			// The slow matcher needs short ones.
			if i == 8 || strings.Count(p, "#") > 5 || len(p) > 40 || len(words) > 12 {
				return
			}
			queue := fmt.Sprint(i)
			links = append(links, [2]string{queue, p})
			if matches(strings.Split(p, "."), words) {
				want = append(want, queue)
			}
		}
		r := broker.NewRouter(broker.Topic, links...)
		if diff := cmp.Diff(want, r.Route(key), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("patterns %q, key %q (-want +got):\n%s", patterns, key, diff)
		}
		for _, l := range links {
			r.Unbind(l[0], l[1])
		}
		if !r.Empty() {
			t.Errorf("patterns %q: something is left after everything was unbound", patterns)
		}
	})
}

// TestRoutersChange binds and unbinds at random and compares with a list of bindings.
func TestRoutersChange(t *testing.T) {
	for _, kind := range []broker.ExchangeKind{broker.Direct, broker.Fanout, broker.Topic} {
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				word := rapid.SampledFrom([]string{"a", "b", "*", "#"})
				key := rapid.Custom(func(t *rapid.T) string {
					return strings.Join(rapid.SliceOfN(word, 1, 4).Draw(t, "words"), ".")
				})
				queue := rapid.SampledFrom([]string{"q", "r", "s"})
				bound := make(map[[2]string]bool)
				r := broker.NewRouter(kind)
				for range 30 {
					l := [2]string{queue.Draw(t, "queue"), key.Draw(t, "key")}
					if bound[l] {
						r.Unbind(l[0], l[1])
						delete(bound, l)
					} else {
						r.Bind(l[0], l[1])
						bound[l] = true
					}
					k := key.Draw(t, "routing key")
					want := make(map[string]bool)
					for l := range bound {
						if kind == broker.Fanout || kind == broker.Direct && l[1] == k ||
							kind == broker.Topic && matches(strings.Split(l[1], "."), strings.Split(k, ".")) {
							want[l[0]] = true
						}
					}
					got := slices.Sorted(slices.Values(r.Route(k)))
					if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), got, cmpopts.EquateEmpty()); diff != "" {
						t.Fatalf("key %q, bindings %v (-want +got):\n%s", k, bound, diff)
					}
				}
			})
		})
	}
}

// TestTopicSurvivesAdversarialPatterns would not end in a lifetime with a matcher that
// tries every way through a pattern.
func TestTopicSurvivesAdversarialPatterns(t *testing.T) {
	key := strings.Repeat("a.", 126) + "a"
	var links [][2]string
	for i := range 500 {
		// All ways to put a wildcard between sixteen words, as far as they go.
		var p []string
		for bit := range 16 {
			p = append(p, "#", "a")
			if i>>bit&1 == 1 {
				p = append(p, "*")
			}
		}
		links = append(links, [2]string{fmt.Sprint(i), strings.Join(p, ".") + ".b"}, [2]string{"yes", strings.Join(p, ".")})
	}
	r := broker.NewRouter(broker.Topic, links...)
	if got := r.Route(key); len(got) != 1 || got[0] != "yes" {
		t.Errorf("routed to %v", got)
	}
}

func TestTopicKeyIsBounded(t *testing.T) {
	if err := broker.CheckTopicKey(strings.TrimSuffix(strings.Repeat("#.a.", 16), ".")); err != nil {
		t.Errorf("16 are refused: %v", err)
	}
	if err := broker.CheckTopicKey(strings.TrimSuffix(strings.Repeat("#.a.", 17), ".")); sealmq.CodeOf(err) != sealmq.BadArgument {
		t.Errorf("17: error %v, want code %s", err, sealmq.BadArgument)
	}
	if err := broker.CheckTopicKey(strings.TrimSuffix(strings.Repeat("#.*.", 60), ".")); err != nil {
		t.Errorf("60 that are one are refused: %v", err)
	}
}

func BenchmarkTopicRoute(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var links [][2]string
			for i := range n {
				links = append(links, [2]string{fmt.Sprint("q", i), fmt.Sprintf("lab.%d.*.result.#", i)})
			}
			r := broker.NewRouter(broker.Topic, links...)
			b.ReportAllocs()
			for b.Loop() {
				if got := r.Route("lab.7.blood.result.final"); len(got) != 1 {
					b.Fatalf("routed to %v", got)
				}
			}
		})
	}
}

// TestTopicWorkIsBounded: bindings that anybody may make cannot make a publish slow.
func TestTopicWorkIsBounded(t *testing.T) {
	word := func(i int) string { return string(rune('0' + i%60)) }
	var links [][2]string
	for i := range 60_000 {
		links = append(links, [2]string{"q", "#." + word(i) + ".#." + word(i/60) + ".#." + word(i/3600) + fmt.Sprintf(".#.z%d", i)})
	}
	links = append(links, [2]string{"q", "plain.key"})
	r := broker.NewRouter(broker.Topic, links...)
	var key []string
	for i := range 120 {
		key = append(key, word(i))
	}
	if r.Bounded(strings.Join(key, ".")) {
		t.Error("a key with very many ways to match is matched to the end")
	}
	if got := r.Route("plain.key"); len(got) != 1 {
		t.Errorf("routed to %v", got)
	}
}
