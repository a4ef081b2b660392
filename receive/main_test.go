package receive_test

import (
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
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

// spoolOn puts a spool on another disk.
func spoolOn(fs durable.FS, cfg send.SpoolConfig) send.SpoolConfig {
	cfg.FS = fs
	return cfg
}

// ledgerOn puts a ledger on another disk.
func ledgerOn(fs durable.FS, cfg receive.LedgerConfig) receive.LedgerConfig {
	cfg.FS = fs
	return cfg
}
