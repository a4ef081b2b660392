package enginetest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestModelConforms(t *testing.T) { Run(t, NewModelOpener) }

func TestCompareModelWithItself(t *testing.T) { Compare(t, NewModelOpener, NewModelOpener) }
