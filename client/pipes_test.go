package client_test

import (
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/internal/testing/testnode"
)

// inBubble runs a test with a broker in a bubble.
func inBubble(t *testing.T, test func(t *testing.T, e *ends)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, newEnds(t, testnode.Start(t, testnode.Config{Network: testnode.NewPipes()})))
	})
}
