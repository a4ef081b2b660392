package keylog_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/keydir/keylog"
	"golang.org/x/mod/sumdb/tlog"
)

var leaves = []keylog.Leaf{
	{Proven: true, Owner: "alice", Issuer: "sha256:00", Suite: "hpke-x25519-aes256gcm", Serial: 7, Hash: sha256.Sum256([]byte("a"))},
	{Proven: true, Owner: `a "quoted" <name> & ü  `, Issuer: "", Suite: "s", Serial: 1},
	{Owner: "Lab 1 Receiver", Hash: sha256.Sum256([]byte("b"))},
	{Reset: true, Proven: true, Owner: "alice", Suite: "hpke-x25519-aes256gcm", Serial: 7, Hash: sha256.Sum256([]byte("a"))},
	{Reset: true, Owner: "Lab 1 Receiver", Hash: sha256.Sum256([]byte("b"))},
}

func TestLeavesHaveOneSpelling(t *testing.T) {
	for _, l := range leaves {
		got, err := keylog.ParseLeaf(l.Text())
		if err != nil || got != l {
			t.Errorf("%q: %+v, %v", l.Text(), got, err)
		}
		if strings.Count(l.Text(), "\n") != 1 {
			t.Errorf("%q is not one line", l.Text())
		}
	}
	if want := `entry "alice" "sha256:00" hpke-x25519-aes256gcm 7 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb` + "\n"; leaves[0].Text() != want {
		t.Errorf("%q, want %q", leaves[0].Text(), want)
	}
	if want := `reset "alice" hpke-x25519-aes256gcm 7 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb` + "\n"; leaves[3].Text() != want {
		t.Errorf("%q, want %q", leaves[3].Text(), want)
	}
	if want := `reset "Lab 1 Receiver" unproven 0 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d` + "\n"; leaves[4].Text() != want {
		t.Errorf("%q, want %q", leaves[4].Text(), want)
	}
	good := leaves[2].Text()
	for _, bad := range []string{"", "\n", good[:len(good)-1], good + "\n", " " + good, strings.Replace(good, "Lab", "L\\u0061b", 1),
		strings.Replace(good, "unproven", "proven", 1), strings.ToUpper(good), strings.Replace(good, " \"", "  \"", 1),
		strings.Replace(leaves[0].Text(), " 7 ", " 07 ", 1), strings.Replace(leaves[0].Text(), " 7 ", " -7 ", 1),
		strings.Replace(leaves[3].Text(), " 7 ", " 0 ", 1), strings.Replace(leaves[3].Text(), " hpke", " \"i\" hpke", 1),
		strings.Replace(leaves[3].Text(), "hpke-x25519-aes256gcm", "unproven", 1), strings.Replace(leaves[3].Text(), "hpke-x25519-aes256gcm", "", 1),
		strings.Replace(leaves[4].Text(), " 0 ", " 1 ", 1)} {
		if l, err := keylog.ParseLeaf(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, l)
		}
	}
}

func FuzzLeaf(f *testing.F) {
	for _, l := range leaves {
		f.Add(l.Text())
	}
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := keylog.ParseLeaf(text); err == nil && l.Text() != text {
			t.Fatalf("%q became %q", text, l.Text())
		}
	})
}

func signer(tb testing.TB) *keylog.Signer {
	s, text, err := keylog.NewSigner()
	if err != nil {
		tb.Fatal(err)
	}
	if again, err := keylog.ParseSigner(text); err != nil || again.Public() != s.Public() {
		tb.Fatalf("%v, %v", again, err)
	}
	return s
}

func TestCheckpoints(t *testing.T) {
	s, other := signer(t), signer(t)
	tree := tlog.Tree{N: 1234, Hash: tlog.Hash(sha256.Sum256([]byte("root")))}
	c, err := s.Checkpoint(tree)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(c), "sealmq key directory\n1234\n"+tree.Hash.String()+"\n\n— sealmq-key-directory ") {
		t.Errorf("%s", c)
	}
	if got, err := keylog.OpenCheckpoint(c, s.Public()); err != nil || got != tree {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := keylog.OpenCheckpoint(c, other.Public()); !errors.Is(err, keylog.ErrNotSigned) {
		t.Errorf("another key: %v", err)
	}
	for i := range c {
		for _, bit := range []byte{1, 2, 4, 8, 16, 32, 64, 128} {
			bad := append([]byte(nil), c...)
			bad[i] ^= bit
			if got, err := keylog.OpenCheckpoint(bad, s.Public()); err == nil {
				t.Errorf("byte %d changed by %#x is taken as %+v", i, bit, got)
			}
		}
	}
	for _, bad := range [][]byte{nil, c[:len(c)-1], append(c[:len(c):len(c)], '\n'), append(c[:len(c):len(c)], c[strings.LastIndex(string(c), "—"):]...)} {
		if _, err := keylog.OpenCheckpoint(bad, s.Public()); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := keylog.OpenCheckpoint(c, "nonsense"); err == nil {
		t.Error("a public key is not checked")
	}
	if got := fmt.Sprintf("%v %+v %s", s, s, s); got != "[redacted] [redacted] [redacted]" {
		t.Errorf("it prints as %s", got)
	}
	for _, bad := range []string{"", "PRIVATE+KEY+x+00000000+AA", s.Public()} {
		if _, err := keylog.ParseSigner([]byte(bad)); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	s := signer(f)
	c, err := s.Checkpoint(tlog.Tree{N: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c)
	f.Fuzz(func(t *testing.T, bad []byte) {
		if tree, err := keylog.OpenCheckpoint(bad, s.Public()); err == nil && (tree != tlog.Tree{N: 3} || string(bad) != string(c)) {
			t.Fatalf("%q is taken as %+v", bad, tree)
		}
	})
}
