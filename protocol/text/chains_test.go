package text_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

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
	for _, line := range []string{"find_chain", "find_chain 00", "find_chain " + hash + "00", "find_chain " + strings.Repeat("x", 64)} {
		bob.do(line, "Error: the hash is not 64 hexadecimal digits")
	}
}
