package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/trust"
)

func TestLogKeyIsMadeOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "directory", "log.key")
	first, made, err := trust.OpenLogSigner(file)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	second, made, err := trust.OpenLogSigner(file)
	if err != nil || made {
		t.Fatalf("made %v, %v", made, err)
	}
	if first.Public() != second.Public() {
		t.Error("another key was read than was made")
	}
	if _, err := durable.ReadPrivate(durable.OS(), file, 1<<20); err != nil {
		t.Error(err)
	}

	testca.WriteFile(t, file, []byte("x\n"))
	_, made, err = trust.OpenLogSigner(file)
	var hint interface{ Hint() string }
	if made || err == nil || !strings.Contains(err.Error(), file) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "backup") {
		t.Errorf("damaged: made %v, %v", made, err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "x\n" {
		t.Errorf("a damaged key was replaced: %q, %v", b, err)
	}
}
