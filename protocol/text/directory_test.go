package text_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/transcript"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// registry is a node with a key directory.
type registry struct {
	*node
	ca     *testca.CA
	signer *keylog.Signer
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{ca: testca.New(t)}
	var err error
	if r.signer, _, err = keylog.NewSigner(); err != nil {
		t.Fatal(err)
	}
	engine := enginetest.NewModel(enginetest.Config{})
	b, err := broker.New(broker.Config{Engine: engine, Directory: &broker.DirectoryConfig{
		Signer: r.signer, Verifier: r.ca.Verifier()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); engine.Close() })
	r.node = &node{broker: b, engine: engine, peers: &table{}}
	return r
}

// as is a connection with a certificate of the registry's authority.
func (r *registry) as(t *testing.T, name string) (*lines, *seal.Signer, sealmq.Identity) {
	t.Helper()
	leaf := r.ca.Leaf(name, "")
	id, err := r.ca.Verifier().Verify([]*x509.Certificate{leaf.Leaf}, leaf.Leaf.NotBefore)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	p := r.dialWith(protocol.Peer{Identity: id.Identity}, text.Config{})
	t.Cleanup(func() { p.session.Close() })
	return &lines{tb: t, pipe: p}, signer, id.Identity
}

func TestKeyDirectoryCommands(t *testing.T) {
	r := newRegistry(t)
	alice, signer, id := r.as(t, "alice")
	key, err := seal.Generate(seal.HPKEHybrid, 0)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := seal.NewKeyEntry(signer, seal.KeyEntry{Key: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(entry)
	bare := strings.Repeat("B", 42) + "A="
	alice.send("put_key "+string(seal.HPKEHybrid)+" "+encoded, "find_key alice") // without waiting
	alice.want("Key stored 0")
	found := decode[keylog.Found](t, alice.next(), "Key: ")
	if !found.Proven || string(found.Entry) != string(entry) || found.Suite != string(seal.HPKEHybrid) || found.Client != "alice" {
		t.Errorf("%+v", found)
	}
	parsed, err := seal.ParseKeyEntry(found.Entry, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	leaf := keylog.Leaf{Proven: true, Owner: "alice", Issuer: id.Issuer, Suite: found.Suite, Serial: 1, Hash: parsed.Hash()}
	one, err := keylog.OpenCheckpoint(found.Checkpoint, r.signer.Public())
	if err != nil || tlog.CheckRecord(found.Proof, one.N, one.Hash, found.Index, leaf.Record()) != nil {
		t.Errorf("%+v, %v", found, err)
	}
	alice.do("put_key "+string(seal.HPKEHybrid)+" "+encoded, "Key stored 0")
	alice.do("register_public_key "+bare, "Public key registered")
	alice.do("get_public_key alice", "Public key: "+bare)
	lab := r.admin(t)
	lab.do("register_key Lab1 "+bare, "Public key registered")
	if f := decode[keylog.Found](t, lab.ask("find_key Lab1"), "Key: "); f.Proven || len(f.Key) != 32 || f.Entry != nil || f.Suite != "" {
		t.Errorf("%+v", f)
	}
	page := decode[keylog.Page](t, alice.ask("key_log 0 2"), "Key log: ")
	if page.Size != 3 || len(page.Leaves) != 2 || page.Leaves[0] != leaf.Text() || page.LogKey != r.signer.Public() {
		t.Errorf("%+v", page)
	}
	three, err := keylog.OpenCheckpoint(page.Checkpoint, page.LogKey)
	c := decode[keylog.Consistency](t, alice.ask("key_proof 1 3"), "Key proof: ")
	if err != nil || tlog.CheckTree(c.Proof, 3, three.Hash, 1, one.Hash) != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if p := decode[keylog.Page](t, alice.ask("key_log"), "Key log: "); len(p.Leaves) != 3 {
		t.Errorf("%+v", p)
	}
	lab.do("reset_key alice", "Key reset 3 4")
	alice.do("find_key alice", "Error: no key of 'alice' is known")
	alice.do("get_public_key alice", "Public key not found")
	reset := decode[keylog.FoundReset](t, alice.ask("find_reset alice "+string(seal.HPKEHybrid)), "Reset: ")
	leaf.Reset, leaf.Issuer = true, ""
	five, err := keylog.OpenCheckpoint(reset.Checkpoint, reset.LogKey)
	if err != nil || reset.Leaf != leaf.Text() || tlog.CheckRecord(reset.Proof, five.N, five.Hash, reset.Index, leaf.Record()) != nil {
		t.Errorf("%+v, %v", reset, err)
	}
	if f := decode[keylog.FoundReset](t, alice.ask("find_reset alice unproven"), "Reset: "); f.Index != 4 {
		t.Errorf("%+v", f)
	}
	lab.do("reset_key Lab1 unproven", "Key reset 5")
	t.Logf("a find_key reply has %d bytes with the default suite", len("Key: ")+len(mustJSON(t, found))+1)
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func decode[T any](t *testing.T, line, prefix string) (v T) {
	t.Helper()
	rest, ok := strings.CutPrefix(line, prefix)
	if !ok {
		t.Fatalf("%.200q, want %s", line, prefix)
	}
	if err := json.Unmarshal([]byte(rest), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestKeyDirectoryCommandsAreRefused(t *testing.T) {
	r := newRegistry(t)
	alice, _, _ := r.as(t, "alice")
	const hybrid = "hpke-mlkem768x25519-aes256gcm"
	for _, tc := range [][2]string{
		{"put_key", "Missing parameters"},
		{"put_key " + hybrid, "Missing parameters"},
		{"put_key " + hybrid + " nonsens!", "Error: the key entry is not the base64 form of at most 21510 bytes"},
		{"put_key " + hybrid + " AAAA", "Error: the key entry is refused: malformed envelope: the key entry is cut"},
		{"find_key", "Missing client ID"},
		{"find_key nobody", "Error: no key of 'nobody' is known"},
		{"find_key Lab 1 " + hybrid, "Error: no key of 'Lab 1' is known for suite " + hybrid},
		{"find_key " + hybrid, "Error: no key of '" + hybrid + "' is known"},
		{"key_log x", "Error: the place is not a number, or the number of leaves is over 1000"},
		{"key_log 0 1001", "Error: the place is not a number, or the number of leaves is over 1000"},
		{"key_log 5", "Error: the log has no tree of size 5"},
		{"key_proof 1", "Missing parameters"},
		{"key_proof 1 x", "Error: the two sizes of the log are not numbers"},
		{"key_proof 1 2", "Error: the log has no tree of size 1"},
		{"reset_key", "Missing client ID"},
		{"reset_key alice", "Error: not allowed to reset the key of 'alice'"},
		{"attest_restore", "Missing parameters"},
		{"attest_restore 3 x", "Error: not allowed to attest a restore of 'the key directory'"},
		{"attest_restore 3 " + strings.Repeat("A", 43) + "=", "Error: not allowed to attest a restore of 'the key directory'"},
		{"find_reset", "Missing parameters"},
		{"find_reset alice", "Missing parameters"},
		{"find_reset Lab 1 " + hybrid, "Error: no key of 'Lab 1' for " + hybrid + " was reset"},
	} {
		alice.do(tc[0], tc[1])
	}
	plain := newNode(t).client(t, "alice")
	for _, line := range []string{"find_key x", "key_log", "key_proof 1 2", "put_key " + hybrid + " AAAA", "find_reset x " + hybrid} {
		plain.do(line, "Error: this broker keeps no proven key directory")
	}
}

// CipherMQ's clients notice nothing of the directory.
func TestTranscriptsWithADirectory(t *testing.T) {
	for _, name := range transcript.Names(t, transcripts) {
		t.Run(name, func(t *testing.T) {
			tr := transcript.Load(t, transcripts, name)
			if err := tr.Play(newRegistry(t).dialer, transcript.Whole); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestChainCommands(t *testing.T) {
	r := newRegistry(t)
	alice, signer, _ := r.as(t, "alice")
	chain, sum := signer.Chain()
	encoded, hash := base64.StdEncoding.EncodeToString(chain), hex.EncodeToString(sum[:])
	alice.send("put_chain "+encoded, "find_chain "+hash) // without waiting
	alice.want("Chain stored " + hash)
	alice.want("Chain: " + encoded)
	bob, _, _ := r.as(t, "bob")
	bob.do("find_chain "+hash, "Chain: "+encoded)
	bob.do("find_chain "+strings.Repeat("0", 64), "Error: no certificates are stored under this hash")
	bob.do("put_chain "+encoded, "Error: not allowed to store the certificates of another client")
	bob.do("put_chain", "Missing parameters")
	for _, line := range []string{"put_chain ?", "put_chain " + strings.Repeat("A", 30_000)} {
		bob.do(line, "Error: the certificates are not the base64 form of at most 16384 bytes")
	}
	bob.do("find_chain", "Missing parameters")
	for _, line := range []string{"find_chain 00", "find_chain " + hash + "00", "find_chain " + strings.Repeat("x", 64)} {
		bob.do(line, "Error: the hash is not 64 hexadecimal digits")
	}
}
