package receive_test

import (
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inBubble runs a test with a broker in a bubble.
func inBubble(t *testing.T, test func(t *testing.T, e *ends)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, newEnds(t, testnode.Start(t, testnode.Config{Network: testnode.NewPipes()})))
	})
}

func generate(t testing.TB, suite seal.Suite) *seal.PublicKey {
	t.Helper()
	key, err := seal.Generate(suite, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}
