// Package netns makes a network for a test: hosts with addresses of their own, and a router
// between them that can lose whatever two of them send each other. It needs root on Linux.
//
// Each host is a network namespace without a name. The kernel removes it with the last process
// in it, so nothing stays behind, however the test ends.
package netns

import (
	"errors"
	"os"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/server"
)

// Make makes a network that ends with the test. It skips the test where networks cannot be
// made, and fails if only a program is missing and that is a failure (server.Required).
func Make(t testing.TB) *Network {
	t.Helper()
	n, err := New()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrPermission) || errors.Is(err, server.ErrNotInstalled) && !server.Required() {
		t.Skip("networks of hosts need root on Linux: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}
