package keylog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/seal"
)

// Origin is the first line of every checkpoint.
const Origin = "sealmq key directory"

// keyName is the log's name in signatures, which must not have spaces.
const keyName = "sealmq-key-directory"

// ID names a key directory by the public key of its log. Entries name the directory that they
// are for by it.
func ID(logKey string) [32]byte { return sha256.Sum256([]byte(Origin + "\x00" + logKey)) }

// MaxCheckpointBytes bounds a signed checkpoint.
const MaxCheckpointBytes = 1024

// Signer holds the log's private key. It prints as "[redacted]".
type Signer struct {
	signer note.Signer
	public string
}

// NewSigner makes a new key.
func NewSigner() (*Signer, []byte, error) {
	private, _, err := note.GenerateKey(rand.Reader, keyName)
	if err != nil {
		return nil, nil, fmt.Errorf("make the key directory's signing key: %w", err)
	}
	text := []byte(private + "\n")
	s, err := ParseSigner(text)
	return s, text, err
}

var errSigner = &seal.Error{Kind: errors.New("this is no signing key of a key directory"),
	Remedy: "restore it from a backup: with another key every client takes the key directory for another one"}

// ParseSigner reads the text form of a key that NewSigner has made.
func ParseSigner(text []byte) (*Signer, error) {
	private := strings.TrimSpace(string(text))
	signer, err := note.NewSigner(private)
	if err != nil || signer.Name() != keyName {
		return nil, errSigner
	}
	// PRIVATE+KEY+<name>+<hash>+<base64 of the algorithm and the seed>
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(private, "+", 5)[4]) // NewSigner took it
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, errSigner
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	s := &Signer{signer: signer}
	s.public, err = note.NewEd25519VerifierKey(keyName, public)
	if err != nil {
		return nil, errSigner
	}
	return s, nil
}

// Public is the key that OpenCheckpoint takes.
func (s *Signer) Public() string { return s.public }

// Format keeps the key out of everything that is printed.
func (*Signer) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[redacted]") }

// MarshalText does so as well.
func (*Signer) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Checkpoint signs a tree.
func (s *Signer) Checkpoint(t tlog.Tree) ([]byte, error) {
	return note.Sign(&note.Note{Text: checkpointText(t)}, s.signer)
}

func checkpointText(t tlog.Tree) string {
	return Origin + "\n" + strconv.FormatInt(t.N, 10) + "\n" + t.Hash.String() + "\n"
}

// Errors of OpenCheckpoint.
var (
	ErrNotSigned = errors.New("it is not signed with the log's key")
	ErrForm      = errors.New("it is no checkpoint of a key directory")
)

// OpenCheckpoint returns the tree that a checkpoint is about, if the owner of the public
// key has signed it. Only the spelling that Checkpoint makes is taken.
func OpenCheckpoint(checkpoint []byte, public string) (tlog.Tree, error) {
	if len(checkpoint) > MaxCheckpointBytes {
		return tlog.Tree{}, ErrForm
	}
	verifier, err := note.NewVerifier(public)
	if err != nil || verifier.Name() != keyName {
		return tlog.Tree{}, fmt.Errorf("the log's public key cannot be read: %w", ErrNotSigned)
	}
	n, err := note.Open(checkpoint, note.VerifierList(verifier))
	var unknown *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unknown), errors.As(err, &invalid):
		return tlog.Tree{}, ErrNotSigned
	case err != nil:
		return tlog.Tree{}, ErrForm
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 {
		return tlog.Tree{}, ErrForm
	}
	var t tlog.Tree
	if t.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil || t.N < 0 {
		return tlog.Tree{}, ErrForm
	}
	if t.Hash, err = tlog.ParseHash(lines[2]); err != nil || checkpointText(t) != n.Text {
		return tlog.Tree{}, ErrForm
	}
	// Signatures of others are no part of it: with them it would have many spellings, as it
	// would with the unused bits of base64.
	if len(n.UnverifiedSigs) > 0 || bytes.Count(checkpoint, []byte("\n")) != 5 {
		return tlog.Tree{}, ErrForm
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil {
		return tlog.Tree{}, ErrForm
	}
	return t, nil
}
